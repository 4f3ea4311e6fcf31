//! The API of the control plane, called as its router is: who may do what, what is answered, what is refused.

mod configuration;
mod programs;
mod nodes;
mod calls;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use data_encoding::BASE64;
use futures_util::StreamExt as _;
use mesh::api::endpoint::{ENDPOINTS, Right};
use mesh::api::wire::{Issued, TokenCreated};
use mesh::control::authority::Authority;
use mesh::control::collector::Collector;
use mesh::control::enrollment::Holder;
use mesh::control::fleet::Fleet;
use mesh::control::http::access::{Caller, Certificate};
use mesh::control::http::{openapi, router};
use mesh::control::plane::Plane;
use mesh::control::publisher::{Publisher, Surroundings};
use mesh::control::store::Store;
use mesh::identity::certificate::{fingerprint, sha256};
use mesh::logic::state::command::Admission;
use mesh::logic::state::{Change, Refusal};
use mesh::model::endpoint::{Catalog, Member, MemberState, Role};
use mesh::model::intention::Action;
use mesh::model::token::Token;
use mesh::net::clock;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tower::ServiceExt as _;

/// A control plane without listeners.
struct World {
    plane: Arc<Plane>,
    catalog: watch::Sender<Arc<Catalog>>,
    closing: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let (closing, closed) = watch::channel(false);
    let (catalog, seen) = watch::channel(Arc::default());
    let plane = Arc::new(plane(dir.path(), seen, closed).await);
    World { plane, catalog, closing, _dir: dir }
}

async fn plane(dir: &Path, catalog: watch::Receiver<Arc<Catalog>>, closing: watch::Receiver<bool>) -> Plane {
    let trust_domain: mesh::model::identity::TrustDomain = "shop.test".parse().unwrap();
    let store = Store::open(&dir.join("store")).unwrap();
    let founded = Change::Found { trust_domain: trust_domain.clone(), default_action: Action::Allow };
    store.submit(founded).await.unwrap();
    let authority = Authority::open(dir, store.db(), &trust_domain, None, clock::wall_ms()).unwrap();
    let authority = Arc::new(authority);
    let admission = Admission {
        node: "control".parse().unwrap(),
        role: Role::Control,
        key: authority.serving_fingerprint(),
        services: Vec::new(),
        token: None,
        replace: true,
    };
    store.submit(Change::Admit(admission)).await.unwrap();
    store.submit(Change::InstallGossipKey { id: 1, key: BASE64.encode(&[3; 32]) }).await.unwrap();
    let around = Surroundings {
        trust_domain: trust_domain.clone(),
        authority: Arc::clone(&authority),
        advertised: "control.test:7443".to_owned(),
        gossip: "127.0.0.1:7946".parse().unwrap(),
    };
    Plane {
        node: "control".parse().unwrap(),
        data_dir: dir.to_owned(),
        trust_domain,
        advertised: around.advertised.clone(),
        started_ms: clock::wall_ms(),
        publisher: Publisher::new(around, &store.state()),
        store,
        authority,
        fleet: Arc::new(Fleet::default()),
        programs: Arc::default(),
        collector: Collector::new(),
        inquiries: Arc::default(),
        transitions: Arc::default(),
        catalog,
        gossip: None,
        reached: tokio::sync::Mutex::default(),
        closing,
        restoring: Notify::new(),
        shown: Mutex::new(None),
    }
}

/// A host that joins: its name and its key.
struct Host {
    name: &'static str,
    key: KeyPair,
}

impl Host {
    fn new(name: &'static str) -> Self {
        Self { name, key: KeyPair::generate().unwrap() }
    }

    fn csr(&self) -> String {
        BASE64.encode(CertificateParams::default().serialize_request(&self.key).unwrap().der())
    }

    fn caller(&self, not_after_ms: u64) -> Caller {
        let holder = Holder {
            subject: format!("node/{}", self.name).parse().unwrap(),
            node: self.name.parse().unwrap(),
            key: fingerprint(&self.key.subject_public_key_info()),
            issued_ms: clock::wall_ms() - 10_000,
        };
        Caller::Certificate(Certificate { holder, not_after_ms })
    }

    fn operator(&self, not_after_ms: u64) -> Caller {
        let holder = Holder {
            subject: format!("operator/{}", self.name).parse().unwrap(),
            node: self.name.parse().unwrap(),
            key: fingerprint(&self.key.subject_public_key_info()),
            issued_ms: clock::wall_ms() - 10_000,
        };
        Caller::Certificate(Certificate { holder, not_after_ms })
    }

    fn join(&self, token: &str, services: &[&str]) -> Value {
        let token: Token = token.parse().unwrap();
        json!({
            "token": format!("{}.{}", token.id, token.secret), "node": self.name, "role": "proxy",
            "requests": self.requests(services), "gossipKey": BASE64.encode(&[9; 32]),
        })
    }

    fn requests(&self, services: &[&str]) -> Value {
        let own = format!("node/{}", self.name);
        let subjects = std::iter::once(own.as_str()).chain(services.iter().copied());
        subjects.map(|subject| json!({ "subject": subject, "csr": self.csr() })).collect()
    }

    fn renew(&self, services: &[&str]) -> Value {
        json!({ "requests": self.requests(services), "gossipKey": BASE64.encode(&[9; 32]) })
    }
}

fn tomorrow() -> u64 {
    clock::wall_ms() + 86_400_000
}

impl World {
    async fn send(&self, caller: Caller, request: Request<Body>) -> axum::response::Response {
        let mut request = request;
        request.extensions_mut().insert(caller);
        router(&self.plane).oneshot(request).await.unwrap()
    }

    async fn call(
        &self,
        caller: Caller,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let response = self.send(caller, request).await;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn token(&self, request: Value) -> String {
        let (status, body) = self.call(Caller::Local, "POST", "/v1/tokens", Some(request)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        serde_json::from_value::<TokenCreated>(body).unwrap().token
    }

    /// Lets an operator in.
    async fn logged_in(&self, name: &'static str) -> Host {
        let token = self.token(json!({ "role": "operator", "uses": 1, "ttlSeconds": 600 })).await;
        let host = Host::new(name);
        let mut join = host.join(&token, &[]);
        join["role"] = json!("operator");
        join["requests"][0]["subject"] = json!(format!("operator/{name}"));
        let (status, body) = self.call(Caller::Nobody, "POST", "/v1/join", Some(join)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        host
    }

    async fn joined(&self, name: &'static str, services: &[&str]) -> Host {
        let token = self.token(json!({ "role": "proxy", "uses": 1, "ttlSeconds": 600 })).await;
        let host = Host::new(name);
        let (status, body) =
            self.call(Caller::Nobody, "POST", "/v1/join", Some(host.join(&token, services))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        host
    }

    async fn follow(&self, caller: Caller, path: &str) -> BodyDataStream {
        let response = self.send(caller, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    }
}

async fn line(stream: &mut BodyDataStream) -> Option<Value> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap()?.unwrap();
        if next.as_ref() != b"\n" {
            return Some(serde_json::from_slice(&next).unwrap());
        }
    }
}

fn intention(name: &str, destination: &str) -> Value {
    json!({
        "apiVersion": "mesh/v1", "kind": "Intention", "metadata": { "name": name },
        "spec": { "destination": destination, "sources": [{ "service": "*" }], "action": "allow" },
    })
}

fn path(name: &str) -> String {
    format!("/v1/resources/intentions/default/{name}")
}

#[tokio::test]
async fn every_endpoint_has_a_route_and_stands_in_the_description() {
    let world = world().await;
    let document = openapi::document();
    for endpoint in ENDPOINTS {
        let concrete = endpoint.path.replace("{plural}", "intentions").replace(['{', '}'], "");
        let method = endpoint.method.as_str().to_uppercase();
        let (status, _) = world.call(Caller::Nobody, &method, &concrete, Some(json!({}))).await;

        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {concrete}");
        assert!(document["paths"][endpoint.path][endpoint.method.as_str()].is_object(), "{}", endpoint.path);
    }
    let text = document.to_string();
    let names = text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap());
    let names: BTreeSet<_> = names.collect();
    assert!(names.len() > 10);
    for name in names {
        assert!(document["components"]["schemas"][name].is_object(), "schema {name}");
    }
}

#[tokio::test]
async fn whoever_lacks_a_right_is_told_which() {
    let world = world().await;
    let host = world.joined("host-1", &["web"]).await;
    for endpoint in ENDPOINTS {
        let concrete = endpoint.path.replace("{plural}", "intentions").replace(['{', '}'], "");
        let method = endpoint.method.as_str().to_uppercase();
        let (nobody, problem) = world.call(Caller::Nobody, &method, &concrete, Some(json!({}))).await;
        let (node, _) = match endpoint.right {
            Right::Administrator | Right::Owner => {
                world.call(host.caller(tomorrow()), &method, &concrete, Some(json!({}))).await
            }
            Right::Anyone | Right::Token | Right::Holder | Right::Node | Right::Reader => {
                (StatusCode::FORBIDDEN, Value::Null)
            }
        };

        match endpoint.right {
            Right::Anyone => assert_eq!(nobody, StatusCode::OK, "{concrete}"),
            Right::Token => assert_eq!(nobody, StatusCode::BAD_REQUEST, "{concrete}"),
            Right::Holder | Right::Node | Right::Reader | Right::Administrator | Right::Owner => {
                assert_eq!(nobody, StatusCode::UNAUTHORIZED, "{concrete}");
                assert!(problem["detail"].as_str().unwrap().contains("unix socket"), "{problem}");
                assert_eq!(node, StatusCode::FORBIDDEN, "{concrete}");
            }
        }
    }
    let (_, problem) = world.call(host.caller(tomorrow()), "GET", "/v1/tokens", None).await;
    assert!(problem["detail"].as_str().unwrap().starts_with("node/host-1 lacks the right administrator"));
    let ann = world.logged_in("ann").await;
    let (status, problem) = world.call(ann.operator(tomorrow()), "GET", "/v1/backup", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(problem["detail"].as_str().unwrap().starts_with("operator/ann lacks the right owner"));
}

#[tokio::test]
async fn a_host_joins_with_its_token_and_renews_with_its_certificate_even_an_expired_one() {
    let world = world().await;
    let token =
        world.token(json!({ "role": "proxy", "services": ["web"], "uses": 1, "ttlSeconds": 600 })).await;
    let host = Host::new("host-1");

    let (status, body) =
        world.call(Caller::Nobody, "POST", "/v1/join", Some(host.join(&token, &["web"]))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let issued: Issued = serde_json::from_value(body).unwrap();
    let subjects: Vec<_> = issued.certificates.iter().map(|one| one.subject.to_string()).collect();
    assert_eq!(subjects, ["node/host-1", "web.default"]);
    assert_eq!(issued.snapshot.gossip.ring.len(), 1);
    assert_eq!(world.plane.store.state().issued().len(), 2);

    let (again, _) = world.call(Caller::Nobody, "POST", "/v1/join", Some(host.join(&token, &["web"]))).await;
    assert_eq!(again, StatusCode::OK, "the answer may have been lost");
    let stranger = Host::new("host-2");
    let (used_up, problem) =
        world.call(Caller::Nobody, "POST", "/v1/join", Some(stranger.join(&token, &["web"]))).await;
    assert_eq!(used_up, StatusCode::UNAUTHORIZED);
    assert!(problem["detail"].as_str().unwrap().contains("used up"), "{problem}");

    let (renewed, body) = world.call(host.caller(1), "POST", "/v1/renew", Some(host.renew(&["web"]))).await;
    assert_eq!(renewed, StatusCode::OK, "{body}");
    let (expired, _) = world.call(host.caller(1), "GET", "/v1/snapshot", None).await;
    let Caller::Certificate(mut ahead) = host.caller(tomorrow()) else { panic!("a host has a certificate") };
    ahead.holder.issued_ms = tomorrow();
    let (early, _) = world.call(Caller::Certificate(ahead), "GET", "/v1/snapshot", None).await;
    assert_eq!([expired, early], [StatusCode::UNAUTHORIZED; 2]);
    let (foreign, problem) = world.call(host.caller(1), "POST", "/v1/renew", Some(host.renew(&["db"]))).await;
    assert_eq!(foreign, StatusCode::FORBIDDEN);
    assert!(problem["detail"].as_str().unwrap().contains("may not run db.default"), "{problem}");
}

#[tokio::test]
async fn after_a_restoration_the_key_that_a_node_made_meanwhile_renews_and_no_other_after_it() {
    let world = world().await;
    world.joined("host-1", &[]).await;
    let (next, other) = (Host::new("host-1"), Host::new("host-1"));
    let renew = async |bearer: &Host| {
        let body = Some(bearer.renew(&[]));
        world.call(bearer.caller(tomorrow()), "POST", "/v1/renew", body).await.0
    };

    let unknown = renew(&next).await;
    let taken_ms = clock::wall_ms() - 60_000;
    world.plane.submit(Change::Resume { taken_ms, after: 0 }).await.unwrap();
    let (made_meanwhile, again, another) = (renew(&next).await, renew(&next).await, renew(&other).await);

    assert_eq!(unknown, StatusCode::FORBIDDEN);
    assert_eq!([made_meanwhile, again], [StatusCode::OK; 2]);
    assert_eq!(another, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_renewal_may_bring_a_new_key_and_only_keys_of_the_node_renew() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;
    let next = Host::new("host-1");

    let (stranger, _) = world.call(next.caller(tomorrow()), "POST", "/v1/renew", Some(next.renew(&[]))).await;
    let (renewed, _) = world.call(host.caller(tomorrow()), "POST", "/v1/renew", Some(next.renew(&[]))).await;
    let (with_new, _) = world.call(next.caller(tomorrow()), "POST", "/v1/renew", Some(next.renew(&[]))).await;
    let (with_old, _) = world.call(host.caller(tomorrow()), "POST", "/v1/renew", Some(next.renew(&[]))).await;

    assert_eq!(stranger, StatusCode::FORBIDDEN);
    assert_eq!([renewed, with_new, with_old], [StatusCode::OK; 3]);
}

#[tokio::test]
async fn a_name_that_is_alive_is_not_given_to_another_key() {
    let world = world().await;
    world.joined("host-1", &[]).await;
    let alive = |state| {
        let gossip = "127.0.0.1:1".parse().unwrap();
        let member = Member { record: None, state, gossip, since_ms: 0, rtt_us: None, vouched_ms: None };
        Arc::new(Catalog { members: [("host-1".parse().unwrap(), member)].into() })
    };
    let token = world.token(json!({ "role": "proxy", "uses": 1, "ttlSeconds": 600 })).await;
    let other = Host::new("host-1");

    world.catalog.send_replace(alive(MemberState::Alive));
    let (taken, problem) =
        world.call(Caller::Nobody, "POST", "/v1/join", Some(other.join(&token, &[]))).await;
    world.catalog.send_replace(alive(MemberState::Dead));
    let (free, _) = world.call(Caller::Nobody, "POST", "/v1/join", Some(other.join(&token, &[]))).await;

    assert_eq!(taken, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("--node"), "{problem}");
    assert_eq!(free, StatusCode::OK);
}

#[tokio::test]
async fn wrong_tokens_are_refused_alike_and_tell_nothing() {
    let world = world().await;
    let token: Token =
        world.token(json!({ "role": "proxy", "uses": 1, "ttlSeconds": 600 })).await.parse().unwrap();
    let host = Host::new("host-1");
    let mut seen = BTreeSet::new();
    for shown in [
        format!("{}.{}", token.id, "a".repeat(26)),
        format!("{}.{}", "aaaaaa", token.secret),
        token.id.clone(),
        "x".repeat(5000),
        String::new(),
    ] {
        let mut request = host.join(&token.to_string(), &[]);
        request["token"] = json!(shown);
        let (status, problem) = world.call(Caller::Nobody, "POST", "/v1/join", Some(request)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        seen.insert(problem.to_string());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen.first().unwrap().contains(&Refusal::UnknownToken.to_string()));

    let (status, _) = world.call(Caller::Local, "DELETE", &format!("/v1/tokens/{}", token.id), None).await;
    let (revoked, _) =
        world.call(Caller::Nobody, "POST", "/v1/join", Some(host.join(&token.to_string(), &[]))).await;
    assert_eq!((status, revoked), (StatusCode::NO_CONTENT, StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn objects_are_written_with_revisions_and_conflicts_are_refused() {
    let world = world().await;
    let admin = || Caller::Local;

    let (dry, _) = world
        .call(admin(), "PUT", &format!("{}?dryRun=true", path("one")), Some(intention("one", "web")))
        .await;
    let (created, body) = world.call(admin(), "PUT", &path("one"), Some(intention("one", "web"))).await;
    let version = body["object"]["metadata"]["resourceVersion"].clone();
    let (same, again) = world.call(admin(), "PUT", &path("one"), Some(intention("one", "web"))).await;
    let mut current = intention("one", "api");
    current["metadata"]["resourceVersion"] = version.clone();
    let (updated, _) = world.call(admin(), "PUT", &path("one"), Some(current.clone())).await;
    let (stale, problem) = world.call(admin(), "PUT", &path("one"), Some(current)).await;

    assert_eq!(
        [dry, created, same, updated],
        [201, 201, 200, 200].map(|code| StatusCode::from_u16(code).unwrap())
    );
    assert_eq!(body["change"], "created");
    assert_eq!(again["change"], "unchanged");
    assert_eq!(again["revision"], body["revision"]);
    assert_eq!(stale, StatusCode::CONFLICT, "{problem}");
    assert_eq!(version.as_str().unwrap(), body["revision"].to_string());

    let (misplaced, _) = world.call(admin(), "PUT", &path("two"), Some(intention("one", "web"))).await;
    let (invalid, problem) =
        world.call(admin(), "PUT", &path("bad"), Some(intention("bad", "No Name"))).await;
    let (unreadable, _) = world.call(admin(), "PUT", &path("bad"), Some(json!({ "kind": "Nothing" }))).await;
    let (no_kind, _) = world.call(admin(), "GET", "/v1/resources/pods", None).await;
    assert_eq!(misplaced, StatusCode::BAD_REQUEST);
    assert_eq!(invalid, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["path"], "spec.destination", "{problem}");
    assert_eq!(unreadable, StatusCode::BAD_REQUEST);
    assert_eq!(no_kind, StatusCode::NOT_FOUND);

    let (listed, list) = world.call(admin(), "GET", "/v1/resources/intentions", None).await;
    let (deleted, _) = world.call(admin(), "DELETE", &path("one"), None).await;
    let (gone, _) = world.call(admin(), "DELETE", &path("one"), None).await;
    assert_eq!((listed, deleted, gone), (StatusCode::OK, StatusCode::OK, StatusCode::NOT_FOUND));
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_resumes_at_a_revision() {
    let world = world().await;
    world.call(Caller::Local, "PUT", &path("one"), Some(intention("one", "web"))).await;
    let mut stream = world.follow(Caller::Local, "/v1/resources/intentions?watch=true").await;
    let first = line(&mut stream).await.unwrap();

    world.call(Caller::Local, "PUT", &path("one"), Some(intention("one", "api"))).await;
    let second = line(&mut stream).await.unwrap();
    let since = format!("/v1/resources/intentions?watch=true&since={}", first["revision"]);
    let mut resumed = world.follow(Caller::Local, &since).await;

    assert_eq!((&first["change"], &second["change"]), (&json!("created"), &json!("updated")));
    assert_eq!(line(&mut resumed).await.unwrap(), second);
    world.closing.send_replace(true);
    assert!(line(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_slow_reader_of_snapshots_gets_the_newest_and_skips_those_between() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;
    let mut stream = world.follow(host.caller(tomorrow()), "/v1/snapshot?watch=true").await;
    line(&mut stream).await.unwrap();

    for round in 0..50 {
        world.call(Caller::Local, "PUT", &path("one"), Some(intention("one", &format!("s{round}")))).await;
    }
    let newest = line(&mut stream).await.unwrap();

    assert_eq!(newest["revision"], world.plane.store.state().policy_revision());
    assert_eq!(newest["resources"][0]["spec"]["destination"], "s49");
    assert_eq!(world.plane.fleet.connected().len(), 1);
    drop(stream);
    assert!(world.plane.fleet.connected().is_empty());
}

#[tokio::test]
async fn acknowledgements_and_refusals_are_seen_in_the_view() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;
    let ack = |revision, refused: Option<&str>| Some(json!({ "revision": revision, "refused": refused }));

    world.call(host.caller(tomorrow()), "POST", "/v1/ack", ack(3, None)).await;
    world.call(host.caller(tomorrow()), "POST", "/v1/ack", ack(4, Some("no such filter"))).await;
    let (status, view) = world.call(Caller::Local, "GET", "/v1/view", None).await;

    assert_eq!(status, StatusCode::OK);
    let entry = &world.plane.fleet.entries()[&"host-1".parse().unwrap()];
    assert_eq!(entry.acked, Some(3));
    assert_eq!(entry.refused.as_deref(), Some("revision 4: no such filter"));
    let events = view["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["kind"] == "join" && event["subject"] == "host-1"));
    assert!(events.iter().any(|event| event["kind"] == "proxy" && event["severity"] == "error"));
}

#[tokio::test]
async fn bodies_are_bounded_and_unreadable_ones_are_told_where() {
    let world = world().await;
    let request = |body: Vec<u8>| Request::post("/v1/tokens").body(Body::from(body)).unwrap();

    let large = world.send(Caller::Local, request(vec![b' '; 5 << 20])).await;
    let stranger = Request::post("/v1/join").body(Body::from(vec![b' '; 300 << 10])).unwrap();
    let stranger = world.send(Caller::Nobody, stranger).await;
    let broken = world.send(Caller::Local, request(b"{\"role\": \"proxy\",\n oops".to_vec())).await;
    let status = broken.status();
    let text = axum::body::to_bytes(broken.into_body(), usize::MAX).await.unwrap();

    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(stranger.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&text).contains("line 2"), "{text:?}");
    for wrong in [
        json!({ "role": "proxy", "uses": 0, "ttlSeconds": 5 }),
        json!({ "role": "proxy", "uses": 1, "ttlSeconds": 0 }),
    ] {
        assert_eq!(
            world.call(Caller::Local, "POST", "/v1/tokens", Some(wrong)).await.0,
            StatusCode::BAD_REQUEST
        );
    }
}

#[tokio::test]
async fn the_installer_names_its_source_and_key_and_the_executable_has_the_sum_that_is_told() {
    let world = world().await;
    let get = async |path: &'static str| {
        let response = world.send(Caller::Nobody, Request::get(path).body(Body::empty()).unwrap()).await;
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
    };

    let (installer, program, sum) = (get("/install.sh").await, get("/mesh").await, get("/mesh.sha256").await);

    let installer = String::from_utf8(installer.to_vec()).unwrap();
    assert!(installer.contains("MESH_URL='https://control.test:7443'"));
    assert!(installer.contains(&format!("MESH_PIN='sha256//{}'", world.plane.authority.serving_pin())));
    let hash = sha256(&program);
    assert_eq!(String::from_utf8_lossy(&sum), format!("{}  mesh\n", data_encoding::HEXLOWER.encode(&hash)));
    assert_eq!(program.len() as u64, std::fs::metadata("/proc/self/exe").unwrap().len());
}
