//! Reports in words, and as JSON.

use super::board::{Board, Seen};
use crate::table;
use asap::csp::{Association, ComponentId, Group, Report, Status};
use asap::types::Load;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// As cspmonitor names it: `PE 0x0000abcd`.
pub fn name(id: ComponentId) -> String {
    let group = match id.group() {
        Group::Registrar => "PR",
        Group::Element => "PE",
        Group::User => "PU",
        Group::Other(_) => "??",
    };
    format!("{group} {id}")
}

fn group(id: ComponentId) -> &'static str {
    match id.group() {
        Group::Registrar => "registrar",
        Group::Element => "element",
        Group::User => "user",
        Group::Other(_) => "unknown",
    }
}

fn protocol(number: u16) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// What goes over an association.
fn carried(ppid: u32) -> String {
    match ppid {
        0 => "data".to_owned(),
        11 => "asap".to_owned(),
        12 => "enrp".to_owned(),
        other => format!("ppid {other}"),
    }
}

fn seconds(time: Duration) -> f64 {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// `0:01:07`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn share(load: Load) -> f64 {
    f64::from(load.0) / f64::from(u32::MAX)
}

fn percent(load: Option<Load>) -> String {
    load.map_or("-".to_owned(), |load| format!("{:.0}%", share(load) * 100.0))
}

fn identity(id: ComponentId) -> Value {
    json!({ "group": group(id), "id": id.to_string() })
}

pub fn report(report: &Report, status: &Status, from: SocketAddr) -> Value {
    let association = |it: &Association| {
        json!({
            "with": identity(it.peer),
            "known": it.peer.id() != 0,
            "duration": seconds(it.duration),
            "protocol": protocol(it.protocol),
            "ppid": it.ppid,
        })
    };
    json!({
        "v": 1,
        "event": "report",
        "component": identity(report.sender),
        "from": from.to_string(),
        "uptime": seconds(report.uptime),
        "interval": seconds(report.interval),
        "location": status.location,
        "status": status.text,
        "workload": status.workload.map(share),
        "associations": status.associations.iter().map(association).collect::<Vec<_>>(),
    })
}

pub fn ended(id: ComponentId, why: &str) -> Value {
    json!({ "v": 1, "event": "ended", "component": identity(id), "why": why })
}

/// All of a report in one line.
pub fn line(report: &Report, status: &Status) -> String {
    let mut line = format!("{} at {}: {}", name(report.sender), status.location, status.text);
    if let Some(load) = status.workload {
        line.push_str(&format!(", load {}", percent(Some(load))));
    }
    for it in &status.associations {
        line.push_str(&format!(", {}", with(it)));
    }
    line
}

/// `-> PR 0x00000aaa asap/sctp`.
fn with(it: &Association) -> String {
    let who = match it.peer.id() {
        0 => format!("{} (not known yet)", name(it.peer)),
        _ => name(it.peer),
    };
    format!("-> {who} {}/{}", carried(it.ppid), protocol(it.protocol))
}

/// All that is there.
pub fn screen(board: &Board, now: Duration, at: SocketAddr, strange: u64) -> Vec<String> {
    let all = board.components();
    let count = |group: Group| all.keys().filter(|id| id.group() == group).count();
    let mut head = format!(
        "{} registrars, {} elements, {} users report to {at}",
        count(Group::Registrar),
        count(Group::Element),
        count(Group::User)
    );
    if strange > 0 {
        head.push_str(&format!("; {strange} datagrams were no reports, or too many"));
    }
    let mut lines = vec![head, String::new()];
    if all.is_empty() {
        lines.push(format!(
            "Nobody yet. asap-registrar --csp-server HOST:{0}; CSP_SERVER=HOST:{0} for servers and clients",
            at.port()
        ));
        return lines;
    }
    let row = |(id, seen): (&ComponentId, &Seen)| {
        vec![
            name(*id),
            clock(seen.uptime),
            format!("{:.1}", now.saturating_sub(seen.heard).as_secs_f64()),
            percent(seen.status.workload),
            seen.status.text.clone(),
            seen.status.location.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let mut rows =
        table::lines(&["COMPONENT", "UP", "HEARD (s ago)", "LOAD", "STATUS", "LOCATION"], &rows).into_iter();
    lines.extend(rows.next());
    for (row, seen) in rows.zip(all.values()) {
        lines.push(row);
        let partners = seen.status.associations.iter();
        lines.extend(partners.map(|it| format!("   {}  {}", with(it), clock(it.duration))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use asap::machine::LinkKind;
    use asap::types::{PeId, ServerId};

    fn told() -> Report {
        let registrar = ComponentId::registrar(ServerId::new(0xaaa));
        let status = Status {
            location: "h4: 10.1.1.4:7".to_owned(),
            text: "1 Session".to_owned(),
            workload: Some(Load(u32::MAX / 2)),
            associations: vec![Association::over(LinkKind::Sctp, registrar, Duration::from_secs(67), 11)],
        };
        Report {
            sender: ComponentId::element(PeId(0xabcd)),
            uptime: Duration::from_secs(3723),
            interval: Duration::from_secs(1),
            status: Some(status),
        }
    }

    #[test]
    fn a_line_has_all_of_a_report() {
        let report = told();
        let line = line(&report, report.status.as_ref().unwrap());
        assert_eq!(line, "PE 0x0000abcd at h4: 10.1.1.4:7: 1 Session, load 50%, -> PR 0x00000aaa asap/sctp");
    }

    #[test]
    fn the_table_has_a_row_for_each_and_one_for_each_association() {
        let from = "10.1.1.4:5".parse().unwrap();
        let mut board = Board::new(Duration::from_secs(30));
        assert!(screen(&board, Duration::ZERO, from, 0).concat().contains("Nobody yet"));
        board.hear(Duration::from_secs(1), from, &told());
        let lines = screen(&board, Duration::from_millis(1500), from, 3);
        assert!(
            lines[0].starts_with("0 registrars, 1 elements, 0 users") && lines[0].contains("3 datagrams")
        );
        let squeezed = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&lines[3]), "PE 0x0000abcd 1:02:03 0.5 50% 1 Session h4: 10.1.1.4:7");
        assert_eq!(squeezed(&lines[4]), "-> PR 0x00000aaa asap/sctp 0:01:07");
    }

    #[test]
    fn json_says_what_is_not_known() {
        let report = Report { sender: ComponentId::user(0xff), ..told() };
        let status = Status {
            workload: None,
            associations: vec![Association::over(
                LinkKind::Tcp,
                ComponentId::registrar(None),
                Duration::ZERO,
                11,
            )],
            ..report.status.clone().unwrap()
        };
        let value = super::report(&report, &status, "[::1]:5".parse().unwrap());
        assert_eq!(value["component"]["id"], "0x000000000000ff");
        assert_eq!((&value["workload"], &value["associations"][0]["known"]), (&Value::Null, &json!(false)));
    }
}
