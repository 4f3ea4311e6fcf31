//! The closed list of what users may write, and the envelope it comes in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::model::grpc_route::GrpcRouteSpec;
use crate::model::intention::IntentionSpec;
use crate::model::name::DEFAULT_NAMESPACE;
use crate::model::route::HttpRouteSpec;
use crate::model::route_filter::FilterKind;
use crate::model::route_schema;
use crate::model::route_status::RouteStatus;
use crate::model::service_spec::ServiceSpec;
use crate::model::tcp_route::TcpRouteSpec;
use crate::model::traffic_policy::TrafficPolicySpec;

/// A number of the control store: every write makes the next one.
pub type Revision = u64;

/// Name, place and history of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique within kind and namespace: a DNS label or labels joined by dots.
    pub name: String,
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// For selection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For people and tools; not interpreted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Revision of the last write; given back on update, it must still be current. Set by the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts changes of the body. Set by the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// RFC 3339. Set by the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
}

impl Metadata {
    /// Takes away what the control plane notes: what is left is what users write.
    pub fn forget_history(&mut self) {
        self.resource_version = None;
        self.generation = None;
        self.creation_timestamp = None;
    }
}

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}

/// An object of some kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object<S> {
    /// Name, place and history.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: S,
    /// How it fares, of routes: said by the control plane when it is asked, and never stored.
    pub status: Option<Box<RouteStatus>>,
}

impl<S> Object<S> {
    /// Makes one of which nothing is known but what the user wants.
    pub fn new(metadata: Metadata, spec: S) -> Self {
        Self { metadata, spec, status: None }
    }
}

/// Identifies an object: `(kind, namespace, name)`, ordered so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Returns it as the API's paths have it: `httproutes/default/web`.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.kind.plural(), self.namespace, self.name)
    }
}

impl FromStr for Key {
    type Err = String;

    /// Reads what [`Key::path`] writes.
    fn from_str(path: &str) -> Result<Self, String> {
        let mut parts = path.splitn(3, '/');
        let parts = (parts.next(), parts.next(), parts.next());
        let found = match parts {
            (Some(kind), Some(namespace), Some(name)) => Kind::find(kind).map(|kind| (kind, namespace, name)),
            (_, _, _) => None,
        };
        let (kind, namespace, name) =
            found.ok_or_else(|| format!("'{path}' names no object: expected KINDS/NAMESPACE/NAME"))?;
        Ok(Self { kind, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)?;
        if self.namespace == DEFAULT_NAMESPACE {
            Ok(())
        } else {
            write!(f, " in namespace {}", self.namespace)
        }
    }
}

/// Declares the kinds once: enum, names, and the object behind each.
macro_rules! kinds {
    ($($(#[doc = $doc_text:literal])* $variant:ident($spec:ty) = $kind:literal, $api:literal, $plural:literal, [$($short:literal),*];)+) => {
        /// The kinds of object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind { $($(#[doc = $doc_text])* $variant,)+ }

        impl Kind {
            /// Every kind, in the order of their documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the `kind` of manifests.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $kind,)+ }
            }

            /// Returns the `apiVersion` of manifests.
            pub fn api_version(self) -> &'static str {
                match self { $(Self::$variant => $api,)+ }
            }

            /// Returns the name in the API's paths.
            pub fn plural(self) -> &'static str {
                match self { $(Self::$variant => $plural,)+ }
            }

            /// Returns the JSON Schema of its manifests, as the types that read them say.
            fn type_schema(self) -> Schema {
                match self { $(Self::$variant => manifest_schema::<$spec>($kind, $api, concat!($($doc_text, " "),*)),)+ }
            }

            /// Finds a kind by any name people use: kind, plural or short, in any case.
            pub fn find(text: &str) -> Option<Self> {
                let text = text.to_ascii_lowercase();
                $(if [$kind.to_ascii_lowercase().as_str(), $plural, $($short),*].contains(&text.as_str()) {
                    return Some(Self::$variant);
                })+
                None
            }
        }

        /// An object of any kind; on the wire, a manifest with `apiVersion` and `kind`.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Resource { $($(#[doc = $doc_text])* $variant(Object<$spec>),)+ }

        impl Resource {
            /// Returns its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)+ }
            }

            /// Returns its metadata.
            pub fn metadata(&self) -> &Metadata {
                match self { $(Self::$variant(object) => &object.metadata,)+ }
            }

            /// Returns its metadata, to be changed.
            pub fn metadata_mut(&mut self) -> &mut Metadata {
                match self { $(Self::$variant(object) => &mut object.metadata,)+ }
            }

            /// Returns how it fares.
            pub fn status(&self) -> Option<&RouteStatus> {
                match self { $(Self::$variant(object) => object.status.as_deref(),)+ }
            }

            /// Says how it fares, or that this is not known.
            pub fn set_status(&mut self, status: Option<RouteStatus>) {
                match self { $(Self::$variant(object) => object.status = status.map(Box::new),)+ }
            }
        }

        /// The manifest form, told apart by `kind`.
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "kind", deny_unknown_fields)]
        enum Manifest { $(
            #[serde(rename = $kind)]
            $variant {
                #[serde(rename = "apiVersion")]
                api_version: String,
                metadata: Metadata,
                spec: $spec,
                #[serde(default, skip_serializing_if = "Option::is_none")]
                status: Option<Box<RouteStatus>>,
            },
        )+ }

        impl From<Resource> for Manifest {
            fn from(resource: Resource) -> Self {
                match resource { $(
                    Resource::$variant(Object { metadata, spec, status }) => {
                        Self::$variant { api_version: $api.to_owned(), metadata, spec, status }
                    }
                )+ }
            }
        }

        impl TryFrom<Manifest> for Resource {
            type Error = String;

            fn try_from(manifest: Manifest) -> Result<Self, String> {
                match manifest { $(
                    Manifest::$variant { api_version, metadata, spec, status } => {
                        if Kind::$variant.has_version(&api_version) {
                            Ok(Self::$variant(Object { metadata, spec, status }))
                        } else {
                            Err(format!("apiVersion '{api_version}' of kind {} is not known: expected {}", $kind, $api))
                        }
                    }
                )+ }
            }
        }
    };
}

kinds! {
    /// Routes calls of gRPC to a service.
    GrpcRoute(GrpcRouteSpec) = "GRPCRoute", "gateway.networking.k8s.io/v1", "grpcroutes", ["grpc"];
    /// Routes HTTP requests of a service.
    HttpRoute(HttpRouteSpec) = "HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes", ["route", "routes", "rt"];
    /// Says who may call a service.
    Intention(IntentionSpec) = "Intention", "mesh/v1", "intentions", ["int"];
    /// Says what a service speaks and how its instances are probed.
    Service(ServiceSpec) = "Service", "mesh/v1", "services", ["svc"];
    /// Routes TCP connections to a service.
    TcpRoute(TcpRouteSpec) = "TCPRoute", "gateway.networking.k8s.io/v1alpha2", "tcproutes", ["tcp"];
    /// Says how calls to a service are balanced, limited and retried.
    TrafficPolicy(TrafficPolicySpec) = "TrafficPolicy", "mesh/v1", "trafficpolicies", ["tp"];
}

/// Older and newer names of what an `apiVersion` of ours says, which manifests may have: the schema is the same.
const ALIASES: [(Kind, &str); 2] = [
    (Kind::HttpRoute, "gateway.networking.k8s.io/v1beta1"),
    (Kind::TcpRoute, "gateway.networking.k8s.io/v1"),
];

impl Kind {
    /// Returns whether manifests of this kind may have an `apiVersion`. What is shown of them has [`Self::api_version`].
    pub fn has_version(self, api_version: &str) -> bool {
        self.api_version() == api_version || ALIASES.contains(&(self, api_version))
    }

    /// Returns the JSON Schema of its manifests.
    pub fn schema(self) -> Schema {
        let mut schema = self.type_schema();
        match self {
            Self::GrpcRoute => route_schema::keep_filters(&mut schema, &FilterKind::GRPC),
            Self::TcpRoute => route_schema::drop_filters(&mut schema),
            Self::HttpRoute | Self::Intention | Self::Service | Self::TrafficPolicy => {}
        }
        schema
    }

    /// Returns whether its objects say where calls to services go.
    pub fn is_route(self) -> bool {
        matches!(self, Self::GrpcRoute | Self::HttpRoute | Self::TcpRoute)
    }
}

/// Returns the schema of a manifest whose body is an `S`.
fn manifest_schema<S: JsonSchema>(kind: &str, api_version: &str, description: &str) -> Schema {
    let mut generator = SchemaGenerator::default();
    let metadata = generator.subschema_for::<Metadata>();
    let spec = generator.subschema_for::<S>();
    let definitions = generator.take_definitions(true);
    schemars::json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind,
        "description": description.trim(),
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string", "const": api_version, "description": "The version of the schema." },
            "kind": { "type": "string", "const": kind, "description": "What it is." },
            "metadata": metadata,
            "spec": spec,
            "status": { "type": "object", "description": "How it fares: said by the mesh, ignored when written." },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "$defs": definitions,
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::find(text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.plural()).collect();
            format!("there is no kind '{text}': expected one of {}", known.join(", "))
        })
    }
}

impl Resource {
    /// Returns what identifies it.
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        Key { kind: self.kind(), namespace: metadata.namespace.clone(), name: metadata.name.clone() }
    }
}

impl Serialize for Resource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Manifest::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Manifest::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
