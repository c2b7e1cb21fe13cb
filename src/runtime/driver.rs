//! Runs one [`Machine`](crate::machine::Machine): its links, listeners, announcements, timeouts and commands from other threads.
//! One driver serves library and daemon; only the [`Poller`] differs.

use crate::config::Limits;
use crate::machine::{LinkKind, Machine, Protocol};
use crate::runtime::multicast::Multicast;
use crate::runtime::poller::Poller;
use crate::types::Time;
use std::io;
use std::net::SocketAddr;

/// What a driver opens.
#[derive(Debug, Default)]
pub struct DriverConfig {
    /// Listeners: what carries them, for what, where.
    pub listeners: Vec<(LinkKind, Protocol, SocketAddr)>,
    /// The announcement group to hear and speak to, if any.
    pub multicast: Option<Multicast>,
    /// Limits on links.
    pub limits: Limits,
}

/// A command for a machine, run between two inputs.
pub type Command<M> = Box<dyn FnOnce(&mut M, Time) + Send>;

/// Runs a machine.
#[derive(Debug)]
pub struct Driver<M: Machine> {
    machine: M,
}

/// Another thread's way to a driver. Cheap to clone.
#[derive(Debug)]
pub struct Remote<M>(std::marker::PhantomData<fn(M)>);

#[allow(unused_variables)]
impl<M: Machine> Driver<M> {
    /// Opens the listeners. Bind failures are errors; a missing multicast is a log line.
    pub fn new(machine: M, poller: Box<dyn Poller>, config: DriverConfig) -> io::Result<Driver<M>> {
        todo!()
    }
    /// A handle for other threads.
    pub fn remote(&self) -> Remote<M> {
        todo!()
    }
    /// Where the listeners are, in the order of the configuration.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        todo!()
    }
    /// The machine.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }
    /// Runs until [`Remote::stop`]; events are told between inputs. Returns the machine's links closed in order.
    pub fn run(&mut self, on_event: &mut dyn FnMut(&mut M, Time, M::Event)) -> io::Result<()> {
        todo!()
    }
}

#[allow(unused_variables)]
impl<M> Remote<M> {
    /// Runs a command on the driver's thread, soon. False if the driver is gone.
    pub fn call(&self, command: Command<M>) -> bool {
        todo!()
    }
    /// Makes [`Driver::run`] return.
    pub fn stop(&self) {
        todo!()
    }
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        todo!()
    }
}
