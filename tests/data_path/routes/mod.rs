//! Routes of the Gateway API, obeyed by two proxies: services that report what they saw, and a caller.

mod scene;
mod matching;
