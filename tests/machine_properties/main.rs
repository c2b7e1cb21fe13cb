//! What holds for every protocol machine whatever it is told: random sequences of inputs (also late, repeated and out of
//! place), legal, mutated and arbitrary messages, commands, and time that stands still or leaps.
//!
//! `driven` checks the contract of [`asap::machine`] after every step; `inputs` makes the steps. Then a file a
//! machine, with what is particular to it, and `storm`: machines that are fed each other's output, or their own, come
//! to rest.

mod dispatch;
mod driven;
mod endpoint;
mod inputs;
mod registrar;
mod session;
mod storm;
