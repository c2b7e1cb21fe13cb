//! Datagrams to those who never answer. Sending never waits, and what cannot be sent is dropped: the next report tells the same.

use crate::runtime::link::is_idle;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The sockets, one for each receiver.
#[derive(Debug, Default)]
pub(super) struct Reports {
    receivers: BTreeMap<SocketAddr, Receiver>,
}

#[derive(Debug, Default)]
struct Receiver {
    /// Connected, so that it is told when nobody is there.
    socket: Option<UdpSocket>,
    /// The log has a line about it.
    complained: bool,
}

impl Reports {
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let receiver = self.receivers.entry(to).or_default();
        if let Err(error) = receiver.send(to, bytes) {
            // Addresses may have changed: the next one begins anew.
            receiver.socket = None;
            receiver.complain(to, &error);
        }
    }
}

impl Receiver {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(to)?),
        };
        let sent = match socket.send(bytes) {
            // What became of the one before; this one was not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let again = socket.send(bytes);
                self.complain(to, &error);
                again
            }
            other => other,
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if is_idle(&error) || error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn complain(&mut self, to: SocketAddr, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            log::warn!("status reports do not reach {to}: {error}; going on, and not telling again");
        }
    }
}

fn open(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn reports_reach_monitors_of_both_families() {
        let mut reports = Reports::default();
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let monitor = UdpSocket::bind(any).unwrap();
            monitor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            reports.send(monitor.local_addr().unwrap(), b"here I am");
            let mut buffer = [0; 16];
            let len = monitor.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"here I am");
        }
    }

    #[test]
    fn a_monitor_that_comes_late_is_told_what_comes_after() {
        // An address of its own, where nobody else comes by the port meanwhile.
        let place = UdpSocket::bind("127.7.7.3:0").unwrap().local_addr().unwrap();
        let mut reports = Reports::default();
        (0..3).for_each(|_| reports.send(place, b"nobody hears it"));
        assert!(reports.receivers[&place].complained);
        let monitor = UdpSocket::bind(place).unwrap();
        monitor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        reports.send(place, b"now");
        assert_eq!(monitor.recv(&mut [0; 16]).unwrap(), 3);
    }

    #[test]
    fn what_cannot_be_sent_is_dropped() {
        let mut reports = Reports::default();
        let local = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        reports.send(local, &vec![0; 70_000]);
        assert!(reports.receivers[&local].complained);
    }
}
