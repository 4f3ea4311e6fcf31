//! What two processes of one node say to each other when one is to take over from the other.
//!
//! Both may be of different versions: fields may be added to messages, and what is not known is ignored.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::gossip::agent::Legacy;
use crate::model::name::NodeName;

/// The version of the conversation. A new one is for what old processes would not understand.
pub(crate) const VERSION: u32 = 1;

/// Why nothing was handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other process is gone, or speaks another language.
    #[error("the proxy that runs on this data directory cannot be taken over from: {0}")]
    Io(#[from] io::Error),
    /// It does not answer.
    #[error("the proxy that runs on this data directory does not answer")]
    Silent,
    /// It will not.
    #[error("the proxy that runs on this data directory does not hand over: {0}")]
    Refused(String),
    /// It is another node.
    #[error("the proxy that runs on this data directory is the node {0}: start with --node {0}")]
    OtherNode(NodeName),
}

/// What the new process asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase")]
pub(crate) enum Ask {
    Who,
    Replace {
        #[serde(default)]
        program: Option<PathBuf>,
    },
    Sockets {
        version: u32,
        build: String,
    },
    Store,
    Gossip,
    Traffic,
    GiveUp {
        reason: String,
    },
}

/// What the old process gives.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "give", rename_all = "camelCase")]
pub(crate) enum Give {
    Who(Box<Who>),
    Started { pid: i32 },
    Sockets { build: String, node: NodeName, names: Vec<String> },
    Store,
    Gossip { legacy: Box<Legacy> },
    Traffic,
    Refused { reason: String },
}

/// What a proxy says of itself to whoever may replace it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// Its node.
    pub node: NodeName,
    /// Its version.
    pub build: String,
    /// The file that it was started from.
    pub program: PathBuf,
    /// Where control planes answer, `host:port`.
    pub controls: Vec<String>,
    /// The roots that it trusts: SHA-256 of their public keys, hexadecimal.
    pub pins: Vec<String>,
}
