//! The listening side: datagrams and connections, in bounds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::logic::naming::zone::{Answer, Zone};
use crate::net::dns::forward::Forwarder;
use crate::net::dns::message::{self, Packet, Question, Refusal, Transport};
use crate::net::{interface, listen, task};
use crate::telemetry::dns::{Counts, Outcome};

/// Questions that wait for the host's resolvers at a time; further ones are refused at once.
const FORWARDED_MAX: usize = 256;
/// Connections at a time; further ones wait with the kernel.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be silent, or take to send a question or to receive an answer (RFC 7766 §6.2.3).
const IDLE_TIME: Duration = Duration::from_secs(10);
/// Pause after the kernel refused to give or take anything.
const TROUBLE_WAIT: Duration = Duration::from_millis(50);
/// Times that a port is looked for that is free for datagrams and for connections.
const PORTS_TRIED: usize = 16;
const BACKLOG: i32 = 64;

/// The two sockets of a name server, on one address.
#[derive(Debug)]
pub struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Sockets {
    /// Binds both. With port 0, one that is free for both.
    ///
    /// # Errors
    /// When the address is taken or not ours; nothing is bound then.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let mut tried = 0;
        loop {
            let udp = socket(addr, Type::DGRAM, Protocol::UDP)?;
            udp.bind(&addr.into())?;
            let udp: std::net::UdpSocket = udp.into();
            let tcp = socket(addr, Type::STREAM, Protocol::TCP)?;
            tcp.set_reuse_address(true)?;
            let bound = tcp.bind(&udp.local_addr()?.into()).and_then(|()| tcp.listen(BACKLOG));
            tried += 1;
            match bound {
                Ok(()) => return Ok(Self { udp, tcp: tcp.into() }),
                Err(_) if addr.port() == 0 && tried < PORTS_TRIED => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes sockets that another process had, as [`Sockets::each`] gave them there.
    pub fn pairs(sockets: Vec<OwnedFd>) -> Vec<Self> {
        let (mut pairs, mut sockets) = (Vec::new(), sockets.into_iter());
        while let (Some(udp), Some(tcp)) = (sockets.next(), sockets.next()) {
            pairs.push(Self { udp: udp.into(), tcp: tcp.into() });
        }
        pairs
    }

    /// Takes those of another process that are where this one is to listen, if there are such; else binds anew.
    ///
    /// # Errors
    /// As [`Sockets::bind`].
    pub fn keep_or_bind(addr: SocketAddr, kept: &mut Vec<Self>) -> io::Result<Self> {
        match kept.iter().position(|kept| listen::is_meant(addr, &kept.tcp)) {
            Some(index) => Ok(kept.swap_remove(index)),
            None => Self::bind(addr),
        }
    }

    /// Returns the same sockets once more.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }

    /// Returns both, UDP first, to be handed to another process.
    pub fn each(&self) -> [BorrowedFd<'_>; 2] {
        [self.udp.as_fd(), self.tcp.as_fd()]
    }

    /// Returns where they listen.
    ///
    /// # Errors
    /// When the kernel does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A name server.
#[derive(Debug)]
pub struct Server {
    zone: watch::Receiver<Arc<Zone>>,
    forwarder: Forwarder,
    counts: Arc<Counts>,
    /// Whether whoever reaches it is on this host.
    private: bool,
    waiting: Arc<Semaphore>,
}

impl Server {
    /// Makes the server of a zone that listens on `listen`.
    pub fn new(
        zone: watch::Receiver<Arc<Zone>>,
        forwarder: Forwarder,
        counts: Arc<Counts>,
        listen: SocketAddr,
    ) -> Self {
        let private = listen.ip().is_loopback();
        Self { zone, forwarder, counts, private, waiting: Arc::new(Semaphore::new(FORWARDED_MAX)) }
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// When the runtime cannot watch the sockets.
    pub async fn run(self, sockets: Sockets) -> io::Result<()> {
        let udp = Arc::new(UdpSocket::from_std(sockets.udp)?);
        let tcp = TcpListener::from_std(sockets.tcp)?;
        let server = Arc::new(self);
        tokio::join!(server.clone().datagrams(udp), server.connections(tcp));
        Ok(())
    }

    async fn datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // An answer that nobody waited for comes back as an error of the next call.
                    tracing::debug!(%error, "no question could be received");
                    sleep(TROUBLE_WAIT).await;
                    continue;
                }
            };
            let packet = buffer.get(..length).unwrap_or_default();
            let (question, packet) = match self.judge(packet, from.ip(), Transport::Udp) {
                Judged::Done(answer) => {
                    _ = socket.send_to(&answer, from).await;
                    continue;
                }
                Judged::Silence => continue,
                Judged::Forward(question) => (question, packet.to_vec()),
            };
            let Ok(permit) = self.waiting.clone().try_acquire_owned() else {
                self.counts.count(Outcome::Refused);
                _ = socket.send_to(&question.refused(Refusal::Failed), from).await;
                continue;
            };
            let (server, socket) = (self.clone(), socket.clone());
            task::spawn("dns-question", async move {
                let answer = server.forward(&question, &packet, Transport::Udp).await;
                _ = socket.send_to(&answer, from).await;
                drop(permit);
            });
        }
    }

    async fn connections(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let server = self.clone();
                    task::spawn("dns-connection", async move {
                        // However it ends, whoever asked knows.
                        _ = server.converse(stream, from.ip()).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection for questions could be accepted");
                    sleep(TROUBLE_WAIT).await;
                }
            }
        }
    }

    /// Answers the questions of one connection, one after the other.
    async fn converse(&self, mut stream: TcpStream, from: IpAddr) -> io::Result<()> {
        loop {
            let question = async {
                let length = stream.read_u16().await?;
                let mut packet = vec![0; usize::from(length)];
                stream.read_exact(&mut packet).await?;
                Ok::<_, io::Error>(packet)
            };
            let packet = timeout(IDLE_TIME, question).await.map_err(|_| io::ErrorKind::TimedOut)??;
            let answer = match self.judge(&packet, from, Transport::Tcp) {
                Judged::Done(answer) => answer,
                Judged::Silence => return Ok(()),
                Judged::Forward(question) => self.forward(&question, &packet, Transport::Tcp).await,
            };
            let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
            let answer = [&length.to_be_bytes()[..], &answer].concat();
            timeout(IDLE_TIME, stream.write_all(&answer)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
    }

    /// Answers a packet as far as that takes nobody else.
    fn judge(&self, packet: &[u8], from: IpAddr, transport: Transport) -> Judged {
        let question = match message::read(packet) {
            Packet::Question(question) => question,
            Packet::Wrong(answer) => {
                self.counts.count(Outcome::Malformed);
                return Judged::Done(answer);
            }
            Packet::Noise => {
                self.counts.count(Outcome::Malformed);
                return Judged::Silence;
            }
        };
        let zone = self.zone.borrow().clone();
        let answer = zone.answer(&question.name, question.kind);
        let outcome = match &answer {
            Answer::Records(_) => Outcome::Answered,
            Answer::Nothing { .. } => Outcome::Empty,
            Answer::Unknown { .. } => Outcome::Unknown,
            // Only for this host: a server that asks for anybody is a weapon.
            Answer::Elsewhere if self.forwarder.is_possible() && self.is_here(from) => {
                return Judged::Forward(question);
            }
            Answer::Elsewhere => Outcome::Refused,
        };
        self.counts.count(outcome);
        let recursive = self.forwarder.is_possible();
        Judged::Done(question.answered(&answer, (zone.serial(), recursive), transport))
    }

    fn is_here(&self, from: IpAddr) -> bool {
        self.private || interface::is_own(from.to_canonical())
    }

    async fn forward(&self, question: &Question, packet: &[u8], transport: Transport) -> Vec<u8> {
        let answer = self.forwarder.ask(packet, transport).await;
        if let Some(answer) = answer {
            self.counts.count(Outcome::Forwarded);
            return answer;
        }
        let stale = self.forwarder.last_good(packet).and_then(|last| question.stale(&last, transport));
        self.counts.count(if stale.is_some() { Outcome::Stale } else { Outcome::Failed });
        stale.unwrap_or_else(|| question.refused(Refusal::Failed))
    }
}

/// What is to be done about a packet.
enum Judged {
    /// To send this.
    Done(Vec<u8>),
    /// Nothing.
    Silence,
    /// To ask the host's resolvers.
    Forward(Box<Question>),
}
