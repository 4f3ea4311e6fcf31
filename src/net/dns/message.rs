//! Questions and answers as packets (RFC 1035, EDNS of RFC 6891).

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::logic::naming::zone::{Answer, Datum, Kind, TTL_S};
use crate::model::name::MESH_DOMAIN;

/// Bytes of a packet's head.
const HEAD_BYTES: usize = 12;
/// What every client takes over UDP (RFC 1035 §2.3.4).
const UDP_BYTES_MIN: u16 = 512;
/// What is sent over UDP at most, and said to be taken: no network on the way cuts it to pieces (DNS flag day 2020).
const UDP_BYTES_MAX: u16 = 1_232;
/// How long others may keep an answer that was not asked for anew (RFC 8767 §4).
const STALE_TTL_S: u32 = 30;
/// The zone's own record: how often others would look for a new state of it, and until when they would believe the old.
const REFRESH_S: i32 = 3_600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 86_400;

/// What a packet turned out to be.
#[derive(Debug)]
pub enum Packet {
    /// A question.
    Question(Box<Question>),
    /// Something that is answered with this packet.
    Wrong(Vec<u8>),
    /// Something that must not be answered: an answer itself, or no DNS at all.
    Noise,
}

/// A question that can be answered.
#[derive(Debug)]
pub struct Question {
    request: Message,
    /// The name in lower case, without a final dot.
    pub name: String,
    /// What is asked about it.
    pub kind: Kind,
}

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody who could answer does.
    Failed,
    /// It is not for this server to answer.
    Refused,
}

/// By which way an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram: what does not fit is asked for again over TCP.
    Udp,
    /// On a connection.
    Tcp,
}

/// Reads a packet.
pub fn read(packet: &[u8]) -> Packet {
    let (Some(head), Some(&[high, low])) = (packet.get(..HEAD_BYTES), packet.first_chunk::<2>()) else {
        return Packet::Noise;
    };
    let is_answer = head.get(2).is_none_or(|flags| flags & 0x80 != 0);
    if is_answer {
        return Packet::Noise;
    }
    let id = u16::from_be_bytes([high, low]);
    let Ok(request) = Message::from_vec(packet) else {
        return wrong(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr));
    };
    let op_code = request.metadata.op_code;
    if op_code != OpCode::Query {
        return wrong(&Message::error_msg(id, op_code, ResponseCode::NotImp));
    }
    let [query] = request.queries.as_slice() else {
        return wrong(&Message::error_msg(id, op_code, ResponseCode::FormErr));
    };
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        let mut answer = begin(&request, ResponseCode::BADVERS);
        answer.add_query(query.clone());
        return wrong(&answer);
    }
    let ours = matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
    let kind = if ours { kind(query.query_type()) } else { Kind::Other };
    let name = query.name().to_ascii().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
    Packet::Question(Box::new(Question { request, name, kind }))
}

fn wrong(answer: &Message) -> Packet {
    answer.to_vec().map_or(Packet::Noise, Packet::Wrong)
}

fn kind(kind: RecordType) -> Kind {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the types of DNS are many and not ours")]
    match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// Begins the answer to a request, without the question.
fn begin(request: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    answer.metadata.recursion_desired = request.metadata.recursion_desired;
    answer.metadata.checking_disabled = request.metadata.checking_disabled;
    answer.metadata.response_code = code;
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        edns.set_rcode_high(code.high());
        answer.set_edns(edns);
    }
    answer
}

impl Question {
    /// Writes the answer. `recursive`: whether questions about other names would be answered too.
    pub fn answered(
        &self,
        answer: &Answer,
        (serial, recursive): (u32, bool),
        transport: Transport,
    ) -> Vec<u8> {
        let (code, data, zone) = match answer {
            Answer::Records(data) => (ResponseCode::NoError, data.as_slice(), None),
            Answer::Nothing { zone } => (ResponseCode::NoError, &[][..], Some(zone)),
            Answer::Unknown { zone } => (ResponseCode::NXDomain, &[][..], Some(zone)),
            Answer::Elsewhere => return self.refused(Refusal::Refused),
        };
        let mut message = self.begin(code);
        message.metadata.authoritative = true;
        message.metadata.recursion_available = recursive;
        let owner = self.request.queries.first().map(|query| query.name().clone()).unwrap_or_default();
        message.add_answers(data.iter().filter_map(|datum| record(&owner, datum, serial)));
        if let Some(zone) = zone.and_then(|zone| Name::from_ascii(format!("{zone}.")).ok()) {
            message.authorities.extend(record(&zone, &Datum::Soa, serial));
        }
        let packet = message.to_vec().unwrap_or_default();
        if packet.len() <= self.limit(transport) {
            packet
        } else {
            message.truncate().to_vec().unwrap_or_default()
        }
    }

    /// Writes an answer of a resolver of this host as one to this question that is not to be kept for long; `None` when it
    /// cannot be read.
    pub fn stale(&self, answer: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(answer).ok()?;
        message.metadata.id = self.request.metadata.id;
        message.queries.clone_from(&self.request.queries);
        if self.request.edns.is_none() {
            message.edns = None;
        }
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.min(STALE_TTL_S);
        }
        let packet = message.to_vec().ok()?;
        if packet.len() <= self.limit(transport) { Some(packet) } else { message.truncate().to_vec().ok() }
    }

    /// Writes that there is no answer.
    pub fn refused(&self, refusal: Refusal) -> Vec<u8> {
        let code = match refusal {
            Refusal::Failed => ResponseCode::ServFail,
            Refusal::Refused => ResponseCode::Refused,
        };
        self.begin(code).to_vec().unwrap_or_default()
    }

    fn begin(&self, code: ResponseCode) -> Message {
        let mut message = begin(&self.request, code);
        message.add_queries(self.request.queries.iter().cloned());
        message
    }

    fn limit(&self, transport: Transport) -> usize {
        if transport == Transport::Tcp {
            return usize::from(u16::MAX);
        }
        let asked = self.request.edns.as_ref().map_or(UDP_BYTES_MIN, Edns::max_payload);
        usize::from(asked.clamp(UDP_BYTES_MIN, UDP_BYTES_MAX))
    }
}

fn record(owner: &Name, datum: &Datum, serial: u32) -> Option<Record> {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).ok();
    let server = || name(&format!("ns.{MESH_DOMAIN}"));
    let data = match datum {
        Datum::A(addr) => RData::A(A(*addr)),
        Datum::Aaaa(addr) => RData::AAAA(AAAA(*addr)),
        Datum::Srv { port, target } => RData::SRV(SRV::new(0, 0, *port, name(target)?)),
        Datum::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Datum::Ns => RData::NS(NS(server()?)),
        Datum::Soa => RData::SOA(SOA::new(
            server()?,
            name(&format!("hostmaster.{MESH_DOMAIN}"))?,
            serial,
            REFRESH_S,
            RETRY_S,
            EXPIRE_S,
            TTL_S,
        )),
    };
    Some(Record::from_rdata(owner.clone(), TTL_S, data))
}
