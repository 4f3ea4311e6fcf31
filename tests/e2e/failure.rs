//! What dies, and what its neighbours' clients see.

use std::time::{Duration, Instant};

use mesh::net::clock;

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{self, Peer};
use crate::stage::place::Network;
use crate::stage::wait::{meanwhile, seconds, until};

/// Control and the caller on the first host; the same service on the second and the third.
pub(crate) struct Hosts {
    pub(crate) caller: Proxy,
    pub(crate) servers: Vec<(Proxy, Peer)>,
    pub(crate) mesh: Mesh,
    pub(crate) network: Network,
}

impl Hosts {
    pub(crate) fn new(copies: u8) -> Self {
        let network = Network::new(copies + 1);
        let mesh = Mesh::start(&network.host(1));
        let token = mesh.token(&["--uses", "10"]);
        let servers: Vec<_> = (0..copies)
            .map(|copy| {
                let place = network.host(copy + 2);
                let name = format!("copy-{copy}");
                let nginx = peer::nginx(&place, mesh.folder(), &name);
                let proxy =
                    mesh.proxy(&place, &name).join(&token).service(&format!("web={}", nginx.port)).start();
                (proxy, nginx)
            })
            .collect();
        let caller = mesh.proxy(&network.host(1), "caller").join(&token).start();
        let hosts = Self { caller, servers, mesh, network };
        for copy in 0..copies {
            hosts.knows(copy);
        }
        hosts
    }

    /// Waits until the caller knows that this copy serves. (Which copy takes a call is a matter of latencies.)
    pub(crate) fn knows(&self, copy: u8) {
        let node = format!("copy-{copy}");
        until(&format!("the caller knows {node}"), seconds(60), || {
            let view = self.caller.view();
            let web =
                view["services"].as_array()?.iter().find(|service| service["name"] == "web.default")?.clone();
            let instance =
                web["instances"].as_array()?.iter().find(|instance| instance["node"] == node)?.clone();
            (instance["standing"] == "ready").then_some(())
        });
    }

    /// Returns the copy that takes calls one after another: the one whose death will be felt.
    pub(crate) fn favourite(&self) -> usize {
        for _ in 0..20 {
            self.caller.quick_status("web");
        }
        let name = self.caller.get("web", "/", &[]).ok();
        name.trim().strip_prefix("copy-").unwrap().parse().unwrap()
    }

    /// Sends requests one after another while `work` runs; returns when each was sent, how long it took and its status.
    fn watch(&self, work: impl FnOnce()) -> Vec<(Instant, Duration, u16)> {
        let call = || {
            let sent = clock::now();
            let status = self.caller.quick_status("web").unwrap_or(0);
            (sent, sent.elapsed(), status)
        };
        meanwhile(call, work).1
    }

    fn node_state(&self, node: &str) -> Option<String> {
        let view = self.mesh.view();
        let nodes = view["nodes"].as_array()?.clone();
        nodes.iter().find(|found| found["name"] == node)?["state"].as_str().map(str::to_owned)
    }
}

pub(crate) fn pause(duration: Duration) {
    // Time in which clients go on: what is tested is how long something may take.
    std::thread::sleep(duration);
}

#[test]
fn when_a_host_of_a_service_dies_its_callers_hardly_notice() {
    let mut hosts = Hosts::new(2);
    let favourite = hosts.favourite();
    let (mut proxy, mut nginx) = hosts.servers.remove(favourite);
    let mut died = None;

    let seen = hosts.watch(|| {
        pause(seconds(1));
        died = Some(clock::now());
        proxy.process.kill();
        nginx.process.kill();
        pause(seconds(3));
    });

    let died = died.unwrap();
    let failed: Vec<_> = seen.iter().filter(|(_, _, status)| *status != 200).collect();
    let late: Vec<_> = failed.iter().filter(|(sent, ..)| *sent > died + seconds(1)).collect();
    assert!(seen.len() > 30, "{} requests", seen.len());
    assert!(late.is_empty(), "failures a second later: {late:?}");
    assert!(failed.len() <= 2, "{} of {}: {failed:?}", failed.len(), seen.len());
    assert!(seen.iter().all(|(_, took, _)| *took < seconds(3)), "{:?}", seen.iter().map(|seen| seen.1).max());
    until("gossip has noticed", seconds(20), || {
        hosts.node_state(&format!("copy-{favourite}")).is_none_or(|state| state != "alive").then_some(())
    });
}

#[test]
fn a_drained_host_gets_no_new_calls_while_another_serves_them() {
    let hosts = Hosts::new(2);
    let drained = u8::try_from(hosts.favourite()).unwrap();
    let (node, other) = (format!("copy-{drained}"), format!("copy-{}", 1 - drained));
    let answers = || hosts.caller.get("web", "/", &[]).ok().trim().to_owned();

    hosts.mesh.cli(&["drain", &node]).ok();
    pause(seconds(1));
    let while_draining: Vec<_> = (0..30).map(|_| answers()).collect();
    hosts.mesh.cli(&["drain", &other]).ok();
    pause(seconds(1));
    let with_nobody_else = answers();
    hosts.mesh.cli(&["drain", "--undo", &node]).ok();
    hosts.knows(drained);
    let after: Vec<_> = (0..30).map(|_| answers()).collect();
    let unknown = hosts.mesh.cli(&["drain", "nobody"]).failed(4);

    assert!(while_draining.iter().all(|name| *name == other), "{while_draining:?}");
    assert!(with_nobody_else.starts_with("copy-"), "{with_nobody_else}");
    assert!(after.iter().all(|name| *name == node), "{after:?}");
    assert!(unknown.contains("nobody"), "{unknown}");
}

#[test]
fn a_host_whose_cable_is_pulled_is_left_out_and_comes_back() {
    let hosts = Hosts::new(2);
    let favourite = u8::try_from(hosts.favourite()).unwrap();
    let mut pulled = None;

    let seen = hosts.watch(|| {
        pause(seconds(1));
        pulled = Some(clock::now());
        hosts.network.plug(favourite + 2, "down");
        pause(seconds(14));
    });

    // Nobody said that the host is gone: the call that is under way hangs until its link does not answer a ping.
    let pulled = pulled.unwrap();
    let late: Vec<_> =
        seen.iter().filter(|(sent, _, status)| *status != 200 && *sent > pulled + seconds(9)).collect();
    assert!(late.is_empty(), "failures nine seconds later: {late:?}");
    assert!(
        seen.iter().filter(|(sent, ..)| *sent > pulled + seconds(9)).count() > 20,
        "{} requests",
        seen.len()
    );

    hosts.network.plug(favourite + 2, "up");
    hosts.knows(favourite);
}

// case 86
#[test]
fn without_a_control_plane_traffic_goes_on_and_proxies_restart() {
    let mut hosts = Hosts::new(2);

    let seen = hosts.watch(|| {
        hosts_pause_around(|| kill(hosts.mesh.control.pid()));
    });

    assert!(seen.len() > 30 && seen.iter().all(|(_, _, status)| *status == 200), "{seen:?}");
    hosts.mesh.control.kill();

    // Both ends start again from what they have on disk, and find each other by what they remember.
    let mut servers = std::mem::take(&mut hosts.servers);
    servers[0].0.restart();
    hosts.caller.restart();
    hosts.caller.reaches("web");
    hosts.servers = servers;
    hosts.knows(0);

    // Discovery does not need control either: a copy dies and is left out.
    let favourite = hosts.favourite();
    hosts.servers[favourite].0.process.kill();
    let seen = hosts.watch(|| pause(seconds(2)));
    let failed = seen.iter().filter(|(_, _, status)| *status != 200).count();
    assert!(failed <= 2, "{failed} of {}", seen.len());

    hosts.mesh.restart_control();
    let edge = hosts.mesh.edge("node/caller", "web.default");
    assert_eq!(edge["mtls"], true, "{edge}");
}

fn kill(pid: rustix::process::Pid) {
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn hosts_pause_around(event: impl FnOnce()) {
    pause(seconds(1));
    event();
    pause(seconds(2));
}

#[test]
fn the_only_copy_gone_is_said_at_once_and_its_return_is_noticed() {
    let mut hosts = Hosts::new(1);

    hosts.servers[0].0.process.kill();
    let sent = clock::now();
    let refused = hosts.caller.get("web", "/", &["-i"]).out;
    let took = sent.elapsed();

    // Refused by the host while gossip has not noticed (UF), afterwards no endpoint is left (UH).
    assert!(refused.starts_with("HTTP/1.1 502") || refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("mesh-failure: U"), "the reason is missing:\n{refused}");
    assert!(took < seconds(2), "{took:?}");
    hosts.servers[0].0.restart();
    hosts.caller.reaches("web");
}

#[test]
fn a_dead_application_is_503_with_a_reason_until_it_is_back() {
    let hosts = Hosts::new(1);
    let pid = hosts.servers[0].1.process.pid();

    kill(pid);
    let refused = hosts.caller.get("web", "/", &["-i"]).out;

    assert!(refused.starts_with("HTTP/1.1 503") || refused.starts_with("HTTP/1.1 502"), "{refused}");
    assert!(refused.to_lowercase().contains("mesh-failure:"), "the reason is missing:\n{refused}");
}

// case 84
#[test]
fn a_proxy_that_is_asked_to_stop_finishes_what_it_began_and_leaves() {
    let mut hosts = Hosts::new(2);
    let favourite = hosts.favourite();
    let (mut proxy, _nginx) = hosts.servers.remove(favourite);

    let seen = hosts.watch(|| {
        pause(seconds(1));
        assert!(proxy.process.terminate().success(), "{}", proxy.process.log());
        pause(seconds(1));
    });

    let failed: Vec<_> = seen.iter().filter(|(_, _, status)| *status != 200).collect();
    assert!(seen.len() > 30 && failed.is_empty(), "{failed:?}");
    until("it has left, which is not failure", seconds(10), || {
        hosts.node_state(&format!("copy-{favourite}")).is_none_or(|state| state == "left").then_some(())
    });
}

#[test]
fn calls_to_what_nobody_announces_are_shown_by_name_whichever_way_they_come() {
    let network = Network::new(1);
    let here = network.host(1);
    let mesh = Mesh::start(&here);
    let caller =
        mesh.proxy(&here, "caller").join(&mesh.token(&[])).upstream("wraith").upstream("spectre").start();

    assert_eq!(caller.status("ghost", "/", &[]), 404);
    let port = caller.upstream("wraith.default");
    assert!(
        here.inside(|| std::net::TcpStream::connect(port).and_then(|mut stream| {
            std::io::Write::write_all(&mut stream, b"\x00\x01\x02 no HTTP\r\n")?;
            std::io::Read::read(&mut stream, &mut [0; 8])
        }))
        .is_err()
    );
    let silent = caller.upstream("spectre.default");
    assert!(
        here.inside(|| std::net::TcpStream::connect(silent)
            .and_then(|mut stream| { std::io::Read::read(&mut stream, &mut [0; 8]) }))
            .is_err()
    );

    let edge = mesh.edge("node/caller", "ghost.default");
    assert_eq!((&edge["protocol"], &edge["requestsTotal"]), (&"http".into(), &1.into()), "{edge}");
    for service in ["wraith.default", "spectre.default"] {
        let edge = mesh.edge("node/caller", service);
        assert_eq!((&edge["protocol"], &edge["requestsTotal"]), (&"tcp".into(), &1.into()), "{edge}");
    }
    let check = mesh.cli(&["check"]);
    assert!(check.code == Some(1) && check.out.contains("ghost.default"), "{}", check.out);
}
