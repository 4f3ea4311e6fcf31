//! Asking the host's resolvers: packets pass as they are, but for their number, which nobody else shall guess.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use crate::net::dns::message::Transport;
use crate::net::dns::resolvers::Resolvers;
use crate::net::dns::stale::Stale;
use crate::net::{clock, mark};

/// How long one server is waited for; then the next is asked.
const TRY_TIME: Duration = Duration::from_secs(2);
/// How long servers are waited for while there is an old answer: whoever asks gives up after five seconds, mostly
/// (resolv.conf(5), `timeout`).
const PATIENCE: Duration = Duration::from_secs(4);
/// Times that all servers are asked.
const ROUNDS: usize = 2;
/// Bytes of a packet's head and of what follows a question's name.
const HEAD_BYTES: usize = 12;
const TYPE_AND_CLASS_BYTES: usize = 4;

/// Asks others.
#[derive(Debug)]
pub struct Forwarder {
    resolvers: Resolvers,
    /// Where the server that answered last stands in the list.
    last: AtomicUsize,
    /// What they last answered.
    stale: Stale,
}

impl Forwarder {
    /// Makes one that asks these.
    pub fn new(resolvers: Resolvers) -> Self {
        Self { resolvers, last: AtomicUsize::new(0), stale: Stale::default() }
    }

    /// Returns whether there is anybody to ask.
    pub fn is_possible(&self) -> bool {
        !self.resolvers.servers().is_empty()
    }

    /// Returns the answer to a question, as the first server that gives one has it; `None` when none does in time, which is
    /// sooner where there is an answer to fall back on.
    pub async fn ask(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = question(packet)?;
        let most = if self.stale.find(question, clock::now()).is_some() { PATIENCE } else { Duration::MAX };
        let answer = timeout(most, self.ask_each(packet, transport)).await.ok()??;
        self.stale.keep(question, &answer, clock::now());
        Some(answer)
    }

    /// Returns what was answered when a question was last asked, for when nobody answers it; `None` when that is too long ago.
    pub fn last_good(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.stale.find(question(packet)?, clock::now())
    }

    async fn ask_each(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let servers = self.resolvers.servers();
        let first = self.last.load(Ordering::Relaxed);
        for turn in 0..servers.len() * ROUNDS {
            let index = (first + turn) % servers.len();
            let Some(server) = servers.get(index) else { continue };
            let asked = timeout(TRY_TIME, ask(*server, packet, transport)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answer) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(error) => tracing::debug!(%server, %error, "a resolver of this host did not answer"),
            }
        }
        None
    }
}

async fn ask(server: SocketAddr, packet: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    let id: [u8; 2] = rand::random();
    let mut sent = packet.to_vec();
    sent.splice(..2, id);
    let mut answer = match transport {
        Transport::Udp => ask_udp(server, &sent).await,
        Transport::Tcp => ask_tcp(server, &sent).await,
    }?;
    answer.splice(..2, packet.iter().take(2).copied());
    Ok(answer)
}

async fn ask_udp(server: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    mark::apply(&socket)?;
    socket.connect(server).await?;
    socket.send(sent).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer.get(..length).is_some_and(|answer| answers(answer, sent)) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    mark::apply(&socket)?;
    let mut stream = socket.connect(server).await?;
    let length = u16::try_from(sent.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), sent].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answers(&answer, sent) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Returns whether a packet is an answer to this question: the same number, and the same words.
fn answers(answer: &[u8], asked: &[u8]) -> bool {
    let is_answer = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let is_of = |words: &[u8]| {
        let said = answer.get(HEAD_BYTES..HEAD_BYTES + words.len());
        said.is_some_and(|said| said.eq_ignore_ascii_case(words))
    };
    is_answer && answer.get(..2) == asked.get(..2) && question(asked).is_some_and(is_of)
}

/// Returns the question of a packet: its name, type and class.
fn question(packet: &[u8]) -> Option<&[u8]> {
    packet.get(HEAD_BYTES..question_end(packet)?)
}

/// Returns where a packet's question ends.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEAD_BYTES;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at + TYPE_AND_CLASS_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::net::dns::forward::answers;

    /// A packet: number, flags, one question about `a.b`, type and class.
    fn packet(id: u8, flags: u8, name: &[u8]) -> Vec<u8> {
        [&[0, id, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 0, 1, 0, 1]].concat()
    }

    #[test]
    fn only_an_answer_with_the_same_number_and_question_counts() {
        let question = packet(7, 0x01, b"\x01a\x01b");

        assert!(answers(&packet(7, 0x81, b"\x01A\x01b"), &question));
        assert!(!answers(&packet(8, 0x81, b"\x01a\x01b"), &question), "another number");
        assert!(!answers(&packet(7, 0x01, b"\x01a\x01b"), &question), "a question");
        assert!(!answers(&packet(7, 0x81, b"\x01a\x01c"), &question), "about another name");
        assert!(!answers(&packet(7, 0x81, b""), &question), "without a question");
        assert!(!answers(&[], &question));
    }
}
