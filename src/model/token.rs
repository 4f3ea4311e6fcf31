//! Join tokens: `mesh1.<pin>.<id>.<secret>@host:port[,host:port…]`, safe in a shell without quotes.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Written by a newer mesh, or no token at all.
    #[error(
        "this is not a join token: it should begin with 'mesh1.'; make one with 'mesh token create' on the control plane"
    )]
    Prefix,
    /// A part is missing or has the wrong characters: probably cut when it was copied.
    #[error(
        "the join token is incomplete or damaged ({0}); copy the whole line again, or make a new one with 'mesh token create'"
    )]
    Part(&'static str),
}

/// A join token. Its secret is shown by [`fmt::Display`] only, never by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the root certificate's public key (`SubjectPublicKeyInfo`, DER).
    pub pin: [u8; 32],
    /// The public part: 6 characters of `[a-z2-7]`.
    pub id: String,
    /// The secret part: 26 characters of `[a-z2-7]`, 130 bits.
    pub secret: String,
    /// Where control planes answer, `host:port`; at least one.
    pub controls: Vec<String>,
}

const PREFIX: &str = "mesh1";
/// Characters of a token's id.
pub const ID_CHARS: usize = 6;
/// Characters of a token's secret.
pub const SECRET_CHARS: usize = 26;

/// Returns the encoding of pins, ids and secrets: base32 in lower case, no padding.
pub fn base32() -> data_encoding::Encoding {
    let mut specification = data_encoding::Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("32 distinct symbols make an encoding")
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let rest =
            text.trim().strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).ok_or(Error::Prefix)?;
        let (parts, hosts) = rest.split_once('@').ok_or(Error::Part("the address is missing"))?;
        let mut parts = parts.split('.');
        let (Some(pin), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Part("it has not four parts"));
        };
        let symbols = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        let pin = base32().decode(pin.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let pin: [u8; 32] = pin.ok_or(Error::Part("the pin of the root key"))?;
        if id.len() != ID_CHARS || !symbols(id) {
            return Err(Error::Part("the id"));
        }
        if secret.len() != SECRET_CHARS || !symbols(secret) {
            return Err(Error::Part("the secret"));
        }
        let controls: Vec<_> = hosts.split(',').map(str::to_owned).collect();
        let complete = |host: &String| {
            host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
        };
        if !controls.iter().all(complete) {
            return Err(Error::Part("the address is not host:port"));
        }
        Ok(Self { pin, id: id.to_owned(), secret: secret.to_owned(), controls })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pin = base32().encode(&self.pin);
        write!(f, "{PREFIX}.{pin}.{}.{}@{}", self.id, self.secret, self.controls.join(","))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("controls", &self.controls)
            .finish_non_exhaustive()
    }
}
