//! Which instance a connection between proxies is for, as the TLS server name says it: `<port>.<service>.<namespace>.mesh`.

use rustls_pki_types::ServerName;

use crate::model::name::{MESH_DOMAIN, ServiceName};

/// A service and the port of one of its instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The service.
    pub service: ServiceName,
    /// The instance's own port on its node.
    pub port: u16,
}

impl Target {
    /// Writes it as a server name; `None` for a name too long for DNS, which two labels and a port never are.
    pub(crate) fn to_server_name(&self) -> Option<ServerName<'static>> {
        let Self { service, port } = self;
        let text = format!("{port}.{}.{}.{MESH_DOMAIN}", service.name(), service.namespace());
        ServerName::try_from(text).ok()
    }

    /// Reads it back; `None` for any other server name.
    pub(crate) fn from_server_name(name: &ServerName<'_>) -> Option<Self> {
        if let ServerName::DnsName(name) = name { Self::parse(name.as_ref()) } else { None }
    }

    /// Reads the text of a server name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let port = parts.next()?.parse().ok()?;
        let (name, namespace) = (parts.next()?, parts.next()?);
        if parts.next()? != MESH_DOMAIN || parts.next().is_some() {
            return None;
        }
        Some(Self { service: ServiceName::new(name, namespace).ok()?, port })
    }
}
