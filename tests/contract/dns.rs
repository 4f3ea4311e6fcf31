//! The name server, by packets over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use mesh::logic::naming::zone::{Lead, Zone};
use mesh::net::dns::forward::Forwarder;
use mesh::net::dns::message::{self, Packet, Transport};
use mesh::net::dns::resolvers::{Resolvers, Upstreams};
use mesh::net::dns::server::{Server, Sockets};
use mesh::net::task;
use mesh::telemetry::dns::{Counts, OUTCOMES, Outcome};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

use crate::property::naming::zone;

/// A server, and what it counts.
struct Served {
    addr: SocketAddr,
    counts: Arc<Counts>,
    zones: watch::Sender<Arc<Zone>>,
}

fn serve_at(listen: &str, zone: Zone, upstreams: Upstreams) -> Served {
    let sockets = Sockets::bind(listen.parse().unwrap()).unwrap();
    let addr = sockets.local_addr().unwrap();
    let (zones, counts) = (watch::Sender::new(Arc::new(zone)), Arc::<Counts>::default());
    let forwarder = Forwarder::new(Resolvers::new(upstreams, addr));
    let server = Server::new(zones.subscribe(), forwarder, counts.clone(), addr);
    task::spawn("dns", async { server.run(sockets).await.unwrap() });
    Served { addr, counts, zones }
}

fn serve(upstreams: Upstreams) -> Served {
    let zone = zone(&[("web", &[8080, 8081])], Lead::Listener("127.0.0.1:15001".parse().unwrap()));
    serve_at("127.0.0.1:0", zone, upstreams)
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer in time")
}

async fn exchange(server: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(packet, server).await.unwrap();
    let mut answer = vec![0; 65_535];
    let length = patiently(socket.recv(&mut answer)).await.unwrap();
    answer.truncate(length);
    answer
}

async fn ask(server: SocketAddr, question: &Message) -> Message {
    let answer = Message::from_vec(&exchange(server, &question.to_vec().unwrap()).await).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

async fn say(stream: &mut TcpStream, question: &Message) -> Message {
    let packet = question.to_vec().unwrap();
    stream.write_u16(packet.len() as u16).await.unwrap();
    stream.write_all(&packet).await.unwrap();
    let mut answer = vec![0; usize::from(patiently(stream.read_u16()).await.unwrap())];
    patiently(stream.read_exact(&mut answer)).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn count(served: &Served, outcome: Outcome) -> u64 {
    let at = OUTCOMES.iter().position(|other| *other == outcome).unwrap();
    served.counts.questions()[at]
}

/// Answers every question with `SERVFAIL` but one record's worth of noise before it, as a stranger might send it.
async fn resolver() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    task::spawn("resolver", async move {
        let mut packet = vec![0; 4_096];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            let asked = Message::from_vec(&packet[..length]).unwrap();
            let mut wrong = question("evil.example.", RecordType::A).into_response();
            wrong.metadata.id = asked.metadata.id;
            socket.send_to(&wrong.to_vec().unwrap(), from).await.unwrap();
            let mut answer = asked.into_response();
            answer.metadata.response_code = ResponseCode::YXDomain;
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    addr
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_as_they_were_asked_for() {
    let served = serve(Upstreams::Nowhere);

    let answer = ask(served.addr, &question("wEb.MESH.", RecordType::A)).await;

    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
    assert_eq!(answer.queries[0].name().to_ascii(), "wEb.MESH.");
    let [record] = answer.answers.as_slice() else { panic!("{answer}") };
    assert_eq!((record.name.to_ascii().as_str(), record.ttl), ("wEb.MESH.", 5));
    assert_eq!(record.data.ip_addr(), Some([127, 0, 0, 1].into()));
    assert!(answer.edns.is_none(), "nobody asked for it");
    assert_eq!(count(&served, Outcome::Answered), 1);
}

#[tokio::test]
async fn what_is_not_there_is_denied_with_the_record_that_says_for_how_long() {
    let served = serve(Upstreams::Nowhere);

    let unknown = ask(served.addr, &question("wrong.mesh.", RecordType::A)).await;
    let empty = ask(served.addr, &question("web.mesh.", RecordType::AAAA)).await;

    for (answer, code) in [(unknown, ResponseCode::NXDomain), (empty, ResponseCode::NoError)] {
        assert_eq!(answer.metadata.response_code, code);
        assert!(answer.answers.is_empty());
        let [record] = answer.authorities.as_slice() else { panic!("{answer}") };
        let RData::SOA(soa) = &record.data else { panic!("{record}") };
        assert_eq!((record.name.to_ascii().as_str(), record.ttl, soa.minimum), ("mesh.", 5, 5));
        assert_eq!(soa.serial, 7, "the revision of the policy");
    }
    assert_eq!((count(&served, Outcome::Unknown), count(&served, Outcome::Empty)), (1, 1));
}

#[tokio::test]
async fn a_new_zone_is_in_force_at_once() {
    let served = serve(Upstreams::Nowhere);
    let lead = Lead::Listener("127.0.0.1:15001".parse().unwrap());
    served.zones.send_replace(Arc::new(zone(&[("db", &[5432])], lead)));

    let gone = ask(served.addr, &question("web.mesh.", RecordType::A)).await;
    let new = ask(served.addr, &question("db.default.mesh.", RecordType::A)).await;

    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(new.answers.len(), 1);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_is_cut_and_comes_whole_over_tcp() {
    let ports: Vec<u16> = (1..=8).collect();
    let (name, namespace) = ("w".repeat(63), "n".repeat(63));
    let service = format!("{name}.{namespace}");
    let zone = zone(&[(&service, &ports)], Lead::Virtual { v6: true });
    let served = serve_at("127.0.0.1:0", zone, Upstreams::Nowhere);
    let plain = question(&format!("{service}.mesh."), RecordType::SRV);
    let mut roomy = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    roomy.set_edns(edns);

    let cut = ask(served.addr, &plain).await;
    let whole = exchange(served.addr, &roomy.to_vec().unwrap()).await;
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    let over_tcp = [say(&mut stream, &plain).await, say(&mut stream, &plain).await];

    assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.queries == plain.queries);
    for answer in over_tcp {
        assert!(!answer.metadata.truncation && answer.answers.len() == 8);
    }
    let answer = Message::from_vec(&whole).unwrap();
    assert_eq!(answer.edns.map(|edns| edns.max_payload()), Some(1_232), "and said what it takes");
    assert!(whole.len() <= 1_232 && (answer.metadata.truncation || answer.answers.len() == 8));
}

#[tokio::test]
async fn other_names_are_asked_of_the_resolvers_and_strangers_are_not_believed() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let served = serve(Upstreams::Fixed(vec![dead, resolver().await]));

    let answer = ask(served.addr, &question("www.example.org.", RecordType::A)).await;

    assert_eq!(answer.metadata.response_code, ResponseCode::YXDomain);
    assert_eq!(answer.queries[0].name().to_ascii(), "www.example.org.");
    assert_eq!(count(&served, Outcome::Forwarded), 1);
}

#[tokio::test]
async fn the_last_good_answer_is_told_once_no_resolver_answers() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let served = serve(Upstreams::Fixed(vec![socket.local_addr().unwrap()]));
    let answering = async {
        let mut packet = vec![0; 4_096];
        let (length, from) = socket.recv_from(&mut packet).await.unwrap();
        let asked = Message::from_vec(&packet[..length]).unwrap();
        let name = asked.queries[0].name().clone();
        let mut answer = asked.into_response();
        answer.add_answer(Record::from_rdata(name, 600, RData::A(A([192, 0, 2, 1].into()))));
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    };
    let asked = question("www.example.org.", RecordType::A);
    let (fresh, ()) = tokio::join!(ask(served.addr, &asked), answering);
    drop(socket);

    let stale = ask(served.addr, &question("WWW.example.org.", RecordType::A)).await;
    let other = ask(served.addr, &question("www.example.com.", RecordType::A)).await;

    let told = |answer: &Message| (answer.answers[0].data.clone(), answer.answers[0].ttl);
    assert_eq!(told(&fresh), (RData::A(A([192, 0, 2, 1].into())), 600));
    assert_eq!(told(&stale), (RData::A(A([192, 0, 2, 1].into())), 30));
    assert_eq!(stale.queries[0].name().to_ascii(), "WWW.example.org.");
    assert_eq!(other.metadata.response_code, ResponseCode::ServFail);
    let counted = [Outcome::Forwarded, Outcome::Stale, Outcome::Failed].map(|each| count(&served, each));
    assert_eq!(counted, [1, 1, 1]);
}

#[tokio::test]
async fn other_names_are_refused_when_nobody_is_to_be_asked_and_never_asked_of_itself() {
    let closed = serve(Upstreams::Nowhere);
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let own = sockets.local_addr().unwrap();
    let itself = Forwarder::new(Resolvers::new(Upstreams::Fixed(vec![own]), own));

    let answer = ask(closed.addr, &question("www.example.org.", RecordType::A)).await;

    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    assert_eq!(count(&closed, Outcome::Refused), 1);
    assert!(!itself.is_possible());
}

#[tokio::test]
async fn a_changed_file_of_resolvers_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
    let resolvers = Resolvers::new(Upstreams::Host(path.clone()), "127.0.0.1:53".parse().unwrap());
    assert_eq!(resolvers.servers()[..], ["192.0.2.1:53".parse().unwrap()]);

    std::fs::write(&path, "nameserver 127.0.0.1\nnameserver 192.0.2.77\n").unwrap();

    let changed = async {
        while resolvers.servers()[..] != ["192.0.2.77:53".parse().unwrap()] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(changed).await;
}

#[tokio::test]
async fn what_is_no_question_gets_an_error_or_silence() {
    let served = serve(Upstreams::Nowhere);
    let mut update = question("web.mesh.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    let mut none = question("web.mesh.", RecordType::A);
    none.queries.clear();
    let mut version = question("web.mesh.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    version.set_edns(edns);

    assert_eq!(ask(served.addr, &none).await.metadata.response_code, ResponseCode::FormErr);
    // 16: a version of EDNS that it does not know.
    assert_eq!(u16::from(ask(served.addr, &version).await.metadata.response_code), 16);
    assert_eq!(ask(served.addr, &update).await.metadata.response_code, ResponseCode::NotImp);
    let garbage = exchange(served.addr, &[0xff; 12].map(|byte: u8| byte & 0x7f)).await;
    assert_eq!(garbage[..2], [0x7f, 0x7f]);
    // An answer is not answered, or two servers could talk for ever: the next question is the next that is.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let reply = question("web.mesh.", RecordType::A).into_response();
    let real = question("web.mesh.", RecordType::A);
    for packet in [reply.to_vec().unwrap(), b"short".to_vec(), real.to_vec().unwrap()] {
        socket.send_to(&packet, served.addr).await.unwrap();
    }
    let mut answer = [0; 512];
    let length = patiently(socket.recv(&mut answer)).await.unwrap();
    assert_eq!(Message::from_vec(&answer[..length]).unwrap().metadata.id, real.metadata.id);
}

proptest! {
    #[test]
    fn any_packet_is_read_without_harm_and_what_is_sent_back_can_be_read(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        flips in proptest::collection::vec((0usize..40, any::<u8>()), 0..4),
    ) {
        let mut packet = question("web.mesh.", RecordType::A).to_vec().unwrap();
        for (at, byte) in flips {
            let at = at % packet.len();
            packet[at] = byte;
        }
        let zone = zone(&[("web", &[80])], Lead::Virtual { v6: true });

        for packet in [bytes, packet] {
            let sent = match message::read(&packet) {
                Packet::Question(question) => {
                    let answer = zone.answer(&question.name, question.kind);
                    question.answered(&answer, (1, true), Transport::Udp)
                }
                Packet::Wrong(answer) => answer,
                Packet::Noise => continue,
            };
            prop_assert_eq!(&sent[..2], &packet[..2]);
            prop_assert!(sent.len() <= 1_232 && Message::from_vec(&sent).is_ok(), "{:?}", sent);
        }
    }
}
