//! Questions of names: no packet makes the server panic, and whatever is said of it fits, and is none that is answered again.

use mesh::logic::naming::zone::{Answer, Datum};
use mesh::net::dns::message::{Packet, Question, Refusal, Transport, read};

const UDP_BYTES_MAX: usize = 1_232;

/// Fails on bytes that break the rule: the first says where the question ends and the answer of another server begins.
pub(crate) fn check(input: &[u8]) {
    let Some((&at, text)) = input.split_first() else { return };
    let (question, answer) = text.split_at(text.len() * usize::from(at) / 256);
    match read(question) {
        Packet::Noise => {}
        Packet::Wrong(said) => is_last(&said, UDP_BYTES_MAX),
        Packet::Question(question) => {
            answered(&question, answer, Transport::Udp, UDP_BYTES_MAX);
            answered(&question, answer, Transport::Tcp, usize::from(u16::MAX));
        }
    }
}

fn answered(question: &Question, other: &[u8], transport: Transport, bytes_max: usize) {
    let zone = "web.mesh".to_owned();
    let target = "0123456789abcdef0123456789abcdef.web.default.mesh".to_owned();
    let mut data = vec![
        Datum::A([10, 0, 0, 1].into()),
        Datum::Aaaa([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()),
        Datum::Ptr(target.clone()),
        Datum::Soa,
        Datum::Ns,
    ];
    data.extend((0..40).map(|port| Datum::Srv { port, target: target.clone() }));
    for answer in [
        Answer::Records(data),
        Answer::Nothing { zone: zone.clone() },
        Answer::Unknown { zone },
        Answer::Elsewhere,
    ] {
        is_last(&question.answered(&answer, (1, true), transport), bytes_max);
    }
    is_last(&question.refused(Refusal::Failed), UDP_BYTES_MAX);
    // Nothing but answers is kept.
    let mut other = other.to_vec();
    if let Some(flags) = other.get_mut(2) {
        *flags |= 0x80;
    }
    if let Some(stale) = question.stale(&other, transport) {
        is_last(&stale, bytes_max);
    }
}

fn is_last(said: &[u8], bytes_max: usize) {
    assert!(said.len() <= bytes_max, "{} bytes", said.len());
    assert!(said.len() >= 12, "it is a packet");
    assert!(matches!(read(said), Packet::Noise), "an answer to an answer");
}
