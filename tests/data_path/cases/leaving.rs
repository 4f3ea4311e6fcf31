//! A proxy that ends: what is under way is finished, whatever it is, and whoever calls is told to come no more.

use std::time::Duration;

use ::mesh::net::task;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::Response;
use tokio::net::TcpStream;

use crate::data_path::cases::frames::Rogue;
use crate::data_path::cases::scene::Layout;
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::two::{Two, wanted, whole};
use crate::data_path::cases::wire::{Ending, Service, Wire};
use crate::data_path::mesh::{Mesh, Node, within};

/// Longer than any test takes: nothing is cut.
const GRACE: Duration = Duration::from_mins(10);

/// Everything that may be under way, each in the middle, with the service's end of it.
struct UnderWay {
    unanswered: (Wire, Wire),
    answered: (Wire, Wire),
    unanswered2: (ResponseFuture, Wire),
    answered2: (Response<RecvStream>, Wire),
    uploading2: (ResponseFuture, SendStream<Bytes>, Wire),
    _caller2: Two,
    socket: (Wire, Wire),
    bytes: (Wire, Wire),
}

const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf";

impl UnderWay {
    async fn begin(caller: &Node, (service, db): (&mut Service, &mut Service)) -> Self {
        let outbound = caller.outbound();
        let ask = async |service: &mut Service| {
            let mut wire = Wire::to(outbound).await;
            wire.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
            let mut app = service.accept().await;
            app.request().await;
            (wire, app)
        };
        let unanswered = ask(service).await;
        let mut answered = ask(service).await;
        answered.1.send(HALF).await;
        assert!(answered.0.head().await.unwrap().starts_with("HTTP/1.1 200 "));

        let mut two = Two::to(outbound).await;
        let response = two.get(wanted("GET", "/")).await;
        let mut app = service.accept().await;
        app.request().await;
        let unanswered2 = (response, app);
        let response = two.get(wanted("GET", "/")).await;
        let mut app = service.accept().await;
        app.request().await;
        app.send(HALF).await;
        let answered2 = (within(response).await.unwrap(), app);
        let (response, mut stream) = two.open(wanted("POST", "/")).await;
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        let mut app = service.accept().await;
        app.head().await.unwrap();
        assert_eq!(app.take(9).await, b"4\r\nhalf\r\n");
        let uploading2 = (response, stream, app);

        let mut wire = Wire::to(outbound).await;
        wire.send("GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        wire.head().await.unwrap();
        let socket = (wire, app);
        let mut wire = Wire::to(caller.port("db")).await;
        wire.send("hello").await;
        let mut app = db.accept().await;
        assert_eq!(app.take(5).await, b"hello");
        let bytes = (wire, app);
        Self { unanswered, answered, unanswered2, answered2, uploading2, _caller2: two, socket, bytes }
    }

    /// Finishes all, one after the other. Says whether the proxy of the caller leaves, which then says so.
    async fn finish(self, caller_leaves: bool) {
        let (mut wire, mut app) = self.unanswered;
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
        let told = wire.response().await;
        let goodbye = if caller_leaves { "close" } else { "" };
        assert_eq!((told.text().as_str(), told.field("connection")), ("done", goodbye));
        if caller_leaves {
            assert_eq!(wire.rest().await, (String::new(), Ending::Closed));
        }
        let (mut wire, mut app) = self.answered;
        app.send("done").await;
        assert_eq!(wire.take(8).await, b"halfdone");
        if caller_leaves {
            assert_eq!(wire.rest().await, (String::new(), Ending::Closed));
        }

        let (response, mut app) = self.unanswered2;
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);
        let (mut response, mut app) = self.answered2;
        app.send("done").await;
        assert_eq!(whole(response.body_mut()).await.unwrap().0, b"halfdone");
        let (response, mut stream, mut app) = self.uploading2;
        stream.send_data(Bytes::from_static(b"done"), true).unwrap();
        assert_eq!(app.take(14).await, b"4\r\ndone\r\n0\r\n\r\n");
        app.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(within(response).await.unwrap().status().as_u16(), 204);

        for (mut wire, mut app) in [self.socket, self.bytes] {
            for _ in 0..3 {
                wire.send("ping").await;
                assert_eq!(app.take(4).await, b"ping");
                app.send("pong").await;
                assert_eq!(wire.take(4).await, b"pong");
            }
            wire.finish().await;
            assert_eq!(app.rest().await, (String::new(), Ending::Closed));
            app.send("bye").await;
            app.finish().await;
            assert_eq!(wire.rest().await, ("bye".to_owned(), Ending::Closed));
        }
    }
}

/// Starts a service of HTTP and one of bytes, and returns them with how the node that runs them is told.
async fn services() -> (Service, Service, [String; 2]) {
    let (service, db) = (Service::start().await, Service::start().await);
    let locals = [format!("web={}/http", service.addr), format!("db={}/tcp", db.addr)];
    (service, db, locals)
}

// case 84
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_leaves_finishes_for_its_callers_what_is_under_way() {
    for layout in Layout::BOTH {
        let (mut service, mut db, locals) = services().await;
        let mesh = Mesh::new();
        let callee = (layout == Layout::Two).then(|| mesh.node("callee", &locals, &[]));
        let own = if callee.is_some() { &[][..] } else { &locals };
        let caller = mesh.node("caller", own, &["db"]);
        mesh.apply(serde_json::json!([]));
        let (outbound, port) = (caller.outbound(), caller.port("db"));
        let mut idle = Wire::to(outbound).await;
        idle.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let mut app = service.accept().await;
        app.request().await;
        app.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert_eq!(idle.response().await.status(), 204);
        let mut idle2 = Rogue::to(outbound).await;
        let under_way = UnderWay::begin(&caller, (&mut service, &mut db)).await;

        let Node { workers, shared: _shared, wallet: _wallet } = caller;
        let leaving = task::spawn("test", workers.drain(GRACE));
        assert_eq!(idle.rest().await, (String::new(), Ending::Closed));
        assert_eq!(idle2.end().await, Some(0), "without a word of blame");
        for addr in [outbound, port] {
            within(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
        }
        assert!(!leaving.is_finished());
        under_way.finish(true).await;

        within(leaving).await.unwrap();
    }
}

// case 84
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_leaves_finishes_for_other_proxies_what_is_under_way_and_they_go_elsewhere() {
    let (mut service, mut db, locals) = services().await;
    let mesh = Mesh::new();
    let leaves = mesh.node("leaves", &locals, &[]);
    let caller = mesh.node("caller", &[], &["db"]);
    mesh.apply(serde_json::json!([]));
    let under_way = UnderWay::begin(&caller, (&mut service, &mut db)).await;
    let (app, _heard) = serve(Speaks::One, Answer::ok(&["elsewhere"])).await;
    let _stays = mesh.node("stays", &[format!("web={app}/http")], &[]);

    // Nobody has heard yet that it leaves.
    let Node { workers, shared: _shared, wallet: _wallet } = leaves;
    let inbound = workers.addresses().inbound;
    let leaving = task::spawn("test", workers.drain(GRACE));
    within(async { while TcpStream::connect(inbound).await.is_ok() {} }).await;
    let mut one = Wire::to(caller.outbound()).await;
    let mut two = Two::to(caller.outbound()).await;
    for count in 0..50 {
        one.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\n\r\nx").await;
        let told = one.response().await;
        assert_eq!((told.status(), told.text().as_str()), (200, "elsewhere"), "{count}");
        let mut response = within(two.get(wanted("POST", "/")).await).await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{count}");
        assert_eq!(whole(response.body_mut()).await.unwrap().0, b"elsewhere");
    }
    assert!(service.is_untouched() && !leaving.is_finished());
    under_way.finish(false).await;

    within(leaving).await.unwrap();
}
