//! `asapctl monitor`: receives the reports of the component status protocol, ours and RSPLIB's, and shows them: on a terminal as
//! a table that is kept up to date, elsewhere a line for each change, or JSON.

mod board;
mod words;

use asap::csp::{CSP_PORT, Report};
use board::{Board, Change};
use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long nothing may come before the table is looked after.
const TICK: Duration = Duration::from_millis(200);
/// How often the table is drawn at most.
const REDRAW: Duration = Duration::from_millis(500);
/// The longest datagram there can be.
const MAX_DATAGRAM: usize = 65_535;

#[derive(Args)]
pub struct Monitor {
    /// Receive reports here [default: port 2960 of all addresses].
    #[arg(long, value_name = "ADDR:PORT", value_parser = crate::address)]
    listen: Option<SocketAddr>,
    /// Take components out after so many seconds of silence, or after ten of their intervals if that is less.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = crate::seconds)]
    purge: Duration,
    /// A line of JSON for each report.
    #[arg(long)]
    json: bool,
    /// A line for each change, also on a terminal.
    #[arg(long, conflicts_with = "json")]
    lines: bool,
}

/// How reports are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Show {
    Json,
    Lines,
    Table,
}

pub fn run(monitor: &Monitor) -> Result<(), String> {
    let socket = open(monitor.listen)?;
    let at = socket.local_addr().map_err(|error| error.to_string())?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .map_err(|error| format!("no signals: {error}"))?;
    }
    let show = match (monitor.json, monitor.lines || !io::stdout().is_terminal()) {
        (true, _) => Show::Json,
        (false, true) => Show::Lines,
        (false, false) => Show::Table,
    };
    let mut watch = Watch { show, at, begun: Instant::now(), board: Board::new(monitor.purge), strange: 0 };
    match watch.go_on(&socket, &ended) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| format!("cannot go on: {error}")),
    }
}

fn open(listen: Option<SocketAddr>) -> Result<UdpSocket, String> {
    let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()];
    let usual = any.map(|ip| SocketAddr::new(ip, CSP_PORT));
    let wanted = listen.map_or(usual.to_vec(), |at| vec![at]);
    let mut failed = String::new();
    for at in wanted {
        match UdpSocket::bind(at).and_then(|socket| socket.set_read_timeout(Some(TICK)).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                failed = format!(
                    "cannot listen at {at}: {error}; another monitor is running? --listen takes another port"
                )
            }
        }
    }
    Err(failed)
}

struct Watch {
    show: Show,
    at: SocketAddr,
    begun: Instant,
    board: Board,
    /// Datagrams that were no reports, or for which there was no room.
    strange: u64,
}

impl Watch {
    fn go_on(&mut self, socket: &UdpSocket, ended: &AtomicBool) -> io::Result<()> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut drawn = None;
        self.begin()?;
        while !ended.load(Ordering::Relaxed) {
            let got = match socket.recv_from(&mut buffer) {
                Ok((len, from)) => Some((len, from)),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
            let now = self.begun.elapsed();
            if let Some((len, from)) = got {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                self.hear(now, from, &buffer[..len])?;
            }
            for id in self.board.purge(now) {
                match self.show {
                    Show::Json => say(&words::ended(id, "silent").to_string())?,
                    Show::Lines => say(&format!("{} is silent", words::name(id)))?,
                    Show::Table => {}
                }
            }
            if self.show == Show::Table && drawn.is_none_or(|at| now - at >= REDRAW) {
                drawn = Some(now);
                self.draw(now)?;
            }
        }
        if self.show == Show::Table { say("") } else { Ok(()) }
    }

    fn begin(&self) -> io::Result<()> {
        match self.show {
            Show::Json => {
                say(&json!({ "v": 1, "event": "listening", "address": self.at.to_string() }).to_string())
            }
            Show::Lines => say(&format!("listening at {}", self.at)),
            Show::Table => Ok(()),
        }
    }

    fn hear(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let report = match Report::decode(bytes) {
            Ok(report) => report,
            Err(malformed) => {
                self.strange += 1;
                return match self.show {
                    Show::Json => say(&json!({ "v": 1, "event": "malformed", "from": from.to_string(), "why": malformed.0 }).to_string()),
                    Show::Lines => say(&format!("from {from}: no report: {}", malformed.0)),
                    Show::Table => Ok(()),
                };
            }
        };
        let change = self.board.hear(now, from, &report);
        self.strange += u64::from(change == Change::NoRoom);
        match (self.show, change, &report.status) {
            (Show::Table, _, _) | (_, Change::NoRoom, _) => Ok(()),
            (Show::Json, _, Some(status)) => say(&words::report(&report, status, from).to_string()),
            (Show::Json, _, None) => say(&words::ended(report.sender, "final").to_string()),
            (Show::Lines, Change::News, Some(status)) => say(&words::line(&report, status)),
            (Show::Lines, Change::Ended, _) => say(&format!("{} has ended", words::name(report.sender))),
            (Show::Lines, Change::News | Change::Nothing, _) => Ok(()),
        }
    }

    /// Draws the table over what stands there: two escape sequences that every terminal knows, and no more of them.
    fn draw(&self, now: Duration) -> io::Result<()> {
        let (columns, rows) = window();
        let mut lines = words::screen(&self.board, now, self.at, self.strange);
        if lines.len() >= rows {
            let more = lines.len() + 2 - rows.max(2);
            lines.truncate(rows.saturating_sub(2));
            lines.push(format!("... and {more} lines more"));
        }
        let mut screen = String::from("\x1b[H");
        for line in lines {
            screen.extend(line.chars().take(columns));
            screen.push_str("\x1b[K\n");
        }
        screen.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(screen.as_bytes())?;
        out.flush()
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The terminal's columns and rows.
fn window() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills a winsize, and `size` is one.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    match known && size.ws_col > 0 && size.ws_row > 0 {
        true => (size.ws_col.into(), size.ws_row.into()),
        false => (80, 24),
    }
}
