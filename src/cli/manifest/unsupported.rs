//! What people may well write, and mesh does not know: a sentence for each on what to do instead.

use crate::model::resource::Kind;

const NOT_YET: &str = "known in the Gateway API, not supported yet";

/// Returns what to say about a kind that is none of ours, by `apiVersion` and `kind`; `None` for one never heard of.
pub fn kind(api_version: &str, kind: &str) -> Option<String> {
    let say = |text: &str| Some(format!("{kind}: {text}"));
    match kind {
        "TLSRoute" | "UDPRoute" => say("not supported yet"),
        "DestinationRule"
        | "BackendTrafficPolicy"
        | "XBackendTrafficPolicy"
        | "BackendLBPolicy"
        | "ServiceDefaults"
        | "ServiceResolver"
        | "HTTPLocalRateLimitPolicy"
        | "MeshCircuitBreaker"
        | "MeshRetry"
        | "MeshTimeout" => say(
            "how calls to a service are balanced, limited and retried is said by a TrafficPolicy ('apiVersion: mesh/v1')",
        ),
        "BackendTLSPolicy" | "PeerAuthentication" | "MeshTLS" => {
            say("not needed: calls between services of the mesh are mutual TLS in any case")
        }
        "ReferenceGrant" => say(
            "not needed: routes may name services of any namespace; who may call a service is said by an Intention",
        ),
        "Gateway" | "GatewayClass" | "ListenerSet" | "XListenerSet" | "Ingress" | "IngressClass" => say(
            "a mesh has no gateways: attach an HTTPRoute to a service with 'parentRefs: [{group: \"\", kind: Service, name: …}]'",
        ),
        "Deployment" | "Pod" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Endpoints" | "EndpointSlice"
        | "ServiceEntry" => {
            say("services are announced by the nodes that run them: mesh proxy --service NAME=PORT")
        }
        "Namespace" => say("not needed: a namespace exists once something is in it"),
        "Service" if api_version == "v1" => say(
            "this is a Service of Kubernetes: here services are announced with mesh proxy --service NAME=PORT, and 'apiVersion: mesh/v1' says more about one",
        ),
        "AuthorizationPolicy"
        | "ServiceIntentions"
        | "NetworkPolicy"
        | "MeshTrafficPermission"
        | "ServerAuthorization"
        | "TrafficPermissions" => {
            say("who may call a service is said by an Intention ('apiVersion: mesh/v1')")
        }
        "VirtualService" | "TrafficSplit" | "HTTPRouteGroup" | "ServiceRouter" | "ServiceSplitter"
        | "MeshHTTPRoute" => {
            say("requests are routed by an HTTPRoute ('apiVersion: gateway.networking.k8s.io/v1')")
        }
        "List" => say("write its items as documents of their own, with '---' between them"),
        _ if is_of_kubernetes(api_version) && Kind::ALL.iter().all(|known| known.as_str() != kind) => {
            say("a kind of Kubernetes that has no meaning here: leave it out")
        }
        _ => None,
    }
}

/// Returns whether an `apiVersion` is one of Kubernetes' own, the Gateway API's apart: there, a kind may be mistyped.
fn is_of_kubernetes(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let own = ["", "apps", "autoscaling", "batch", "policy"].contains(&group) || group.ends_with("k8s.io");
    own && api_version.trim_start_matches(group).trim_start_matches('/').starts_with('v')
        && group != "gateway.networking.k8s.io"
}

/// Returns what to say about a field that a schema does not have; `None` for one never heard of.
pub fn field(field: &str) -> Option<&'static str> {
    match field {
        "externalAuth" | "useDefaultGateways" => Some(NOT_YET),
        "extensionRef" => Some("there are no filters but those of the Gateway API: leave this one out"),
        "uid" | "managedFields" | "selfLink" | "ownerReferences" | "finalizers" | "generateName" => {
            Some("a field of Kubernetes that has no meaning here: leave it out")
        }
        _ => None,
    }
}

/// Returns what to say about a value that a list of choices does not have; `None` for one never heard of.
pub fn choice(value: &str) -> Option<&'static str> {
    match value {
        "ExternalAuth" => Some(NOT_YET),
        "ExtensionRef" => Some("there are no filters but those of the Gateway API: leave this one out"),
        _ => None,
    }
}
