//! Health checks: what is probed, what counts as well, how often it is asked, and what callers make of it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer;
use crate::stage::place::Place;
use crate::stage::wait::{seconds, until};
use crate::traffic::Market;

/// Services of several kinds on one host.
struct Host {
    mesh: Mesh,
    _proxy: Proxy,
}

impl Host {
    fn new(services: &[String]) -> Self {
        Self::of(Mesh::start(&Place::here()), services)
    }

    fn of(mesh: Mesh, services: &[String]) -> Self {
        let plan = mesh.proxy(&Place::here(), "host").join(&mesh.token(&[]));
        let proxy = services.iter().fold(plan, |plan, service| plan.service(service)).start();
        Self { mesh, _proxy: proxy }
    }

    /// Says how a service is probed: each second, and one probe decides.
    fn probe(&self, service: &str, how: &str) {
        self.probe_by(service, how, 1);
    }

    fn probe_by(&self, service: &str, how: &str, unhealthy_threshold: u32) {
        self.mesh
            .apply(&format!(
                "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: {service}}}\nspec:\n  healthCheck: {{{how}, interval: 1s, \
                 timeout: 500ms, healthyThreshold: 1, unhealthyThreshold: {unhealthy_threshold}}}\n"
            ))
            .ok();
    }

    /// Waits until a service is said to be `ready` or `unhealthy`.
    fn becomes(&self, service: &str, standing: &str) {
        until(&format!("{service} is {standing}"), seconds(15), || {
            let view = self.mesh.view();
            let service = format!("{service}.default");
            let services = view["services"].as_array()?;
            let found = services.iter().find(|known| known["name"] == service.as_str())?;
            (found["instances"][0]["standing"] == standing).then_some(())
        });
    }
}

#[test]
fn a_probe_by_http_asks_for_a_path_and_expects_a_status() {
    let mesh = Mesh::start(&Place::here());
    let nginx = peer::nginx(&Place::here(), mesh.folder(), "web");
    let host = Host::of(mesh, &[format!("web={}", nginx.port)]);

    // Each standing differs from the one before it, so that none is seen too soon.
    for (how, standing) in [
        ("http: {path: /teapot}", "unhealthy"),
        ("http: {}", "ready"),
        ("http: {path: /, expectedStatuses: [201, 300-599]}", "unhealthy"),
        ("http: {path: /teapot, expectedStatuses: [418]}", "ready"),
        ("http: {path: /teapot, expectedStatuses: [200-417, 419]}", "unhealthy"),
        ("http: {path: /teapot, expectedStatuses: [400-499]}", "ready"),
    ] {
        host.probe("web", how);
        host.becomes("web", standing);
    }
    host.probe("web", "http: {path: /none}");
    host.becomes("web", "unhealthy");
    host.mesh.cli(&["delete", "service", "web"]).ok();
    host.becomes("web", "ready");
}

#[test]
fn a_probe_by_grpc_asks_for_the_server_or_one_service_and_one_by_tcp_for_a_connection() {
    let mesh = Mesh::start(&Place::here());
    let grpc = peer::script_server(&Place::here(), mesh.folder(), "grpc_calls.py");
    let plain = peer::nginx(&Place::here(), mesh.folder(), "plain");
    let free = Place::here().free_port();
    let services =
        [format!("api={}/grpc", grpc.port), format!("plain={}", plain.port), format!("gone={free}/tcp")];
    let host = Host::of(mesh, &services);

    for (service, how, standing) in [
        ("api", "grpc: {service: sick}", "unhealthy"),
        ("api", "grpc: {}", "ready"),
        ("plain", "grpc: {}", "unhealthy"),
        ("plain", "tcp: {}", "ready"),
        ("gone", "tcp: {}", "unhealthy"),
    ] {
        host.probe(service, how);
        host.becomes(service, standing);
    }
}

/// Takes connections, and answers the first `well` requests, none after them; returns the port and a count of requests.
fn falls_silent(well: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            if count.fetch_add(1, Ordering::SeqCst) < well {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            } else {
                silent.push(stream);
            }
        }
    });
    (port, asked)
}

#[test]
fn a_probe_without_an_answer_in_time_has_failed_and_as_many_in_a_row_as_said_make_unhealthy() {
    let (quick, asked) = falls_silent(0);
    let host = Host::new(&[format!("web={quick}")]);
    host.probe_by("web", "http: {}", 4);

    host.becomes("web", "unhealthy");

    // What was never well is not taken for well until it is: the first probe decides.
    assert!(asked.load(Ordering::SeqCst) >= 1);
    let (slow, asked) = falls_silent(2);
    let host = Host::new(&[format!("web={slow}")]);
    host.probe_by("web", "http: {}", 3);
    until("it was well", seconds(15), || (asked.load(Ordering::SeqCst) >= 2).then_some(()));
    host.becomes("web", "unhealthy");
    assert!(asked.load(Ordering::SeqCst) >= 5, "two good ones and three bad ones: {asked:?}");
}

#[test]
fn a_service_that_was_unwell_returns_after_as_many_good_probes_as_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let good = Arc::new(AtomicUsize::new(0));
    let count = good.clone();
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let _ = stream.read(&mut [0; 4096]);
            let status = if number == 0 { 500 } else { 200 };
            count.fetch_add(usize::from(number > 0), Ordering::SeqCst);
            let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let host = Host::new(&[format!("web={port}")]);
    let check = "http: {}, healthyThreshold: 3, unhealthyThreshold: 1";
    host.mesh
        .apply(&format!(
            "apiVersion: mesh/v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{healthCheck: {{{check}, interval: 1s}}}}\n"
        ))
        .ok();
    host.becomes("web", "unhealthy");

    host.becomes("web", "ready");

    assert!(good.load(Ordering::SeqCst) >= 3, "{good:?}");
}

#[test]
fn callers_of_another_node_leave_an_instance_that_is_unwell_and_come_back_when_it_is_well() {
    let market = Market::new();
    market.obeys(
        "apiVersion: mesh/v1\nkind: Service\nmetadata: {name: web}\nspec: {healthCheck: {http: {path: /healthz}, interval: 1s, \
         timeout: 500ms, healthyThreshold: 2, unhealthyThreshold: 2}}\n",
    );
    market.policy("web", "loadBalancing: {policy: RoundRobin}");
    let answers = || -> Vec<_> { (0..10).map(|_| market.get(&[]).body).collect() };
    let has = |answers: &[String], name: &str| answers.iter().any(|answer| answer == name);
    let both = |answers: &[String]| has(answers, "first") && has(answers, "second");
    until("both are called", seconds(10), || both(&answers()).then_some(()));

    // It goes on to answer whoever calls: what is said of it is enough.
    for (unwell, other) in [(0, "second"), (1, "first")] {
        market.web[unwell].is_well(false);
        until("all calls go to the other", seconds(10), || {
            answers().iter().all(|answer| answer == other).then_some(())
        });
        assert!((0..5).flat_map(|_| answers()).all(|answer| answer == other), "it is called again");
        market.web[unwell].is_well(true);
        until("both are called again", seconds(10), || both(&answers()).then_some(()));
    }
}
