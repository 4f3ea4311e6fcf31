//! One request: what became of it, by its id; live, as it ended; and what a change would do to those of the last hours.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{self, Peer};
use crate::stage::place::Place;
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// `shop` on one node calls `web` on another.
struct Shop {
    caller: Proxy,
    _server: Proxy,
    _nginx: Peer,
    mesh: Mesh,
}

impl Shop {
    fn new() -> Self {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let token = mesh.token(&["--uses", "2"]);
        let nginx = peer::nginx(&here, mesh.folder(), "web");
        let server = mesh.proxy(&here, "server").join(&token).service(&format!("web={}", nginx.port)).start();
        let caller = mesh.proxy(&here, "caller").join(&token).service("shop=9").start();
        caller.reaches("web");
        Self { caller, _server: server, _nginx: nginx, mesh }
    }

    fn deny(&self) {
        let denied = "apiVersion: mesh/v1\nkind: Intention\nmetadata: {name: secrets}\nspec:\n  destination: web\n  \
                      sources: [{service: shop}]\n  action: deny\n  rules: [{name: admin, paths: [{value: /admin}]}]\n";
        self.mesh.apply(denied).ok();
        until("web refuses", seconds(10), || (self.caller.status("web", "/admin", &[]) == 403).then_some(()));
    }

    /// Asks for a path and returns the id that the answer tells.
    fn id_of(&self, path: &str, flags: &[&str]) -> String {
        let answer = self.caller.get("web", path, &[flags, &["-D", "-"]].concat()).out;
        let line = answer.lines().find_map(|line| line.strip_prefix("x-request-id: "));
        line.unwrap_or_else(|| panic!("no id in {answer}")).trim().to_owned()
    }

    fn why(&self, id: &str) -> Value {
        let asked = self.mesh.cli(&["why", id, "-o", "json"]);
        serde_json::from_str(&asked.out).unwrap_or_else(|_| panic!("{asked:?}"))
    }
}

/// What the two proxies say: the one of the caller first.
fn both(trace: &Value) -> (&Value, &Value) {
    let calls = trace["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2, "{trace:#}");
    assert_eq!((&calls[0]["side"], &calls[1]["side"]), (&"outbound".into(), &"inbound".into()), "{trace:#}");
    (&calls[0], &calls[1])
}

#[test]
fn who_is_refused_is_told_an_id_and_the_operator_what_became_of_it() {
    let shop = Shop::new();
    shop.deny();

    let id = shop.id_of("/admin/keys?secret=1", &[]);
    let trace = shop.why(&id);
    let (outbound, inbound) = both(&trace);
    assert_eq!((&outbound["by"], &inbound["by"]), (&"caller".into(), &"server".into()), "{trace:#}");
    for call in [outbound, inbound] {
        assert_eq!(call["path"], "/admin/keys", "{trace:#}");
        assert_eq!((&call["status"], &call["reason"]), (&403.into(), &"RBAC".into()), "{trace:#}");
        assert_eq!((&call["source"], &call["node"]), (&"shop.default".into(), &"server".into()), "{trace:#}");
    }
    assert_eq!(inbound["rule"], "intention default/secrets/admin", "{trace:#}");
    assert_eq!(outbound["rule"], Value::Null, "the calling side never knows: {trace:#}");

    let told = shop.mesh.cli(&["why", &id]);
    assert_eq!(told.code, Some(1), "a call that failed is a finding: {told:?}");
    for part in [id.as_str(), "caller", "server", "refused by intention default/secrets/admin", "403 RBAC"] {
        assert!(told.out.contains(part), "{part}:\n{}", told.out);
    }
}

#[test]
fn the_id_that_a_caller_gives_leads_through_both_proxies_and_so_does_one_that_a_proxy_made_up() {
    let shop = Shop::new();

    shop.caller.get("web", "/", &["-H", "X-Request-Id: order-66"]).ok();
    let asked = shop.mesh.cli(&["why", "order-66"]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    let trace = shop.why("order-66");
    let (outbound, inbound) = both(&trace);
    assert_eq!((&outbound["status"], &inbound["status"]), (&200.into(), &200.into()), "{trace:#}");
    assert_eq!((&outbound["method"], &outbound["retries"]), (&"GET".into(), &0.into()), "{trace:#}");
    assert!(outbound["latencyUs"].as_u64() >= inbound["latencyUs"].as_u64(), "{trace:#}");

    let unknown = shop.caller.get("nobody", "/", &["-D", "-"]).out;
    let id = unknown.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
    let trace = shop.why(&id);
    assert_eq!(trace["calls"].as_array().unwrap().len(), 1, "{trace:#}");
    assert_eq!(
        (&trace["calls"][0]["reason"], &trace["calls"][0]["status"]),
        (&"NR".into(), &404.into()),
        "{trace:#}"
    );
}

// case 87
#[test]
fn a_request_is_told_with_the_trace_that_it_is_part_of() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let shop = Shop::new();
    let tap = Tap::start(&shop.mesh, &["web", "--source", "shop", "--path", "/traced"]);
    let ask = |id: &str, parent: &str| {
        let fields = [format!("X-Request-Id: {id}"), format!("Traceparent: {parent}")];
        let fields: Vec<_> = fields.iter().flat_map(|field| ["-H", field]).collect();
        shop.caller.get("web", "/traced", &fields).ok();
    };

    let mut seen = Vec::new();
    until("the tap shows something", seconds(20), || {
        ask("traced", &format!("00-{TRACE}-00f067aa0ba902b7-01"));
        seen.extend(tap.seen());
        (!seen.is_empty()).then_some(())
    });
    assert!(seen.iter().all(|call| call["traceId"] == TRACE), "{seen:#?}");
    let told = shop.mesh.cli(&["why", "traced"]).ok();
    assert!(told.contains(&format!("trace      {TRACE}\n")), "{told}");

    ask("mended", "00-none-of-it-01");
    let trace = shop.why("mended");
    let (outbound, inbound) = both(&trace);
    assert_eq!(outbound["traceId"].as_str().map(str::len), Some(32), "{trace:#}");
    assert_eq!(outbound["traceId"], inbound["traceId"], "{trace:#}");
}

#[test]
fn an_id_that_nobody_remembers_is_not_found_and_it_is_said_why() {
    let shop = Shop::new();

    let told = shop.mesh.cli(&["why", "never-seen"]).failed(4);

    assert!(told.contains("no proxy remembers a request with the id 'never-seen'"), "{told}");
    assert!(told.contains("2 were asked") && told.contains("reaches back the least"), "{told}");
    shop.mesh.cli(&["why", "a b"]).failed(1);
}

/// `mesh tap` at work.
struct Tap {
    child: Child,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Tap {
    fn start(mesh: &Mesh, flags: &[&str]) -> Self {
        let mut command = Command::new(program::mesh());
        command.args(["tap", "-o", "json"]).args(flags).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("MESH_CONTROL", format!("unix://{}", mesh.data().join("control.sock").display()));
        let mut child = command.spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines }
    }

    fn seen(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_tap_shows_calls_as_they_end_by_how_they_ended() {
    let shop = Shop::new();
    shop.deny();
    let all = Tap::start(&shop.mesh, &["web", "--source", "shop"]);
    let denied = Tap::start(&shop.mesh, &["--status", "denied", "--side", "inbound"]);
    let others = Tap::start(&shop.mesh, &["--source", "other"]);

    let mut seen = (Vec::new(), Vec::new());
    until("both taps show something", seconds(20), || {
        shop.caller.status("web", "/", &[]);
        shop.caller.status("web", "/admin", &[]);
        seen.0.extend(all.seen());
        seen.1.extend(denied.seen());
        (seen.0.len() >= 4 && seen.1.len() >= 2).then_some(())
    });

    assert!(seen.0.iter().all(|call| call["side"] == "outbound" && call["by"] == "caller"), "{seen:#?}");
    assert!(seen.0.iter().any(|call| call["status"] == 200), "{seen:#?}");
    assert!(seen.1.iter().all(|call| call["rule"] == "intention default/secrets/admin"), "{seen:#?}");
    assert_eq!(others.seen(), Vec::<Value>::new());

    let few = shop.mesh.cli(&["tap", "--for", "1s", "--source", "other"]);
    assert_eq!((few.code, few.out.as_str()), (Some(0), ""), "{few:?}");
    shop.mesh.cli(&["tap", "--status", "9xx"]).failed(2);
}

#[test]
fn a_plan_knows_the_traffic_of_before_a_restart_and_which_requests_it_ends() {
    let mut shop = Shop::new();
    shop.caller.get("web", "/read/1", &[]);
    shop.caller.get("web", "/write", &["-X", "POST"]);
    until("both are counted", seconds(15), || {
        for _ in 0..2 {
            shop.caller.get("web", "/read/2", &[]);
            std::thread::sleep(std::time::Duration::from_millis(1_100));
            shop.caller.get("web", "/write", &["-X", "POST"]);
        }
        let edges = shop.mesh.json(&["edges", "-o", "json"]);
        let total = edges.as_array()?.iter().find(|edge| edge["destination"] == "web.default")?;
        (total["requestsTotal"].as_u64()? >= 4).then_some(())
    });
    let file = shop.mesh.folder().join("plan.yaml");
    let reads = "apiVersion: mesh/v1\nkind: Intention\nmetadata: {name: reads}\nspec:\n  destination: web\n  \
                 sources: [{service: shop}]\n  action: allow\n  rules: [{methods: [GET]}]\n";
    std::fs::write(&file, reads).unwrap();
    let plan = |mesh: &Mesh| mesh.cli(&["apply", "--plan", "-f", file.to_str().unwrap()]);

    until("the plan knows which are refused", seconds(15), || {
        let told = plan(&shop.mesh);
        (told.code == Some(1) && told.out.contains("POST /write: ") && !told.out.contains("GET"))
            .then_some(())
    });

    shop.mesh.control.terminate();
    shop.mesh.restart_control();
    let told = plan(&shop.mesh);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.out.contains("shop.default") && told.out.contains("POST /write: "), "{told:?}");
    assert!(told.err.contains("for the traffic since 2"), "{told:?}");
}
