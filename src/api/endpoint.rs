//! The table of the control plane's endpoints: method, path, who may call, what goes in and out.
//!
//! The router, the checks of rights and `/openapi.json` are all made from it.

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what they say")]
pub enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    /// Returns its name as `OpenAPI` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

/// What a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Nobody in particular.
    Anyone,
    /// The bearer of a join token, which is in the body.
    Token,
    /// The holder of a node's certificate, even of an expired one.
    Holder,
    /// A node, with a valid certificate: for its own things.
    Node,
    /// A node or an administrator.
    Reader,
    /// An administrator: on the unix socket of the control plane's host, or with an operator's certificate.
    Administrator,
    /// An administrator on the control plane's host, by its unix socket: for what operators could keep when they leave.
    Owner,
}

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says it in a sentence each")]
pub enum Operation {
    Join,
    Renew,
    CreateToken,
    ListTokens,
    RevokeToken,
    ListResources,
    ReadResource,
    WriteResource,
    DeleteResource,
    Apply,
    ReadHistory,
    Rollback,
    Why,
    ReadDefaults,
    SetDefaults,
    FollowSnapshot,
    Acknowledge,
    Report,
    AnswerInquiry,
    View,
    TraceRequest,
    FollowCalls,
    Status,
    Authority,
    Catalog,
    Reach,
    Ban,
    Unban,
    Drain,
    Undrain,
    Forget,
    Upgrade,
    FollowOrders,
    RefuseOrder,
    Programs,
    Backup,
    Restore,
    OpenApi,
    Installer,
    Executable,
    ExecutableSum,
    Sums,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// What it does.
    pub operation: Operation,
    /// Its method.
    pub method: Method,
    /// Its path, with `{parameters}`.
    pub path: &'static str,
    /// Parameters of its query, with what each means.
    pub query: &'static [(&'static str, &'static str)],
    /// Who may call it.
    pub right: Right,
    /// Name of the body it takes, in [`crate::api::wire`] or the model.
    pub takes: Option<&'static str>,
    /// Name of the body it gives; media types for what is not JSON.
    pub gives: Option<&'static str>,
    /// What it does, in a sentence.
    pub summary: &'static str,
}

const WATCH: (&str, &str) =
    ("watch", "true: stay, and send a line of JSON for each change; an empty line is a heartbeat");

const CALLS: &[(&str, &str)] = &[
    ("source", "only those of this caller: web.default or node/NAME"),
    ("service", "only those to this service: NAME.NAMESPACE"),
    ("side", "outbound or inbound: only as the caller's or the called proxy saw them"),
    ("status", "only those answered so: 404, 5xx, failed or denied"),
    ("method", "only those with this method"),
    ("path", "only those whose path begins so"),
    ("slowerMs", "only those that took so many milliseconds to be answered at least"),
    ("perSecond", "so many a second from each proxy at most; 100 without it, 1000 at most"),
];

const DRY_RUN: (&str, &str) = ("dryRun", "true: check everything, write nothing");

const fn endpoint(operation: Operation, method: Method, path: &'static str, right: Right) -> Endpoint {
    Endpoint { operation, method, path, query: &[], right, takes: None, gives: None, summary: "" }
}

impl Endpoint {
    const fn says(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    const fn takes(self, name: &'static str) -> Self {
        Self { takes: Some(name), ..self }
    }

    const fn gives(self, name: &'static str) -> Self {
        Self { gives: Some(name), ..self }
    }

    const fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }
}

/// Every endpoint.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint(Operation::Join, Method::Post, "/v1/join", Right::Token)
        .takes("JoinRequest")
        .gives("Issued")
        .says("Lets a node in by its join token and signs its certificates"),
    endpoint(Operation::Renew, Method::Post, "/v1/renew", Right::Holder)
        .takes("RenewRequest")
        .gives("Issued")
        .says("Signs new certificates for the node whose certificate, even an expired one, the connection shows"),
    endpoint(Operation::CreateToken, Method::Post, "/v1/tokens", Right::Administrator)
        .takes("TokenRequest")
        .gives("TokenCreated")
        .says("Makes a join token; the only time that its secret is seen"),
    endpoint(Operation::ListTokens, Method::Get, "/v1/tokens", Right::Administrator)
        .gives("[TokenInfo]")
        .says("Lists the join tokens, the newest first"),
    endpoint(Operation::RevokeToken, Method::Delete, "/v1/tokens/{id}", Right::Administrator)
        .says("Takes a join token back; nodes that came with it stay"),
    endpoint(Operation::ListResources, Method::Get, "/v1/resources/{plural}", Right::Reader)
        .query(&[
            ("namespace", "only objects of this namespace"),
            WATCH,
            ("since", "with watch: begin after this revision; 410 when its changes are no longer kept"),
        ])
        .gives("ResourceList")
        .says("Lists the objects of a kind, or follows their changes"),
    endpoint(Operation::ReadResource, Method::Get, "/v1/resources/{plural}/{namespace}/{name}", Right::Reader)
        .gives("Resource")
        .says("Returns an object; its revision is the ETag"),
    endpoint(Operation::WriteResource, Method::Put, "/v1/resources/{plural}/{namespace}/{name}", Right::Administrator)
        .query(&[DRY_RUN])
        .takes("Resource")
        .gives("WriteResult")
        .says(
            "Writes an object. With If-Match, or a resourceVersion in it, only over that revision; with \
             If-None-Match: * only a new one",
        ),
    endpoint(Operation::DeleteResource, Method::Delete, "/v1/resources/{plural}/{namespace}/{name}", Right::Administrator)
        .query(&[DRY_RUN])
        .gives("WriteResult")
        .says("Removes an object; with If-Match only at that revision"),
    endpoint(Operation::Apply, Method::Post, "/v1/apply", Right::Administrator)
        .query(&[DRY_RUN, ("plan", "true: say what changes for the traffic that was counted lately")])
        .takes("ApplyRequest")
        .gives("ApplyResult")
        .says("Writes objects, and removes those with the same labels that are no longer among them: all or nothing"),
    endpoint(
        Operation::ReadHistory,
        Method::Get,
        "/v1/resources/{plural}/{namespace}/{name}/history",
        Right::Reader,
    )
    .gives("History")
    .says("Returns the versions of an object that are kept, also of one that was deleted"),
    endpoint(
        Operation::Rollback,
        Method::Post,
        "/v1/resources/{plural}/{namespace}/{name}/rollback",
        Right::Administrator,
    )
    .query(&[("to", "the revision of the version to go back to; without it, the last one that was another"), DRY_RUN])
    .gives("WriteResult")
    .says("Writes an object as it was"),
    endpoint(Operation::Why, Method::Post, "/v1/why", Right::Reader)
        .takes("WhyRequest")
        .gives("Why")
        .says("Returns the decision of every stage about a call, as the proxies would take it"),
    endpoint(Operation::ReadDefaults, Method::Get, "/v1/defaults", Right::Reader)
        .gives("Defaults")
        .says("Returns what happens to calls that no intention speaks of, and whether calls are refused at all"),
    endpoint(Operation::SetDefaults, Method::Put, "/v1/defaults", Right::Administrator)
        .takes("Defaults")
        .gives("Defaults")
        .says("Says what happens to calls that no intention speaks of, and whether calls are refused at all"),
    endpoint(Operation::FollowSnapshot, Method::Get, "/v1/snapshot", Right::Node)
        .query(&[WATCH])
        .gives("Snapshot")
        .says("Returns all that a proxy needs; with watch, the newest at each change"),
    endpoint(Operation::Acknowledge, Method::Post, "/v1/ack", Right::Node)
        .takes("Ack")
        .says("Tells that the proxy has taken a revision, or why it kept the one before"),
    endpoint(Operation::Report, Method::Post, "/v1/reports", Right::Node)
        .takes("Report")
        .gives("[Inquiry]")
        .says(
            "Takes what a proxy counted since its last report, and says what it is asked about calls; 204 when it is asked \
             nothing",
        ),
    endpoint(Operation::AnswerInquiry, Method::Post, "/v1/inquiries/{id}", Right::Node)
        .takes("Told")
        .says("Takes what a proxy knows; 410 when nobody waits for it any more"),
    endpoint(Operation::View, Method::Get, "/v1/view", Right::Reader)
        .query(&[WATCH])
        .gives("MeshView")
        .says("Returns the mesh as consoles show it; with watch, once a second"),
    endpoint(Operation::TraceRequest, Method::Get, "/v1/requests/{id}", Right::Administrator)
        .gives("RequestTrace")
        .says("Asks all proxies what they remember of a request, by its x-request-id"),
    endpoint(Operation::FollowCalls, Method::Get, "/v1/calls", Right::Administrator)
        .query(CALLS)
        .gives("Shown")
        .says("Shows calls as they end, a line of JSON for each"),
    endpoint(Operation::Status, Method::Get, "/v1/status", Right::Reader)
        .gives("Status")
        .says("Tells who answers, its newest revision, and how long its authority lasts"),
    endpoint(Operation::Authority, Method::Get, "/v1/authority", Right::Reader)
        .gives("AuthorityInfo")
        .says("Returns the certificates that sign, and how many are signed"),
    endpoint(Operation::Catalog, Method::Get, "/v1/catalog", Right::Reader)
        .gives("Catalog")
        .says("Returns every member and its services, as gossip knows them"),
    endpoint(Operation::Reach, Method::Get, "/v1/reach", Right::Reader)
        .gives("Reach")
        .says("Tries to reach every member by gossip, and tells how each was reached and reached this control plane"),
    endpoint(Operation::Ban, Method::Post, "/v1/nodes/{name}/ban", Right::Administrator)
        .gives("Spread")
        .says("Refuses the certificates of a node everywhere, from now on; tells which proxies have heard of it"),
    endpoint(Operation::Unban, Method::Delete, "/v1/nodes/{name}/ban", Right::Administrator)
        .gives("Spread")
        .says("Takes a ban back; tells which proxies have heard of it"),
    endpoint(Operation::Drain, Method::Post, "/v1/nodes/{name}/drain", Right::Administrator)
        .says("Lets the services of a node have no new calls while other nodes serve them"),
    endpoint(Operation::Undrain, Method::Delete, "/v1/nodes/{name}/drain", Right::Administrator)
        .says("Lets the services of a node have calls again"),
    endpoint(Operation::Forget, Method::Delete, "/v1/nodes/{name}", Right::Administrator)
        .says("Removes a node: it can no longer renew, and its name is free"),
    endpoint(Operation::Upgrade, Method::Post, "/v1/nodes/{name}/upgrade", Right::Administrator)
        .gives("Order")
        .says("Has a proxy run the program that answers; it keeps its own where that one does not start"),
    endpoint(Operation::FollowOrders, Method::Get, "/v1/program", Right::Node)
        .query(&[
            WATCH,
            ("build", "version of the program that the proxy runs"),
            ("program", "its SHA-256, hexadecimal"),
        ])
        .gives("Order")
        .says("Tells which program a proxy runs, and with watch, which other one it is to run, whenever that is so"),
    endpoint(Operation::RefuseOrder, Method::Post, "/v1/program", Right::Node)
        .takes("OrderRefused")
        .says("Tells why a proxy keeps the program that it has"),
    endpoint(Operation::Programs, Method::Get, "/v1/programs", Right::Reader)
        .gives("Programs")
        .says("Returns which program answers, and which every proxy runs"),
    endpoint(Operation::Backup, Method::Get, "/v1/backup", Right::Owner)
        .gives("application/octet-stream")
        .says("Returns all that this control plane is, its private keys too, in one file with a checksum"),
    endpoint(Operation::Restore, Method::Post, "/v1/restore", Right::Owner)
        .says("Begins again with the backup that was placed in the data directory; 204 comes before it does"),
    endpoint(Operation::OpenApi, Method::Get, "/openapi.json", Right::Anyone)
        .gives("application/json")
        .says("Returns this description"),
    endpoint(Operation::Installer, Method::Get, "/install.sh", Right::Anyone)
        .gives("text/x-shellscript")
        .says("Returns the installer, which downloads from here"),
    endpoint(Operation::Executable, Method::Get, "/mesh", Right::Anyone)
        .gives("application/octet-stream")
        .says("Returns the program that answers"),
    endpoint(Operation::ExecutableSum, Method::Get, "/mesh.sha256", Right::Anyone)
        .gives("text/plain")
        .says("Returns the SHA-256 of the program, as sha256sum writes it"),
    endpoint(Operation::Sums, Method::Get, "/SHA256SUMS", Right::Anyone)
        .gives("text/plain")
        .says("Returns the SHA-256 of the program and of the installer, as in a release"),
];
