//! A mesh in which services of every kind run twice, and one proxy calls them.

use std::process::Command;

use crate::load::{Load, Targets, service};
use crate::stage::mesh::{Mesh, Proxy, ProxyPlan};
use crate::stage::peer::{Peer, greeter, script_server};
use crate::stage::place::Place;
use crate::stage::process::Process;
use crate::stage::program::{python, script};
use crate::stage::wait::{seconds, until};

/// The mesh. What is dropped first is what others need least.
pub(crate) struct Scene {
    pub(crate) caller: Proxy,
    pub(crate) servers: Vec<Proxy>,
    pub(crate) mesh: Mesh,
    _peers: [Peer; 2],
    place: Place,
}

impl Scene {
    /// Starts it on this host; returns when callers of every kind reach both instances of their services.
    pub(crate) fn new() -> Self {
        Self::with(|plan| plan)
    }

    /// As [`Scene::new`], with more said about every proxy.
    pub(crate) fn with(more: impl Fn(ProxyPlan) -> ProxyPlan) -> Self {
        let place = Place::here();
        let mesh = Mesh::start(&place);
        let token = mesh.token(&["--uses", "3"]);
        let web = service::start(&place).port();
        let db = greeter(&place, "db").port();
        let peers =
            ["grpc_calls.py", "websocket_echo.py"].map(|name| script_server(&place, mesh.folder(), name));
        let server = |name: &str| {
            let plan = mesh.proxy(&place, name).join(&token).service(&format!("web={web}/http"));
            let plan = plan.service(&format!("api={}/grpc", peers[0].port));
            let plan = plan.service(&format!("chat={}/http", peers[1].port));
            more(plan.service(&format!("db={db}/tcp"))).start()
        };
        let servers = vec![server("server-1"), server("server-2")];
        let caller = more(mesh.proxy(&place, "caller").join(&token).upstream("db")).start();
        let scene = Self { caller, servers, mesh, _peers: peers, place };
        scene.knows_instances(2);
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
        let load = Load::start(targets, grpc);
        load.goes_on(1);
        load
    }
}

/// Returns how many instances of a service are ready, as a proxy sees the mesh.
fn ready_instances(view: &serde_json::Value, service: &str) -> usize {
    let services = view["services"].as_array().into_iter().flatten();
    let instances = services.filter(|found| found["name"] == format!("{service}.default"));
    let instances = instances.filter_map(|found| found["instances"].as_array()).flatten();
    instances.filter(|instance| instance["standing"] == "ready").count()
}
