//! Finding the proxy of this host.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::cli::data_dir;
use crate::cli::exit::{Exit, refuse};

/// Where a proxy's admin API listens when nobody says.
const DEFAULT_ADMIN: &str = "127.0.0.1:15000";
/// The file in which a proxy says where it listens.
const ADDRESSES_FILE: &str = "addresses.json";

/// Which proxy is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct LocalProxy {
    /// The admin API of the proxy [default: that of the proxy on this host, else 127.0.0.1:15000]
    #[arg(long, global = true, env = "MESH_PROXY", value_name = "ADDRESS")]
    pub(crate) proxy: Option<String>,
    /// Where the proxy keeps its state, if not where it does by default
    #[arg(long, global = true, env = "MESH_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl LocalProxy {
    /// Returns the directory of its state.
    pub(crate) fn folder(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| data_dir::of("proxy"))
    }

    /// Returns whether somebody has said which one is meant.
    pub(crate) fn is_named(&self) -> bool {
        self.proxy.is_some() || self.data_dir.is_some()
    }

    /// Returns the address of its admin API.
    ///
    /// # Errors
    /// When a data directory was named, and no proxy runs with it.
    pub(crate) fn admin(&self) -> anyhow::Result<String> {
        if let Some(named) = &self.proxy {
            return Ok(named.clone());
        }
        let path = self.folder().join(ADDRESSES_FILE);
        let text = fs::read_to_string(&path).ok();
        let addresses = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        match addresses.as_ref().and_then(|addresses| addresses.get("admin")?.as_str()) {
            Some(admin) => Ok(admin.to_owned()),
            None if self.data_dir.is_some() => {
                let text = format!(
                    "{} does not exist, so that no proxy runs with this data directory, or the directory was removed under \
                     one that does: 'pgrep -f \"mesh proxy\"' finds those that run, and --proxy ADDRESS (mostly \
                     {DEFAULT_ADMIN}) asks one by its address",
                    path.display()
                );
                Err(refuse(Exit::Unreachable, text))
            }
            None => Ok(DEFAULT_ADMIN.to_owned()),
        }
    }
}
