//! Who is compared, and how a pair of proxies is started: client → outbound → inbound → application.

use std::fmt::{self, Display};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::credentials::Credentials;
use crate::peers::{self, Side};
use crate::stage::mesh::Mesh;
use crate::stage::place::Place;
use crate::stage::process::{Process, status_of};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// One that stands between the client and the application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contestant {
    /// This project.
    Mesh,
    /// HAProxy, HTTP/2 between the two.
    Haproxy,
    /// nginx, HTTP/1.1 between the two.
    Nginx,
    /// Envoy, HTTP/2 between the two.
    Envoy,
    /// Nobody: what client and application take alone.
    Direct,
}

/// Two proxies, ended when dropped.
pub(crate) struct Pair {
    /// Where the client sends its requests.
    pub(crate) entry: SocketAddr,
    /// The host that it asks for.
    pub(crate) host: &'static str,
    /// What counts: both proxies, and nothing that they need besides.
    pub(crate) processes: Vec<Process>,
    control: Option<Mesh>,
    folder: TempDir,
}

impl Contestant {
    pub(crate) const ALL: [Self; 5] = [Self::Mesh, Self::Haproxy, Self::Nginx, Self::Envoy, Self::Direct];

    fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Direct => "direct",
        }
    }

    /// Returns what it says about its version; `None` when it is not installed. Builds `mesh` where it must be built.
    pub(crate) fn version(self) -> Option<String> {
        let flag = match self {
            Self::Mesh => "version",
            Self::Envoy => "--version",
            Self::Haproxy | Self::Nginx => "-v",
            Self::Direct => return Some("no proxy".to_owned()),
        };
        let output = Command::new(self.program()?).arg(flag).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty())?;
        line.rsplit("version: ").next().map(|version| version.trim().to_owned())
    }

    fn program(self) -> Option<PathBuf> {
        if self == Self::Mesh {
            return Some(program::mesh().to_owned());
        }
        // Where packages put servers is not in everybody's PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        folders.map(|folder| folder.join(self.name())).find(|program| program.is_file())
    }

    /// Starts a fresh pair in front of an application, and waits until it answers.
    pub(crate) fn start(self, app: SocketAddr, credentials: &Credentials) -> Pair {
        let folder = tempfile::Builder::new().prefix("mesh-bench-").tempdir().unwrap();
        let mut pair = Pair { entry: app, host: "app.mesh", processes: Vec::new(), control: None, folder };
        match self {
            Self::Direct => {}
            Self::Mesh => pair.start_mesh(app),
            Self::Haproxy | Self::Nginx | Self::Envoy => {
                let ports =
                    [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, Place::here().free_port())));
                let [outbound, inbound] = ports;
                pair.start_peer(self, Side::Inbound, (inbound, app), credentials);
                pair.start_peer(self, Side::Outbound, (outbound, inbound), credentials);
                pair.entry = outbound;
                pair.wait(self);
                let plain = status_of(&Place::here(), inbound, pair.host, "/small");
                assert_ne!(plain, Some(200), "{self} serves without mutual TLS");
            }
        }
        pair.wait(self);
        pair
    }
}

impl Pair {
    fn start_mesh(&mut self, app: SocketAddr) {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let token = mesh.token(&[]);
        let proxy = |node| mesh.proxy(&here, node).join(&token).flag("--workers", "1");
        let inbound = proxy("inbound").service(&format!("app={}/http", app.port())).start();
        let outbound = proxy("outbound").start();
        outbound.reaches("app");
        self.entry = outbound.address("outbound");
        self.processes.extend([inbound.process, outbound.process]);
        self.control = Some(mesh);
    }

    fn start_peer(
        &mut self,
        peer: Contestant,
        side: Side,
        (listen, to): (SocketAddr, SocketAddr),
        credentials: &Credentials,
    ) {
        let name = match side {
            Side::Outbound => "outbound",
            Side::Inbound => "inbound",
        };
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        let file = folder.join("configuration.json");
        let mut command = Command::new(peer.program().unwrap());
        let text = match peer {
            Contestant::Haproxy => {
                command.arg("-db").arg("-f").arg(&file);
                peers::haproxy(side, listen, to, credentials)
            }
            Contestant::Nginx => {
                command.arg("-p").arg(&folder).arg("-c").arg(&file).args(["-e", "stderr"]);
                peers::nginx(side, listen, to, credentials)
            }
            _ => {
                command.arg("-c").arg(&file).args([
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "-l",
                    "error",
                ]);
                peers::envoy(side, listen, to, credentials)
            }
        };
        fs::write(&file, text).unwrap();
        self.processes.push(Process::start(&Place::here(), &folder, &format!("{peer}-{name}"), command));
    }

    fn wait(&mut self, contestant: Contestant) {
        until(&format!("{contestant} answers"), seconds(20), || {
            self.processes.iter_mut().for_each(Process::assert_alive);
            (status_of(&Place::here(), self.entry, self.host, "/small") == Some(200)).then_some(())
        });
    }
}

impl Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
