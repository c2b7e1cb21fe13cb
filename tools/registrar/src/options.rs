//! What the registrar is told: command line, and a file with the same names. The command line wins.

use asap::config::{Limits, Profile, RegistrarConfig};
use asap::machine::Protocol;
use asap::runtime::multicast::Multicast;
use asap::types::ServerId;
use clap::Parser;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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
  asap-registrar --peer 10.0.0.5:9901                beside another registrar
  RUST_LOG=debug asap-registrar                      tell more

Standard output has one line for each listener (`asap tcp 127.0.0.1:3863`) and then `ready`; the log goes to
standard error. `asapctl pools` shows what it holds. SIGTERM makes it leave in order: servers and clients
go to another registrar at once. A configuration file (TOML) has the long names:

  asap = [\"0.0.0.0:3863\"]
  peer = [\"10.0.0.5:9901\"]
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
    /// Another registrar's ENRP address (repeatable).
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub peer: Vec<SocketAddr>,
    /// Announce this registrar: `auto` (to the IANA groups, if it serves more than this machine), `off`, or a
    /// group of your own [default: auto].
    #[arg(long, value_name = "auto|off|GROUP:PORT")]
    pub announce: Option<String>,
    /// Identifier among registrars, not 0 [default: random].
    #[arg(long, value_name = "0xHEX")]
    pub id: Option<String>,
    /// Timers: `lan` finds failures in under a second, `wan` is patient, `rfc` has the RFC's numbers
    /// [default: lan].
    #[arg(long, value_name = "lan|wan|rfc")]
    pub profile: Option<String>,
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
    /// Read options from this file (TOML, the names above).
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "say a numeric address and a port, e.g. 127.0.0.1:3863, 0.0.0.0:3863 or [::1]:3863".to_owned()
    })
}

/// How the registrar is announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announce {
    /// To the IANA groups, if somebody else could make use of it.
    Auto,
    /// Not at all.
    Off,
    /// To this group.
    Group(SocketAddr),
}

/// Where administration is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admin {
    /// Here, because somebody said so.
    At(PathBuf),
    /// At the usual place, if it is free.
    Usual(PathBuf),
    /// Nowhere.
    Off,
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
        let list = |own: Vec<SocketAddr>, other| if own.is_empty() { other } else { own };
        Options {
            asap: list(self.asap, file.asap),
            enrp: list(self.enrp, file.enrp),
            peer: list(self.peer, file.peer),
            announce: self.announce.or(file.announce),
            id: self.id.or(file.id),
            profile: self.profile.or(file.profile),
            proxy_registration: self.proxy_registration || file.proxy_registration,
            max_pools: self.max_pools.or(file.max_pools),
            max_elements: self.max_elements.or(file.max_elements),
            max_elements_per_pool: self.max_elements_per_pool.or(file.max_elements_per_pool),
            max_links: self.max_links.or(file.max_links),
            max_links_per_address: self.max_links_per_address.or(file.max_links_per_address),
            max_queued_bytes: self.max_queued_bytes.or(file.max_queued_bytes),
            admin: self.admin.or(file.admin),
            config: self.config,
        }
    }

    /// The ASAP listeners.
    pub fn asap(&self) -> Vec<SocketAddr> {
        or_default(&self.asap, 3863)
    }

    /// The ENRP listeners.
    pub fn enrp(&self) -> Vec<SocketAddr> {
        or_default(&self.enrp, 9901)
    }

    pub fn announce(&self) -> Result<Announce, String> {
        match self.announce.as_deref() {
            None | Some("auto") => Ok(Announce::Auto),
            Some("off") => Ok(Announce::Off),
            Some(group) => match group.parse::<SocketAddr>() {
                Ok(group) if group.ip().is_multicast() => Ok(Announce::Group(group)),
                Ok(_) => Err(format!("--announce {group}: not a multicast address")),
                Err(_) => Err(format!("--announce {group}: say auto, off, or GROUP:PORT")),
            },
        }
    }

    /// The identifier, none if it is to be chosen.
    pub fn id(&self) -> Result<Option<ServerId>, String> {
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

    pub fn profile(&self) -> Result<Profile, String> {
        match self.profile.as_deref() {
            None => Ok(Profile::default()),
            Some(name) => Profile::by_name(name).ok_or(format!("--profile {name}: say lan, wan or rfc")),
        }
    }

    pub fn registrar_config(&self) -> Result<RegistrarConfig, String> {
        let config = RegistrarConfig::new(self.profile()?);
        Ok(RegistrarConfig { proxy_registration: self.proxy_registration, ..config })
    }

    pub fn limits(&self) -> Limits {
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

    pub fn admin(&self) -> Admin {
        match self.admin.as_deref() {
            Some("off") => Admin::Off,
            Some(path) => Admin::At(PathBuf::from(path)),
            None => Admin::Usual(usual_admin_path()),
        }
    }
}

impl Announce {
    /// The groups to announce to; `local` if only this machine is served.
    pub fn multicast(&self, local: bool) -> Option<Multicast> {
        match self {
            Announce::Auto if local => None,
            Announce::Auto => Some(Multicast::usual(&[Protocol::Asap, Protocol::Enrp])),
            Announce::Off => None,
            Announce::Group(group) => {
                Some(Multicast { groups: vec![(Protocol::Asap, *group)], hear: true, loopback: local })
            }
        }
    }
}

fn or_default(given: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    if given.is_empty() { vec![SocketAddr::from(([127, 0, 0, 1], port))] } else { given.to_vec() }
}

fn usual_admin_path() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_dir()) {
        Some(folder) => PathBuf::from(folder).join("asap-registrar.sock"),
        // SAFETY: getuid cannot fail and takes no pointers.
        None => PathBuf::from(format!("/tmp/asap-registrar-{}.sock", unsafe { libc::getuid() })),
    }
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
            "asap = ['0.0.0.0:1']\nprofile = 'wan'\nmax-elements = 5\nproxy-registration = true",
        )
        .unwrap();
        let both = options(&["--asap", "[::1]:2", "--max-elements", "6"]).over(file);
        assert_eq!(both.asap(), ["[::1]:2".parse().unwrap()]);
        assert_eq!((both.profile(), both.limits().elements), (Ok(Profile::Wan), 6));
        assert!(both.proxy_registration);
        assert_eq!(both.enrp(), ["127.0.0.1:9901".parse().unwrap()]);
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
        assert!(options(&["--announce", "10.0.0.1:1"]).announce().unwrap_err().contains("multicast"));
        let bare =
            Options::try_parse_from(["asap-registrar", "--asap", "127.0.0.1"]).map(|_| ()).unwrap_err();
        assert!(bare.to_string().contains("and a port"), "{bare}");
        assert!(options(&["--profile", "fast"]).profile().unwrap_err().contains("lan, wan or rfc"));
    }

    #[test]
    fn announces_on_its_own_only_what_others_can_reach() {
        assert!(Announce::Auto.multicast(true).is_none());
        assert!(Announce::Auto.multicast(false).is_some_and(|multicast| !multicast.loopback));
        let group = "239.0.0.50:3863".parse().unwrap();
        assert!(Announce::Group(group).multicast(true).is_some_and(|multicast| multicast.loopback));
    }
}
