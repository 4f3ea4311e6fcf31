//! The same scene with one proxy and with two.

use std::io::Write as _;
use std::net::SocketAddr;

use ::mesh::net::patience::Patience;

use crate::data_path::mesh::{Log, Mesh, Node};

/// Where caller and service are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one node: its outbound side calls its own inbound side.
    One,
    /// On a node each.
    Two,
}

impl Layout {
    pub(crate) const BOTH: [Self; 2] = [Self::One, Self::Two];
}

/// A mesh with the service `web` and somebody to call it. Says which layout it is when a test fails in it.
pub(crate) struct Scene {
    pub(crate) mesh: Mesh,
    layout: Layout,
    nodes: Vec<Node>,
}

impl Scene {
    /// Puts `web` at an address, with its protocol, or none.
    pub(crate) fn new(layout: Layout, app: SocketAddr, protocol: &str) -> Self {
        Self::within(Mesh::new(), (layout, app, protocol))
    }

    /// Also records the calls of all nodes.
    pub(crate) fn logged(layout: Layout, app: SocketAddr, protocol: &str) -> Self {
        let mut mesh = Mesh::new();
        mesh.log = Some(Log::default());
        Self::within(mesh, (layout, app, protocol))
    }

    /// Waits for others only for so long.
    pub(crate) fn patient(patience: Patience, layout: Layout, app: SocketAddr, protocol: &str) -> Self {
        let mut mesh = Mesh::new();
        mesh.patience = patience;
        Self::within(mesh, (layout, app, protocol))
    }

    fn within(mesh: Mesh, (layout, app, protocol): (Layout, SocketAddr, &str)) -> Self {
        let slash = if protocol.is_empty() { "" } else { "/" };
        let services = [format!("web={app}{slash}{protocol}")];
        let nodes = match layout {
            Layout::One => vec![mesh.node("both", &services, &["web"])],
            Layout::Two => vec![mesh.node("callee", &services, &[]), mesh.node("caller", &[], &["web"])],
        };
        mesh.apply(serde_json::json!([]));
        Self { mesh, layout, nodes }
    }

    /// All proxies.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The proxy of whoever calls.
    pub(crate) fn caller(&self) -> &Node {
        self.nodes.last().unwrap()
    }

    /// The proxy of the service.
    pub(crate) fn callee(&self) -> &Node {
        self.nodes.first().unwrap()
    }

    /// Where each request names its service.
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.caller().outbound()
    }

    /// The lines that were recorded.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let text = self.mesh.log.as_ref().map(Log::text).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Where everything goes to `web`.
    pub(crate) fn port(&self) -> SocketAddr {
        self.caller().port("web")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            _ = writeln!(std::io::stderr(), "with {:?} of the layouts", self.layout);
        }
    }
}
