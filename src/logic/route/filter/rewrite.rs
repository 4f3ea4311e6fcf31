//! Another host and path for a request on its way to a backend.

use crate::logic::http::head::RequestHead;
use crate::logic::route::filter::path::PathChange;
use crate::model::route_filter::UrlRewrite;

/// A rewrite, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    host: Option<Box<str>>,
    path: Option<PathChange>,
}

impl Rewrite {
    /// Makes one ready; `prefix` as for [`PathChange::new`].
    ///
    /// Returns `None` when its path lacks a part.
    pub fn new(wanted: &UrlRewrite, prefix: Option<&str>) -> Option<Self> {
        let path = match &wanted.path {
            None => None,
            Some(path) => Some(PathChange::new(path, prefix)?),
        };
        Some(Self { host: wanted.hostname.as_deref().map(Into::into), path })
    }

    /// Changes the host and the path of a request; `OPTIONS *` has no path to change.
    pub fn apply(&self, head: &mut RequestHead) {
        if let Some(host) = &self.host {
            head.authority = Some(host.to_string());
        }
        if let Some(path) = self.path.as_ref().filter(|_| head.path.starts_with('/')) {
            head.path = path.apply(&head.path);
        }
    }
}
