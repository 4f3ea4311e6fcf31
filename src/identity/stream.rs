//! A TCP connection whose ends have shaken hands: what goes through is sealed and opened here (see [`record`]), while the
//! secrets of later keys are kept, and rustls only where tickets may come.
//!
//! An idle connection holds no buffer: all of one thread seal and open in the same memory, and a connection keeps only what
//! could not be written, opened or passed on yet.
//!
//! [`record`]: crate::identity::record

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_lc_rs::aead::Algorithm;
use bytes::{Buf as _, Bytes};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{Error, ExtractedSecrets, HandshakeType, InvalidMessage, PeerMisbehaved};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::identity::handshake::Arrived;
use crate::identity::record::{CONTENT_BYTES_MAX, Kind, OVERHEAD_BYTES, Opener, RECORD_BYTES_MAX, Sealer};
use crate::identity::secret::{Overheard, Secret};

/// Records that are sealed, and as good as read, with one call of the kernel: what they take stays in the cache.
const RECORDS_AT_ONCE: usize = 4;
/// The memory of a thread, in bytes: a record may have begun before those that are read now.
const SCRATCH_BYTES: usize = (RECORDS_AT_ONCE + 1) * RECORD_BYTES_MAX;
/// The largest message of a handshake, in bytes: a ticket holds a chain of certificates.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Before such a message: its type, and its length.
const MESSAGE_HEADER_BYTES: usize = 4;
/// "I use new keys from here on", and no wish that the peer does (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
/// "I send nothing more" (RFC 8446 §6.1), and the other alert that is no complaint.
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const WARNING: u8 = 1;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Where a connection has new keys from, and who takes the tickets.
enum Session {
    /// A client that remembers sessions.
    Remembered(Box<KernelConnection<ClientConnectionData>>),
    /// A client that remembers none, and throws tickets away.
    Client {
        own: Secret,
        peers: Secret,
    },
    Server {
        own: Secret,
        peers: Secret,
    },
}

impl Session {
    fn next_sealer(&mut self) -> Result<Sealer, Error> {
        match self {
            Self::Remembered(session) => Sealer::new(session.update_tx_secret()?),
            Self::Client { own, .. } | Self::Server { own, .. } => Sealer::from_material(&own.next()?),
        }
    }

    fn next_opener(&mut self) -> Result<Opener, Error> {
        match self {
            Self::Remembered(session) => Opener::new(session.update_rx_secret()?),
            Self::Client { peers, .. } | Self::Server { peers, .. } => Opener::from_material(&peers.next()?),
        }
    }

    fn ticket(&mut self, ticket: &[u8]) -> Result<(), Error> {
        match self {
            Self::Remembered(session) => session.handle_new_session_ticket(ticket),
            Self::Client { .. } => Ok(()),
            Self::Server { .. } => Err(InvalidMessage::UnexpectedMessage("a ticket from a client").into()),
        }
    }
}

/// A connection over TLS 1.3. The end that the peer has not announced is an error ([`io::ErrorKind::UnexpectedEof`]).
pub struct TlsStream {
    io: TcpStream,
    session: Session,
    sealer: Sealer,
    opener: Opener,
    /// Sealed, not written.
    sealed: Bytes,
    /// Arrived, not opened.
    unopened: Bytes,
    /// Opened, not taken.
    opened: Bytes,
    /// The beginning of a message of a handshake.
    message: Vec<u8>,
    /// The peer asked for new keys.
    owes_keys: bool,
    has_ended: bool,
    is_shut: bool,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("io", &self.io).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// Goes on where the handshake of a client ended, which was overheard if no session is to be remembered.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) fn client(
        io: TcpStream,
        connection: UnbufferedClientConnection,
        (arrived, overheard): (Arrived, Option<&Overheard>),
    ) -> Result<Self, Error> {
        let (secrets, session) = connection.dangerous_into_kernel_connection()?;
        Self::new(io, secrets, arrived, |algorithm| match overheard {
            Some(overheard) => {
                let (own, peers) = overheard.secrets(algorithm)?;
                Ok(Session::Client { own, peers })
            }
            None => Ok(Session::Remembered(Box::new(session))),
        })
    }

    /// Goes on where the handshake of a server ended, which was overheard.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) fn server(
        io: TcpStream,
        connection: UnbufferedServerConnection,
        (arrived, overheard): (Arrived, &Overheard),
    ) -> Result<Self, Error> {
        let (secrets, _) = connection.dangerous_into_kernel_connection()?;
        Self::new(io, secrets, arrived, |algorithm| {
            let (peers, own) = overheard.secrets(algorithm)?;
            Ok(Session::Server { own, peers })
        })
    }

    fn new(
        io: TcpStream,
        secrets: ExtractedSecrets,
        arrived: Arrived,
        session: impl FnOnce(&'static Algorithm) -> Result<Session, Error>,
    ) -> Result<Self, Error> {
        let ExtractedSecrets { tx, rx } = secrets;
        let (sealer, opener) = (Sealer::new(tx)?, Opener::new(rx)?);
        Ok(Self {
            io,
            session: session(sealer.algorithm())?,
            sealer,
            opener,
            sealed: Bytes::new(),
            unopened: arrived.unopened.into(),
            opened: arrived.opened.into(),
            message: Vec::new(),
            owes_keys: false,
            has_ended: false,
            is_shut: false,
        })
    }

    // --- what arrives ---------------------------------------------------------------------------------------------------

    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let mut filled = self.unopened.len();
        scratch[..filled].copy_from_slice(&self.unopened);
        self.unopened = Bytes::new();
        // No more than can be passed on, so that little is kept.
        let most = (out.remaining() + RECORD_BYTES_MAX).min(scratch.len());
        loop {
            let used = self.open(&mut scratch[..filled], out).map_err(invalid)?;
            if self.has_ended || out.filled().len() > before {
                self.unopened = Bytes::copy_from_slice(&scratch[used..filled]);
                return Poll::Ready(Ok(()));
            }
            scratch.copy_within(used..filled, 0);
            filled -= used;
            let mut room = ReadBuf::new(&mut scratch[filled..most]);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut room);
            let count = room.filled().len();
            match read {
                Poll::Ready(Ok(())) if count > 0 => filled += count,
                Poll::Ready(Ok(())) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.unopened = Bytes::copy_from_slice(&scratch[..filled]);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Opens the records at the beginning of `bytes`, as long as `out` has room for what they carry. Returns how many bytes
    /// they are.
    fn open(&mut self, bytes: &mut [u8], out: &mut ReadBuf<'_>) -> Result<usize, Error> {
        let mut used = 0;
        while let Some(size) = Opener::size(&bytes[used..])?
            && let Some(record) = bytes[used..].get_mut(..size)
            && !self.has_ended
            && (out.filled().is_empty() || size <= out.remaining())
            && self.opened.is_empty()
        {
            let opened = self.opener.open(record)?;
            match opened.kind {
                Kind::Data => {
                    let (now, later) = opened.content.split_at(opened.content.len().min(out.remaining()));
                    out.put_slice(now);
                    self.opened = Bytes::copy_from_slice(later);
                }
                Kind::Handshake => self.on_handshake(opened.content)?,
                Kind::Alert => self.on_alert(opened.content)?,
            }
            used += size;
        }
        Ok(used)
    }

    fn on_alert(&mut self, content: &[u8]) -> Result<(), Error> {
        match content {
            [_, CLOSE_NOTIFY] => self.has_ended = true,
            [_, USER_CANCELED] => {}
            [_, complaint] => return Err(Error::AlertReceived((*complaint).into())),
            _ => return Err(InvalidMessage::MessageTooShort.into()),
        }
        Ok(())
    }

    fn on_handshake(&mut self, content: &[u8]) -> Result<(), Error> {
        self.message.extend_from_slice(content);
        while let Some(&[kind, high, middle, low]) = self.message.first_chunk::<MESSAGE_HEADER_BYTES>() {
            let size = MESSAGE_HEADER_BYTES + u32::from_be_bytes([0, high, middle, low]) as usize;
            if size > MESSAGE_BYTES_MAX {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some(message) = self.message.get(MESSAGE_HEADER_BYTES..size) else { break };
            match (HandshakeType::from(kind), message) {
                (HandshakeType::NewSessionTicket, ticket) => self.session.ticket(ticket)?,
                (HandshakeType::KeyUpdate, [wish @ (0 | 1)]) => {
                    if size < self.message.len() {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.owes_keys |= *wish == 1;
                    self.opener = self.session.next_opener()?;
                }
                _ => return Err(InvalidMessage::UnexpectedMessage("no ticket and no key update").into()),
            }
            self.message.drain(..size);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    // --- what leaves ----------------------------------------------------------------------------------------------------

    /// Seals the beginning of `content` into `out`. Returns how much of it, and how many bytes that made.
    fn seal(&mut self, content: &[u8], out: &mut [u8]) -> Result<(usize, usize), Error> {
        let (mut taken, mut size) = (0, 0);
        for piece in content.chunks(CONTENT_BYTES_MAX).take(RECORDS_AT_ONCE) {
            if self.owes_keys || self.sealer.is_worn() {
                size += self.sealer.seal(Kind::Handshake, &KEY_UPDATE, &mut out[size..])?;
                self.sealer = self.session.next_sealer()?;
                self.owes_keys = false;
            }
            size += self.sealer.seal(Kind::Data, piece, &mut out[size..])?;
            taken += piece.len();
        }
        Ok((taken, size))
    }

    fn poll_seal(
        &mut self,
        cx: &mut Context<'_>,
        content: &[u8],
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (taken, size) = self.seal(content, scratch).map_err(invalid)?;
        let sealed = &scratch[..size];
        let written = match Pin::new(&mut self.io).poll_write(cx, sealed)? {
            Poll::Ready(0) if size > 0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        };
        self.sealed = Bytes::copy_from_slice(&sealed[written..]);
        Poll::Ready(Ok(taken))
    }

    /// Writes what is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sealed.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.sealed))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sealed.advance(count),
            }
        }
        // It may be a small part of a large piece of memory.
        self.sealed = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.opened.is_empty() {
            let count = this.opened.len().min(out.remaining());
            out.put_slice(&this.opened.split_to(count));
            return Poll::Ready(Ok(()));
        }
        if this.has_ended || out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| this.poll_open(cx, scratch, out))
    }
}

impl AsyncWrite for TlsStream {
    /// Takes up to some records' worth. They may be written only by the next call, or [`Self::poll_flush`].
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        SCRATCH.with_borrow_mut(|scratch| this.poll_seal(cx, content, scratch))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(this.poll_send(cx))?;
            let mut sealed = [0; 2 + OVERHEAD_BYTES];
            this.sealer.seal(Kind::Alert, &[WARNING, CLOSE_NOTIFY], &mut sealed).map_err(invalid)?;
            this.sealed = Bytes::copy_from_slice(&sealed);
            this.is_shut = true;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
