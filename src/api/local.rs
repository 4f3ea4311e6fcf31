//! The services of one host: what its own proxy's admin API is asked for.

use http::Method;

use crate::api::client::{Client, Error};
use crate::api::wire::ServiceRow;
use crate::model::name::ServiceName;
use crate::model::service::LocalService;

/// With [`Client::admin`] only.
impl Client {
    /// Returns the services of the proxy's host.
    pub async fn local_services(&self) -> Result<Vec<ServiceRow>, Error> {
        self.ask("/services").await
    }

    /// Adds a service to the proxy's host.
    pub async fn add_service(&self, service: &LocalService) -> Result<(), Error> {
        self.tell(Method::PUT, "/services", Some(service)).await
    }

    /// Takes back what was added: all services of a name, or the one at a port.
    pub async fn remove_service(&self, name: &ServiceName, port: Option<u16>) -> Result<(), Error> {
        let query = port.map(|port| format!("?port={port}")).unwrap_or_default();
        self.tell(Method::DELETE, &format!("/services/{name}{query}"), None::<&()>).await
    }
}
