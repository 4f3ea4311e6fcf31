//! The lexicon: every noun of the mesh, in the order they build on each other. Nothing here does or decides anything.
//!
//! A **service** ([`service`]) is what is called, by **name** ([`name`]). Whoever speaks has an **identity**
//! ([`identity`]). A **node** announces its services; the **catalogue** ([`endpoint`]) is the sum of what nodes say, and
//! an **endpoint** is one reachable address in it. A **route** ([`route`], [`grpc_route`], [`tcp_route`]) says where requests
//! to a service go; an
//! **intention** ([`intention`]) says who may call it, a **service object** ([`service_spec`]) what it speaks and how it is
//! probed, a **traffic policy** ([`traffic_policy`]) how calls to it are balanced, limited and retried. All four are
//! **resources** ([`resource`]) that users write, each write making a **revision**. A **snapshot** ([`snapshot`]) is all
//! that a proxy needs of them at one revision; a **view** ([`view`]) is what people see of the whole, and a **call** ([`call`])
//! that has ended is what they see of one.

pub mod name;
pub mod identity;
pub mod service;
pub mod token;
pub mod endpoint;
pub mod intention;
pub mod service_spec;
pub mod traffic_policy;
pub mod route_filter;
mod route_schema;
pub mod route;
pub mod grpc_route;
pub mod tcp_route;
pub mod route_status;
pub mod resource;
pub mod snapshot;
pub mod view;
pub mod call;
