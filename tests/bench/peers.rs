//! How other proxies are set up: plain HTTP/1.1 in, mutual TLS 1.3 between the two, plain HTTP/1.1 out, one worker, no
//! logs, connections kept; as lean as each goes. AES-128-GCM, which is mesh's first choice, wherever it can be set.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::credentials::{Credentials, NAME};

/// Which of the two proxies.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// The client's.
    Outbound,
    /// The application's.
    Inbound,
}

/// HAProxy, with HTTP/2 between the two.
pub(crate) fn haproxy(side: Side, listen: SocketAddr, to: SocketAddr, credentials: &Credentials) -> String {
    let tls = format!(
        "ssl crt {} ca-file {} verify required alpn h2",
        credentials.both().display(),
        credentials.authority().display()
    );
    let (bind, server) = match side {
        Side::Outbound => (String::new(), format!("{tls} verifyhost {NAME} sni str({NAME})")),
        Side::Inbound => (tls, String::new()),
    };
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         \x20 ssl-default-bind-options ssl-min-ver TLSv1.3\n  ssl-default-server-options ssl-min-ver TLSv1.3\n\
         \x20 ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n\
         \x20 ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n\
         defaults\n  mode http\n  http-reuse always\n\
         \x20 timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen bench\n  bind {listen} {bind}\n  server next {to} {server}\n"
    )
}

/// nginx, with HTTP/1.1 on kept connections between the two.
pub(crate) fn nginx(side: Side, listen: SocketAddr, to: SocketAddr, credentials: &Credentials) -> String {
    let (leaf, key, authority) = (credentials.leaf(), credentials.key(), credentials.authority());
    let (leaf, key, authority) = (leaf.display(), key.display(), authority.display());
    let (flag, tls, scheme) = match side {
        Side::Outbound => (
            "",
            format!(
                "proxy_ssl_certificate {leaf}; proxy_ssl_certificate_key {key};\n\
                 proxy_ssl_trusted_certificate {authority}; proxy_ssl_verify on;\n\
                 proxy_ssl_name {NAME}; proxy_ssl_protocols TLSv1.3;\n\
                 proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"
            ),
            "https",
        ),
        Side::Inbound => (
            "ssl",
            format!(
                "ssl_certificate {leaf}; ssl_certificate_key {key};\n\
                 ssl_client_certificate {authority}; ssl_verify_client on; ssl_protocols TLSv1.3;\n\
                 ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"
            ),
            "http",
        ),
    };
    format!(
        "daemon off; master_process off; worker_processes 1; pid pid; error_log stderr error;\n\
         worker_rlimit_nofile 8192;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 60s;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         upstream next {{ server {to}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen {listen} {flag};\n\
         {tls}\
         location / {{ proxy_pass {scheme}://next; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $host; proxy_buffers 8 32k; proxy_max_temp_file_size 0; }} }} }}\n"
    )
}

/// Envoy, with HTTP/2 between the two.
pub(crate) fn envoy(side: Side, listen: SocketAddr, to: SocketAddr, credentials: &Credentials) -> String {
    let context = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "filename": credentials.leaf() },
            "private_key": { "filename": credentials.key() },
        }],
        "validation_context": { "trusted_ca": { "filename": credentials.authority() } },
        "alpn_protocols": ["h2"],
    });
    let mut manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "bench",
            "codec_type": "AUTO",
            "generate_request_id": false,
            "route_config": { "virtual_hosts": [{
                "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "next" } }],
            }] },
        }),
    );
    manager["http_filters"] = json!([{
        "name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router", json!({ "suppress_envoy_headers": true })),
    }]);
    let mut chain = json!({ "filters": [{ "name": "http", "typed_config": manager }] });
    let mut cluster = json!({
        "name": "next",
        "load_assignment": { "cluster_name": "next", "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": address(to) },
        }] }] },
    });
    match side {
        Side::Outbound => {
            let tls = json!({ "common_tls_context": context, "sni": NAME });
            cluster["transport_socket"] = socket("UpstreamTlsContext", tls);
            let http2 = json!({ "explicit_http_config": { "http2_protocol_options": {} } });
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
                    typed("extensions.upstreams.http.v3.HttpProtocolOptions", http2),
            });
        }
        Side::Inbound => {
            let tls = json!({ "common_tls_context": context, "require_client_certificate": true });
            chain["transport_socket"] = socket("DownstreamTlsContext", tls);
        }
    }
    let listener = json!({ "name": "bench", "address": address(listen), "filter_chains": [chain] });
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } }).to_string()
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } })
}

fn socket(kind: &str, context: Value) -> Value {
    let kind = format!("extensions.transport_sockets.tls.v3.{kind}");
    json!({ "name": "tls", "typed_config": typed(&kind, context) })
}

fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    value
}
