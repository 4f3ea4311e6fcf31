//! What gossip packets are made of: postcard inside a sealed envelope. Any bytes are safe to decode: what is too long or has
//! too many parts is refused before it is kept.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::endpoint::NodeRecord;
use crate::model::name::NodeName;

/// Most bytes of a packet inside its envelope; with the envelope it stays below 1,350, so that no common network splits it.
pub const PACKET_BYTES_MAX: usize = 1300;
/// Most bytes of a membership message: a packet less the frame around it.
pub const SWIM_BYTES_MAX: usize = PACKET_BYTES_MAX - 8;
/// Most bytes of one node's statement: thousands of services; more is a fault of its configuration.
pub const STATEMENT_BYTES_MAX: usize = 256 << 10;
/// Most service instances on one node.
pub const SERVICES_MAX: usize = 4096;
const BUILD_BYTES_MAX: usize = 128;
const SIGNATURE_BYTES: usize = 64;

/// Why bytes are not what they should be. Nothing of them was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They do not decode, or something follows.
    #[error("not a gossip message")]
    Malformed,
    /// Longer, or of more parts, than allowed.
    #[error("the gossip message exceeds the limit of {0}")]
    TooLarge(&'static str),
}

/// One process of a node, as membership knows it. A later process of the same node replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The node: who it is, wherever it is.
    pub node: NodeName,
    /// Start of the process, Unix milliseconds.
    pub epoch: u64,
    /// Counts how often this process had to come back from being declared dead.
    pub life: u16,
    /// Where its gossip listens.
    pub addr: SocketAddr,
}

impl Identity {
    /// Returns what decides which of two processes of one node is the later: greater is later.
    pub fn age(&self) -> (u64, u16) {
        (self.epoch, self.life)
    }
}

/// A packet to send, still to be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub to: SocketAddr,
    /// What.
    pub payload: Vec<u8>,
}

/// What a node says of itself, to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The node's record.
    pub record: NodeRecord,
    /// Whether it is a good-bye: the node leaves and serves no longer.
    pub left: bool,
}

/// A statement as it travels: unchanged bytes, the speaker's signature, and control's word on the speaker's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signed {
    /// The [`Statement`], encoded by the speaker.
    pub body: Vec<u8>,
    /// The speaker's Ed25519 public key.
    pub key: [u8; 32],
    /// End of validity of the pass, Unix milliseconds.
    pub not_after_ms: u64,
    /// First half of the SHA-256 of the certificate (DER) that signed the pass.
    pub issuer: [u8; 16],
    /// The pass: ECDSA P-256, 64 bytes.
    pub pass: Vec<u8>,
    /// Ed25519 over [`signing_message`], 64 bytes.
    pub signature: Vec<u8>,
}

impl Signed {
    /// Reads what is said. Says nothing about who said it.
    ///
    /// # Errors
    /// When it does not decode or exceeds a limit.
    pub fn statement(&self) -> Result<Statement, Error> {
        if self.body.len() > STATEMENT_BYTES_MAX {
            return Err(Error::TooLarge("a statement"));
        }
        if self.pass.len() != SIGNATURE_BYTES || self.signature.len() != SIGNATURE_BYTES {
            return Err(Error::Malformed);
        }
        let statement: Statement = decode(&self.body)?;
        if statement.record.services.len() > SERVICES_MAX || statement.record.build.len() > BUILD_BYTES_MAX {
            return Err(Error::TooLarge("a record"));
        }
        Ok(statement)
    }

    /// Returns about how many bytes it takes in a message; never less than it does.
    pub fn size(&self) -> usize {
        // Key, time, issuer and the lengths of three fields, each at its longest.
        self.body.len() + self.pass.len() + self.signature.len() + 32 + 10 + 16 + 15
    }
}

/// Returns what a node signs to say `body`.
pub fn signing_message(body: &[u8]) -> Vec<u8> {
    [b"mesh gossip record v1\0".as_slice(), body].concat()
}

/// Something said by or about a node, passed on from node to node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// What it says.
    Record(Signed),
    /// That it said something too long for a packet, to be fetched by an exchange.
    Notice {
        /// The speaker.
        node: NodeName,
        /// Start of the speaker's process.
        epoch: u64,
        /// Which of its statements.
        version: u64,
        /// Who has it: the speaker's gossip address.
        at: SocketAddr,
    },
}

impl Word {
    /// Returns about how many bytes it takes in a packet; never less than it does.
    pub fn size(&self) -> usize {
        match self {
            Self::Record(signed) => 1 + signed.size(),
            Self::Notice { node, .. } => 1 + 5 + node.as_str().len() + 10 + 10 + 22,
        }
    }
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet {
    /// A message of membership (empty: none), and what travels along with it.
    Gossip {
        /// For `foca`.
        swim: Vec<u8>,
        /// Along with it.
        words: Vec<Word>,
    },
    /// "I hear nothing of you": tells a suspect at once what else it would hear late, by rumour.
    Doubt {
        /// The suspect: the receiver.
        about: Identity,
        /// At which incarnation it is suspected.
        incarnation: u16,
    },
    /// "I am here": the answer to a doubt.
    Proof {
        /// The sender.
        about: Identity,
        /// An incarnation above the suspected one.
        incarnation: u16,
    },
}

/// Encodes a packet or a part of an exchange.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // postcard fails on a sequence of unknown length only, and no type here has one.
    postcard::to_stdvec(value).unwrap_or_default()
}

/// Decodes all of `bytes`.
///
/// # Errors
/// When they are anything else than exactly one value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Error::Malformed),
    }
}

impl Packet {
    /// Decodes a packet.
    ///
    /// # Errors
    /// When it is too long, or not a packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(Error::TooLarge("a packet"));
        }
        decode(bytes)
    }
}
