//! `/openapi.json`: the table of endpoints, and the shapes of what goes in and out, in `OpenAPI` 3.1.

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Value, json};

use crate::api::endpoint::{ENDPOINTS, Endpoint, Right};

pub(crate) async fn serve() -> Json<Value> {
    Json(document())
}

/// Builds the document.
pub fn document() -> Value {
    let mut paths: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for endpoint in ENDPOINTS {
        paths.entry(endpoint.path).or_default().insert(endpoint.method.as_str(), operation(endpoint));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mesh control",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The API of the control plane of a mesh",
            "description": "TLS on TCP port 7443 with certificates of the mesh, and without TLS on the unix socket \
                            control.sock in the data directory, for administrators. Refusals are problems of RFC 9457.",
        },
        "paths": paths,
        "components": { "schemas": schemas(), "securitySchemes": {
            "certificate": { "type": "mutualTLS", "description": "A certificate of the mesh, of a node or an operator" },
        } },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let path_parameters =
        endpoint.path.split(['{', '}']).skip(1).step_by(2).map(
            |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        );
    let query_parameters = endpoint.query.iter().map(|(name, description)| {
        let kind = match *name {
            "since" | "to" | "slowerMs" | "perSecond" => "integer",
            "namespace" | "source" | "service" | "side" | "status" | "method" | "path" | "build"
            | "program" => "string",
            _ => "boolean",
        };
        json!({ "name": name, "in": "query", "description": description, "schema": { "type": kind } })
    });
    let parameters: Vec<_> = path_parameters.chain(query_parameters).collect();
    let problem = json!({
        "description": "Refused, with the reason",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let done = match endpoint.gives {
        None => json!({ "description": "Done" }),
        Some(media) if media.contains('/') => json!({ "description": "Done", "content": { media: {} } }),
        Some(name) => json!({
            "description": "Done",
            "content": { "application/json": { "schema": reference(name) } },
        }),
    };
    let code = match (endpoint.gives, endpoint.method.as_str()) {
        (None, _) => "204",
        (Some("TokenCreated"), _) => "201",
        (Some(_), _) => "200",
    };
    let mut operation = json!({
        "operationId": format!("{:?}", endpoint.operation),
        "summary": endpoint.summary,
        "description": right(endpoint.right),
        "parameters": parameters,
        "responses": { code: done, "default": problem },
    });
    if let (Some(name), Some(fields)) = (endpoint.takes, operation.as_object_mut()) {
        let body =
            json!({ "required": true, "content": { "application/json": { "schema": reference(name) } } });
        fields.insert("requestBody".to_owned(), body);
    }
    if let (Right::Holder | Right::Node, Some(fields)) = (endpoint.right, operation.as_object_mut()) {
        fields.insert("security".to_owned(), json!([{ "certificate": [] }]));
    }
    operation
}

fn right(right: Right) -> &'static str {
    match right {
        Right::Anyone => "For anyone.",
        Right::Token => "For the bearer of a join token, which is in the body.",
        Right::Holder => "For the holder of a node's certificate, even of an expired one.",
        Right::Node => "For nodes, about themselves.",
        Right::Reader => "For nodes and administrators.",
        Right::Administrator => "For administrators.",
        Right::Owner => "For administrators on the control plane's own host, by its unix socket.",
    }
}

fn reference(name: &str) -> Value {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(item) => json!({ "type": "array", "items": reference(item) }),
        None => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

/// Describes an object whose fields are all required, but those whose name ends with `?`.
fn object(description: &str, fields: &[(&str, Value)]) -> Value {
    let bare = |name: &str| name.trim_end_matches('?').to_owned();
    let properties: serde_json::Map<_, _> =
        fields.iter().map(|(name, schema)| (bare(name), schema.clone())).collect();
    let required: Vec<_> = fields.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    json!({ "type": "object", "description": description, "properties": properties, "required": required })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn number(description: &str) -> Value {
    json!({ "type": "integer", "description": description })
}

fn list(item: &Value) -> Value {
    json!({ "type": "array", "items": item })
}

fn open(description: &str) -> Value {
    json!({ "type": "object", "description": description })
}

fn schemas() -> Value {
    let mut all = serde_json::Map::new();
    for (name, schema) in enrollment().into_iter().chain(objects()).chain(observation()) {
        all.insert(name.to_owned(), schema);
    }
    Value::Object(all)
}

fn role() -> Value {
    json!({ "type": "string", "enum": ["proxy", "control", "operator"] })
}

fn services() -> Value {
    list(&text("NAME.NAMESPACE"))
}

/// Tokens, joining, renewing.
fn enrollment() -> Vec<(&'static str, Value)> {
    let signing = [("subject", text("web.default or node/NAME")), ("csr", text("PKCS#10, DER in base64"))];
    let gossip_key = text("Ed25519 public key, 32 bytes in base64");
    let requests = list(&reference("SigningRequest"));
    let join = [
        ("token", text("ID.SECRET of the token")),
        ("node", text("The name it wants")),
        ("role", role()),
        ("requests", requests.clone()),
        ("gossipKey", gossip_key.clone()),
    ];
    let renew = [("requests", requests), ("gossipKey", gossip_key)];
    let issued = [
        ("certificates", list(&open("subject, and chain: leaf and intermediate, DER in base64"))),
        ("gossipPass", open("Control's word that the gossip key is the node's")),
        ("snapshot", reference("Snapshot")),
    ];
    let token = [
        ("id", text("The public part")),
        ("role", role()),
        ("services", services()),
        ("usesLeft", number("Joins left")),
        ("expiresMs", number("Unix milliseconds")),
        ("createdMs", number("Unix milliseconds")),
    ];
    let wish = [
        ("role", role()),
        ("services?", services()),
        ("uses", number("How many nodes may join with it")),
        ("ttlSeconds", number("For how long")),
    ];
    let created = [
        ("token", text("mesh1.…")),
        ("install", text("The line to paste on another host")),
        ("info", reference("TokenInfo")),
    ];
    vec![
        ("SigningRequest", object("A wish for one certificate", &signing)),
        ("JoinRequest", object("A new node, with its token", &join)),
        ("RenewRequest", object("The certificates a node asks for", &renew)),
        ("Issued", object("What a node needs to start", &issued)),
        ("TokenInfo", object("What is known of a token", &token)),
        ("TokenRequest", object("A token to make", &wish)),
        ("TokenCreated", object("A token, the only time its secret is seen", &created)),
    ]
}

/// What users write, and what becomes of it.
fn objects() -> Vec<(&'static str, Value)> {
    let resources = [("revision", number("The revision it shows")), ("items", list(&reference("Resource")))];
    let written = [
        ("revision", number("The revision in force now")),
        ("change", json!({ "type": "string", "enum": ["created", "updated", "unchanged", "deleted"] })),
        ("object", reference("Resource")),
        ("warnings", list(&text("A doubt that did not stop the write"))),
    ];
    let apply = [
        ("objects", list(&reference("Resource"))),
        (
            "prune?",
            open("Labels: stored objects that have all of them and are not among the objects are removed"),
        ),
        ("remove?", list(&text("An object to be removed: KINDS/NAMESPACE/NAME"))),
    ];
    let applied = [
        ("revision", number("The revision in force now")),
        ("changes", list(&open("change, object, and with dryRun the object before"))),
        ("missing?", list(&text("An object to be removed that was not there"))),
        (
            "plan?",
            open(
                "sinceMs (since when calls are remembered), changes (source, destination, protocol, route, requests, \
                 effect, detail)",
            ),
        ),
        ("warnings", list(&open("A doubt that did not stop the write: object, path, message, severity"))),
    ];
    let question = [
        ("source", text("Who calls: NAME.NAMESPACE or node/NAME")),
        ("node?", text("From which node; without it, the first one where the caller runs")),
        ("destination", text("NAME.NAMESPACE")),
        ("port?", number("Which of its ports, where it has several")),
        (
            "request?",
            open("method, path, headers (pairs of name and value); none for a connection that is no HTTP"),
        ),
    ];
    let defaults = [
        ("action", json!({ "type": "string", "enum": ["allow", "deny"] })),
        ("mode?", json!({ "type": "string", "enum": ["enforce", "audit"] })),
    ];
    let version = "revision, atMs, by, change, object";
    let problem = [
        ("title", text("The status in words")),
        ("status", number("The status")),
        ("detail", text("What happened, and what to do next")),
        ("errors?", list(&open("What is wrong with an object: object, path, message, severity"))),
    ];
    let watch = "Objects of a kind; with watch, lines of revision, change and object instead";
    vec![
        ("Resource", open("A manifest: apiVersion, kind, metadata, spec; of routes, status too")),
        ("ResourceList", object(watch, &resources)),
        ("WriteResult", object("What a write did", &written)),
        ("ApplyRequest", object("Objects to be written together", &apply)),
        ("ApplyResult", object("What became of each object", &applied)),
        ("History", object("What an object was", &[("versions", list(&open(version)))])),
        ("WhyRequest", object("A call that somebody makes, or would", &question)),
        ("Why", open("revision, source, node, destination, request, route, backends, outcome, passes")),
        ("Defaults", object("What holds where no intention says otherwise", &defaults)),
        ("Problem", object("Why a request was refused", &problem)),
    ]
}

/// What proxies are given and tell, and what is seen of the mesh.
fn observation() -> Vec<(&'static str, Value)> {
    let ack = [("revision", number("It speaks of this one")), ("refused?", text("Why it was refused"))];
    let status = [
        ("mesh", text("The trust domain")),
        ("node", text("Its name")),
        ("build", text("Version of the program")),
        ("revision", number("The newest revision")),
        ("nowMs", number("Its clock, Unix milliseconds")),
        ("rootNotAfterMs", number("End of the root certificate, Unix milliseconds")),
        ("intermediateNotAfterMs", number("End of the intermediate certificate, Unix milliseconds")),
    ];
    let contact = "node, gossip, state, answeredMsAgo (UDP, there and back), heardMsAgo (UDP, from there), exchangeError \
                   (TCP, tried just now), calledMsAgo (TCP, from there)";
    let reach = [
        ("speakingMs", number("For how long this control plane's gossip speaks, milliseconds")),
        ("contacts", list(&open(contact))),
    ];
    let spread = [
        ("revision", number("The revision that says it")),
        ("heard", list(&text("A proxy that is there and acts on it"))),
        ("unheard", list(&text("One that was not seen to have heard of it within two seconds"))),
    ];
    let order = [("id", number("Higher for a later order")), ("program", text("SHA-256 of the program"))];
    let refused = [("id", number("The order")), ("reason", text("Why the proxy keeps its program"))];
    let programs = [
        ("build", text("Version of the program that answers")),
        ("program", text("Its SHA-256, hexadecimal")),
        ("proxies", list(&open("node, services, build, program, order, refused"))),
    ];
    let inquiry =
        [("id", number("Its number")), ("ask", open("request: a name; or calls: filter, perSecond"))];
    let told = [
        ("calls", list(&open("A call that has ended, as in the access log; at most 256"))),
        ("forgottenMs?", number("Calls that began before this are forgotten, Unix milliseconds")),
        ("startedMs?", number("When the process began that answers, Unix milliseconds")),
        ("missed?", number("Calls that are not shown, as there were too many")),
    ];
    let trace = [
        ("calls", list(&open("by (the node whose proxy tells), and the call as in the access log"))),
        ("asked", list(&open("node, sinceMs: how far back its proxy remembers"))),
        ("silent", list(&text("A node whose proxy did not answer in time"))),
    ];
    let signer = open("fingerprint, notBeforeMs, notAfterMs, certificate: DER in base64");
    let authority = [
        ("mesh", text("The trust domain")),
        ("root", signer.clone()),
        ("hasRootKey", json!({ "type": "boolean", "description": "Whether the root's key is on that host" })),
        ("intermediate", signer),
        ("valid", open("Certificates that are valid now, by the kind of their holder")),
        ("banned", list(&text("A node whose certificates are refused"))),
    ];
    vec![
        ("Order", object("A program that a proxy is to run", &order)),
        ("OrderRefused", object("A proxy keeps its program", &refused)),
        ("Programs", object("Which program every proxy runs", &programs)),
        ("Inquiry", object("What a proxy is asked about calls", &inquiry)),
        ("Told", object("What a proxy knows", &told)),
        ("RequestTrace", object("What became of a request", &trace)),
        ("Shown", open("call: by, and the call as in the access log; or missed: how many were not shown")),
        ("AuthorityInfo", object("Who signs, and what has been signed", &authority)),
        ("Snapshot", open("All that a proxy needs besides the catalogue, at one revision")),
        ("Ack", object("A proxy took a revision, or kept the one before", &ack)),
        ("Report", open("What a proxy counted since its last report")),
        ("MeshView", open("Services, edges, nodes, identities and events")),
        ("Reach", object("How gossip reaches the members that are there", &reach)),
        ("Spread", object("Who has heard of a ban, or of its end", &spread)),
        ("Status", object("Who answers", &status)),
        ("Catalog", open("Members by node name, with what each says of itself")),
    ]
}
