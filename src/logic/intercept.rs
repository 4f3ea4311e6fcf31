//! The rules by which a host's connections reach its proxy, as a text for `nft -f` (nftables(8)).
//!
//! All of them are in one table, `inet mesh`, which is made anew as a whole: within one transaction, so that there is no
//! moment without it or with a part of it, and so that nobody else's rules are ever touched.
//!
//! - `capture`: connections to virtual addresses go to the proxy, which asks the kernel where they were meant to go.
//! - `names`: questions to the host's own name servers go to the proxy's name server, which passes on what is not its
//!   own. Questions to other name servers are left alone.
//! - `fence`: whatever else is sent to a virtual address ends here, as nobody has it. This includes the proxy itself, whose
//!   packets carry a mark and are never captured: so that no call can go round in circles.
//! - `strict`, when that is wanted: services of this host can be reached from itself alone, and so by mutual TLS.
//!
//! A chain without rules is named after the process that made the table, and that after its data directory. Who removes the table removes that chain first:
//! when another process has made it since, nothing is removed at all.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use crate::logic::naming::book::{PREFIX_V4, PREFIX_V6, RANGE_V4, RANGE_V6};

/// The table.
pub const TABLE: &str = "inet mesh";
/// Before the host's own filters: strict is strict whatever these allow.
const STRICT_PRIORITY: i32 = -10;
/// Where destinations are changed (`NF_IP_PRI_NAT_DST`).
const CAPTURE_PRIORITY: i32 = -100;

/// How a host's connections are intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Not at all.
    #[default]
    Off,
    /// Those to services of the mesh.
    On,
    /// These, and nobody else reaches the host's own services past the mesh.
    Strict,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" | "yes" | "1" => Ok(Self::On),
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            "strict" => Ok(Self::Strict),
            _ => Err("expected on, off or strict".to_owned()),
        }
    }
}

/// Whom `strict` lets through: `PORT`, `SOURCE`, or `SOURCE=PORT`, where `SOURCE` is an address or `ADDRESS/BITS`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// From where, with the number of bits that count; `None` for everywhere.
    pub source: Option<(IpAddr, u8)>,
    /// To which port; `None` for all.
    pub port: Option<u16>,
}

impl FromStr for Exception {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("'{text}' is no exception: expected PORT, SOURCE or SOURCE=PORT, such as 10.0.0.0/8=8080")
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        if let Some(port) = port(text) {
            return Ok(Self { source: None, port: Some(port) });
        }
        let (source, port) = match text.split_once('=') {
            Some((source, number)) => (source, Some(port(number).ok_or_else(wrong)?)),
            None => (text, None),
        };
        let (addr, bits) = match source.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (source, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { source: Some((addr, bits)), port })
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source, self.port) {
            (None, port) => write!(f, "{}", port.unwrap_or_default()),
            (Some((addr, bits)), None) => write!(f, "{addr}/{bits}"),
            (Some((addr, bits)), Some(port)) => write!(f, "{addr}/{bits}={port}"),
        }
    }
}

/// Everything that the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The process that makes them: letters and digits.
    pub instance: String,
    /// The mark of packets that are not captured.
    pub mark: u32,
    /// The port on `127.0.0.1` that captured connections of IPv4 go to; `None` when there is none.
    pub capture_v4: Option<u16>,
    /// The same on `::1`.
    pub capture_v6: Option<u16>,
    /// The port of the name server on loopback addresses, and whose questions go there.
    pub names: Option<(u16, BTreeSet<IpAddr>)>,
    /// The ports that `strict` closes, and the exceptions; `None` without `strict`.
    pub strict: Option<(BTreeSet<u16>, Vec<Exception>)>,
}

impl Rules {
    /// Returns the text that makes the table, in the place of one that is there.
    pub fn install(&self) -> String {
        // To add what may be there, and delete it, is how nft says "delete if it exists".
        format!("{}{self}", clear())
    }
}

/// Returns the text that removes the table of one process. It fails, and does nothing, when another has made it.
pub fn remove(instance: &str) -> String {
    format!("delete chain {TABLE} {}\ndelete table {TABLE}\n", chain(instance))
}

/// Returns the text that removes the table, whoever has made it, if it is there.
pub fn clear() -> String {
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

/// Returns the text that lets questions go where they were meant to, until the rules are made anew.
pub fn release_names() -> String {
    format!("flush chain {TABLE} names\n")
}

/// Returns what the chain is called that says whose the table is.
pub fn chain(instance: &str) -> String {
    format!("made_by_{instance}")
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = format!("meta mark {:#010x} accept", self.mark);
        let v4 = format!("ip daddr {RANGE_V4}/{PREFIX_V4}");
        let v6 = format!("ip6 daddr {RANGE_V6}/{PREFIX_V6}");
        writeln!(f, "table {TABLE} {{\n\tchain {} {{\n\t}}", chain(&self.instance))?;
        let nat = format!("type nat hook output priority {CAPTURE_PRIORITY}; policy accept;");
        let redirect = |range: &str, port| format!("{range} meta l4proto tcp redirect to :{port}");
        let mut rules = vec![nat.clone(), mark.clone()];
        rules.extend(self.capture_v4.map(|port| redirect(&v4, port)));
        rules.extend(self.capture_v6.map(|port| redirect(&v6, port)));
        write_chain(f, "capture", &rules)?;
        let mut rules = vec![nat, mark];
        if let Some((port, servers)) = &self.names {
            rules.extend(servers.iter().flat_map(|server| {
                let family = if server.is_ipv4() { "ip" } else { "ip6" };
                let rule = move |protocol| {
                    format!("{family} daddr {server} {protocol} dport 53 redirect to :{port}")
                };
                ["udp", "tcp"].map(rule)
            }));
        }
        write_chain(f, "names", &rules)?;
        let filter = "type filter hook output priority 0; policy accept;".to_owned();
        let end = |range: &str, answer: &str| format!("{range} reject with {answer}");
        let tcp = |range: &str| format!("{range} meta l4proto tcp reject with tcp reset");
        let fence = [
            filter,
            tcp(&v4),
            tcp(&v6),
            end(&v4, "icmp port-unreachable"),
            end(&v6, "icmpv6 port-unreachable"),
        ];
        write_chain(f, "fence", &fence)?;
        if let Some((ports, exceptions)) = &self.strict {
            write_chain(f, "strict", &strict(ports, exceptions))?;
        }
        writeln!(f, "}}")
    }
}

fn strict(ports: &BTreeSet<u16>, exceptions: &[Exception]) -> Vec<String> {
    let mut rules = vec![
        format!("type filter hook input priority {STRICT_PRIORITY}; policy accept;"),
        // From this host: its applications, and the mesh's own calls to them.
        "iif lo accept".to_owned(),
    ];
    for exception in exceptions {
        let mut rule = String::new();
        if let Some((addr, bits)) = exception.source {
            let family = if addr.is_ipv4() { "ip" } else { "ip6" };
            _ = write!(rule, "{family} saddr {addr}/{bits} ");
        }
        match exception.port {
            Some(port) => _ = write!(rule, "tcp dport {port} accept"),
            None => rule.push_str("meta l4proto tcp accept"),
        }
        rules.push(rule);
    }
    if !ports.is_empty() {
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        rules.push(format!("tcp dport {{ {} }} reject with tcp reset", ports.join(", ")));
    }
    rules
}

fn write_chain(f: &mut fmt::Formatter<'_>, name: &str, rules: &[String]) -> fmt::Result {
    writeln!(f, "\n\tchain {name} {{")?;
    for rule in rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}
