//! gRPC in all its kinds and WebSocket, by clients and servers of other people's making.

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{Peer, script_server};
use crate::stage::place::{Network, Place};
use crate::stage::process::{Done, run};
use crate::stage::program::{python, script};
use crate::stage::wait::{seconds, until};
use crate::stage::websocket::{self, BINARY, CLOSE, Socket, TEXT};

struct Hosts {
    caller: Proxy,
    _server: Proxy,
    peer: Peer,
    _mesh: Mesh,
    network: Network,
}

impl Hosts {
    fn new(service: &str, name: &str, protocol: &str) -> Self {
        let network = Network::new(2);
        let mesh = Mesh::start(&network.host(1));
        let token = mesh.token(&["--uses", "2"]);
        let peer = script_server(&network.host(1), mesh.folder(), name);
        let service_flag = format!("{service}={}{protocol}", peer.port);
        let server = mesh.proxy(&network.host(1), "server").join(&token).service(&service_flag).start();
        let caller = mesh.proxy(&network.host(2), "caller").join(&token).upstream(service).start();
        Self { caller, _server: server, peer, _mesh: mesh, network }
    }

    fn here(&self) -> Place {
        self.network.host(2)
    }

    fn python(&self, name: &str, arguments: &[&str]) -> Done {
        let script = script(name);
        run(&self.here(), seconds(90), python(), &[&["-u", script.to_str().unwrap()], arguments].concat())
    }
}

const GRPC_CALLS: [&str; 11] = [
    "unary",
    "empty",
    "large",
    "client_stream",
    "server_stream",
    "both_streams",
    "error_status",
    "unknown_method",
    "deadline",
    "cancel",
    "many_at_once",
];

fn every_kind_of_grpc_call(protocol: &str) {
    let hosts = Hosts::new("api", "grpc_calls.py", protocol);
    let outbound = hosts.caller.address("outbound").to_string();
    let code = || hosts.python("grpc_calls.py", &["code", &outbound, "api.mesh"]).out;
    until("gRPC reaches the service", seconds(15), || (code() == "OK\n").then_some(()));

    for (address, authority) in [
        (outbound.clone(), "api.mesh"),
        (hosts.caller.upstream("api.default").to_string(), "whatever.example"),
    ] {
        let calls = hosts.python("grpc_calls.py", &["call", &address, authority]);
        let passed: Vec<_> = calls.out.lines().filter_map(|line| line.strip_prefix("ok ")).collect();

        assert_eq!(passed, GRPC_CALLS, "{}\n{}", calls.err, hosts.peer.process.log());
        assert_eq!(calls.code, Some(0));
    }
    let unknown = hosts.python("grpc_calls.py", &["code", &outbound, "nobody.mesh"]).out;
    assert!(["UNIMPLEMENTED\n", "NOT_FOUND\n"].contains(&unknown.as_str()), "{unknown}");
}

#[test]
fn grpc_of_every_kind_passes_a_service_declared_as_grpc() {
    every_kind_of_grpc_call("/grpc");
}

#[test]
fn grpc_of_every_kind_passes_a_service_whose_protocol_is_detected() {
    every_kind_of_grpc_call("");
}

#[test]
fn a_dead_grpc_service_answers_unavailable() {
    let mut hosts = Hosts::new("api", "grpc_calls.py", "/grpc");
    let outbound = hosts.caller.address("outbound").to_string();
    let code = |hosts: &Hosts| hosts.python("grpc_calls.py", &["code", &outbound, "api.mesh"]).out;
    until("gRPC reaches the service", seconds(15), || (code(&hosts) == "OK\n").then_some(()));

    hosts.peer.process.kill();

    assert_eq!(code(&hosts), "UNAVAILABLE\n");
}

// cases 39, 44
#[test]
fn a_websocket_passes_by_name_and_by_port_in_either_version_of_http() {
    let hosts = Hosts::new("chat", "websocket_echo.py", "");
    let outbound = hosts.caller.address("outbound").to_string();
    let by_port = hosts.caller.upstream("chat.default").to_string();
    until("the service is known", seconds(15), || {
        (hosts.caller.status("chat", "/", &[]) != 404).then_some(())
    });

    for address in [&outbound, &by_port] {
        let calls = hosts.python("websocket_echo.py", &["call", address, "chat.mesh"]);

        assert_eq!(calls.code, Some(0), "{}\n{}\n{}", calls.out, calls.err, hosts.peer.process.log());
        assert_eq!(calls.out.lines().count(), 5, "{}", calls.out);

        // The server speaks HTTP/1 alone.
        hosts.here().inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let talk = async { tokio::time::timeout(seconds(60), converse(address)).await };
            runtime.block_on(talk).expect("it hangs").unwrap();
        });
    }
}

/// Has two conversations on one connection: one goes on when the other has ended.
async fn converse(address: &str) -> std::io::Result<()> {
    let sender = websocket::connect_to(address).await?;
    let mut first = Socket::open(sender.clone()).await.map_err(websocket::io)?;
    let mut second = Socket::open(sender).await.map_err(websocket::io)?;
    let large: Vec<u8> = (0..=255).cycle().take(2 << 20).collect();
    for socket in [&mut first, &mut second] {
        socket.send(TEXT, "grüß dich".as_bytes()).await?;
        assert_eq!(socket.receive().await?, (TEXT, "grüß dich".into()));
        socket.send(BINARY, &large).await?;
        let (kind, back) = socket.receive().await?;
        assert!(kind == BINARY && back == large, "{kind}, {} bytes", back.len());
    }
    first.send(TEXT, b"leave").await?;
    assert_eq!(first.receive().await?, (CLOSE, [&4001_u16.to_be_bytes()[..], b"as you wish"].concat()));
    first.send(CLOSE, &4001_u16.to_be_bytes()).await?;
    first.end().await?;
    second.send(TEXT, b"still").await?;
    assert_eq!(second.receive().await?, (TEXT, b"still".into()));
    Ok(())
}
