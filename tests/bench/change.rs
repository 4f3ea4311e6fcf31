//! How soon a change is in force everywhere, in a mesh of many routes and services, and what a request pays for many routes.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mesh::logic::http::fields::Fields;
use mesh::logic::request::Head;
use mesh::logic::route::table::RouteTable;
use mesh::model::resource::{Object, Resource};
use mesh::model::route::HttpRouteSpec;
use serde_json::{Value, json};

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::place::Place;
use crate::stage::wait::seconds;

const ROUTES: usize = 1_000;
const SERVICES: usize = 200;
const PROXIES: usize = 4;
/// Rules of each route.
const RULES: usize = 5;
/// Sizes of the tables whose cost is compared.
const TABLES: [usize; 4] = [10, 100, 1_000, 10_000];
/// How often a table is asked for one figure.
const ASKED: usize = 20_000;

/// Measures both, and prints what it finds.
pub(crate) fn measure(app: SocketAddr, rounds: u32) {
    println!("{}", tables());
    println!("{}", changes(app, rounds));
}

/// What one request pays for finding its rule, by how many rules there are.
fn tables() -> String {
    let mut text =
        "| rules of one service | ns to find one, mean | ns to find none |\n| --- | --- | --- |\n".to_owned();
    for size in TABLES {
        let table = table(size);
        let fields = Fields::new();
        let ask = |path: &str| {
            let head =
                Head { method: &http::Method::GET, path, query: None, authority: None, fields: &fields };
            std::hint::black_box(table.find(std::hint::black_box(&head))).is_some()
        };
        let paths: Vec<_> = (0..ASKED).map(|index| path(index * 7_919 % size) + "/more").collect();
        assert!(paths.iter().all(|path| ask(path)), "every path has a rule");
        let began = Instant::now();
        for path in &paths {
            ask(path);
        }
        let found = began.elapsed();
        let began = Instant::now();
        (0..ASKED).for_each(|_| _ = ask("/nobody/knows/this"));
        let missed = began.elapsed();
        let each = |time: Duration| time.as_nanos() / ASKED as u128;
        writeln!(text, "| {size} | {} | {} |", each(found), each(missed)).unwrap();
    }
    text
}

fn path(index: usize) -> String {
    format!("/area-{}/part-{index}", index % 50)
}

/// A table of `size` rules: prefixes, and for every fourth a condition on a header besides, which never holds.
fn table(size: usize) -> RouteTable {
    let routes: Vec<Object<HttpRouteSpec>> = (0..size.div_ceil(10))
        .map(|route| {
            let rules = (route * 10..size.min(route * 10 + 10)).map(|index| {
                let any = json!({ "path": { "type": "PathPrefix", "value": path(index) } });
                let mut never = any.clone();
                never["headers"] = json!([{ "name": "x-color", "value": "blue" }]);
                json!({ "matches": if index % 4 == 0 { json!([any, never]) } else { json!([any]) } })
            });
            let Resource::HttpRoute(route) =
                serde_json::from_value(object(route, "web", &rules.collect::<Vec<_>>())).unwrap()
            else {
                panic!("a route")
            };
            route
        })
        .collect();
    RouteTable::new(&routes)
}

fn object(number: usize, service: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": format!("route-{number}") },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": service }], "rules": rules },
    })
}

/// One of the routes; `turn` is what it redirects requests for `/turn` to.
fn route(number: usize, turn: usize) -> Value {
    let service = format!("s{}", number % SERVICES);
    let mut rules: Vec<Value> = (1..RULES)
        .map(|index| {
            json!({
                "matches": [{ "path": { "type": "PathPrefix", "value": format!("/route-{number}/part-{index}") } }],
                "backendRefs": [{ "name": service, "port": 80 }],
            })
        })
        .collect();
    rules.push(json!({
        "matches": [{ "path": { "type": "Exact", "value": format!("/route-{number}/turn") } }],
        "filters": [{ "type": "RequestRedirect", "requestRedirect": { "hostname": format!("turn-{turn}.test") } }],
    }));
    object(number, &service, &rules)
}

/// How long it takes from the beginning of the command until the last proxy does what it says.
fn changes(app: SocketAddr, rounds: u32) -> String {
    let place = Place::here();
    let mesh = Mesh::start(&place);
    let token = mesh.token(&["--uses", &PROXIES.to_string()]);
    let proxies: Vec<Proxy> = (0..PROXIES)
        .map(|node| {
            let own = (0..SERVICES).filter(|service| service % PROXIES == node);
            let plan = mesh.proxy(&place, &format!("host-{node}")).join(&token);
            own.fold(plan, |plan, service| plan.service(&format!("s{service}={}/http", app.port()))).start()
        })
        .collect();
    let all: Vec<String> = (0..ROUTES).map(|number| route(number, 0).to_string()).collect();
    let applied = apply(&mesh, &all.join("\n---\n"));
    for proxy in &proxies {
        turned(proxy, ROUTES - 1, 0, seconds(60));
    }
    let mut figures = Vec::new();
    for round in 1..=rounds as usize * 10 {
        let number = round * 37 % ROUTES;
        let file = mesh.folder().join("change.yaml");
        fs::write(&file, route(number, round).to_string()).unwrap();
        let began = Instant::now();
        mesh.cli(&["apply", "-f", file.to_str().unwrap()]).ok();
        let answered = began.elapsed();
        let felt = proxies.iter().map(|proxy| turned(proxy, number, round, seconds(20)) - began);
        figures.push((answered, felt.max().unwrap()));
    }
    let mut text = format!(
        "{ROUTES} routes of {RULES} rules, {SERVICES} services, {PROXIES} proxies; all of it applied at once in {:.2} s.\n\
         One change, {} times, milliseconds from the beginning of the command:\n\n\
         | | least | median | most |\n| --- | --- | --- | --- |\n",
        applied.as_secs_f64(),
        figures.len()
    );
    let names = ["the command has ended", "the last proxy does it"];
    for (name, figure) in names.iter().zip([0, 1]) {
        let mut ms: Vec<_> =
            figures.iter().map(|(answered, felt)| [answered, felt][figure].as_millis()).collect();
        ms.sort_unstable();
        writeln!(text, "| {name} | {} | {} | {} |", ms[0], ms[ms.len() / 2], ms[ms.len() - 1]).unwrap();
    }
    text
}

fn apply(mesh: &Mesh, manifest: &str) -> Duration {
    let began = Instant::now();
    mesh.apply(manifest).ok();
    began.elapsed()
}

/// Waits until a proxy redirects to where the route says in this turn; returns when that was.
fn turned(proxy: &Proxy, number: usize, turn: usize, patience: Duration) -> Instant {
    let (service, path) = (format!("s{}", number % SERVICES), format!("/route-{number}/turn"));
    let wanted = format!("//turn-{turn}.test");
    let outbound = proxy.address("outbound");
    let began = Instant::now();
    while !location(outbound, &service, &path).is_some_and(|location| location.contains(&wanted)) {
        assert!(began.elapsed() < patience, "route {number} does not turn to {turn}");
        sleep(Duration::from_millis(2));
    }
    Instant::now()
}

/// Asks for a path once; returns where the answer leads.
fn location(outbound: SocketAddr, service: &str, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(outbound).ok()?;
    stream.set_read_timeout(Some(seconds(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {service}.mesh\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"))?;
    Some(line.to_owned())
}
