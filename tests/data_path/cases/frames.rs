//! HTTP/2 frame by frame, for callers and services that do not follow the rules.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ::mesh::net::task;

use crate::data_path::cases::wire::{Ending, Service, Wire};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The error of whoever is asked for too much (RFC 9113 §7).
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn number(value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// Writes fields as HPACK has them without any compression (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        number(name.len(), &mut out);
        out.extend(name.as_bytes());
        number(value.len(), &mut out);
        out.extend(*value);
    }
    out
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A caller, or a service, that says what it likes.
pub(crate) struct Rogue {
    pub(crate) wire: Wire,
}

impl Rogue {
    /// Connects and says the preface.
    pub(crate) async fn to(addr: SocketAddr) -> Self {
        let mut wire = Wire::to(addr).await;
        wire.send(PREFACE).await;
        wire.send(frame(SETTINGS, 0, 0, &[])).await;
        Self { wire }
    }

    /// Takes the preface of a caller.
    async fn accept(mut wire: Wire) -> Result<Self, Ending> {
        assert_eq!(wire.try_take(PREFACE.len()).await?, PREFACE);
        wire.send(frame(SETTINGS, 0, 0, &[])).await;
        Ok(Self { wire })
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(frame(kind, flags, stream, payload)).await;
    }

    /// Asks by a head alone.
    pub(crate) async fn ask(&mut self, stream: u32, fields: &[(&str, &[u8])]) {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &block(fields)).await;
    }

    /// Asks as everybody does.
    pub(crate) async fn get(&mut self, stream: u32) {
        self.ask(
            stream,
            &[(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"web")],
        )
        .await;
    }

    /// Returns the next frame; `None` when there is none any more.
    pub(crate) async fn next(&mut self) -> Result<Frame, Ending> {
        let header = match self.wire.try_take(9).await {
            Ok(header) => header,
            Err(ending) => return Err(ending),
        };
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let payload = self.wire.try_take(length).await?;
        Ok(Frame { kind: header[3], flags: header[4], stream, payload })
    }

    /// Returns the next frame of a stream, or that ends the connection.
    pub(crate) async fn about(&mut self, stream: u32) -> Result<Frame, Ending> {
        loop {
            let frame = self.next().await?;
            if frame.stream == stream && frame.kind != WINDOW_UPDATE || frame.kind == GOAWAY {
                return Ok(frame);
            }
        }
    }

    /// Returns what becomes of a stream: the first byte of its head (a status of the static table, or none), or the error
    /// that it was reset with.
    pub(crate) async fn fate(&mut self, stream: u32) -> Fate {
        match self.about(stream).await {
            Ok(Frame { kind: HEADERS, payload, .. }) => Fate::Answered(status(&payload)),
            Ok(Frame { kind: RST_STREAM, payload, .. }) => Fate::Reset(code(&payload)),
            Ok(Frame { kind: GOAWAY, payload, .. }) => Fate::Gone(code(&payload[4..])),
            Ok(other) => panic!("{other:?}"),
            Err(ending) => Fate::Ended(ending),
        }
    }

    /// Reads on until the connection has ended, and returns the error that it said.
    pub(crate) async fn end(&mut self) -> Option<u32> {
        let mut said = None;
        while let Ok(frame) = self.next().await {
            if frame.kind == GOAWAY {
                said = Some(code(&frame.payload[4..]));
            }
        }
        said
    }
}

/// Kind, flags and payload of a frame.
pub(crate) type Said = (u8, u8, Vec<u8>);

/// A service that answers every request with the same frames, as soon as it has its head.
pub(crate) struct Parrot {
    pub(crate) addr: SocketAddr,
    words: Arc<Mutex<Vec<Said>>>,
    asked: Arc<Mutex<usize>>,
}

impl Parrot {
    pub(crate) async fn start() -> Self {
        let mut service = Service::start().await;
        let parrot = Self { addr: service.addr, words: Arc::default(), asked: Arc::default() };
        let (words, asked) = (parrot.words.clone(), parrot.asked.clone());
        task::spawn("test", async move {
            loop {
                let (wire, words, asked) = (service.accept_late().await, words.clone(), asked.clone());
                task::spawn("test", async move {
                    let Ok(mut rogue) = Rogue::accept(wire).await else { return };
                    while let Ok(heard) = rogue.next().await {
                        if heard.kind == HEADERS {
                            *asked.lock().unwrap() += 1;
                            let words = words.lock().unwrap().clone();
                            let frames = words
                                .iter()
                                .map(|(kind, flags, payload)| frame(*kind, *flags, heard.stream, payload));
                            rogue.wire.send(frames.collect::<Vec<_>>().concat()).await;
                        }
                    }
                });
            }
        });
        parrot
    }

    /// Says what it answers with from now on.
    pub(crate) fn say(&self, words: Vec<Said>) {
        *self.words.lock().unwrap() = words;
    }

    /// Returns how often it was asked since it was asked this.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// What becomes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has an answer, of this status.
    Answered(u16),
    /// It was reset with this error.
    Reset(u32),
    /// The connection was given up with this error.
    Gone(u32),
    /// The connection ended without a word.
    Ended(Ending),
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().unwrap())
}

/// Reads the status at the beginning of a head.
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let block = block.iter().position(|byte| byte >> 5 != 1).map_or(&[][..], |at| &block[at..]);
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // Others as a literal: the name by its index, three digits, perhaps in Huffman's code.
        [first, length, rest @ ..] if *first & 0x3f == 8 || *first & 0x0f == 8 => {
            digits(&rest[..usize::from(length & 0x7f)], length & 0x80 != 0)
        }
        other => panic!("{other:?}"),
    }
}

/// Digits are five bits (0, 1, 2) or six in HPACK's code.
fn digits(bytes: &[u8], coded: bool) -> u16 {
    if !coded {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let mut bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1 == 1)).collect();
    let mut value = 0;
    for _ in 0..3 {
        let take = |count: usize| bits[..count].iter().fold(0u16, |sum, bit| sum << 1 | u16::from(*bit));
        let (digit, count) = match take(5) {
            short @ 0..=2 => (short, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        value = value * 10 + digit;
        bits.drain(..count);
    }
    value
}
