//! A shop of 23 services on 16 hosts, second by second. From the second [`INCIDENT`] on, `payments` on `vm-17` fails most
//! of its calls, `recs` is denied what it calls, and a certificate is not renewed. Everything is a function of the second.

use std::collections::BTreeMap;

use mesh::model::endpoint::{MemberState, Role, Standing};
use mesh::model::identity::Subject;
use mesh::model::service::Protocol;
use mesh::model::view::{
    EdgeProtocol, EdgeView, EventView, IdentityStatus, IdentityView, InstanceView, LatencyView, MeshView,
    NodeView, RouteView, ServiceView, Severity, TrafficView,
};

/// 2026-03-03 12:00:00 UTC, Unix milliseconds.
pub(crate) const START_MS: u64 = 1_772_539_200_000;
/// The second in which things begin to fail.
pub(crate) const INCIDENT: u64 = 200;

/// Name, requests per second, p50 and p99 in milliseconds, instances.
const SERVICES: [(&str, f64, f64, f64, usize); 23] = [
    ("edge-gw", 1204.0, 14.0, 190.0, 2),
    ("web", 988.0, 13.0, 160.0, 2),
    ("mobile-bff", 214.0, 12.0, 110.0, 1),
    ("admin", 0.0, 0.0, 0.0, 1),
    ("recs", 118.0, 9.0, 77.0, 2),
    ("search", 402.0, 18.0, 140.0, 2),
    ("cart", 188.0, 5.0, 33.0, 1),
    ("catalog", 611.0, 7.0, 44.0, 2),
    ("checkout", 240.0, 38.0, 180.0, 1),
    ("users", 305.0, 4.0, 29.0, 1),
    ("reviews", 377.0, 6.0, 41.0, 1),
    ("pricing", 852.0, 2.0, 15.0, 1),
    ("payments", 212.0, 38.0, 180.0, 3),
    ("orders", 231.0, 11.0, 92.0, 1),
    ("auth", 302.0, 3.0, 21.0, 1),
    ("ledger", 189.0, 6.0, 61.0, 1),
    ("inventory", 419.0, 4.0, 30.0, 1),
    ("fraud", 198.0, 14.0, 58.0, 1),
    ("shipping", 96.0, 12.0, 101.0, 1),
    ("kafka-px", 231.0, 1.5, 9.0, 1),
    ("pg-proxy", 1001.0, 0.8, 7.0, 2),
    ("redis", 902.0, 0.3, 2.0, 1),
    ("email", 31.0, 22.0, 240.0, 1),
];

/// Caller, called, share of the called service's requests.
const EDGES: [(&str, &str, f64); 35] = [
    ("edge-gw", "web", 1.0),
    ("edge-gw", "mobile-bff", 1.0),
    ("edge-gw", "admin", 1.0),
    ("web", "search", 0.8),
    ("web", "cart", 0.7),
    ("web", "catalog", 0.6),
    ("web", "checkout", 0.8),
    ("web", "users", 0.4),
    ("web", "recs", 1.0),
    ("mobile-bff", "catalog", 0.4),
    ("mobile-bff", "checkout", 0.2),
    ("mobile-bff", "search", 0.2),
    ("mobile-bff", "cart", 0.3),
    ("admin", "orders", 0.0),
    ("recs", "ledger", 0.0),
    ("search", "reviews", 1.0),
    ("search", "inventory", 0.4),
    ("cart", "redis", 0.2),
    ("cart", "pricing", 0.5),
    ("catalog", "pricing", 0.5),
    ("catalog", "inventory", 0.6),
    ("checkout", "payments", 1.0),
    ("checkout", "orders", 1.0),
    ("users", "auth", 1.0),
    ("payments", "fraud", 1.0),
    ("payments", "ledger", 1.0),
    ("orders", "shipping", 1.0),
    ("orders", "kafka-px", 1.0),
    ("auth", "redis", 0.4),
    ("ledger", "pg-proxy", 0.3),
    ("inventory", "pg-proxy", 0.4),
    ("reviews", "pg-proxy", 0.3),
    ("fraud", "redis", 0.4),
    ("shipping", "email", 1.0),
    ("pricing", "kafka-px", 0.0),
];

const NODES: [&str; 16] = [
    "ctl-1", "vm-01", "vm-03", "vm-09", "vm-12", "vm-15", "vm-16", "vm-17", "vm-18", "vm-19", "vm-20",
    "vm-21", "vm-22", "vm-23", "vm-30", "vm-31",
];

/// Returns a number in `0..1` that looks random and is not.
fn noise(second: u64, salt: u64) -> f64 {
    let mut x = second.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) % 10_000) as f64 / 10_000.0
}

fn bucket(ms: f64) -> usize {
    ((ms.max(0.001).log2() + 3.0).ceil().max(0.0) as usize).min(17)
}

fn heat(rps: f64, latency: &LatencyView) -> Vec<u64> {
    let mut heat = vec![0; 18];
    let (Some(p50), Some(p95), Some(p99)) = (latency.p50, latency.p95, latency.p99) else { return heat };
    for (ms, share) in [(p50, 0.5), (p50 / 2.0, 0.2), (p50 * 2.0, 0.22), (p95, 0.06), (p99, 0.02)] {
        heat[bucket(ms)] += (rps * share).round() as u64;
    }
    heat
}

fn traffic(rps: f64, p50: f64, p99: f64, failing: f64, second: u64, salt: u64) -> TrafficView {
    let rps = rps * (0.92 + 0.16 * noise(second, salt));
    let failures = rps * failing;
    let some = |ms: f64| (rps > 0.0).then_some(ms);
    let latency_ms = LatencyView {
        p50: some(p50 * (0.95 + 0.1 * noise(second, salt + 1))),
        p95: some((p50 * p99).sqrt() * 1.6),
        p99: some(p99 * (0.9 + 0.2 * noise(second, salt + 2))),
        samples: (rps * 10.0) as u64,
    };
    let heat = heat(rps, &latency_ms);
    let count = |share: f64| (rps * 10.0 * share) as u64;
    let mut classes = BTreeMap::new();
    let mut reasons = BTreeMap::new();
    if rps > 0.0 {
        classes.insert("2xx".to_owned(), count(1.0 - failing - 0.002));
        classes.insert("4xx".to_owned(), count(0.002));
        classes.insert("5xx".to_owned(), count(failing));
        if failing > 0.001 {
            reasons.insert("upstream-connect".to_owned(), count(failing * 0.9));
            reasons.insert("timeout".to_owned(), count(failing * 0.1));
        }
    }
    TrafficView {
        requests_per_second: rps,
        success_rate: 1.0 - failing,
        failures_per_second: failures,
        denied_per_second: 0.0,
        retries_per_second: failures * 2.0,
        latency_ms,
        bytes_per_second: rps * 2400.0,
        connections_open: (rps / 5.0).ceil() as i64,
        requests_total: (rps * (second + 1) as f64) as u64,
        failures_total: (failures * (second + 1) as f64) as u64,
        denied_total: 0,
        denials: BTreeMap::new(),
        audited: BTreeMap::new(),
        classes,
        reasons,
        heat,
    }
}

/// Returns how often `name` fails, and how many times slower it is, in a second.
fn trouble(name: &str, second: u64) -> (f64, f64) {
    if second < INCIDENT {
        return (0.0002, 1.0);
    }
    match name {
        "payments" => (0.0579, 10.0),
        "checkout" => (0.026, 9.0),
        "ledger" => (0.008, 1.0),
        _ => (0.0002, 1.0),
    }
}

fn node_of(service: usize, instance: usize) -> &'static str {
    if SERVICES[service].0 == "payments" {
        ["vm-12", "vm-15", "vm-17"][instance]
    } else {
        NODES[1 + (service * 2 + instance * 5) % (NODES.len() - 2)]
    }
}

fn services(second: u64) -> Vec<ServiceView> {
    let mut all: Vec<ServiceView> = SERVICES
        .iter()
        .enumerate()
        .map(|(index, (name, rps, p50, p99, count))| {
            let salt = index as u64 * 100;
            let (failing, slower) = trouble(name, second);
            let instances = (0..*count).map(|instance| self::instance(index, instance, second)).collect();
            let routes = if *name == "payments" {
                let route = |route: &str, rps: f64, failing: f64| RouteView {
                    route: route.to_owned(),
                    traffic: traffic(rps, *p50, p99 * slower, failing, second, salt + 50),
                };
                vec![
                    route("payments/charge", 140.0, failing * 1.4),
                    route("payments/refund", 12.0, failing * 0.2),
                    route("payments/methods", 60.0, 0.0),
                    route("", 0.0, 0.0),
                ]
            } else {
                Vec::new()
            };
            ServiceView {
                name: name.parse().unwrap(),
                protocol: if *name == "redis" { Protocol::Tcp } else { Protocol::Detect },
                traffic: traffic(*rps, *p50, p99 * slower, failing, second, salt),
                instances,
                routes,
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn instance(service: usize, number: usize, second: u64) -> InstanceView {
    let (name, rps, p50, p99, count) = SERVICES[service];
    let node = node_of(service, number);
    let sick = name == "payments" && node == "vm-17" && second >= INCIDENT;
    let failing = if sick { 0.176 } else { 0.0002 };
    let slower = if sick { 12.0 } else { 1.0 };
    InstanceView {
        node: node.parse().unwrap(),
        addr: format!("10.2.0.{}:15008", node.len() + number + service).parse().unwrap(),
        port: 8080,
        zone: Some(zone(node).parse().unwrap()),
        standing: Standing::Ready,
        ejected_by: if sick { vec!["vm-03".parse().unwrap()] } else { Vec::new() },
        traffic: traffic(
            rps / count as f64,
            p50,
            p99 * slower,
            failing,
            second,
            service as u64 * 100 + 30 + number as u64,
        ),
    }
}

fn zone(node: &str) -> &'static str {
    ["a", "b", "c"][NODES.iter().position(|name| *name == node).unwrap_or(0) % 3]
}

fn edges(second: u64) -> Vec<EdgeView> {
    let mut all: Vec<EdgeView> = EDGES
        .iter()
        .enumerate()
        .map(|(index, (source, called, share))| {
            let (_, rps, p50, p99, _) = SERVICES.iter().find(|service| service.0 == *called).unwrap();
            let salt = 10_000 + index as u64 * 10;
            let own = (*source, *called) == ("checkout", "payments") || *called == "checkout";
            let (failing, slower) = if own { trouble(called, second) } else { (0.0002, 1.0) };
            let mut seen = traffic(rps * share, *p50, p99 * slower, failing, second, salt);
            if (*source, *called) == ("recs", "ledger") && second >= INCIDENT + 20 {
                seen.denied_per_second = 0.2;
                seen.denied_total = 12 + second - INCIDENT;
                seen.denials.insert("allow list of intention default/ledger".to_owned(), seen.denied_total);
            }
            let mut server = traffic(rps * share, p50 * 0.8, *p99, 0.0003, second, salt);
            server.requests_per_second *= 1.0 - failing;
            EdgeView {
                source: Subject::Service(source.parse().unwrap()),
                destination: called.parse().unwrap(),
                protocol: if *called == "redis" { EdgeProtocol::Tcp } else { EdgeProtocol::Http },
                traffic: seen,
                server: (*share > 0.0).then_some(server),
                mtls: true,
            }
        })
        .collect();
    let mut probe = all[0].clone();
    probe.source = "node/vm-01".parse().unwrap();
    probe.destination = "auth".parse().unwrap();
    probe.traffic = traffic(2.0, 3.0, 20.0, 0.0, second, 77);
    probe.traffic.latency_ms.samples = 12;
    probe.server = None;
    all.push(probe);
    all.sort_by(|a, b| (&a.source, &a.destination).cmp(&(&b.source, &b.destination)));
    all
}

fn nodes(second: u64, services: &[ServiceView]) -> Vec<NodeView> {
    let at_ms = START_MS + second * 1000;
    NODES
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let sick = *name == "vm-17" && second >= INCIDENT;
            let instances =
                services.iter().flat_map(|s| &s.instances).filter(|i| i.node.as_str() == *name).count();
            let control = *name == "ctl-1";
            let state = match *name {
                "vm-30" => MemberState::Left,
                "vm-17" if second >= INCIDENT + 25 => MemberState::Suspect,
                _ => MemberState::Alive,
            };
            NodeView {
                name: name.parse().unwrap(),
                role: if control { Role::Control } else { Role::Proxy },
                addr: Some(
                    format!("10.2.0.{}:{}", index + 1, if control { 7443 } else { 15008 }).parse().unwrap(),
                ),
                zone: Some(zone(name).parse().unwrap()),
                state,
                removed: false,
                since_ms: if state == MemberState::Suspect {
                    START_MS + (INCIDENT + 25) * 1000
                } else {
                    START_MS - 86_400_000 * (1 + index as u64 % 6)
                },
                rtt_ms: Some(if sick { 210.0 } else { 0.2 + 0.1 * (index % 4) as f64 }),
                draining: *name == "vm-23",
                build: if *name == "vm-22" { "0.0.9".to_owned() } else { "0.1.0".to_owned() },
                revision: (!control).then_some(if sick { 411 } else { 412 }),
                refused: None,
                refused_revision: None,
                reported_ms: (!control).then_some(at_ms - 900),
                ahead_ms: None,
                memory_bytes: Some((41 + index as u64 * 3) << 20),
                cpu: Some(if sick { 0.91 } else { 0.06 + 0.01 * index as f64 }),
                descriptors: Some(if sick { 1021 } else { 96 + index as u32 * 3 }),
                instances,
            }
        })
        .collect()
}

fn identities(second: u64, services: &[ServiceView]) -> Vec<IdentityView> {
    let hour = 3_600_000;
    let mut all: Vec<IdentityView> = Vec::new();
    for (index, (service, instance)) in
        services.iter().flat_map(|s| s.instances.iter().map(move |i| (s, i))).enumerate()
    {
        let late = service.name.name() == "payments" && instance.node.as_str() == "vm-17" && second >= 30;
        let born =
            if late { START_MS - 23 * hour - 900_000 } else { START_MS - hour * (1 + index as u64 % 7) };
        all.push(IdentityView {
            node: instance.node.clone(),
            spiffe_id: format!("spiffe://prod.example/ns/default/svc/{}", service.name.name()),
            status: IdentityStatus {
                subject: Subject::Service(service.name.clone()),
                serial: format!("{:016x}", 0x7a31_5f00_u64 + index as u64 * 0x1111),
                not_before_ms: born,
                not_after_ms: born + 24 * hour,
                renew_ms: born + 16 * hour,
                renewals: if late { 0 } else { 6 },
                last_error: late.then(|| {
                    "the control plane refused: the node's key is not the one it joined with".to_owned()
                }),
            },
        });
    }
    all.sort_by(|a, b| (&a.status.subject, &a.node).cmp(&(&b.status.subject, &b.node)));
    all
}

fn events(second: u64) -> Vec<EventView> {
    let told: [(i64, Severity, &str, &str, &str); 9] = [
        (-3200, Severity::Info, "certificate", "control/ctl-1", "intermediate renewed, 89 days left"),
        (-122, Severity::Info, "control", "ctl-1", "started, revision 410"),
        (-40, Severity::Info, "apply", "intention/ledger-allow", "revision 411 by operator/ana"),
        (30, Severity::Warning, "certificate", "vm-17/payments", "renewal failed: key mismatch"),
        (INCIDENT as i64 - 9, Severity::Info, "join", "payments@vm-17", "build v41 up (was v40)"),
        (INCIDENT as i64 + 1, Severity::Info, "apply", "route/checkout", "revision 412 by operator/ana"),
        (INCIDENT as i64 + 18, Severity::Error, "outlier", "payments@vm-17", "ejected: 5 failures in a row"),
        (
            INCIDENT as i64 + 20,
            Severity::Warning,
            "deny",
            "recs.default -> ledger.default",
            "no intention allows it (ledger-allow)",
        ),
        (INCIDENT as i64 + 25, Severity::Warning, "member", "vm-17", "alive → suspect"),
    ];
    told.iter()
        .filter(|(at, ..)| *at <= second as i64)
        .map(|(at, severity, kind, subject, message)| EventView {
            at_ms: START_MS.saturating_add_signed(at * 1000),
            severity: *severity,
            kind: (*kind).to_owned(),
            subject: (*subject).to_owned(),
            message: (*message).to_owned(),
        })
        .collect()
}

/// Returns the mesh in a second.
pub(crate) fn mesh(second: u64) -> MeshView {
    let services = services(second);
    MeshView {
        mesh: "prod".to_owned(),
        observer: "control/ctl-1".parse().unwrap(),
        at_ms: START_MS + second * 1000,
        window_seconds: 10,
        revision: if second > INCIDENT { 412 } else { 411 },
        edges: edges(second),
        nodes: nodes(second, &services),
        identities: identities(second, &services),
        events: events(second),
        services,
    }
}
