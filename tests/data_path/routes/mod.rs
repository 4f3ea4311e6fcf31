//! Routes of the Gateway API, obeyed by two proxies: services that report what they saw, and a caller.

mod scene;
mod matching;
mod filters;
mod mirrors;
mod retries;
mod sessions;
mod grpc;
mod tcp;
mod binding;
