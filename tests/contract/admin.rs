//! The proxy's admin API, over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;
use mesh::model::endpoint::Catalog;
use mesh::model::intention::{Action, Mode};
use mesh::model::snapshot::{GossipKeys, Snapshot};
use mesh::model::view::MeshView;
use mesh::net::task;
use mesh::proxy::admin::{AdminHandles, Unready, serve};
use mesh::proxy::reporter::Sources;
use mesh::telemetry::metric::Registry;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const SECRET: &str = "c2VjcmV0c2VjcmV0";

fn snapshot() -> Snapshot {
    Snapshot {
        revision: 3,
        trust_domain: "mesh.test".parse().unwrap(),
        bundle: Vec::new(),
        resources: Vec::new(),
        default_action: Action::Allow,
        mode: Mode::Enforce,
        gossip: GossipKeys { ring: vec![(4, SECRET.to_owned())], seeds: Vec::new() },
        banned: Vec::new(),
        bans: None,
        draining: Vec::new(),
        controls: Vec::new(),
    }
}

/// Serves; before `ready` is set, nothing is there.
async fn start(ready: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let known = ready.clone();
    let handles = AdminHandles {
        registry: Registry::new(),
        sources: Arc::new(Sources {
            node: "host-1".parse().unwrap(),
            build: "1.0".to_owned(),
            started_ms: 1_700_000_000_000,
            revision: Box::new(|| 3),
            identities: Box::new(Vec::new),
            ejected: Box::new(Vec::new),
        }),
        local: Arc::default(),
        catalog: watch::channel(Arc::new(Catalog::default())).1,
        snapshot: Box::new(move || known.load(Ordering::Relaxed).then(|| Arc::new(snapshot()))),
        unready: Box::new(move || {
            let missing = Unready { check: "identity".to_owned(), message: "no certificate yet".to_owned() };
            if ready.load(Ordering::Relaxed) { Vec::new() } else { vec![missing] }
        }),
        tables: Box::new(|| serde_json::json!({ "services": 0 })),
        log: None,
        access: None,
        questions: Arc::default(),
        services: None,
        examine: None,
    };
    task::spawn("admin", serve(listener, handles, std::future::pending()));
    address
}

/// Returns status line and body.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, "GET", path, "", "").await
}

/// As [`get`], with a method, more lines of the head, and a body.
async fn ask(address: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> (String, String) {
    let (head, body) = exchange(address, method, path, head, body).await;
    (head.lines().next().unwrap().to_owned(), String::from_utf8(body).unwrap())
}

/// As [`ask`], but returns the whole head, and bytes.
async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    head: &str,
    body: &str,
) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\n{head}connection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = answer.split_off(at + 4);
    (String::from_utf8(answer).unwrap(), body)
}

/// What a scraper gets.
pub(crate) struct Scraped {
    pub(crate) head: String,
    /// What came of the body.
    pub(crate) bytes: usize,
    pub(crate) compressed: bool,
    /// What the body says.
    pub(crate) text: String,
}

/// Asks for the metrics with these lines in the head.
pub(crate) async fn scrape(address: SocketAddr, wish: &str) -> Scraped {
    let (head, body) = exchange(address, "GET", "/metrics", wish, "").await;
    let compressed = head.contains("\r\ncontent-encoding: gzip\r\n");
    let text = if compressed {
        std::io::read_to_string(GzDecoder::new(body.as_slice())).unwrap()
    } else {
        String::from_utf8(body.clone()).unwrap()
    };
    Scraped { head, bytes: body.len(), compressed, text }
}

#[tokio::test]
async fn readiness_tells_why_not() {
    let ready = Arc::new(AtomicBool::new(false));
    let address = start(ready.clone()).await;

    let before = get(address, "/readyz").await;
    let view = get(address, "/view").await;
    ready.store(true, Ordering::Relaxed);
    let after = get(address, "/readyz").await;

    assert_eq!(before.0, "HTTP/1.1 503 Service Unavailable");
    assert!(before.1.contains("no certificate yet"), "{}", before.1);
    assert_eq!(view.0, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(after, ("HTTP/1.1 200 OK".to_owned(), r#"{"ready":true,"reasons":[]}"#.to_owned()));
}

#[tokio::test]
async fn the_configuration_is_shown_without_keys() {
    let address = start(Arc::new(AtomicBool::new(true))).await;

    let (status, body) = get(address, "/config").await;

    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains(r#""ring":[4]"#), "{body}");
    assert!(!body.contains(SECRET), "{body}");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let address = start(Arc::new(AtomicBool::new(true))).await;

    let (status, body) = get(address, "/metrics").await;

    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("\nmesh_build_info{version=\"1.0\"} 1\n"), "{body}");
}

// case 90
#[tokio::test]
async fn a_scraper_gets_compressed_text_if_it_takes_that() {
    let address = start(Arc::new(AtomicBool::new(true))).await;

    for (wish, compressed) in [
        ("", false),
        ("accept-encoding: gzip\r\n", true),
        ("accept-encoding: identity;q=0.5, GZIP;q=0.2\r\n", true),
        ("accept-encoding: br\r\naccept-encoding: x-gzip\r\n", true),
        ("accept-encoding: *\r\n", true),
        ("accept-encoding: br, *;q=0.1\r\n", true),
        ("accept-encoding: gzip ; q=0.001\r\n", true),
        ("accept-encoding:\r\n", false),
        ("accept-encoding: br, gzips\r\n", false),
        ("accept-encoding: gzip;q=0\r\n", false),
        ("accept-encoding: gzip; Q=0.000, *\r\n", false),
        ("accept-encoding: *;q=0\r\n", false),
        ("accept-encoding: gzip;q=none\r\n", false),
    ] {
        let answer = scrape(address, wish).await;

        assert!(answer.head.contains("\r\ncontent-type: text/plain; version=0.0.4"), "{}", answer.head);
        assert!(answer.head.contains("\r\nvary: accept-encoding"), "{}", answer.head);
        let length = format!("\r\ncontent-length: {}", answer.bytes);
        assert!(answer.head.contains(&length), "{}", answer.head);
        assert_eq!(answer.compressed, compressed, "{wish:?}: {}", answer.head);
        let text = answer.text;
        assert!(text.contains("\nmesh_build_info{version=\"1.0\"} 1\n") && text.ends_with('\n'), "{text}");
        assert!(!compressed || answer.bytes * 2 < text.len(), "{} bytes of {}", answer.bytes, text.len());
    }
}

#[tokio::test]
async fn a_watched_view_comes_line_by_line() {
    let address = start(Arc::new(AtomicBool::new(true))).await;
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.write_all(b"GET /view?watch=true HTTP/1.0\r\n\r\n").await.unwrap();

    let mut lines = stream.lines();
    let mut views = Vec::new();
    while views.len() < 2 {
        let line = lines.next_line().await.unwrap().unwrap();
        views.extend(serde_json::from_str::<MeshView>(&line).ok());
    }

    assert_eq!(views[0].observer.to_string(), "node/host-1");
    assert_eq!(views[0].revision, 3);
    assert!(views[1].at_ms > views[0].at_ms);
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let address = start(Arc::new(AtomicBool::new(true))).await;

    let (status, body) = get(address, "/secrets").await;

    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert_eq!(body, "there is nothing at /secrets; GET / says what there is\n");
}

#[tokio::test]
async fn every_refusal_is_a_whole_line() {
    let address = start(Arc::new(AtomicBool::new(true))).await;
    let mut refusals = Vec::new();

    for (method, path, head) in [
        ("PUT", "/services", "content-type: text/plain\r\ncontent-length: 2\r\n"),
        ("PUT", "/services", "content-type: application/json\r\ncontent-length: 2\r\n"),
        ("DELETE", "/services/-", ""),
        ("DELETE", "/services/web?port=none", ""),
        ("GET", "/view?watch=perhaps", ""),
        ("GET", "/host", ""),
        ("GET", "/log", ""),
        ("POST", "/metrics", ""),
    ] {
        let (status, body) = ask(address, method, path, head, if head.is_empty() { "" } else { "{}" }).await;
        assert!(status.starts_with("HTTP/1.1 4"), "{method} {path}: {status}");
        assert!(
            body.ends_with('\n') && body.len() > 10 && !body.ends_with("\n\n"),
            "{method} {path}: {body:?}"
        );
        refusals.push(body);
    }
    assert!(refusals[0].contains("application/json"), "{refusals:?}");
}
