//! When a report is due, and to whom it goes.

use super::{ComponentId, Report, Status};
use crate::machine::Effect;
use crate::types::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// Who wants to be told, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Monitor {
    /// Where reports go.
    pub address: SocketAddr,
    /// How often; zero: never.
    pub interval: Duration,
}

/// Makes the reports of one machine: at once, then each interval. A machine that was asleep does not make up for those it
/// missed.
#[derive(Debug)]
pub struct Reporter {
    monitor: Monitor,
    /// Since when the machine has been there.
    started: Option<Time>,
    /// None: never again.
    next: Option<Time>,
}

impl Reporter {
    /// To a monitor; none if that is to be told never.
    pub fn new(monitor: Monitor) -> Option<Reporter> {
        let wanted = !monitor.interval.is_zero();
        wanted.then_some(Reporter { monitor, started: None, next: Some(Time::ZERO) })
    }

    /// When reports are due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next
    }

    /// Whether reports are due now; the next ones are due an interval later.
    pub fn take_due(&mut self, now: Time) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.started.get_or_insert(now);
            self.next = Some(now + self.monitor.interval);
        }
        due
    }

    /// A component's report.
    pub fn report(&self, now: Time, sender: ComponentId, status: Status) -> Effect {
        self.datagram(now, sender, Some(status))
    }

    /// A component's last one.
    pub fn last_report(&self, now: Time, sender: ComponentId) -> Effect {
        self.datagram(now, sender, None)
    }

    /// Nothing is due any more.
    pub fn stop(&mut self) {
        self.next = None;
    }

    fn datagram(&self, now: Time, sender: ComponentId, status: Option<Status>) -> Effect {
        let uptime = now.since(self.started.unwrap_or(now));
        let report = Report { sender, uptime, interval: self.monitor.interval, status };
        Effect::Datagram { to: self.monitor.address, bytes: report.encode() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn every(ms: u64) -> Reporter {
        let address = "[::1]:2960".parse().unwrap();
        Reporter::new(Monitor { address, interval: Duration::from_millis(ms) }).unwrap()
    }

    #[test]
    fn reports_at_once_and_then_each_interval() {
        let mut reporter = every(250);
        assert!(reporter.poll_timeout().is_some_and(|first| first <= at(5)));
        assert!(reporter.take_due(at(5)));
        assert!(!reporter.take_due(at(5)));
        assert_eq!(reporter.poll_timeout(), Some(at(255)));
        assert!(!reporter.take_due(at(254)));
        // It was asleep.
        assert!(reporter.take_due(at(2000)));
        assert_eq!(reporter.poll_timeout(), Some(at(2250)));
    }

    #[test]
    fn nobody_is_told_at_no_interval() {
        let address = "127.0.0.1:2960".parse().unwrap();
        assert!(Reporter::new(Monitor { address, interval: Duration::ZERO }).is_none());
    }

    #[test]
    fn tells_how_long_it_has_been_there_and_that_it_ends() {
        let mut reporter = every(1000);
        assert!(reporter.take_due(at(100)));
        let sender = ComponentId::user(1);
        let read = |effect: Effect| match effect {
            Effect::Datagram { to, bytes } => (to, Report::decode(&bytes).unwrap()),
            other => panic!("{other:?}"),
        };
        let (to, report) = read(reporter.report(at(1600), sender, Status::default()));
        assert_eq!(to, "[::1]:2960".parse().unwrap());
        assert_eq!((report.uptime, report.interval), (Duration::from_millis(1500), Duration::from_secs(1)));
        assert_eq!(report.status, Some(Status::default()));
        assert_eq!(read(reporter.last_report(at(1700), sender)).1.status, None);
        reporter.stop();
        assert_eq!(reporter.poll_timeout(), None);
    }
}
