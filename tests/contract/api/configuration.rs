//! Working with objects: many at once, pruned, tried, remembered, taken back.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use mesh::control::http::access::Caller;
use mesh::model::endpoint::{Announcement, Catalog, Member, MemberState, NodeRecord, Role};
use mesh::model::service::Protocol;
use serde_json::{Value, json};

use crate::contract::api::{World, intention, line, path, tomorrow, world};

fn labelled(name: &str, destination: &str) -> Value {
    let mut object = intention(name, destination);
    object["metadata"]["labels"] = json!({ "app": "shop" });
    object
}

fn route(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": name },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
            "rules": [{ "name": "all", "backendRefs": [{ "name": "web", "port": 80 }] }],
        },
    })
}

impl World {
    async fn apply(&self, query: &str, body: Value) -> (StatusCode, Value) {
        self.call(Caller::Local, "POST", &format!("/v1/apply{query}"), Some(body)).await
    }

    async fn put(&self, caller: Caller, name: &str, destination: &str) -> Value {
        let (status, body) = self.call(caller, "PUT", &path(name), Some(intention(name, destination))).await;
        assert!(status.is_success(), "{body}");
        body
    }

    async fn history(&self, name: &str) -> Vec<Value> {
        let (status, body) = self.call(Caller::Local, "GET", &format!("{}/history", path(name)), None).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["versions"].as_array().unwrap().clone()
    }

    async fn rollback(&self, name: &str, query: &str) -> (StatusCode, Value) {
        self.call(Caller::Local, "POST", &format!("{}/rollback{query}", path(name)), None).await
    }
}

fn changes(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |applied: &Value| (text(&applied["object"]["metadata"]["name"]), text(&applied["change"]));
    body["changes"].as_array().unwrap().iter().map(one).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, change)| ((*name).to_owned(), (*change).to_owned())).collect()
}

#[tokio::test]
async fn objects_are_applied_together_at_one_revision() {
    let world = world().await;
    let objects = json!({ "objects": [intention("one", "web"), intention("two", "api")] });

    let (status, first) = world.apply("", objects.clone()).await;
    let (_, again) = world.apply("", objects).await;

    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(changes(&first), named(&[("one", "created"), ("two", "created")]));
    let version = |at: usize| first["changes"][at]["object"]["metadata"]["resourceVersion"].clone();
    assert_eq!(version(0), version(1));
    assert_eq!(version(0).as_str().unwrap(), first["revision"].to_string());
    assert_eq!(changes(&again), named(&[("one", "unchanged"), ("two", "unchanged")]));
    assert_eq!(again["revision"], first["revision"]);
}

#[tokio::test]
async fn one_object_that_is_refused_keeps_all_others_out_and_every_fault_is_told_with_its_object() {
    let world = world().await;

    let (status, problem) = world
        .apply("", json!({ "objects": [intention("good", "web"), intention("bad", "No Name"), intention("worse", "")] }))
        .await;
    let (twice, told) =
        world.apply("", json!({ "objects": [intention("a", "web"), intention("a", "api")] })).await;
    let mut stale = intention("good", "web");
    stale["metadata"]["resourceVersion"] = json!("1");
    let (conflict, _) = world.apply("", json!({ "objects": [intention("new", "web"), stale] })).await;

    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    let objects: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["object"].clone()).collect();
    assert_eq!(objects, ["intentions/default/bad", "intentions/default/worse"]);
    assert_eq!(twice, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(told["detail"].as_str().unwrap().contains("second object"), "{told}");
    assert_eq!(conflict, StatusCode::NOT_FOUND, "what is not there cannot be at that version");
    assert!(world.plane.store.state().resources().is_empty());
}

#[tokio::test]
async fn objects_are_removed_together_and_those_that_are_not_there_are_told() {
    let world = world().await;
    world.apply("", json!({ "objects": [intention("one", "web"), intention("two", "api")] })).await;
    let paths = |names: &[&str]| json!({ "objects": [], "remove": names.iter().map(|name| format!("intentions/default/{name}")).collect::<Vec<_>>() });

    let (wrong, _) = world.apply("", json!({ "objects": [], "remove": ["pods/default/one"] })).await;
    let (twice, _) = world.apply("", paths(&["one", "one"])).await;
    let before = world.plane.store.state().resources().len();
    let (status, done) = world.apply("", paths(&["one", "gone", "two"])).await;

    assert_eq!((wrong, twice, before), (StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST, 2));
    assert_eq!(status, StatusCode::OK, "{done}");
    assert_eq!(changes(&done), named(&[("one", "deleted"), ("two", "deleted")]));
    assert_eq!(done["missing"], json!(["intentions/default/gone"]));
    assert!(world.plane.store.state().resources().is_empty());
}

#[tokio::test]
async fn a_parent_of_no_kind_is_refused_when_it_is_written_and_a_group_is_filled_in() {
    let world = world().await;
    let mut without = route("r");
    without["spec"]["parentRefs"] = json!([{ "name": "web" }]);
    let mut loose = route("r");
    loose["spec"]["parentRefs"] = json!([{ "kind": "Service", "name": "web" }]);

    let (status, problem) = world.apply("", json!({ "objects": [without] })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    assert_eq!(problem["errors"][0]["path"], "spec.parentRefs[0]", "{problem}");
    let (status, done) = world.apply("", json!({ "objects": [loose] })).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let stored = &done["changes"][0]["object"]["spec"];
    assert_eq!(stored["parentRefs"][0]["group"], "", "{stored}");
    assert_eq!(stored["rules"][0]["matches"][0]["path"], json!({ "type": "PathPrefix", "value": "/" }));
    assert_eq!(stored["rules"][0]["backendRefs"][0]["kind"], "Service");
}

#[tokio::test]
async fn proxies_of_older_versions_are_not_told_of_defaults_that_they_cannot_read() {
    let world = world().await;
    let object = |kind: &str, name: &str, spec: Value| json!({ "apiVersion": "mesh/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    let target = json!({ "name": "web" });
    let silence = json!({ "targetRef": target, "timeouts": { "idle": "1m" }, "retry": { "codes": [502] } });
    let streams = json!({ "targetRef": { "name": "api" }, "timeouts": { "streamIdle": "1m" } });
    let objects = json!([
        object("Service", "web", json!({ "healthCheck": { "http": {} } })),
        object("TrafficPolicy", "a", json!({ "targetRef": target })),
        object("TrafficPolicy", "b", silence),
        object("TrafficPolicy", "c", streams),
    ]);
    world.apply("", json!({ "objects": objects })).await;

    let published = world.plane.publisher.newest();
    let told: Value = serde_json::from_slice(&published.line).unwrap();

    let [service, plain, silence, streams] = [0, 1, 2, 3].map(|at| &told["resources"][at]["spec"]);
    assert_eq!(service["healthCheck"]["http"], json!({ "path": "/" }));
    for (spec, idle, stream_idle) in
        [(plain, None, None), (silence, Some("1m"), None), (streams, Some("5m"), Some("1m"))]
    {
        let of = |name: &str| spec["timeouts"].get(name).and_then(Value::as_str);
        assert_eq!((of("idle"), of("streamIdle")), (idle, stream_idle), "{spec}");
    }
    assert_eq!((plain["retry"].get("codes"), plain["retry"].get("methods")), (None, None), "{plain}");
    assert_eq!(
        (&silence["retry"]["codes"], silence["retry"].get("methods")),
        (&json!([502]), None),
        "{silence}"
    );
}

#[tokio::test]
async fn proxies_of_older_versions_are_not_told_what_is_the_default_of_an_intention() {
    let world = world().await;
    let mut audited = intention("two", "api");
    audited["spec"]["mode"] = json!("audit");
    world.apply("", json!({ "objects": [intention("one", "web"), audited] })).await;

    let (_, shown) = world.call(Caller::Local, "GET", &path("one"), None).await;
    let published = world.plane.publisher.newest();
    let told: Value = serde_json::from_slice(&published.line).unwrap();

    assert_eq!(shown["spec"]["mode"], "enforce", "{shown}");
    assert_eq!(told["resources"][0]["spec"].get("mode"), None, "{told}");
    assert_eq!(told["resources"][1]["spec"]["mode"], "audit", "{told}");
}

#[tokio::test]
async fn a_condition_says_since_when_it_holds_and_that_stays_while_it_does() {
    let world = world().await;
    world.apply("", json!({ "objects": [route("r")] })).await;
    let look = |services: &[&str]| {
        let announced: Vec<_> = services.iter().map(|name| name.parse().unwrap()).collect();
        world.plane.transitions.look(&world.plane.store.state(), announced)
    };
    let times = async || {
        let (_, shown) = world.call(Caller::Local, "GET", "/v1/resources/httproutes/default/r", None).await;
        let conditions = shown["status"]["parents"][0]["conditions"].as_array().unwrap().clone();
        conditions
            .iter()
            .map(|one| one["lastTransitionTime"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    assert!(look(&[]).is_some(), "what is new is to be kept");
    assert!(look(&[]).is_none(), "what is the same is not");
    let first = times().await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(times().await, first);
    assert!(first.iter().all(|time| time.ends_with('Z')), "{first:?}");

    assert!(look(&["web"]).is_some());
    look(&[]);
    assert!(times().await[0] > first[0], "it went and came: {first:?}");
}

#[tokio::test]
async fn pruning_removes_what_has_the_labels_and_is_not_applied_and_nothing_else() {
    let world = world().await;
    world.put(Caller::Local, "bare", "web").await;
    world.apply("", json!({ "objects": [labelled("old", "web"), labelled("kept", "api")] })).await;
    let body =
        json!({ "objects": [labelled("kept", "api"), labelled("new", "db")], "prune": { "app": "shop" } });

    let (_, tried) = world.apply("?dryRun=true", body.clone()).await;
    let before = world.plane.store.state().resources().len();
    let (_, done) = world.apply("", body).await;
    let (all, _) = world.apply("", json!({ "objects": [], "prune": {} })).await;

    let expected = named(&[("kept", "unchanged"), ("new", "created"), ("old", "deleted")]);
    assert_eq!(changes(&tried), expected);
    assert_eq!(before, 3, "a trial writes nothing");
    assert_eq!(tried["changes"][2]["before"]["metadata"]["name"], "old");
    assert_eq!(changes(&done), expected);
    let left: Vec<_> = world.plane.store.state().resources().keys().map(|key| key.name.clone()).collect();
    assert_eq!(left, ["bare", "kept", "new"]);
    assert_eq!(all, StatusCode::BAD_REQUEST, "no labels would mean everything");
}

#[tokio::test]
async fn a_history_tells_what_was_written_when_and_by_whom() {
    let world = world().await;
    let ann = world.logged_in("ann").await;
    world.put(Caller::Local, "one", "web").await;
    world.put(ann.operator(tomorrow()), "one", "api").await;
    world.call(ann.operator(tomorrow()), "DELETE", &path("one"), None).await;

    let history = world.history("one").await;
    let field = |name: &str| history.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    let (none, _) = world.call(Caller::Local, "GET", &format!("{}/history", path("none")), None).await;

    assert_eq!(field("change"), ["created", "updated", "deleted"]);
    assert_eq!(field("by"), ["local administrator", "operator/ann", "operator/ann"]);
    assert!(history.iter().all(|one| one["atMs"].as_u64().unwrap() > 1_700_000_000_000));
    assert_eq!(history[0]["object"]["spec"]["destination"], "web");
    assert_eq!(none, StatusCode::NOT_FOUND);
    let events = world.plane.collector.events.all();
    assert!(events.iter().any(|event| event.message == "changed by operator/ann"), "{events:?}");
}

#[tokio::test]
async fn a_rollback_writes_an_object_as_it_was_also_one_that_is_gone() {
    let world = world().await;
    for destination in ["web", "api", "db"] {
        world.put(Caller::Local, "one", destination).await;
    }
    let first = world.history("one").await[0]["revision"].clone();
    let destination = |body: &Value| body["object"]["spec"]["destination"].clone();

    let (_, tried) = world.rollback("one", "?dryRun=true").await;
    let (_, back) = world.rollback("one", "").await;
    let (_, there) = world.rollback("one", "").await;
    let (_, named) = world.rollback("one", &format!("?to={first}")).await;
    let (missing, problem) = world.rollback("one", "?to=999").await;
    world.call(Caller::Local, "DELETE", &path("one"), None).await;
    let (restored, body) = world.rollback("one", "").await;

    assert_eq!(destination(&tried), "api");
    assert_eq!(destination(&back), "api");
    assert_eq!(destination(&there), "db", "back and forth between the last two");
    assert_eq!(destination(&named), "web");
    assert_eq!(missing, StatusCode::NOT_FOUND);
    assert!(problem["detail"].as_str().unwrap().contains("mesh history"), "{problem}");
    assert_eq!((restored, destination(&body)), (StatusCode::CREATED, json!("web")));
    let mut stream = world.follow(Caller::Local, "/v1/resources/intentions?watch=true").await;
    assert_eq!(line(&mut stream).await.unwrap()["object"]["spec"]["destination"], "web");
}

#[tokio::test]
async fn what_a_change_makes_of_other_objects_is_a_warning_of_that_change() {
    let world = world().await;
    let applied = |body: &Value| body["warnings"].as_array().unwrap().clone();
    let (_, first) = world.apply("", json!({ "objects": [route("first")] })).await;

    let (_, second) = world.apply("", json!({ "objects": [route("second")] })).await;
    let (_, again) = world.apply("", json!({ "objects": [intention("one", "web")] })).await;

    let unknown = applied(&first);
    assert!(
        unknown.iter().all(|one| one["message"].as_str().unwrap().contains("no node announces")),
        "{first}"
    );
    let shadowed = applied(&second);
    let shadowed =
        shadowed.iter().find(|one| one["path"] == "spec.rules[0]").unwrap_or_else(|| panic!("{second}"));
    assert_eq!(shadowed["object"], "httproutes/default/second");
    assert!(applied(&again).iter().all(|one| one["object"] == "intentions/default/one"), "{again}");
}

#[tokio::test]
async fn a_route_is_shown_with_how_it_fares_and_that_is_not_kept() {
    let world = world().await;
    world.apply("", json!({ "objects": [route("r")] })).await;
    let at = "/v1/resources/httproutes/default/r";

    let (_, mut shown) = world.call(Caller::Local, "GET", at, None).await;
    let (_, list) = world.call(Caller::Local, "GET", "/v1/resources/httproutes", None).await;
    let parent = shown["status"]["parents"][0].clone();
    let reasons: Vec<_> = parent["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| condition["reason"].clone())
        .collect();

    assert_eq!(parent["parentRef"]["name"], "web");
    assert_eq!(parent["controllerName"], "mesh/control");
    assert_eq!(reasons, ["NoMatchingParent", "BackendNotFound"]);
    assert_eq!(parent["conditions"][0]["observedGeneration"], 1);
    assert_eq!(list["items"][0]["status"], shown["status"]);

    // What is written back of it is no change.
    shown["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let (status, again) = world.call(Caller::Local, "PUT", at, Some(shown)).await;
    assert_eq!((status, again["change"].as_str()), (StatusCode::OK, Some("unchanged")), "{again}");
    let (_, other) = world.call(Caller::Local, "PUT", &path("one"), Some(intention("one", "web"))).await;
    assert!(other["object"].get("status").is_none());
}

#[tokio::test]
async fn the_default_is_read_and_changed_and_told_to_proxies_and_on_the_timeline() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;

    let (_, before) = world.call(host.caller(tomorrow()), "GET", "/v1/defaults", None).await;
    let (status, after) = world
        .call(Caller::Local, "PUT", "/v1/defaults", Some(json!({ "action": "deny", "mode": "audit" })))
        .await;
    let (forbidden, _) =
        world.call(host.caller(tomorrow()), "PUT", "/v1/defaults", Some(json!({ "action": "allow" }))).await;
    let (_, snapshot) = world.call(host.caller(tomorrow()), "GET", "/v1/snapshot", None).await;

    assert_eq!(before, json!({ "action": "allow", "mode": "enforce" }));
    assert_eq!((status, after), (StatusCode::OK, json!({ "action": "deny", "mode": "audit" })));
    assert_eq!(forbidden, StatusCode::FORBIDDEN);
    assert_eq!((&snapshot["defaultAction"], &snapshot["mode"]), (&json!("deny"), &json!("audit")));
    let events = world.plane.collector.events.all();
    assert!(events.iter().any(|event| event.message.contains("nothing is refused")), "{events:?}");
}

#[tokio::test]
async fn every_example_and_every_manifest_as_it_comes_from_a_cluster_can_be_applied() {
    let world = world().await;
    for directory in ["assets/examples", "tests/data/manifests/accepted"] {
        let directory = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory);
        let read = mesh::cli::manifest::read(&[directory]).unwrap();
        let objects: Vec<_> =
            read.objects.iter().map(|(object, _)| serde_json::to_value(object).unwrap()).collect();

        let (status, body) = world.apply("", json!({ "objects": objects })).await;

        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(changes(&body).len(), objects.len());
        assert!(changes(&body).iter().all(|(_, change)| change == "created"));
        let (_, again) = world.apply("", json!({ "objects": objects })).await;
        assert!(changes(&again).iter().all(|(_, change)| change == "unchanged"), "{again}");
    }
}

/// A catalogue in which each node runs one service.
fn catalog(running: &[(&str, &str)]) -> Arc<Catalog> {
    let member = |(node, service): &(&str, &str)| {
        let announcement = Announcement {
            service: service.parse().unwrap(),
            port: 80,
            protocol: Protocol::Http,
            weight: 100,
            healthy: true,
        };
        let record = NodeRecord {
            node: node.parse().unwrap(),
            epoch: 1,
            version: 1,
            role: Role::Proxy,
            addr: "10.0.0.1:15008".parse().unwrap(),
            zone: None,
            build: "test".to_owned(),
            draining: false,
            services: vec![announcement],
        };
        let gossip = record.addr;
        let state = MemberState::Alive;
        (
            record.node.clone(),
            Member { record: Some(record), state, gossip, since_ms: 0, rtt_us: None, vouched_ms: None },
        )
    };
    Arc::new(Catalog { members: running.iter().map(member).collect() })
}

#[tokio::test]
async fn a_call_is_explained_stage_by_stage() {
    let world = world().await;
    world.catalog.send_replace(catalog(&[("a", "shop"), ("b", "web"), ("c", "web-v2")]));
    let mut split = route("web");
    split["spec"]["rules"] = json!([
        { "name": "writes", "matches": [{ "method": "POST" }], "backendRefs": [{ "name": "web-v2", "port": 80 }] },
        {
            "name": "reads", "matches": [{ "method": "GET", "path": { "type": "PathPrefix", "value": "/shop" } }],
            "filters": [{ "type": "RequestHeaderModifier",
                          "requestHeaderModifier": { "set": [{ "name": "x-added", "value": "yes" }] } }],
            "backendRefs": [{ "name": "web", "port": 80, "weight": 3 }, { "name": "web-v2", "port": 80 }],
        },
    ]);
    let mut writers = intention("no-writes", "web-v2");
    writers["spec"]["action"] = json!("deny");
    writers["spec"]["rules"] = json!([{ "name": "write", "methods": ["POST"] }]);
    let (status, body) = world.apply("", json!({ "objects": [split, writers] })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let ask = async |method: &str, path: &str, destination: &str| {
        let question = json!({
            "source": "shop.default", "destination": destination, "request": { "method": method, "path": path },
        });
        let (status, body) = world.call(Caller::Local, "POST", "/v1/why", Some(question)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    };

    let read = ask("GET", "/shop/1", "web").await;
    let write = ask("POST", "/", "web").await;
    let lost = ask("GET", "/elsewhere", "web").await;
    let unknown = ask("GET", "/", "nowhere").await;
    let mistyped = ask("GET", "/", "wbe-v2").await;
    let connection = json!({ "source": "shop.default", "destination": "web-v2" });
    let (_, connection) = world.call(Caller::Local, "POST", "/v1/why", Some(connection)).await;

    assert_eq!(
        (&read["node"], &read["passes"], &read["route"]["rule"]),
        (&json!("a"), &json!(true), &json!("web/reads"))
    );
    assert_eq!(read["route"]["object"], "httproutes/default/web");
    assert_eq!(read["route"]["written"]["backendRefs"][0]["weight"], 3);
    let shares: Vec<_> =
        read["backends"].as_array().unwrap().iter().map(|one| one["share"].as_f64().unwrap()).collect();
    assert_eq!(shares, [0.75, 0.25]);
    assert_eq!(read["backends"][0]["request"]["headers"], json!([["x-added", "yes"]]));
    assert_eq!(read["backends"][0]["endpoints"][0]["node"], "b");
    assert_eq!(read["backends"][0]["intention"], json!({ "allowed": true, "by": "default allow" }));
    assert_eq!(write["passes"], false);
    assert_eq!(write["outcome"], "403 (RBAC): intention default/no-writes/write refuses it");
    assert!(lost["outcome"].as_str().unwrap().starts_with("404 (NR)"), "{lost}");
    assert!(unknown["outcome"].as_str().unwrap().starts_with("404 (NR)"), "{unknown}");
    assert!(mistyped["outcome"].as_str().unwrap().ends_with("; did you mean web-v2.default?"), "{mistyped}");
    assert_eq!(connection["backends"][0]["intention"]["allowed"], false, "nobody knows what is said on it");
    let bad = json!({ "source": "shop", "destination": "web", "request": { "method": "GET", "path": "x" } });
    assert_eq!(world.call(Caller::Local, "POST", "/v1/why", Some(bad)).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_stored_policy_says_what_it_left_unsaid_and_is_the_same_when_applied_again() {
    let world = world().await;
    let policy = json!({
        "apiVersion": "mesh/v1", "kind": "TrafficPolicy", "metadata": { "name": "web" },
        "spec": { "targetRef": { "name": "web" }, "retry": { "attempts": 1 }, "circuitBreaking": {}, "timeouts": {} },
    });

    let (_, first) = world.apply("", json!({ "objects": [policy.clone()] })).await;
    let (_, again) = world.apply("", json!({ "objects": [policy] })).await;

    let spec = &first["changes"][0]["object"]["spec"];
    let budget = json!({ "percent": 20, "interval": "10s", "minRetriesPerSecond": 10 });
    let retry = json!({ "attempts": 1, "codes": [503], "methods": "Idempotent", "grpcCodes": [], "backoff": "25ms",
        "maxBackoff": "250ms", "budget": budget });
    assert_eq!(spec["retry"], retry, "{spec}");
    assert_eq!(spec["circuitBreaking"]["maxPendingRequests"], 1024);
    let timeouts =
        json!({ "request": "0s", "backendRequest": "0s", "idle": "5m", "streamIdle": "0s", "connect": "1s" });
    assert_eq!(spec["timeouts"], timeouts);
    assert_eq!(spec["outlierDetection"]["interval"], "10s", "a part that is left out holds all the same");
    assert!(spec.get("rateLimit").is_none(), "but not one that is off");
    assert_eq!(changes(&again), named(&[("web", "unchanged")]));
}
