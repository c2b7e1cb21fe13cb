//! What the registrar is told: command line, and a file with the same names. The command line wins.

use asap::config::{DialectSetting, Limits, Profile};
use asap::csp::{CSP_PORT, Monitor};
use asap::hosting::{ASAP_PORT, Admin, Announce, ENRP_PORT, Settings};
use asap::runtime::admin::usual_path;
use asap::runtime::names::look_up;
use asap::socket::monitor_of_environment;
use asap::types::ServerId;
use clap::{CommandFactory, Parser};
use serde::Deserialize;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keeps the pools of Reliable Server Pooling (RFC 5351-5356) and tells clients which servers are alive.
#[derive(Parser, Deserialize, Debug, Default)]
#[command(
    name = "asap-registrar",
    version,
    max_term_width = 100,
    after_help = "\
With no options it serves this machine only, on 127.0.0.1:3863 (ASAP, for servers and clients) and
127.0.0.1:9901 (ENRP, for other registrars); it needs no root and no configuration.

Examples:
  asap-registrar                                     for programs on this machine
  asap-registrar --asap 0.0.0.0:3863 --enrp 0.0.0.0:9901
                                                     for the network, found by announcements
  asap-registrar --asap 127.0.0.1:0 --enrp 127.0.0.1:0
                                                     ports of its own, printed on standard output
  asap-registrar --asap 10.0.0.1:3863 --enrp 10.0.0.1:9901 --peer 10.0.0.1 --peer 10.0.0.2 --peer 10.0.0.3
                                                     one of three, on networks without multicast
  RUST_LOG=debug asap-registrar                      tell more

Standard output has one line for each listener (`asap tcp 127.0.0.1:3863`) and then `ready`; the log goes to
standard error. `asapctl pools` shows what it holds. SIGTERM makes it leave in order: servers and clients
go to another registrar at once. A configuration file (TOML) has the long names:

  asap = [\"0.0.0.0:3863\"]
  peer = [\"10.0.0.5\", \"10.0.0.6\"]
  profile = \"wan\"
  max-elements = 100000

There is no encryption and no authentication: who reaches the ports can register servers. Open
them to networks that you trust."
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Serve pool elements and users here (repeatable; port 0: any) [default: 127.0.0.1:3863].
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub asap: Vec<SocketAddr>,
    /// Serve other registrars here (repeatable; port 0: any) [default: 127.0.0.1:9901].
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub enrp: Vec<SocketAddr>,
    /// Another registrar's ENRP address, or a DNS name that stands for one or several (repeatable; port 9901 unless
    /// given). Its own address among them does no harm: all registrars can be told the same.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub peer: Vec<String>,
    /// Announce this registrar to servers and clients, and registrars to each other: `auto` (on the usual groups, if it
    /// serves more than this machine), `off`, or groups of your own for servers and clients, separated by commas
    /// (`rsplib:GROUP:PORT` for RSPLIB's programs) [default: auto].
    #[arg(long, value_name = "auto|off|GROUP:PORT")]
    pub announce: Option<String>,
    /// Groups of your own for registrars among themselves.
    #[arg(long, value_name = "GROUP:PORT")]
    pub announce_enrp: Option<String>,
    /// Identifier among registrars, not 0 [default: random].
    #[arg(long, value_name = "0xHEX")]
    pub id: Option<String>,
    /// Timers: `lan` finds failures in under a second, `wan` is patient, `rfc` has the RFC's numbers
    /// [default: lan].
    #[arg(long, value_name = "lan|wan|rfc")]
    pub profile: Option<String>,
    /// How servers, clients and other registrars speak: `rsplib` as RSPLIB does, `rfc` as the RFCs say, `auto` each as it shows
    /// by what it sends [default: auto].
    #[arg(long, value_name = "auto|rfc|rsplib")]
    pub dialect: Option<String>,
    /// Accept servers that register addresses other than their own.
    #[arg(long)]
    pub proxy_registration: bool,
    /// Pools at most [default: 100000].
    #[arg(long, value_name = "N")]
    pub max_pools: Option<usize>,
    /// Elements in all pools at most [default: 1000000].
    #[arg(long, value_name = "N")]
    pub max_elements: Option<usize>,
    /// Elements in one pool at most [default: 1000000].
    #[arg(long, value_name = "N")]
    pub max_elements_per_pool: Option<usize>,
    /// Connections at most [default: 65536].
    #[arg(long, value_name = "N")]
    pub max_links: Option<usize>,
    /// Connections from one address at most, loopback excepted [default: 4096].
    #[arg(long, value_name = "N")]
    pub max_links_per_address: Option<usize>,
    /// Bytes that may wait for a client that does not read, before it is disconnected [default: 4194304].
    #[arg(long, value_name = "N")]
    pub max_queued_bytes: Option<usize>,
    /// The administration socket that asapctl uses, or `off`
    /// [default: $XDG_RUNTIME_DIR/asap-registrar.sock, else /tmp/asap-registrar-UID.sock].
    #[arg(long, value_name = "PATH|off")]
    pub admin: Option<String>,
    /// Report status to this monitor (`asapctl monitor`, or RSPLIB's cspmonitor; port 2960 unless given)
    /// [default: CSP_SERVER, else off; 127.0.0.1:2960 if only --csp-interval is given].
    #[arg(long, value_name = "HOST[:PORT]")]
    pub csp_server: Option<String>,
    /// Milliseconds between reports, 0: none [default: CSP_INTERVAL, else 1000].
    #[arg(long, value_name = "MS")]
    pub csp_interval: Option<u64>,
    /// Read options from this file (TOML, the names above).
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the manual page, for packages.
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub manual: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "say a numeric address and a port, e.g. 127.0.0.1:3863, 0.0.0.0:3863 or [::1]:3863".to_owned()
    })
}

impl Options {
    /// Command line and file.
    pub fn read() -> Result<Options, String> {
        let options = Options::parse();
        match options.config.clone() {
            None => Ok(options),
            Some(path) => Ok(options.over(Options::file(&path)?)),
        }
    }

    fn file(path: &Path) -> Result<Options, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// These options, and where they say nothing those of the file.
    fn over(self, file: Options) -> Options {
        fn list<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
            if own.is_empty() { other } else { own }
        }
        Options {
            asap: list(self.asap, file.asap),
            enrp: list(self.enrp, file.enrp),
            peer: list(self.peer, file.peer),
            announce: self.announce.or(file.announce),
            announce_enrp: self.announce_enrp.or(file.announce_enrp),
            id: self.id.or(file.id),
            profile: self.profile.or(file.profile),
            dialect: self.dialect.or(file.dialect),
            proxy_registration: self.proxy_registration || file.proxy_registration,
            max_pools: self.max_pools.or(file.max_pools),
            max_elements: self.max_elements.or(file.max_elements),
            max_elements_per_pool: self.max_elements_per_pool.or(file.max_elements_per_pool),
            max_links: self.max_links.or(file.max_links),
            max_links_per_address: self.max_links_per_address.or(file.max_links_per_address),
            max_queued_bytes: self.max_queued_bytes.or(file.max_queued_bytes),
            admin: self.admin.or(file.admin),
            csp_server: self.csp_server.or(file.csp_server),
            csp_interval: self.csp_interval.or(file.csp_interval),
            config: self.config,
            manual: self.manual,
        }
    }

    /// What `--help` says, as a manual page.
    pub fn manual_page() -> io::Result<Vec<u8>> {
        let mut page = Vec::new();
        clap_mangen::Man::new(Options::command()).section("8").render(&mut page)?;
        Ok(page)
    }

    /// All of it.
    pub fn settings(&self) -> Result<Settings, String> {
        let mut peers = Vec::new();
        for peer in &self.peer {
            let found =
                look_up(peer, ENRP_PORT).map_err(|error| format!("--peer {peer}: {error}; say HOST:PORT"))?;
            peers.extend(found);
        }
        Ok(Settings {
            asap: or_default(&self.asap, ASAP_PORT),
            enrp: or_default(&self.enrp, ENRP_PORT),
            peers,
            announce: self.announce()?,
            id: self.id()?,
            profile: self.profile()?,
            dialect: self.dialect()?,
            proxy_registration: self.proxy_registration,
            limits: self.limits(),
            admin: self.admin(),
            monitor: self.monitor(monitor_of_environment())?,
        })
    }

    fn announce(&self) -> Result<Announce, String> {
        Announce::by_words(self.announce.as_deref(), self.announce_enrp.as_deref()).map_err(|word| {
            format!(
                "--announce, --announce-enrp: {word}: say auto, off, or the GROUP:PORT of multicast groups"
            )
        })
    }

    /// The identifier, none if it is to be chosen.
    fn id(&self) -> Result<Option<ServerId>, String> {
        let Some(text) = &self.id else { return Ok(None) };
        let number = match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        };
        match number.ok().and_then(ServerId::new) {
            Some(id) => Ok(Some(id)),
            None => {
                Err(format!("--id {text}: an identifier is a number of 32 bits and not 0, say 0x1a2b3c4d"))
            }
        }
    }

    fn profile(&self) -> Result<Profile, String> {
        match self.profile.as_deref() {
            None => Ok(Profile::default()),
            Some(name) => Profile::by_name(name).ok_or(format!("--profile {name}: say lan, wan or rfc")),
        }
    }

    fn dialect(&self) -> Result<DialectSetting, String> {
        match self.dialect.as_deref() {
            None => Ok(DialectSetting::default()),
            Some(name) => {
                DialectSetting::by_name(name).ok_or(format!("--dialect {name}: say auto, rfc or rsplib"))
            }
        }
    }

    fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            pools: self.max_pools.unwrap_or(default.pools),
            elements: self.max_elements.unwrap_or(default.elements),
            elements_per_pool: self.max_elements_per_pool.unwrap_or(default.elements_per_pool),
            links: self.max_links.unwrap_or(default.links),
            links_per_address: self.max_links_per_address.unwrap_or(default.links_per_address),
            queued_bytes_per_link: self.max_queued_bytes.unwrap_or(default.queued_bytes_per_link),
            ..default
        }
    }

    /// Who is told how things are; `otherwise` is what the environment says.
    fn monitor(&self, otherwise: Option<Monitor>) -> Result<Option<Monitor>, String> {
        if self.csp_server.is_none() && self.csp_interval.is_none() {
            return Ok(otherwise);
        }
        let mut monitor = otherwise.unwrap_or(Monitor {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, CSP_PORT)),
            interval: Duration::from_secs(1),
        });
        if let Some(name) = &self.csp_server {
            let found = look_up(name, CSP_PORT)
                .map_err(|error| format!("--csp-server {name}: {error}; say HOST or HOST:PORT"))?;
            monitor.address =
                *found.first().ok_or_else(|| format!("--csp-server {name}: it has no address"))?;
        }
        if let Some(ms) = self.csp_interval {
            monitor.interval = Duration::from_millis(ms);
        }
        Ok((!monitor.interval.is_zero()).then_some(monitor))
    }

    fn admin(&self) -> Admin {
        match self.admin.as_deref() {
            Some("off") => Admin::Off,
            Some(path) => Admin::At(PathBuf::from(path)),
            None => Admin::IfFree(usual_path()),
        }
    }
}

fn or_default(given: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    if given.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], port))] } else { given.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::try_parse_from([&["asap-registrar"], arguments].concat()).unwrap()
    }

    #[test]
    fn command_line_wins_over_the_file() {
        let file: Options = toml::from_str(
            "asap = ['0.0.0.0:1']\nprofile = 'wan'\ndialect = 'rsplib'\nmax-elements = 5\nproxy-registration = true",
        )
        .unwrap();
        let both = options(&["--asap", "[::1]:2", "--max-elements", "6"]).over(file);
        let both = both.settings().unwrap();
        assert_eq!(both.asap, ["[::1]:2".parse().unwrap()]);
        assert_eq!((both.profile, both.limits.elements), (Profile::Wan, 6));
        assert_eq!(both.dialect, DialectSetting::Rsplib);
        assert!(both.proxy_registration);
        assert_eq!(both.enrp, ["127.0.0.1:9901".parse().unwrap()]);
    }

    #[test]
    fn reports_are_off_until_a_monitor_or_an_interval_is_named() {
        let told = |arguments: &[&str]| {
            let monitor = options(arguments).monitor(None).unwrap();
            monitor.map(|monitor| (monitor.address.to_string(), monitor.interval.as_millis()))
        };
        let at = |place: &str, ms| Some((place.to_owned(), ms));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["--csp-server", "10.0.0.1"]), at("10.0.0.1:2960", 1000));
        assert_eq!(told(&["--csp-interval", "7"]), at("127.0.0.1:2960", 7));
        assert_eq!(told(&["--csp-server", "[::1]:9", "--csp-interval", "300"]), at("[::1]:9", 300));
        assert_eq!(told(&["--csp-server", "[::1]:9", "--csp-interval", "0"]), None);
        let file: Options = toml::from_str("csp-server = '10.0.0.2'\ncsp-interval = 5").unwrap();
        let both = options(&["--csp-interval", "6"]).over(file).monitor(None).unwrap().unwrap();
        assert_eq!((both.address.to_string().as_str(), both.interval.as_millis()), ("10.0.0.2:2960", 6));
        let environment = Monitor { address: "[::1]:1".parse().unwrap(), interval: Duration::from_secs(2) };
        assert_eq!(options(&[]).monitor(Some(environment)).unwrap(), Some(environment));
        assert!(options(&["--csp-server", "no such host"]).monitor(None).unwrap_err().contains("HOST"));
    }

    #[test]
    fn unknown_names_in_the_file_are_errors() {
        assert!(toml::from_str::<Options>("max-elephants = 5").is_err());
        assert!(toml::from_str::<Options>("config = 'other'").is_err());
    }

    #[test]
    fn wrong_values_are_explained() {
        assert!(options(&["--id", "0"]).id().unwrap_err().contains("not 0"));
        assert_eq!(options(&["--id", "0x10"]).id().unwrap(), ServerId::new(16));
        let peers = options(&["--peer", "127.0.0.1", "--peer", "localhost:7"]).settings().unwrap().peers;
        assert_eq!(peers[0], "127.0.0.1:9901".parse().unwrap());
        assert!(peers[1..].iter().all(|peer| peer.ip().is_loopback() && peer.port() == 7) && peers.len() > 1);
        assert!(options(&["--peer", "no such host"]).settings().unwrap_err().contains("--peer"));
        assert!(options(&["--announce", "10.0.0.1:1"]).announce().unwrap_err().contains("multicast"));
        let bare =
            Options::try_parse_from(["asap-registrar", "--asap", "127.0.0.1"]).map(|_| ()).unwrap_err();
        assert!(bare.to_string().contains("and a port"), "{bare}");
        assert!(options(&["--dialect", "C"]).dialect().unwrap_err().contains("auto, rfc or rsplib"));
        assert!(options(&["--profile", "fast"]).profile().unwrap_err().contains("lan, wan or rfc"));
    }
}
