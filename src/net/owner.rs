//! Who owns a socket of this host: its user, and the control group of the process that made it.
//!
//! The kernel is asked for the one socket that has this pair of addresses (`sock_diag(7)`, `INET_DIAG_CGROUP_ID` of Linux
//! 5.7), which takes it a look into a hash table: no list of sockets or processes is read.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

/// Where the users of a host are listed (passwd(5)).
pub const PASSWD: &str = "/etc/passwd";
/// Where groups of version 2 are found: alone, or beside those of version 1.
const CGROUP_ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Groups below a unit's that are looked at.
const GROUPS_MAX: usize = 1_024;
/// The file that only groups of version 2 have.
const CGROUP_FILE: &str = "cgroup.procs";

/// The kernel's header of a message, its request for a socket, and the part of its answer that has a fixed length.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = 56;
const ANSWER_BYTES: usize = 72;
/// Where in the answer the user stands.
const UID_AT: usize = HEADER_BYTES + 64;
const BY_FAMILY: u16 = 20;
const IS_REQUEST: u16 = 1;
const TCP: u8 = 6;
const CGROUP_ID: u16 = 21;

/// The owner of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The user.
    pub uid: u32,
    /// The control group, by the number of its folder; `None` where the kernel does not say.
    pub cgroup: Option<u64>,
}

/// A way to ask the kernel. Not shared between threads: an answer belongs to the question before it.
#[derive(Debug)]
pub struct Inquiry {
    socket: OwnedFd,
    sequence: u32,
}

impl Inquiry {
    /// Opens the way.
    ///
    /// # Errors
    /// When the kernel has none.
    pub fn open() -> std::io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC);
        let socket = socket_with(kind.0, kind.1, kind.2, Some(netlink::SOCK_DIAG))?;
        // The answer is there before the question's call returns; should it ever not be, nobody may wait for it.
        sockopt::set_socket_timeout(
            &socket,
            sockopt::Timeout::Recv,
            Some(std::time::Duration::from_millis(50)),
        )?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Returns the owner of the TCP socket at `local` that is connected to `remote`; `None` when there is none.
    ///
    /// # Errors
    /// When the kernel cannot be asked: open another.
    pub fn holder(&mut self, local: SocketAddr, remote: SocketAddr) -> std::io::Result<Option<Holder>> {
        self.sequence = self.sequence.wrapping_add(1);
        let (local, remote) = (canonical(local), canonical(remote));
        if local.is_ipv4() != remote.is_ipv4() {
            return Ok(None);
        }
        send(&self.socket, &request(local, remote, self.sequence), SendFlags::empty())?;
        let mut answer = [0_u8; 1_024];
        loop {
            let (length, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
            let answer = answer.get(..length).unwrap_or_default();
            // What was left of a question that was given up is not for this one.
            if number(answer, 8) == Some(self.sequence) {
                return Ok(read(answer));
            }
        }
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn request(local: SocketAddr, remote: SocketAddr, sequence: u32) -> Vec<u8> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut message = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    message.extend(((HEADER_BYTES + REQUEST_BYTES) as u32).to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(IS_REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([family.as_raw() as u8, TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for addr in [local.ip(), remote.ip()] {
        let mut bytes = [0; 16];
        match addr {
            IpAddr::V4(addr) => bytes[..4].copy_from_slice(&addr.octets()),
            IpAddr::V6(addr) => bytes = addr.octets(),
        }
        message.extend(bytes);
    }
    // On any interface, whatever its cookie.
    message.extend(0_u32.to_ne_bytes());
    message.extend([0xff; 8]);
    message
}

fn number(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn short(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Reads the kernel's answer; an error is one that says that there is no such socket.
fn read(message: &[u8]) -> Option<Holder> {
    if short(message, 4)? != BY_FAMILY {
        return None;
    }
    let uid = number(message, UID_AT)?;
    let mut at = HEADER_BYTES + ANSWER_BYTES;
    let mut cgroup = None;
    while let (Some(length), Some(kind)) = (short(message, at), short(message, at + 2)) {
        let length = usize::from(length);
        if kind == CGROUP_ID {
            let value = message.get(at + 4..at + 12).and_then(|bytes| bytes.try_into().ok());
            cgroup = value.map(u64::from_ne_bytes);
        }
        if length < 4 {
            break;
        }
        at += length.next_multiple_of(4);
    }
    Some(Holder { uid, cgroup })
}

/// Returns the number of a user that is named, or given by number, in `passwd` (passwd(5)).
///
/// A static program cannot ask the host's other sources of names; users of those are given by number.
pub fn uid(user: &str, passwd: &str) -> Option<u32> {
    if let Ok(uid) = user.parse() {
        return Some(uid);
    }
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next()? == user;
        named.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Returns the name of a user that is given by number, in `passwd`; `None` where it has none.
pub fn user(uid: u32, passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// Returns the numbers of the control group at `path`, which begins with `/`, and of those below it.
pub fn groups_at(path: &str) -> Vec<u64> {
    let Some(root) = cgroup_root() else { return Vec::new() };
    groups(vec![root.join(path.trim_start_matches('/'))])
}

/// Returns the numbers of the control groups of a unit of systemd, wherever it stands, and of those below them.
pub fn groups_of_unit(unit: &str) -> Vec<u64> {
    let Some(root) = cgroup_root() else { return Vec::new() };
    let (mut found, mut open, mut seen) = (Vec::new(), vec![root.to_path_buf()], 0);
    while let Some(folder) = open.pop() {
        seen += 1;
        if seen > GROUPS_MAX {
            break;
        }
        let (here, elsewhere): (Vec<_>, Vec<_>) = children(&folder)
            .into_iter()
            .partition(|child| child.file_name().is_some_and(|name| name == unit));
        found.extend(here);
        open.extend(elsewhere);
    }
    groups(found)
}

fn cgroup_root() -> Option<&'static Path> {
    CGROUP_ROOTS.map(Path::new).into_iter().find(|root| root.join(CGROUP_FILE).exists())
}

fn groups(mut open: Vec<PathBuf>) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        let Ok(metadata) = fs::metadata(&folder) else { continue };
        found.push(metadata.ino());
        if found.len() >= GROUPS_MAX {
            break;
        }
        open.extend(children(&folder));
    }
    found
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use crate::net::owner::{Inquiry, uid, user};

    #[test]
    fn the_owner_of_a_connection_of_either_family_is_its_user() {
        let mut inquiry = Inquiry::open().unwrap();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_server, from) = listener.accept().unwrap();

            let holder = inquiry.holder(from, listener.local_addr().unwrap()).unwrap().unwrap();
            assert_eq!(holder.uid, rustix::process::geteuid().as_raw());
            assert!(holder.cgroup.is_some());
            drop(client);
        }
        let nobody = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(inquiry.holder(nobody.0, nobody.1).unwrap(), None);
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/:/bin/false\nbroken\n";

        assert_eq!(uid("www", passwd), Some(33));
        assert_eq!((user(33, passwd), user(34, passwd)), (Some("www"), None));
        assert_eq!(uid("1000", passwd), Some(1_000));
        assert_eq!(uid("ww", passwd), None);
        assert_eq!(uid("broken", passwd), None);
    }
}
