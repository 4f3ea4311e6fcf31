//! What an administrator does to nodes, and what is told of how far that has come.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::api::client::{Client, Error};
use crate::model::endpoint::Reach;
use crate::model::name::NodeName;
use crate::model::resource::Revision;

/// The answer to `POST` and `DELETE /v1/nodes/{name}/ban`: which of the proxies that are there have heard of it. The node itself
/// is none of them, nor is another one that is banned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The revision that says it.
    pub revision: Revision,
    /// Those that act on it, sorted.
    pub heard: Vec<NodeName>,
    /// Those that were not seen to have heard of it within two seconds, sorted.
    pub unheard: Vec<NodeName>,
}

impl Client {
    /// Bans a node (`on`), or takes that back; returns who has heard of it, `None` when a control plane of an earlier version
    /// does not say so.
    pub async fn ban(&self, node: &NodeName, on: bool) -> Result<Option<Spread>, Error> {
        let method = if on { Method::POST } else { Method::DELETE };
        let answer = self.exchange(method, &format!("/v1/nodes/{node}/ban"), None::<&()>).await?;
        if answer.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&answer).map(Some).map_err(|error| Error::Broken(error.to_string()))
    }

    /// Returns how the gossip of the control plane that answers reaches the members, and they it; takes some seconds when
    /// somebody does not answer.
    pub async fn reach(&self) -> Result<Reach, Error> {
        self.ask("/v1/reach").await
    }

    /// Gives the services of a node no new calls while others serve them (`on`), or takes that back.
    pub async fn drain(&self, node: &NodeName, on: bool) -> Result<(), Error> {
        let method = if on { Method::POST } else { Method::DELETE };
        self.tell(method, &format!("/v1/nodes/{node}/drain"), None::<&()>).await
    }

    /// Removes a node from the mesh: it can no longer renew, and its name is free.
    pub async fn forget_node(&self, node: &NodeName) -> Result<(), Error> {
        self.tell(Method::DELETE, &format!("/v1/nodes/{node}"), None::<&()>).await
    }
}
