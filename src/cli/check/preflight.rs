//! `mesh check --pre`: whether a host is fit for mesh, before anything is installed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use rustix::process::{Resource, getrlimit};

use crate::api::client::{Client, Error};
use crate::cli::check::disk;
use crate::cli::check::finding::{Category, Check, Mark, check};
use crate::cli::check::mesh::{SKEW_MS, SYNCHRONISE, skew};
use crate::cli::data_dir;
use crate::logic::intercept::Rules;
use crate::model::token::Token;
use crate::net::dns::resolvers::{self, RESOLV_CONF};
use crate::net::{interface, mark, nft, tool};

/// Two for each connection that is carried, and some.
const DESCRIPTORS_LEAST: u64 = 65_536;
const NSSWITCH: &str = "/etc/nsswitch.conf";

/// A port that mesh listens on.
struct Port {
    number: u16,
    tcp: bool,
    udp: bool,
    /// Whether another one is taken instead when it is not free.
    yields: bool,
    flag: &'static str,
}

const fn port(number: u16, (tcp, udp): (bool, bool), yields: bool, flag: &'static str) -> Port {
    Port { number, tcp, udp, yields, flag }
}

const PROXY: [Port; 6] = [
    port(15_000, (true, false), false, "--admin"),
    port(15_001, (true, false), false, "--outbound"),
    port(15_002, (true, false), false, "--capture"),
    port(15_008, (true, false), false, "--inbound"),
    port(15_053, (true, true), true, "--dns"),
    port(7946, (true, true), true, "--gossip"),
];
const CONTROL: [Port; 3] = [
    port(7440, (true, false), false, "--admin"),
    port(7443, (true, false), false, "--listen"),
    port(7946, (true, true), true, "--gossip"),
];

/// Examines this host, and with a token also the way to its control plane.
pub(crate) async fn examine(token: Option<&Token>) -> Vec<Category> {
    let mut system =
        vec![user(), host_name(), descriptors(), disk::judge(&disk::look(&data_dir::of("proxy")))];
    if token.is_none() {
        system.push(synchronised().await);
    }
    let (proxy, control) = (ports("proxy", &PROXY), ports("control plane", &CONTROL));
    let mut categories = vec![
        Category::new("pre-system", system),
        Category::new("pre-ports", vec![proxy, control]),
        Category::new("pre-interception", vec![rules().await, resolver()]),
    ];
    if let Some(token) = token {
        categories.push(Category::new("pre-control", way(token).await));
    }
    categories
}

fn user() -> Check {
    let other = (!rustix::process::geteuid().is_root())
        .then(|| "this is not root: the installer needs it, and some of these checks".to_owned());
    check("root installs it", Mark::Warning, other, "put 'sudo' before 'mesh'")
}

fn host_name() -> Check {
    let unusable = interface::host_name().is_none().then(|| "it cannot be a node's name".to_owned());
    check("the host's name can be its node's", Mark::Error, unusable, "choose one with --node NAME")
}

fn descriptors() -> Check {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let few = (most < DESCRIPTORS_LEAST).then(|| format!("{most} at most"));
    let hint = "the unit that install.sh writes raises it (LimitNOFILE); elsewhere 'ulimit -n 1048576'";
    check("enough files can be open", Mark::Warning, few, hint)
}

/// Asks the service manager whether something keeps the clock right: without a token there is no other clock to compare.
async fn synchronised() -> Check {
    let description = "something keeps the clock right";
    let asked = tool::run("timedatectl", &["show", "--property=NTPSynchronized", "--value"], "").await;
    let Ok(answer) = asked else {
        let found = ["nothing here says so; --join TOKEN compares it with the control plane's".to_owned()];
        return check(description, Mark::Warning, found, SYNCHRONISE);
    };
    let unset = (answer.trim() == "no").then(|| "it is not synchronised".to_owned());
    check(description, Mark::Warning, unset, SYNCHRONISE)
}

/// Returns whether a port can be listened on, by trying.
fn try_port(port: &Port) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number));
    if port.tcp {
        TcpListener::bind(address)?;
    }
    if port.udp {
        UdpSocket::bind(address)?;
    }
    Ok(())
}

fn ports(whose: &str, ports: &[Port]) -> Check {
    let mut mark = Mark::Warning;
    let mut flags = BTreeSet::new();
    let mut taken = Vec::new();
    for port in ports {
        let Err(error) = try_port(port) else { continue };
        if port.yields {
            taken.push(format!("{}: {error}; the next that is free will do", port.number));
        } else {
            mark = Mark::Error;
            flags.insert(port.flag);
            taken.push(format!("{}: {error}", port.number));
        }
    }
    // Most hosts run no control plane.
    if whose != "proxy" {
        mark = Mark::Warning;
    }
    let flags = flags.into_iter().collect::<Vec<_>>().join(", ");
    let hint = if flags.is_empty() {
        "nothing has to be done".to_owned()
    } else {
        format!(
            "if that is mesh, it runs already; else 'ss -lntup' shows what has them, and {flags} choose others"
        )
    };
    check(&format!("the ports of a {whose} are free"), mark, taken, &hint)
}

/// Has nft read the rules of interception, which installs nothing.
async fn rules() -> Check {
    let rules = Rules {
        instance: "preflight".to_owned(),
        mark: mark::MARK,
        capture_v4: Some(15_002),
        capture_v6: Some(15_002),
        names: Some((15_053, BTreeSet::from([Ipv4Addr::LOCALHOST.into()]))),
        strict: Some((BTreeSet::from([80]), Vec::new())),
    };
    let refused = nft::try_out(&rules.install()).await.err().map(|error| error.to_string());
    check(
        "connections can be intercepted (--intercept)",
        Mark::Warning,
        refused,
        "'apt install nftables' (or its like), as root, with a kernel of 5.2 or later; without it, applications reach \
         services by the outbound port and --upstream",
    )
}

/// Looks whether applications ask by DNS at all, which is what can be led to the proxy.
fn resolver() -> Check {
    let mut wrong = Vec::new();
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    match read(RESOLV_CONF) {
        Ok(text) if resolvers::parse(&text).is_empty() => {
            wrong.push(format!("{RESOLV_CONF} names no server, so that only 127.0.0.1 is asked"));
        }
        Ok(_) => {}
        Err(error) => wrong.push(error),
    }
    // Without the file, DNS is asked.
    let hosts = read(NSSWITCH).ok();
    let hosts =
        hosts.as_deref().and_then(|text| text.lines().find_map(|line| line.trim().strip_prefix("hosts:")));
    let asks = |hosts: &str| hosts.split_whitespace().any(|word| matches!(word, "dns" | "resolve"));
    if hosts.is_some_and(|hosts| !asks(hosts)) {
        wrong.push(format!("'hosts:' in {NSSWITCH} has neither 'dns' nor 'resolve'"));
    }
    check(
        "applications ask for names by DNS",
        Mark::Warning,
        wrong,
        "names below .mesh are answered at 127.0.0.1:15053; --intercept leads the host's questions there when it asks by DNS",
    )
}

/// Goes to the control plane of a token, checks that it is the one that the token pins, and compares the clocks.
async fn way(token: &Token) -> Vec<Check> {
    let reaches =
        |found: Option<String>, hint: &str| check("the control plane is reached", Mark::Error, found, hint);
    match Client::timing(token.controls.clone(), token.pin).ahead_ms().await {
        Ok(ahead_ms) => {
            let far =
                (ahead_ms.unsigned_abs() > SKEW_MS).then(|| skew("the control plane", ahead_ms, "this host"));
            vec![reaches(None, ""), check("the clocks agree", Mark::Error, far, SYNCHRONISE)]
        }
        Err(error @ Error::WrongPin(_)) => vec![reaches(Some(error.to_string()), "make a new token")],
        Err(error) => vec![reaches(
            Some(error.to_string()),
            "is 'mesh control' running there, and TCP port 7443 open from here? 'mesh control --advertise HOST' says \
             under which address others find it",
        )],
    }
}
