//! Why calls failed, as the metrics and the access log of the caller's proxy tell it: the same as the callers were told.

use std::time::Duration;

use serde_json::Value;

use crate::stage::instance::{ask, greeted};
use crate::stage::mesh::Proxy;
use crate::stage::wait::{seconds, until};
use crate::traffic::{Market, counted, metric};

/// How often a call to `service` failed so, by the metrics of a proxy.
fn told(proxy: &Proxy, side: &str, service: &str, reason: &str) -> u64 {
    let labels = [
        &format!("side=\"{side}\""),
        &format!("destination=\"{service}.default\""),
        &format!("reason=\"{reason}\""),
    ];
    metric(proxy, "mesh_failure_replies_total", &labels.map(String::as_str))
}

impl Market {
    /// Waits until so many failures are in the metrics of the caller, or of the servers where those made the answers, and
    /// in the access log of the caller.
    fn tells(&self, service: &str, reason: &str, (count, side): (usize, &str)) -> Vec<Value> {
        until(&format!("{side}, {count} calls to {service} failed for {reason}"), seconds(10), || {
            let caller = std::slice::from_ref(&self.caller);
            let makers = if side == "outbound" { caller } else { &self.servers[..] };
            let counted: u64 = makers.iter().map(|maker| told(maker, side, service, reason)).sum();
            (counted == count as u64).then_some(())
        });
        until(&format!("{count} lines say {service} and {reason}"), seconds(10), || {
            let log = std::fs::read_to_string(self.log()).unwrap();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let destination = format!("{service}.default");
            let lines = lines.filter(|line| line["destination"] == destination.as_str());
            let lines: Vec<_> = lines.filter(|line| line["reason"] == reason).collect();
            (lines.len() == count).then_some(lines)
        })
    }
}

fn deny(service: &str) -> String {
    format!(
        "apiVersion: mesh/v1\nkind: Intention\nmetadata: {{name: {service}}}\nspec: {{destination: {service}, sources: \
         [{{service: shop}}], action: deny}}\n"
    )
}

#[test]
fn failures_of_http_are_counted_and_logged_by_what_made_them() {
    let market = Market::new();
    let outbound = market.caller.address("outbound");
    let call = |service: &str| {
        let answer = ask(outbound, service, "GET", &[]);
        (answer.status, answer.reason().to_owned())
    };

    assert_eq!(call("gone"), (502, "UF".to_owned()));
    market.policy("web", "timeouts: {request: 200ms}");
    market.holds(seconds(1));
    assert_eq!([(); 2].map(|()| call("web")), [(); 2].map(|()| (504, "UT".to_owned())));
    market.holds(Duration::ZERO);
    market.policy(
        "web",
        "rateLimit: {perSource: {requests: 1, interval: 1m}}, loadBalancing: {policy: RoundRobin}",
    );
    let answers: Vec<_> = (0..8).map(|_| market.get(&[])).collect();
    assert_eq!(counted(&answers), [((200, ""), 2), ((429, "RL"), 6)].into());
    market.obeys(&deny("web"));
    assert_eq!([(); 3].map(|()| call("web")), [(); 3].map(|()| (403, "RBAC".to_owned())));

    for (service, reason, status, count) in [
        ("gone", "UF", 502, (1, "inbound")),
        ("web", "UT", 504, (2, "outbound")),
        ("web", "RL", 429, (6, "inbound")),
        ("web", "RBAC", 403, (3, "inbound")),
    ] {
        for line in market.tells(service, reason, count) {
            assert_eq!((&line["status"], &line["protocol"]), (&status.into(), &"http".into()), "{line}");
            assert_eq!(
                (&line["side"], &line["source"]),
                (&"outbound".into(), &"shop.default".into()),
                "{line}"
            );
        }
    }
    let denied =
        |side: &str, proxy: &Proxy| metric(proxy, "mesh_denied_total", &[&format!("side=\"{side}\"")]);
    assert_eq!(market.servers.iter().map(|server| denied("inbound", server)).sum::<u64>(), 3);
}

#[test]
fn a_service_without_an_instance_that_may_be_called_is_counted_and_logged_as_such() {
    let mut market = Market::new();

    market.servers.iter_mut().for_each(|server| server.process.kill());
    let gone = market.get(&[]);
    assert!(["UF", "UC"].contains(&gone.reason()), "{gone:?}");
    let answer = until("the caller knows that they are dead", seconds(20), || {
        let answer = market.get(&[]);
        (answer.status == 503).then_some(answer)
    });

    assert_eq!(answer.reason(), "UH", "{answer:?}");
    for (reason, status) in [(gone.reason(), gone.status), ("UH", 503)] {
        let count = told(&market.caller, "outbound", "web", reason);
        for line in market.tells("web", reason, (usize::try_from(count).unwrap(), "outbound")) {
            assert_eq!((&line["status"], &line["protocol"]), (&status.into(), &"http".into()), "{line}");
        }
        assert!(count > 0, "{reason}");
    }
}

#[test]
fn failures_of_tcp_are_counted_and_logged_by_what_made_them() {
    let market = Market::new();
    let upstream = |service: &str| market.caller.upstream(&format!("{service}.default"));
    let is_open = |service: &str| greeted(upstream(service)).is_some();

    assert!(!is_open("deaf"));
    market.policy("mail", "rateLimit: {total: {requests: 1, interval: 1m}}");
    assert_eq!([(); 3].map(|()| is_open("mail")), [true, false, false]);
    market.policy("mail", "circuitBreaking: {maxConnections: 1}");
    let held = greeted(upstream("mail"));
    assert_eq!((held.is_some(), is_open("mail")), (true, false));
    drop(held);
    market.obeys(&deny("mail"));
    assert_eq!([(); 3].map(|()| is_open("mail")), [false; 3]);

    for (service, reason, count) in
        [("deaf", "UF", 1), ("mail", "RL", 2), ("mail", "UO", 1), ("mail", "RBAC", 3)]
    {
        for line in market.tells(service, reason, (count, "outbound")) {
            assert_eq!((&line["protocol"], &line["side"]), (&"tcp".into(), &"outbound".into()), "{line}");
            assert_eq!((&line["status"], &line["source"]), (&0.into(), &"shop.default".into()), "{line}");
        }
    }
    let server = &market.servers[0];
    for (service, reason, count) in
        [("deaf", "UF", 1), ("mail", "RL", 2), ("mail", "UO", 0), ("mail", "RBAC", 3)]
    {
        assert_eq!(told(server, "inbound", service, reason), count, "{service}, {reason}");
    }
}
