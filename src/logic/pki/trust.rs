//! Is this parsed leaf a valid X.509-SVID of our mesh? To the letter of SPIFFE X509-SVID §2 to §4 (one URI SAN, cA false,
//! critical key usage for signatures only, both extended key usages if any). That its chain leads to the bundle is
//! checked by whoever holds the bundle.

use std::collections::BTreeSet;

use crate::model::identity::{SpiffeId, Subject, TrustDomain};
use crate::model::name::NodeName;

/// The key usage extension of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in RFC 5280 §4.2.1.3")]
pub struct KeyUsage {
    pub critical: bool,
    pub digital_signature: bool,
    pub key_cert_sign: bool,
    pub crl_sign: bool,
}

/// The extended key usage extension of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in RFC 5280 §4.2.1.12")]
pub struct ExtendedKeyUsage {
    pub server_auth: bool,
    pub client_auth: bool,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its URI names, as written.
    pub uris: Vec<String>,
    /// Its only common name: the node it was issued to.
    pub common_name: Option<String>,
    /// Whether it may sign certificates by its basic constraints.
    pub is_ca: bool,
    /// What its key may do; `None` without the extension.
    pub key_usage: Option<KeyUsage>,
    /// What its key may be used for; `None` without the extension.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// Beginning of validity, Unix milliseconds.
    pub not_before_ms: u64,
    /// End of validity, Unix milliseconds.
    pub not_after_ms: u64,
}

/// Why a leaf is no valid SVID here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not exactly one URI name.
    #[error("the certificate has {0} URI names; an SVID has exactly one")]
    Uris(usize),
    /// Its URI name is not an identity of a mesh.
    #[error("{0}")]
    Identity(#[from] crate::model::identity::Error),
    /// It belongs to another mesh.
    #[error("the certificate is of the trust domain {0}, not of this mesh")]
    TrustDomain(TrustDomain),
    /// It names no node, or another than its identity does.
    #[error("the certificate's common name is not the node that holds it")]
    Node,
    /// It may sign others.
    #[error("the certificate belongs to an authority; it proves no identity")]
    Authority,
    /// Its key usage is missing, not critical, or not for signatures.
    #[error("the certificate's key usage is not that of an SVID")]
    KeyUsage,
    /// It has extended key usages without both client and server.
    #[error("the certificate is not for both client and server")]
    ExtendedKeyUsage,
    /// It begins later.
    #[error("the certificate is not valid yet; do the clocks agree?")]
    Early,
    /// It has ended.
    #[error("the certificate has expired; do the clocks agree?")]
    Expired,
    /// Its node is banned.
    #[error("the node {0} is banned")]
    Banned(NodeName),
}

/// Returns whether a text tells of an error that clocks may be the reason of.
pub fn is_about_time(text: &str) -> bool {
    text.contains("do the clocks agree?")
}

/// Who a valid leaf proves its bearer to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The identity.
    pub id: SpiffeId,
    /// The node it was issued to.
    pub node: NodeName,
}

/// Judges a leaf at `now_ms` (Unix milliseconds). `trust_domain` is `None` where it is not known yet: before joining.
///
/// # Errors
/// The first flaw found; those that no time or policy can mend come first.
pub fn judge(
    leaf: &Leaf,
    trust_domain: Option<&TrustDomain>,
    banned: &BTreeSet<NodeName>,
    now_ms: u64,
) -> Result<Bearer, Flaw> {
    let [uri] = leaf.uris.as_slice() else { return Err(Flaw::Uris(leaf.uris.len())) };
    let id: SpiffeId = uri.parse()?;
    if trust_domain.is_some_and(|ours| *ours != id.trust_domain) {
        return Err(Flaw::TrustDomain(id.trust_domain));
    }
    if leaf.is_ca {
        return Err(Flaw::Authority);
    }
    let usable = |usage: KeyUsage| {
        usage.critical && usage.digital_signature && !usage.key_cert_sign && !usage.crl_sign
    };
    if !leaf.key_usage.is_some_and(usable) {
        return Err(Flaw::KeyUsage);
    }
    if leaf.extended_key_usage.is_some_and(|usage| !usage.server_auth || !usage.client_auth) {
        return Err(Flaw::ExtendedKeyUsage);
    }
    let node: NodeName = leaf.common_name.as_deref().and_then(|name| name.parse().ok()).ok_or(Flaw::Node)?;
    match &id.subject {
        Subject::Node(name) | Subject::Control(name) if *name != node => return Err(Flaw::Node),
        Subject::Node(_) | Subject::Control(_) | Subject::Service(_) | Subject::Operator(_) => {}
    }
    if banned.contains(&node) {
        return Err(Flaw::Banned(node));
    }
    if now_ms < leaf.not_before_ms {
        return Err(Flaw::Early);
    }
    if now_ms > leaf.not_after_ms {
        return Err(Flaw::Expired);
    }
    Ok(Bearer { id, node })
}
