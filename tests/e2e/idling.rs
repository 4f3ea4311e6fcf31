//! A service that ends its connections when it likes, as others do: no call is lost between its end and the proxy's.

use std::sync::Barrier;
use std::thread::sleep;
use std::time::Duration;

use http::Method;
use mesh::net::clock;

use crate::stage::instance::{Answer, ask};
use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{self, Peer};
use crate::stage::place::Place;

/// Callers at once.
const CALLERS: usize = 24;

struct Pair {
    caller: Proxy,
    _server: Proxy,
    _nginx: Peer,
    _mesh: Mesh,
}

impl Pair {
    fn new(directives: &str) -> Self {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let token = mesh.token(&["--uses", "2"]);
        let nginx = peer::nginx_that(&here, mesh.folder(), "web", directives);
        let server =
            mesh.proxy(&here, "server").join(&token).service(&format!("web={}/http", nginx.port)).start();
        let caller = mesh.proxy(&here, "caller").join(&token).start();
        caller.reaches("web");
        Self { caller, _server: server, _nginx: nginx, _mesh: mesh }
    }

    /// Has every caller send a request in each round, all at the same time; after each, all wait so long. Every other one is
    /// a POST.
    fn rounds(&self, waits: &[Duration]) -> Vec<(Method, Answer)> {
        let barrier = Barrier::new(CALLERS);
        let outbound = self.caller.address("outbound");
        let call = |caller: usize| {
            let mut answers = Vec::new();
            for (round, wait) in waits.iter().enumerate() {
                barrier.wait();
                let began = clock::now();
                let (method, fields) = match (caller + round) % 2 {
                    0 => (Method::GET, &[][..]),
                    _ => (Method::POST, &["content-length: 0"][..]),
                };
                let answer = ask(outbound, "web", method.as_str(), fields);
                answers.push((method, answer));
                sleep(wait.saturating_sub(began.elapsed()));
            }
            answers
        };
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || call(caller))).collect();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        })
    }
}

#[test]
fn no_call_is_lost_when_the_service_ends_idle_connections_but_a_post_that_may_have_been_done() {
    let pair = Pair::new("keepalive_timeout 1s;");

    // Around the moment at which they end.
    let waits: Vec<_> = (0..14).map(|round| Duration::from_millis(990 + 2 * round)).collect();
    let answers = pair.rounds(&waits);

    assert!(answers.len() >= 300, "{}", answers.len());
    let failed: Vec<_> = answers.iter().filter(|(_, answer)| answer.status != 200).collect();
    // Who has sent a POST into a connection that ends does not know whether it was seen: its caller is told so.
    let told = failed.iter().all(|(method, answer)| *method == Method::POST && answer.reason() == "UC");
    assert!(told && failed.len() * 20 < answers.len(), "{} of {}: {failed:#?}", failed.len(), answers.len());
}

#[test]
fn no_call_is_lost_when_the_service_ends_connections_after_a_few_requests() {
    let pair = Pair::new("keepalive_requests 3;");

    let answers = pair.rounds(&[Duration::ZERO; 40]);

    assert!(answers.len() >= 900, "{}", answers.len());
    let failed: Vec<_> = answers.iter().filter(|(_, answer)| answer.status != 200).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), answers.len());
}
