//! A mesh in which services of every kind run twice, and one proxy calls them.

use std::process::Command;

use crate::load::{Load, Targets, service};
use crate::stage::mesh::{Mesh, Proxy, ProxyPlan};
use crate::stage::peer::{Peer, greeter, script_server};
use crate::stage::place::{Network, Place};
use crate::stage::process::Process;
use crate::stage::program::{python, script};
use crate::stage::wait::{seconds, until};

/// The mesh. What is dropped first is what others need least.
pub(crate) struct Scene {
    pub(crate) caller: Proxy,
    pub(crate) servers: Vec<Proxy>,
    pub(crate) mesh: Mesh,
    _peers: Vec<Peer>,
    place: Place,
}

/// Where everything of a scene runs.
pub(crate) struct Places {
    control: Place,
    caller: Place,
    servers: [Place; 2],
}

impl Places {
    /// All of it on this host.
    pub(crate) fn here() -> Self {
        let here = Place::here();
        Self { control: here.clone(), caller: here.clone(), servers: [here.clone(), here] }
    }

    /// A host for each: the control plane, the caller, two servers.
    pub(crate) fn apart(network: &Network) -> Self {
        let servers = [network.host(3), network.host(4)];
        Self { control: network.host(1), caller: network.host(2), servers }
    }
}

impl Scene {
    /// Starts it on this host; returns when callers of every kind reach both instances of their services.
    pub(crate) fn new() -> Self {
        Self::with(&Places::here(), |plan| plan)
    }

    /// Starts it on these hosts, with more said about every proxy.
    pub(crate) fn with(places: &Places, more: impl Fn(ProxyPlan) -> ProxyPlan) -> Self {
        let mesh = Mesh::start(&places.control);
        let token = mesh.token(&["--uses", "3"]);
        let mut peers = Vec::new();
        let mut server = |name: &str, place: &Place| {
            let (plan, new) = services(place, &mesh, mesh.proxy(place, name).join(&token));
            peers.extend(new);
            more(plan).start()
        };
        let [first, second] = &places.servers;
        let servers = vec![server("server-1", first), server("server-2", second)];
        let place = places.caller.clone();
        let caller = more(mesh.proxy(&place, "caller").join(&token).upstream("db")).start();
        let scene = Self { caller, servers, mesh, _peers: peers, place };
        scene.knows_instances(2);
        scene
    }

    /// Starts it on this host with one proxy, which carries calls to the services behind itself.
    pub(crate) fn alone() -> Self {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let (plan, peers) = services(&here, &mesh, mesh.proxy(&here, "caller").join(&mesh.token(&[])));
        let caller = plan.upstream("db").start();
        let scene = Self { caller, servers: Vec::new(), mesh, _peers: peers.into(), place: here };
        scene.knows_instances(1);
        scene
    }

    /// Waits until the caller knows that so many instances of each service are ready.
    pub(crate) fn knows_instances(&self, count: usize) {
        until(&format!("the caller knows {count} instances"), seconds(30), || {
            let view = self.caller.view();
            ["web", "api", "chat", "db"]
                .iter()
                .all(|service| ready_instances(&view, service) == count)
                .then_some(())
        });
    }

    /// Starts callers of every kind, and waits until each has done something.
    pub(crate) fn load(&self) -> Load {
        let outbound = self.caller.address("outbound");
        let targets = Targets { outbound, tcp: self.caller.upstream("db.default") };
        let mut command = Command::new(python());
        command.arg("-u").arg(script("grpc_calls.py")).args(["load", &outbound.to_string(), "api.mesh"]);
        let grpc = Process::start(&self.place, self.mesh.folder(), "grpc-callers", command);
        let load = Load::start(&self.place, targets, grpc);
        load.goes_on(1);
        load
    }
}

/// Starts a service of each kind on a host, for a proxy to be.
fn services(place: &Place, mesh: &Mesh, plan: ProxyPlan) -> (ProxyPlan, [Peer; 2]) {
    let web = service::start(place).port();
    let db = greeter(place, "db").port();
    let scripts = ["grpc_calls.py", "websocket_echo.py"];
    let [api, chat] = scripts.map(|name| script_server(place, mesh.folder(), name));
    let plan = plan.service(&format!("web={web}/http")).service(&format!("api={}/grpc", api.port));
    let plan = plan.service(&format!("chat={}/http", chat.port)).service(&format!("db={db}/tcp"));
    (plan, [api, chat])
}

/// Returns how many instances of a service are ready, as a proxy sees the mesh.
fn ready_instances(view: &serde_json::Value, service: &str) -> usize {
    let services = view["services"].as_array().into_iter().flatten();
    let instances = services.filter(|found| found["name"] == format!("{service}.default"));
    let instances = instances.filter_map(|found| found["instances"].as_array()).flatten();
    instances.filter(|instance| instance["standing"] == "ready").count()
}
