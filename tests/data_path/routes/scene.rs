//! Services that report what they saw, on one node, and a node to call them from.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::data_path::app;
use crate::data_path::caller::{Got, h1, read, request};
use crate::data_path::mesh::{Mesh, Node, within};

/// What one service has seen: heads with their bodies.
pub(crate) type Seen = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A mesh of services and their caller.
pub(crate) struct Stage {
    pub(crate) mesh: Mesh,
    pub(crate) caller: Node,
    pub(crate) callee: Node,
}

/// Starts an application of HTTP/1 that answers 200 with its name in `x-service` and the head that it saw as the body.
pub(crate) async fn reporter(name: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let addr = app::raw(move |mut stream| {
        let kept = kept.clone();
        async move {
            loop {
                let head = app::read_head(&mut stream).await;
                if !head.ends_with("\r\n\r\n") {
                    return;
                }
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                if stream.read_exact(&mut body).await.is_err() {
                    return;
                }
                kept.lock().unwrap().push((head.clone(), body.into()));
                let size = if head.starts_with("HEAD ") { 0 } else { head.len() };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nx-service: {name}\r\ncontent-length: {size}\r\n\r\n{}",
                    &head[..size]
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (addr, seen)
}

impl Stage {
    /// Starts services of these names, and a caller that has a port for each and is no service itself.
    pub(crate) async fn new(services: &[&'static str]) -> Self {
        Self::called_by(services, &[]).await
    }

    /// Starts services of these names, and a caller that runs others (as `NAME.NAMESPACE=PORT`).
    pub(crate) async fn called_by(services: &[&'static str], own: &[&str]) -> Self {
        let mut locals = Vec::new();
        for name in services {
            let (addr, _) = reporter(name).await;
            locals.push(format!("{name}={addr}/http"));
        }
        let mesh = Mesh::new();
        let callee = mesh.node("callee", &locals, &[]);
        let own: Vec<String> = own.iter().map(|text| (*text).to_owned()).collect();
        let caller = mesh.node("caller", &own, services);
        mesh.apply(json!([]));
        Self { mesh, caller, callee }
    }

    /// Puts one `HTTPRoute` of the service `web` into force, given its rules.
    pub(crate) fn route(&self, rules: Value) {
        self.mesh.apply(json!([http_route("web", "default", json!([{ "name": "web" }]), rules)]));
    }

    /// Calls the service `web`.
    pub(crate) async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Got {
        self.ask_of("web", method, target, fields).await
    }

    /// Calls a service by its name.
    pub(crate) async fn ask_of(
        &self,
        host: &str,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Got {
        let mut sender = h1(self.caller.outbound()).await;
        let mut wanted = request(method, host, target, Bytes::new());
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            wanted.headers_mut().append(name, value.parse().unwrap());
        }
        read(within(sender.send_request(wanted)).await.unwrap()).await
    }

    /// Calls the service `web` and returns the status with the service that answered.
    pub(crate) async fn way(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let got = self.ask(method, target, fields).await;
        (got.status.as_u16(), got.header("x-service").to_owned())
    }
}

/// Makes an `HTTPRoute`.
#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
pub(crate) fn http_route(name: &str, namespace: &str, parents: Value, rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "parentRefs": parents, "rules": rules }
    })
}

/// Makes a rule that leads to one service.
#[expect(clippy::needless_pass_by_value, reason = "given as a literal")]
pub(crate) fn to(service: &str, matches: Value) -> Value {
    json!({ "matches": matches, "backendRefs": [{ "name": service, "port": 80 }] })
}
