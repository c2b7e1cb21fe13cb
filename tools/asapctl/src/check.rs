//! Whether a server is well, found out as its own users would: by connecting to it, by asking it over HTTP, or by a command.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How it is looked at.
#[derive(Clone, Debug)]
pub enum Check {
    /// It accepts a connection.
    Tcp,
    /// It answers GET with a status of 200 to 399.
    Http(String),
    /// The shell's command ends with 0.
    Command(String),
}

/// How often the end of a command is looked for.
const GLANCE: Duration = Duration::from_millis(10);

impl Check {
    /// As the command line has it.
    pub fn parse(text: &str) -> Result<Check, String> {
        if text == "tcp" {
            return Ok(Check::Tcp);
        }
        if text.starts_with("http://") {
            let url = text.parse::<ureq::http::Uri>().map_err(|e| format!("no URL: {e}"))?;
            return match url.host() {
                Some(_) => Ok(Check::Http(text.to_string())),
                None => Err("this URL names no host".to_string()),
            };
        }
        match text.strip_prefix("cmd:").map(str::trim) {
            Some(command) if !command.is_empty() => Ok(Check::Command(command.to_string())),
            Some(_) | None => Err("say tcp, http://ADDR:PORT/PATH, or cmd:COMMAND".to_string()),
        }
    }

    /// Looks, for at most so long. What is wrong, if anything is.
    pub fn look(&self, server: SocketAddr, patience: Duration) -> Result<(), String> {
        match self {
            Check::Tcp => connect(server, patience).map_err(|e| e.to_string()),
            Check::Http(url) => ask(url, patience),
            Check::Command(command) => run(command, patience),
        }
    }
}

fn connect(server: SocketAddr, patience: Duration) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&server, patience)?;
    // Where nobody listens, a socket whose own port happens to be the one it asks for is connected to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

fn ask(url: &str, patience: Duration) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .build()
        .into();
    let status = agent.get(url).call().map_err(|e| e.to_string())?.status();
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(format!("HTTP status {status}")) }
}

fn run(command: &str, patience: Duration) -> Result<(), String> {
    let give_up = Instant::now() + patience;
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("the command cannot be run: {e}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("the command ended with {status}")),
            Ok(None) if Instant::now() < give_up => std::thread::sleep(GLANCE),
            Ok(None) | Err(_) => break,
        }
    }
    // It, and what it has started.
    // SAFETY: the group is that of a child which is not waited for yet, so its number is nobody else's.
    unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
    // It has been killed.
    let _ = child.wait();
    Err("the command did not end in time".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(30);

    fn look(check: &str, server: SocketAddr, patience: Duration) -> Result<(), String> {
        Check::parse(check).unwrap().look(server, patience)
    }

    /// A server that reads a request and answers so.
    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let n = stream.read(&mut request).unwrap();
                assert!(request[..n].starts_with(b"GET /health HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        at
    }

    #[test]
    fn a_listening_server_is_well_and_a_closed_port_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        look("tcp", listener.local_addr().unwrap(), LONG).unwrap();
        // Bound, so that nobody else comes by its port, and not listening.
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let at = closed.local_addr().unwrap().as_socket().unwrap();
        assert!(look("tcp", at, LONG).unwrap_err().contains("refused"));
    }

    #[test]
    fn the_status_of_an_http_answer_counts() {
        for (answer, well) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false),
            ("what?\r\n\r\n", false),
        ] {
            let at = answering(answer);
            let found = look(&format!("http://{at}/health"), at, LONG);
            assert_eq!(found.is_ok(), well, "{answer}: {found:?}");
        }
    }

    #[test]
    fn a_silent_http_server_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let found = look(&format!("http://{at}/health"), at, Duration::from_millis(100));
        assert!(found.unwrap_err().contains("timeout"));
    }

    #[test]
    fn a_command_is_judged_by_its_end_and_killed_with_its_children() {
        let at = "127.0.0.1:1".parse().unwrap();
        look("cmd:true", at, LONG).unwrap();
        assert!(look("cmd:exit 3", at, LONG).unwrap_err().contains("3"));
        let began = Instant::now();
        let late = look("cmd:sleep 1000 | cat", at, Duration::from_millis(100)).unwrap_err();
        assert!(late.contains("in time"));
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn other_checks_are_refused() {
        for text in ["", "udp", "cmd:", "https://127.0.0.1/", "http://", "http:///health"] {
            assert!(Check::parse(text).is_err(), "{text}");
        }
    }
}
