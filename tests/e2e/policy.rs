//! Routes and intentions, written with `mesh apply`, felt by clients.

use std::io::Read as _;
use std::net::TcpStream;

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{self, Peer};
use crate::stage::place::Place;
use crate::stage::wait::{seconds, until};

/// Two versions of a service, a TCP service, and a caller that is itself the service `shop`.
struct Shop {
    caller: Proxy,
    _server: Proxy,
    _nginx: [Peer; 2],
    mesh: Mesh,
}

impl Shop {
    fn new() -> Self {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let token = mesh.token(&["--uses", "2"]);
        let nginx = ["v1", "v2"].map(|name| peer::nginx(&here, mesh.folder(), name));
        let server = mesh
            .proxy(&here, "server")
            .join(&token)
            .service(&format!("web={}", nginx[0].port))
            .service(&format!("web-v2={}", nginx[1].port))
            .service(&format!("mail={}/tcp", peer::greeter(&here, "mail").port()))
            .start();
        let caller = mesh.proxy(&here, "caller").join(&token).service("shop=9").upstream("mail").start();
        caller.reaches("web");
        caller.reaches("web-v2");
        Self { caller, _server: server, _nginx: nginx, mesh }
    }

    fn body(&self, flags: &[&str]) -> String {
        self.caller.get("web", "/", flags).out.trim().to_owned()
    }

    /// Connects to `mail`; returns what it says before it closes or falls silent, and whether it is still open.
    fn mail(&self) -> (String, bool) {
        let mut stream = TcpStream::connect(self.caller.upstream("mail.default")).unwrap();
        stream.set_read_timeout(Some(seconds(1))).unwrap();
        let mut said = Vec::new();
        let open =
            stream.read_to_end(&mut said).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        (String::from_utf8_lossy(&said).into_owned(), open)
    }
}

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: web
spec:
  parentRefs:
    - kind: Service
      group: \"\"
      name: web
  rules:
    - name: testers
      matches:
        - headers:
            - name: x-color
              value: blue
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier:
            set:
              - name: x-added
                value: \"yes\"
      backendRefs:
        - name: web-v2
    - name: everyone
      backendRefs:
        - name: web
          weight: 80
        - name: web-v2
          weight: 20
";

#[test]
fn a_route_matches_headers_splits_by_weight_and_goes_away_again() {
    let shop = Shop::new();
    assert_eq!(shop.body(&[]), "v1");

    let applied = shop.mesh.cli(&["get", "httproutes", "-o", "json"]).ok();
    assert_eq!(applied.trim(), "[]");
    shop.mesh.apply(ROUTE).ok();
    until("the header decides", seconds(10), || (shop.body(&["-H", "x-color: blue"]) == "v2").then_some(()));

    for _ in 0..20 {
        assert_eq!(shop.body(&["-H", "x-color: blue"]), "v2");
    }
    let changed = shop.caller.get("web", "/echo-header", &["-H", "x-color: blue"]).ok();
    assert_eq!(changed, "blue|yes\n");
    let second = (0..200).filter(|_| shop.body(&[]) == "v2").count();
    assert!((18..=66).contains(&second), "{second} of 200 at a weight of 20 in 100");

    assert!(shop.mesh.cli(&["get", "httproutes"]).ok().contains("web"));
    shop.mesh.cli(&["delete", "httproute", "web"]).ok();
    until("the route is gone", seconds(10), || (shop.body(&["-H", "x-color: blue"]) == "v1").then_some(()));
    shop.mesh.cli(&["get", "httproute", "web"]).failed(4);
}

#[test]
fn a_field_that_cannot_be_obeyed_is_refused_with_its_place() {
    let mesh = Mesh::start(&Place::here());
    let unknown = ROUTE
        .replace("              value: blue\n", "              value: blue\n              colour: red\n");
    let line = 1 + unknown.lines().position(|line| line.contains("colour")).unwrap();

    let refused = mesh.apply(&unknown).failed(1);

    assert!(refused.contains(&format!("manifest.yaml:{line}:15")), "{refused}");
    assert!(refused.contains("colour"), "{refused}");
    assert_eq!(mesh.cli(&["get", "httproutes", "-o", "json"]).ok().trim(), "[]");

    for (broken, part) in [
        (ROUTE.replace("weight: 80", "weight: -1"), "weight"),
        (ROUTE.replace("type: RequestHeaderModifier", "type: RequestMirror"), "manifest.yaml:"),
        (ROUTE.replace("HTTPRoute", "HttpRout"), "HttpRout"),
        (ROUTE.replace("name: web\nspec", "name: Web_\nspec"), "Web_"),
        ("a: [b".to_owned(), "manifest.yaml:"),
    ] {
        let refused = mesh.apply(&broken).failed(1);
        assert!(refused.contains(part), "{part}:\n{refused}");
    }
}

fn intention(destination: &str, action: &str) -> String {
    format!(
        "apiVersion: mesh/v1\nkind: Intention\nmetadata:\n  name: {destination}\nspec:\n  destination: {destination}\n  \
         sources:\n    - service: shop\n  action: {action}\n"
    )
}

// case 64
#[test]
fn a_denied_caller_gets_403_and_a_closed_connection() {
    let shop = Shop::new();
    until("the calls are counted", seconds(15), || {
        shop.body(&[]);
        let edges = shop.mesh.view()["edges"].as_array()?.clone();
        edges
            .iter()
            .any(|edge| edge["source"] == "shop.default" && edge["destination"] == "web.default")
            .then_some(())
    });
    let file = shop.mesh.folder().join("plan.yaml");
    std::fs::write(&file, intention("web", "deny")).unwrap();
    let plan = shop.mesh.cli(&["apply", "--plan", "-f", file.to_str().unwrap()]);
    assert_eq!(plan.code, Some(1), "{}", plan.err);
    assert!(
        plan.out.contains("shop.default") && plan.out.contains("intention default/web refuses it"),
        "{}",
        plan.out
    );
    assert_eq!(shop.mesh.cli(&["get", "intentions", "-o", "json"]).ok().trim(), "[]", "nothing was written");
    let (said, open) =
        until("mail answers", seconds(15), || Some(shop.mail()).filter(|(said, _)| !said.is_empty()));
    assert_eq!((said.as_str(), open), ("220 mail speaks first\r\n", true));

    shop.mesh.apply(&format!("{}---\n{}", intention("web", "deny"), intention("mail", "deny"))).ok();

    until("web refuses", seconds(10), || (shop.caller.status("web", "/", &[]) == 403).then_some(()));
    until("mail closes", seconds(10), || (shop.mail() == (String::new(), false)).then_some(()));
    assert_eq!(shop.caller.status("web-v2", "/", &[]), 200, "others are not concerned");
    let why = shop.mesh.cli(&["why", "shop", "web", "GET", "/"]);
    assert_eq!(why.code, Some(1), "{}", why.err);
    assert!(
        why.out.contains("refused by intention default/web") && why.out.contains("as caller decides"),
        "{}",
        why.out
    );
    assert_eq!(shop.mesh.cli(&["why", "shop", "web-v2", "GET", "/"]).code, Some(0));
    let told = shop.caller.get("web", "/", &[]).out;
    assert!(told.contains("request ") && !told.contains("default/web"), "{told}");
    let edge = until("the refusal is counted", seconds(15), || {
        let edges = shop.mesh.view()["edges"].as_array()?.clone();
        let edge = edges.into_iter().find(|edge| edge["destination"] == "web.default")?;
        (edge["deniedTotal"].as_u64()? > 0).then_some(edge)
    });
    assert_eq!((&edge["source"], &edge["mtls"]), (&"shop.default".into(), &true.into()), "{edge}");
    assert!(edge["denials"]["intention default/web"].as_u64().unwrap() > 0, "{edge}");
    until("the refusal is told", seconds(10), || {
        shop.mesh
            .cli(&["events", "--kind", "deny"])
            .out
            .contains("intention default/web refused")
            .then_some(())
    });

    shop.mesh.cli(&["delete", "intention", "web", "mail"]).ok();
    until("web answers again", seconds(10), || (shop.caller.status("web", "/", &[]) == 200).then_some(()));
}

#[test]
fn an_allowance_for_others_refuses_this_caller() {
    let shop = Shop::new();

    shop.mesh.apply(&intention("web", "allow").replace("service: shop", "service: office")).ok();

    until("web refuses", seconds(10), || (shop.caller.status("web", "/", &[]) == 403).then_some(()));
    shop.mesh.apply(&intention("web", "allow")).ok();
    until("web answers", seconds(10), || (shop.caller.status("web", "/", &[]) == 200).then_some(()));
}

const WIDE_ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: web
spec:
  parentRefs:
    - group: \"\"
      kind: Service
      name: web
      port: 80
  rules:
    - name: moved
      matches:
        - path:
            value: /old
      filters:
        - type: RequestRedirect
          requestRedirect:
            hostname: shop.test
            statusCode: 308
    - name: lost
      matches:
        - queryParams:
            - name: lost
              value: \"1\"
      backendRefs:
        - name: nobody
          port: 80
    - name: shared
      filters:
        - type: CORS
          cors:
            allowOrigins: [\"https://*.shop.test\"]
      backendRefs:
        - name: web-v2
          port: 80
";

#[test]
fn a_route_says_how_it_fares_and_does_what_it_says() {
    let shop = Shop::new();
    shop.mesh.apply(WIDE_ROUTE).ok();
    until("the route is in force", seconds(10), || (shop.body(&[]) == "v2").then_some(()));

    let moved = shop.caller.get("web", "/old/a", &["-D", "-"]).out;
    assert!(moved.contains(" 308 ") && moved.contains("location: http://shop.test/old/a"), "{moved}");
    assert_eq!(shop.caller.status("web", "/?lost=1", &[]), 500);
    let preflight =
        ["-X", "OPTIONS", "-H", "Origin: https://a.shop.test", "-H", "Access-Control-Request-Method: PUT"];
    let answer = shop.caller.get("web", "/", &[&preflight[..], &["-D", "-"]].concat()).out;
    assert!(answer.contains("access-control-allow-origin: https://a.shop.test"), "{answer}");

    let shown = shop.mesh.cli(&["get", "httproute", "web", "-o", "json"]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let conditions = &shown["status"]["parents"][0]["conditions"];
    let reason =
        |at: usize| (conditions[at]["status"].as_str().unwrap(), conditions[at]["reason"].as_str().unwrap());
    assert_eq!((reason(0), reason(1)), (("True", "Accepted"), ("False", "BackendNotFound")), "{shown}");
    assert_eq!(conditions[0]["observedGeneration"], shown["metadata"]["generation"]);
    assert!(shop.mesh.cli(&["get", "httproutes"]).ok().contains("BackendNotFound"));
    let described = shop.mesh.cli(&["describe", "httproute", "web"]);
    assert!(described.err.contains("no node announces service nobody.default yet"), "{}", described.err);

    // What is shown can be written back.
    shop.mesh.apply(&shown.to_string()).ok();
}
