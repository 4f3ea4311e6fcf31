//! The records of TLS 1.3 (RFC 8446 §5): what a connection consists of once the hands are shaken.
//!
//! rustls shakes hands and owns the secrets; its records, made for any use, copy each byte three times on its way and are
//! read in pieces of 4 KiB. Bytes that pass by are what a proxy is for, so here they are sealed straight into what is
//! written, and opened where they were read.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, Error, InvalidMessage, PeerMisbehaved};

use crate::identity::secret::Material;

/// Before the content: the kind that the outside sees, a version, the length.
const HEADER_BYTES: usize = 5;
/// What the outside sees of every record (`application_data`, "TLS 1.2").
const OUTSIDE: [u8; 3] = [23, 3, 3];
/// After the content: its kind, and the tag.
const TAG_BYTES: usize = 16;
const TRAILER_BYTES: usize = 1 + TAG_BYTES;
/// The most content of one record, in bytes.
pub const CONTENT_BYTES_MAX: usize = 1 << 14;
/// What a record adds to its content when it is sealed here, in bytes.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + TRAILER_BYTES;
/// The most that follows a header, padding and all (RFC 8446 §5.2).
const SEALED_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;
/// The largest record there is, in bytes.
pub(crate) const RECORD_BYTES_MAX: usize = HEADER_BYTES + SEALED_BYTES_MAX;
/// Records that one key of AES-GCM may seal (RFC 8446 §5.5 allows 2^24.5).
const RECORDS_MAX: u64 = 1 << 24;

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word of farewell, or of complaint.
    Alert,
    /// Tickets and new keys.
    Handshake,
    /// What the connection is for.
    Data,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::Data),
            _ => None,
        }
    }
}

/// The secrets of one direction, and the number of the next record.
struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    next: u64,
}

impl Keys {
    fn new((next, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("a cipher that is not offered".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::EncryptError)?;
        Ok(Self { key: LessSafeKey::new(key), iv, next })
    }

    /// Begins anew with other keys.
    fn from_material(made: &Material) -> Result<Self, Error> {
        let key = UnboundKey::new(made.algorithm, made.key()).map_err(|_| Error::EncryptError)?;
        Ok(Self { key: LessSafeKey::new(key), iv: made.iv, next: 0 })
    }

    /// Returns the nonce of the next record (RFC 8446 §5.3): no two records have the same.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce.iter_mut().rev().zip(self.next.to_le_bytes()) {
            *byte ^= count;
        }
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals what is sent.
pub struct Sealer(Keys);

impl Sealer {
    /// Begins with the number of the first record, and the secrets.
    ///
    /// # Errors
    /// When the secrets are of a cipher that we do not speak.
    pub fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        Keys::new(secrets).map(Self)
    }

    /// Begins anew with other keys.
    pub(crate) fn from_material(made: &Material) -> Result<Self, Error> {
        Keys::from_material(made).map(Self)
    }

    /// Returns the cipher.
    pub(crate) fn algorithm(&self) -> &'static Algorithm {
        self.0.key.algorithm()
    }

    /// Makes one record of `content`, of which [`CONTENT_BYTES_MAX`] are allowed, at the beginning of `out`. Returns its
    /// size in bytes.
    ///
    /// # Errors
    /// When `content` or `out` does not fit: nothing of `out` is to be used then.
    pub fn seal(&mut self, kind: Kind, content: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        if content.len() > CONTENT_BYTES_MAX {
            return Err(Error::EncryptError);
        }
        let size = content.len() + OVERHEAD_BYTES;
        let out = out.get_mut(..size).ok_or(Error::EncryptError)?;
        let (header, rest) = out.split_at_mut(HEADER_BYTES);
        let (sealed, trailer) = rest.split_at_mut(content.len());
        let length = (content.len() + TRAILER_BYTES) as u16;
        header[..3].copy_from_slice(&OUTSIDE);
        header[3..].copy_from_slice(&length.to_be_bytes());
        let nonce = self.0.nonce();
        let sealing = self.0.key.seal_out_of_place_scatter(
            nonce,
            Aad::from(&*header),
            content,
            sealed,
            &[kind.number()],
            trailer,
        );
        sealing.map_err(|_| Error::EncryptError)?;
        Ok(size)
    }

    /// Tells whether other keys are due.
    pub(crate) fn is_worn(&self) -> bool {
        self.0.next >= RECORDS_MAX
    }
}

/// Opens what has arrived.
pub struct Opener(Keys);

/// One record, opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'b> {
    /// What it carries.
    pub kind: Kind,
    /// The content, possibly empty.
    pub content: &'b [u8],
}

impl Opener {
    /// Begins with the number of the first record, and the secrets.
    ///
    /// # Errors
    /// When the secrets are of a cipher that we do not speak.
    pub fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        Keys::new(secrets).map(Self)
    }

    /// Begins anew with other keys.
    pub(crate) fn from_material(made: &Material) -> Result<Self, Error> {
        Keys::from_material(made).map(Self)
    }

    /// Returns the size of the record at the beginning of `bytes`, in bytes; None when too little of it is there.
    ///
    /// # Errors
    /// When no record begins like that.
    pub fn size(bytes: &[u8]) -> Result<Option<usize>, Error> {
        let Some(&[outside, major, minor, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        if [outside, major, minor] != OUTSIDE {
            return Err(InvalidMessage::InvalidContentType.into());
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        match length {
            0..=TAG_BYTES => Err(Error::DecryptError),
            TRAILER_BYTES..=SEALED_BYTES_MAX => Ok(Some(HEADER_BYTES + length)),
            _ => Err(Error::PeerSentOversizedRecord),
        }
    }

    /// Opens one record, as long as [`Opener::size`] says.
    ///
    /// # Errors
    /// When it was not sealed by the peer, or is nothing that a peer may seal. The connection is worthless then.
    pub fn open<'b>(&mut self, record: &'b mut [u8]) -> Result<Opened<'b>, Error> {
        let (header, sealed) = record.split_at_mut_checked(HEADER_BYTES).ok_or(Error::DecryptError)?;
        let nonce = self.0.nonce();
        let opened = self.0.key.open_in_place(nonce, Aad::from(&*header), sealed);
        let opened: &[u8] = opened.map_err(|_| Error::DecryptError)?;
        // Zeroes that pad it may follow the kind.
        let end = opened.iter().rposition(|byte| *byte != 0);
        let end = end.ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        let kind = Kind::of(opened[end]).ok_or(InvalidMessage::InvalidContentType)?;
        if end > CONTENT_BYTES_MAX {
            return Err(Error::PeerSentOversizedRecord);
        }
        Ok(Opened { kind, content: &opened[..end] })
    }
}
