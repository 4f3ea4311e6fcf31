//! Where a process runs: this host, or a host of its own (a network namespace on a private bridge).

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A host.
#[derive(Clone)]
pub(crate) struct Place {
    netns: Option<Arc<File>>,
    ip: IpAddr,
}

impl Place {
    /// This host, by its loopback address.
    pub(crate) fn here() -> Self {
        Self { netns: None, ip: Ipv4Addr::LOCALHOST.into() }
    }

    /// The address that other places reach it at.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Does something on this host: its sockets, and those of processes it starts, are this host's.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if self.netns.is_none() {
            return work();
        }
        // A thread of its own, as the kernel moves one thread and not the process.
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                self.enter();
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread there, for good.
    pub(crate) fn enter(&self) {
        if let Some(netns) = &self.netns {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        }
    }

    /// Returns a port that nobody listens on, for programs that cannot choose one themselves.
    pub(crate) fn free_port(&self) -> u16 {
        self.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port())
    }
}

/// Hosts of their own, each with a cable to one switch; removed when dropped.
pub(crate) struct Network {
    name: String,
    hosts: Vec<Place>,
}

const FOLDER: &str = "/run/netns";
const PREFIX: &str = "meshe2e";

impl Network {
    /// Makes `count` hosts, `10.88.0.1` and up. Needs root.
    pub(crate) fn new(count: u8) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        assert!(rustix::process::geteuid().is_root(), "hosts are network namespaces: run the tests as root");
        remove_left_over();
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{made}", std::process::id());
        let mut network = Self { name, hosts: Vec::new() };

        // The switch stands in a namespace of its own, so that this host's interfaces are left alone.
        let switch = format!("{}-s", network.name);
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add br0 type bridge"));
        ip(&format!("-n {switch} addr add 10.88.0.254/24 dev br0"));
        ip(&format!("-n {switch} link set br0 up"));
        for number in 1..=count {
            let host = network.make(number);
            network.hosts.push(host);
        }
        network
    }

    /// Makes a host, and plugs its cable in.
    fn make(&self, number: u8) -> Place {
        let (host, switch) = (self.host_name(number), format!("{}-s", self.name));
        ip(&format!("netns add {host}"));
        ip(&format!("-n {switch} link add v{number} type veth peer name eth0 netns {host}"));
        ip(&format!("-n {switch} link set v{number} master br0 up"));
        ip(&format!("-n {host} addr add 10.88.0.{number}/24 dev eth0"));
        ip(&format!("-n {host} link set lo up"));
        ip(&format!("-n {host} link set eth0 up"));
        ip(&format!("-n {host} route add default via 10.88.0.254"));
        let netns = File::open(Path::new(FOLDER).join(&host)).unwrap();
        Place { netns: Some(Arc::new(netns)), ip: Ipv4Addr::new(10, 88, 0, number).into() }
    }

    /// Cuts a host's power and puts it on again: of its network nothing is left. Its processes must have been ended.
    pub(crate) fn reboot(&mut self, number: u8) -> Place {
        ip(&format!("-n {}-s link del v{number}", self.name));
        ip(&format!("netns del {}", self.host_name(number)));
        let host = self.make(number);
        self.hosts[usize::from(number) - 1] = host.clone();
        host
    }

    /// Gives a host another address in place of the one it has; [`Place::ip`] is still the old one.
    pub(crate) fn move_to(&self, number: u8, last: u8) {
        let host = self.host_name(number);
        ip(&format!("-n {host} addr flush dev eth0"));
        ip(&format!("-n {host} addr add 10.88.0.{last}/24 dev eth0"));
        ip(&format!("-n {host} route add default via 10.88.0.254"));
    }

    /// Takes a host's default route away, or gives it back.
    pub(crate) fn default_route(&self, number: u8, verb: &str) {
        ip(&format!("-n {} route {verb} default via 10.88.0.254", self.host_name(number)));
    }

    /// Leaves a host with its loopback interface alone; returns it as it is reached from itself.
    pub(crate) fn isolate(&self, number: u8) -> Place {
        ip(&format!("-n {} link del eth0", self.host_name(number)));
        Place { ip: Ipv4Addr::LOCALHOST.into(), ..self.host(number) }
    }

    /// Returns a host, the first is 1.
    pub(crate) fn host(&self, number: u8) -> Place {
        self.hosts[usize::from(number) - 1].clone()
    }

    /// Pulls a host's cable, or puts it back.
    pub(crate) fn plug(&self, number: u8, state: &str) {
        ip(&format!("-n {}-s link set v{number} {state}", self.name));
    }

    fn host_name(&self, number: u8) -> String {
        format!("{}-{number}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the namespaces whose names begin so.
fn remove(prefix: &str) {
    for name in namespaces().filter(|name| name.starts_with(prefix)) {
        let _ = Command::new("ip").args(["netns", "del", &name]).status();
    }
}

/// Removes what earlier runs left when they were killed.
fn remove_left_over() {
    for name in namespaces() {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            remove(&name);
        }
    }
}

fn namespaces() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn ip(arguments: &str) {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().expect("'ip' of iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn hosts_reach_each_other_and_nothing_is_left_of_them() {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    let network = Network::new(2);
    let (one, two) = (network.host(1), network.host(2));
    let listener = one.inside(|| TcpListener::bind((one.ip(), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let connect = |from: &Place, to: SocketAddr| {
        from.inside(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok())
    };

    assert!(connect(&two, address));
    assert!(!connect(&two, SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))), "loopback is shared");
    network.plug(1, "down");
    assert!(!connect(&two, address));
    let name = network.name.clone();
    drop((network, one, two));
    assert!(!namespaces().any(|left| left.starts_with(&name)));
}
