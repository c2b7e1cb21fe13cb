//! Reliable Server Pooling (RFC 5351-5356): servers register under a pool handle, clients connect to the
//! handle, and a session outlives its server.
//!
//! The layers, from the wire up; each module's first lines say what it hides:
//!
//! * the vocabulary: [`types`], [`codec`], [`timer`], [`config`], [`machine`], [`name`];
//! * the protocol, without I/O, clocks, threads or unsafe code: [`policy`], [`wire`], [`handlespace`],
//!   [`endpoint`] (ASAP of elements and users), [`session`] (user to element), [`registrar`], [`csp`] (reports to a monitor);
//! * the world: [`runtime`] (sockets, clock, threads), [`socket`] (what a descriptor means), [`hosting`] (a registrar
//!   with everything it needs), `capi` (the C functions).

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs, rust_2018_idioms)]

pub mod codec;
pub mod config;
pub mod csp;
pub mod endpoint;
pub mod handlespace;
pub mod hosting;
pub mod machine;
pub mod name;
pub mod policy;
pub mod registrar;
pub mod runtime;
pub mod session;
pub mod socket;
pub mod timer;
pub mod types;
pub mod wire;

#[allow(unsafe_code)]
pub mod capi;
