//! Who has reported and is still there. No clock and no socket: time is what the caller says it is.

use asap::csp::{ComponentId, Report, Status};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Components shown at most: anybody can send reports under any number of names.
const MOST: usize = 10_000;
/// Intervals of silence after which a component is taken for gone.
const SILENT_INTERVALS: u32 = 10;

/// A component that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub status: Status,
    pub uptime: Duration,
    pub interval: Duration,
    pub from: SocketAddr,
    /// When, since the monitor began.
    pub heard: Duration,
}

/// What a report has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Somebody new, or something about it is new.
    News,
    /// Nothing but time has gone on.
    Nothing,
    /// It has ended.
    Ended,
    /// There is no room for it.
    NoRoom,
}

/// All of them.
#[derive(Debug)]
pub struct Board {
    /// The longest silence of one that is there.
    patience: Duration,
    components: BTreeMap<ComponentId, Seen>,
}

impl Board {
    pub fn new(patience: Duration) -> Board {
        Board { patience, components: BTreeMap::new() }
    }

    pub fn components(&self) -> &BTreeMap<ComponentId, Seen> {
        &self.components
    }

    /// Takes a report in.
    pub fn hear(&mut self, now: Duration, from: SocketAddr, report: &Report) -> Change {
        let Some(status) = report.status.clone() else {
            let known = self.components.remove(&report.sender).is_some();
            return if known { Change::Ended } else { Change::Nothing };
        };
        let before = self.components.get(&report.sender);
        if before.is_none() && self.components.len() >= MOST {
            return Change::NoRoom;
        }
        let same =
            before.is_some_and(|before| from.ip() == before.from.ip() && alike(&before.status, &status));
        let (uptime, interval) = (report.uptime, report.interval);
        self.components.insert(report.sender, Seen { status, uptime, interval, from, heard: now });
        if same { Change::Nothing } else { Change::News }
    }

    /// Takes out who has been silent too long.
    pub fn purge(&mut self, now: Duration) -> Vec<ComponentId> {
        let patience = self.patience;
        let gone = |seen: &Seen| {
            let usual = seen.interval * SILENT_INTERVALS;
            let most = if usual.is_zero() { patience } else { usual.min(patience) };
            now.saturating_sub(seen.heard) > most
        };
        let silent: Vec<ComponentId> =
            self.components.iter().filter(|(_, seen)| gone(seen)).map(|(id, _)| *id).collect();
        silent.iter().for_each(|id| _ = self.components.remove(id));
        silent
    }
}

/// Whether two reports tell the same but for time.
fn alike(one: &Status, other: &Status) -> bool {
    let partners = |status: &Status| -> Vec<_> {
        status.associations.iter().map(|it| (it.peer, it.protocol, it.ppid)).collect()
    };
    (&one.location, &one.text, one.workload) == (&other.location, &other.text, other.workload)
        && partners(one) == partners(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use asap::csp::Association;
    use asap::machine::LinkKind;

    const SECOND: Duration = Duration::from_secs(1);

    fn report(id: u64, text: &str) -> Report {
        let partner = ComponentId::registrar(None);
        let status = Status {
            text: text.to_owned(),
            associations: vec![Association::over(LinkKind::Tcp, partner, SECOND * id as u32, 11)],
            ..Status::default()
        };
        Report { sender: ComponentId::user(7), uptime: SECOND, interval: SECOND, status: Some(status) }
    }

    fn board() -> (Board, SocketAddr) {
        (Board::new(SECOND * 30), "10.0.0.1:5".parse().unwrap())
    }

    #[test]
    fn tells_news_from_reports_of_the_same() {
        let (mut board, from) = board();
        assert_eq!(board.hear(SECOND, from, &report(1, "a")), Change::News);
        assert_eq!(board.hear(SECOND * 2, from, &report(2, "a")), Change::Nothing);
        assert_eq!(board.hear(SECOND * 3, from, &report(3, "b")), Change::News);
        assert_eq!(board.components().len(), 1);
    }

    #[test]
    fn a_last_report_takes_a_component_out() {
        let (mut board, from) = board();
        board.hear(SECOND, from, &report(1, "a"));
        let last = Report { status: None, ..report(1, "") };
        assert_eq!(board.hear(SECOND, from, &last), Change::Ended);
        assert!(board.components().is_empty());
        assert_eq!(board.hear(SECOND, from, &last), Change::Nothing);
    }

    #[test]
    fn ten_intervals_of_silence_are_an_end_but_no_more_than_the_patience() {
        for (interval, silence) in
            [(SECOND, SECOND * 10), (SECOND * 10, SECOND * 30), (Duration::ZERO, SECOND * 30)]
        {
            let (mut board, from) = board();
            board.hear(SECOND, from, &Report { interval, ..report(1, "a") });
            assert_eq!(board.purge(SECOND + silence), []);
            assert_eq!(board.purge(SECOND + silence + Duration::from_millis(1)), [ComponentId::user(7)]);
            assert!(board.components().is_empty());
        }
    }

    #[test]
    fn a_flood_of_names_fills_no_memory() {
        let (mut board, from) = board();
        for id in 0..MOST as u64 {
            board.hear(SECOND, from, &Report { sender: ComponentId::user(id), ..report(1, "a") });
        }
        let late = Report { sender: ComponentId::user(u64::MAX), ..report(1, "a") };
        assert_eq!(board.hear(SECOND, from, &late), Change::NoRoom);
        assert_eq!(board.components().len(), MOST);
    }
}
