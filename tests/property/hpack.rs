//! The compression of fields in HTTP/2: as the examples of RFC 7541 have it, and as a plain model of its table and a plain
//! encoder of its Huffman code say; whatever comes, it neither panics nor keeps more than it should.

use std::collections::VecDeque;

use mesh::logic::http::h2::hpack::{self, Decoder, Error};
use mesh::logic::http::h2::huffman;
use mesh::logic::http::h2::table::TABLE_BYTES_MAX;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

type Field = (Vec<u8>, Vec<u8>);

/// RFC 7541 Appendix B, by symbol.
#[rustfmt::skip]
#[expect(clippy::unreadable_literal, reason = "as the specification has them")]
const CODES: [u32; 257] = [
    0x1ff8, 0x7fffd8, 0xfffffe2, 0xfffffe3, 0xfffffe4, 0xfffffe5, 0xfffffe6, 0xfffffe7, 0xfffffe8, 0xffffea,
    0x3ffffffc, 0xfffffe9, 0xfffffea, 0x3ffffffd, 0xfffffeb, 0xfffffec, 0xfffffed, 0xfffffee, 0xfffffef,
    0xffffff0, 0xffffff1, 0xffffff2, 0x3ffffffe, 0xffffff3, 0xffffff4, 0xffffff5, 0xffffff6, 0xffffff7,
    0xffffff8, 0xffffff9, 0xffffffa, 0xffffffb, 0x14, 0x3f8, 0x3f9, 0xffa, 0x1ff9, 0x15, 0xf8, 0x7fa, 0x3fa,
    0x3fb, 0xf9, 0x7fb, 0xfa, 0x16, 0x17, 0x18, 0x0, 0x1, 0x2, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
    0x5c, 0xfb, 0x7ffc, 0x20, 0xffb, 0x3fc, 0x1ffa, 0x21, 0x5d, 0x5e, 0x5f, 0x60, 0x61, 0x62, 0x63, 0x64,
    0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0xfc, 0x73, 0xfd,
    0x1ffb, 0x7fff0, 0x1ffc, 0x3ffc, 0x22, 0x7ffd, 0x3, 0x23, 0x4, 0x24, 0x5, 0x25, 0x26, 0x27, 0x6, 0x74,
    0x75, 0x28, 0x29, 0x2a, 0x7, 0x2b, 0x76, 0x2c, 0x8, 0x9, 0x2d, 0x77, 0x78, 0x79, 0x7a, 0x7b, 0x7ffe,
    0x7fc, 0x3ffd, 0x1ffd, 0xffffffc, 0xfffe6, 0x3fffd2, 0xfffe7, 0xfffe8, 0x3fffd3, 0x3fffd4, 0x3fffd5,
    0x7fffd9, 0x3fffd6, 0x7fffda, 0x7fffdb, 0x7fffdc, 0x7fffdd, 0x7fffde, 0xffffeb, 0x7fffdf, 0xffffec,
    0xffffed, 0x3fffd7, 0x7fffe0, 0xffffee, 0x7fffe1, 0x7fffe2, 0x7fffe3, 0x7fffe4, 0x1fffdc, 0x3fffd8,
    0x7fffe5, 0x3fffd9, 0x7fffe6, 0x7fffe7, 0xffffef, 0x3fffda, 0x1fffdd, 0xfffe9, 0x3fffdb, 0x3fffdc,
    0x7fffe8, 0x7fffe9, 0x1fffde, 0x7fffea, 0x3fffdd, 0x3fffde, 0xfffff0, 0x1fffdf, 0x3fffdf, 0x7fffeb,
    0x7fffec, 0x1fffe0, 0x1fffe1, 0x3fffe0, 0x1fffe2, 0x7fffed, 0x3fffe1, 0x7fffee, 0x7fffef, 0xfffea,
    0x3fffe2, 0x3fffe3, 0x3fffe4, 0x7ffff0, 0x3fffe5, 0x3fffe6, 0x7ffff1, 0x3ffffe0, 0x3ffffe1, 0xfffeb,
    0x7fff1, 0x3fffe7, 0x7ffff2, 0x3fffe8, 0x1ffffec, 0x3ffffe2, 0x3ffffe3, 0x3ffffe4, 0x7ffffde, 0x7ffffdf,
    0x3ffffe5, 0xfffff1, 0x1ffffed, 0x7fff2, 0x1fffe3, 0x3ffffe6, 0x7ffffe0, 0x7ffffe1, 0x3ffffe7,
    0x7ffffe2, 0xfffff2, 0x1fffe4, 0x1fffe5, 0x3ffffe8, 0x3ffffe9, 0xffffffd, 0x7ffffe3, 0x7ffffe4,
    0x7ffffe5, 0xfffec, 0xfffff3, 0xfffed, 0x1fffe6, 0x3fffe9, 0x1fffe7, 0x1fffe8, 0x7ffff3, 0x3fffea,
    0x3fffeb, 0x1ffffee, 0x1ffffef, 0xfffff4, 0xfffff5, 0x3ffffea, 0x7ffff4, 0x3ffffeb, 0x7ffffe6,
    0x3ffffec, 0x3ffffed, 0x7ffffe7, 0x7ffffe8, 0x7ffffe9, 0x7ffffea, 0x7ffffeb, 0xffffffe, 0x7ffffec,
    0x7ffffed, 0x7ffffee, 0x7ffffef, 0x7fffff0, 0x3ffffee, 0x3fffffff,
];
#[rustfmt::skip]
const LENGTHS: [u32; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6,
    6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8,
    13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15,
    11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23,
    23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26,
    26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
    22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27,
    27, 26, 30,
];
const END: usize = 256;

// --- the Huffman code -----------------------------------------------------------------------------------------------

/// Writes symbols bit by bit, and fills the last byte with ones.
fn coded(symbols: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut bits = Vec::new();
    for symbol in symbols {
        bits.extend((0..LENGTHS[symbol]).rev().map(|place| CODES[symbol] >> place & 1));
    }
    while bits.len() % 8 != 0 {
        bits.push(1);
    }
    bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8)).collect()
}

fn coded_text(text: &[u8]) -> Vec<u8> {
    coded(text.iter().map(|byte| usize::from(*byte)))
}

fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = b"before ".to_vec();
    huffman::decode(coded, &mut text).ok()?;
    Some(text.strip_prefix(b"before ").expect("what was there stays").to_vec())
}

/// Reads bit by bit, in the words of RFC 7541 §5.2.
fn decoded_slowly(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0_u32, 0);
    for place in 0..8 * coded.len() {
        code = code << 1 | u32::from(coded[place / 8] >> (7 - place % 8) & 1);
        length += 1;
        if let Some(symbol) = (0..=END).find(|symbol| LENGTHS[*symbol] == length && CODES[*symbol] == code) {
            if symbol == END {
                return None;
            }
            text.push(symbol as u8);
            (code, length) = (0, 0);
        }
    }
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[test]
fn every_byte_has_its_code() {
    for byte in 0..=u8::MAX {
        assert_eq!(decoded(&coded_text(&[byte])), Some(vec![byte]), "{byte}");
        assert_eq!(decoded(&coded_text(&[byte; 9])), Some(vec![byte; 9]), "{byte}");
    }
    assert_eq!(decoded(b""), Some(Vec::new()));
}

#[test]
fn an_end_within_a_string_and_a_wrong_padding_are_refused() {
    assert_eq!(decoded(&coded([usize::from(b'a'), END, usize::from(b'a')])), None);
    assert_eq!(decoded(&coded([END])), None);
    for (name, bytes) in [
        ("8 bits of padding", &[0b0001_1111, 0xff][..]),
        ("nothing but padding", &[0xff]),
        ("padding of zeros", &[0b0001_1000]),
        ("padding with a zero", &[0b0001_1110]),
        ("half of a code", &[0xff, 0xc0]),
        ("the end but for a bit", &[0xff, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(decoded(bytes), None, "{name}");
    }
    assert_eq!(decoded(&[0b0001_1111]), Some(b"a".to_vec()));
}

proptest! {
    #[test]
    fn what_is_coded_is_decoded(text in vec(prop_oneof![9 => 0x20..0x7f_u8, 1 => any::<u8>()], 0..120)) {
        prop_assert_eq!(decoded(&coded_text(&text)), Some(text));
    }

    #[test]
    fn any_bits_are_read_as_a_slow_reader_does(
        bits in vec(prop_oneof![4 => any::<u8>(), 1 => Just(0xff)], 0..40),
    ) {
        prop_assert_eq!(decoded(&bits), decoded_slowly(&bits));
    }
}

// --- the examples of the specification ------------------------------------------------------------------------------

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
    Ok(fields)
}

fn shown(fields: &[Field]) -> String {
    fields.iter().map(|(name, value)| format!("{}={}\n", name.escape_ascii(), value.escape_ascii())).collect()
}

/// Decodes blocks of one connection and compares what comes out, a field on each line.
fn examples(blocks: &[(&str, &str)]) {
    let mut decoder = Decoder::new();
    for (block, expected) in blocks {
        let fields = decode(&mut decoder, &bytes(block)).unwrap();
        let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
        assert_eq!(shown(&fields), expected, "{block}");
    }
}

#[test]
fn single_fields_are_as_in_appendix_c_2() {
    examples(&[(
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        "custom-key=custom-header",
    )]);
    examples(&[("040c 2f73 616d 706c 652f 7061 7468", ":path=/sample/path")]);
    examples(&[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password=secret")]);
    examples(&[("82", ":method=GET")]);
}

const REQUESTS: [&str; 3] = [
    ":method=GET
     :scheme=http
     :path=/
     :authority=www.example.com",
    ":method=GET
     :scheme=http
     :path=/
     :authority=www.example.com
     cache-control=no-cache",
    ":method=GET
     :scheme=https
     :path=/index.html
     :authority=www.example.com
     custom-key=custom-value",
];

#[test]
fn requests_are_as_in_appendix_c_3_and_c_4() {
    examples(&[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0]),
        ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2]),
    ]);
    examples(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
        ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2]),
    ]);
}

const RESPONSES: [&str; 3] = [
    ":status=302
     cache-control=private
     date=Mon, 21 Oct 2013 20:13:21 GMT
     location=https://www.example.com",
    ":status=307
     cache-control=private
     date=Mon, 21 Oct 2013 20:13:21 GMT
     location=https://www.example.com",
    ":status=200
     cache-control=private
     date=Mon, 21 Oct 2013 20:13:22 GMT
     location=https://www.example.com
     content-encoding=gzip
     set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

/// The table has 256 bytes in these examples, which the first block says here.
#[test]
fn responses_that_evict_are_as_in_appendix_c_5_and_c_6() {
    examples(&[
        (
            "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133
             3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            RESPONSES[0],
        ),
        ("4803 3330 37c1 c0bf", RESPONSES[1]),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
             7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
             6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            RESPONSES[2],
        ),
    ]);
    examples(&[
        (
            "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d
             29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            RESPONSES[0],
        ),
        ("4883 640e ffc1 c0bf", RESPONSES[1]),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            RESPONSES[2],
        ),
    ]);
}

// --- faults ---------------------------------------------------------------------------------------------------------

#[test]
fn every_fault_has_its_name() {
    for (block, error) in [
        ("80", Error::Index),
        ("be", Error::Index),
        ("7e 00", Error::Index),
        ("ff 80 80 80 80 10", Error::Index),
        ("ff ff ff ff ff ff", Error::Number),
        ("ff 80 80 80 80 80 00", Error::Number),
        ("ff", Error::Cut),
        ("ff 80", Error::Cut),
        ("40", Error::Cut),
        ("40 01 61", Error::Cut),
        ("40 02 61", Error::Cut),
        ("44", Error::Cut),
        ("04 05 2f", Error::Cut),
        ("04 81 ff", Error::Huffman),
        ("00 81 00 00", Error::Huffman),
        // 4,097 bytes, and a size behind a field.
        ("3f e2 1f", Error::Resize),
        ("82 20", Error::Resize),
    ] {
        assert_eq!(decode(&mut Decoder::new(), &bytes(block)), Err(error), "{block}");
    }
    // 4,096 bytes; twice, down and up; and nothing else.
    for block in ["3f e1 1f", "20 3f e1 1f 82", "20 20 20", ""] {
        assert!(decode(&mut Decoder::new(), &bytes(block)).is_ok(), "{block}");
    }
}

#[test]
fn secrets_are_never_to_be_indexed_and_not_shown() {
    for name in ["authorization", "Proxy-Authorization", "cookie", "set-cookie"] {
        let mut block = Vec::new();
        hpack::write_field(name.as_bytes(), b"a", &mut block);
        assert_eq!(block[0] & 0xf0, 0x10, "{name}");
    }
    let mut block = Vec::new();
    hpack::write_field(b"accept", b"a", &mut block);
    hpack::write_field(b"Own", b"a", &mut block);
    assert_eq!(block, b"\x0f\x04\x01a\x00\x03own\x01a");

    let mut decoder = Decoder::new();
    decode(&mut decoder, b"\x40\x01a\x06secret").unwrap();
    assert!(!format!("{decoder:?}").contains("secret"));
}

// --- the table ------------------------------------------------------------------------------------------------------

/// The dynamic table in the plainest form: the newest in front.
struct Model {
    entries: VecDeque<Field>,
    size_max: usize,
}

impl Model {
    fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    fn evict(&mut self) {
        while self.size() > self.size_max {
            self.entries.pop_back();
        }
    }

    fn add(&mut self, field: Field) {
        self.entries.push_front(field);
        self.evict();
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A field that is in the table; which of them.
    Indexed(Index),
    /// A field that is written: how, which name from the table if any, else which one, the value, and what is in the
    /// Huffman code.
    Literal { kind: u8, named: Option<Index>, name: Vec<u8>, value: Vec<u8>, coded: (bool, bool) },
    /// The block ends, and the next one begins with these sizes.
    Block(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let name = select(vec!["a", "x-request-id", "", "accept", "grpc-status"]);
    let value = prop_oneof![
        6 => vec(any::<u8>(), 0..40),
        2 => (any::<u8>(), 0_usize..1_500).prop_map(|(byte, len)| vec![byte; len]),
        1 => (any::<u8>(), 4_000_usize..4_100).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let size = prop_oneof![4 => Just(TABLE_BYTES_MAX), 2 => 0..=TABLE_BYTES_MAX, 1 => Just(0)];
    prop_oneof![
        4 => any::<Index>().prop_map(Step::Indexed),
        8 => (select(vec![0x40_u8, 0x40, 0x40, 0x00, 0x10]), any::<Option<Index>>(), name, value, any::<(bool, bool)>())
            .prop_map(|(kind, named, name, value, coded)| {
                Step::Literal { kind, named, name: name.into(), value, coded }
            }),
        1 => vec(size, 0..3).prop_map(Step::Block),
    ]
}

fn number(first: u8, prefix: u32, number: usize, to: &mut Vec<u8>) {
    let full = (1 << prefix) - 1;
    if number < full {
        return to.push(first | number as u8);
    }
    to.push(first | full as u8);
    let mut rest = number - full;
    while rest >= 128 {
        to.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    to.push(rest as u8);
}

fn string(text: &[u8], is_coded: bool, to: &mut Vec<u8>) {
    let (first, text) = if is_coded { (0x80, coded_text(text)) } else { (0, text.to_vec()) };
    number(first, 7, text.len(), to);
    to.extend(text);
}

/// The fixed fields, as the decoder has them: the examples show that they are right where they are used.
fn fixed() -> Vec<Field> {
    let block: Vec<u8> = (1..=61).map(|index| 0x80 | index).collect();
    decode(&mut Decoder::new(), &block).unwrap()
}

#[test]
fn fixed_fields_are_found_by_their_names() {
    let fixed = fixed();
    for (place, (name, _)) in fixed.iter().enumerate().skip(14) {
        let mut block = Vec::new();
        hpack::write_field(&name.to_ascii_uppercase(), b"", &mut block);
        assert_eq!(block[..2], [block[0] & 0x10 | 0x0f, place as u8 + 1 - 15], "{}", name.escape_ascii());
    }
    for name in [":path", "accep", "accepts", "x", ""] {
        let mut block = Vec::new();
        hpack::write_field(name.as_bytes(), b"", &mut block);
        assert_eq!(block[..2], [0, name.len() as u8], "{name}");
    }
}

/// The block being written, what is to come of it, and the table as it then is.
fn apply(step: Step, model: &mut Model, fixed: &[Field], block: &mut Vec<u8>) -> Option<Field> {
    let all = |model: &Model, index: &Index| {
        let place = index.index(fixed.len() + model.entries.len());
        let field = fixed.get(place).unwrap_or_else(|| &model.entries[place - fixed.len()]);
        (place + 1, field.clone())
    };
    match step {
        Step::Indexed(index) => {
            let (index, field) = all(model, &index);
            number(0x80, 7, index, block);
            Some(field)
        }
        Step::Literal { kind, named, name, value, coded } => {
            let prefix = if kind == 0x40 { 6 } else { 4 };
            let name = if let Some(index) = named {
                let (index, (name, _)) = all(model, &index);
                number(kind, prefix, index, block);
                name
            } else {
                number(kind, prefix, 0, block);
                string(&name, coded.0, block);
                name
            };
            string(&value, coded.1, block);
            if kind == 0x40 {
                model.add((name.clone(), value.clone()));
            }
            Some((name, value))
        }
        Step::Block(sizes) => {
            for size in sizes {
                number(0x20, 5, size, block);
                model.size_max = size;
                model.evict();
            }
            None
        }
    }
}

proptest! {
    #[test]
    fn the_table_is_as_the_model(steps in vec(step(), 1..80)) {
        let fixed = fixed();
        let mut model = Model { entries: VecDeque::new(), size_max: TABLE_BYTES_MAX };
        let mut decoder = Decoder::new();
        let (mut block, mut expected) = (Vec::new(), Vec::new());
        for step in steps {
            if matches!(step, Step::Block(_)) {
                prop_assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
                prop_assert!(decoder.allocated() <= HELD_BYTES_MAX);
                block.clear();
                expected.clear();
            }
            expected.extend(apply(step, &mut model, &fixed, &mut block));
        }
        prop_assert_eq!(decode(&mut decoder, &block), Ok(expected.clone()));
        // All that is there, the oldest last.
        let indices = fixed.len() + 1..=fixed.len() + model.entries.len();
        block.clear();
        for index in indices {
            number(0x80, 7, index, &mut block);
        }
        let entries: Vec<Field> = model.entries.into();
        prop_assert_eq!(decode(&mut decoder, &block), Ok(entries));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_within_bounds(
        blocks in vec(vec(prop_oneof![3 => any::<u8>(), 1 => select(vec![0x40, 0x41, 0x82, 0xbe, 0x01, 0x83])], 0..200), 1..6),
    ) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let mut longest = 0;
            let result = decoder.decode(&block, |name, value| longest = longest.max(name.len()).max(value.len()));
            prop_assert!(longest <= TABLE_BYTES_MAX.max(block.len() * 8 / 5));
            prop_assert!(decoder.allocated() <= HELD_BYTES_MAX);
            if result.is_err() {
                break;
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        fields in vec((vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..400)), 0..20),
    ) {
        let mut block = Vec::new();
        for (name, value) in &fields {
            hpack::write_field(name, value, &mut block);
        }
        let lower: Vec<Field> =
            fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        let mut decoder = Decoder::new();
        prop_assert_eq!(decode(&mut decoder, &block), Ok(lower));
        prop_assert_eq!(decoder.allocated(), 0);
    }
}

/// What a decoder may hold between two blocks.
const HELD_BYTES_MAX: usize = 24 << 10;

#[test]
fn memory_is_lazy_and_given_back() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.allocated(), 0);
    assert!(size_of::<Decoder>() <= 128);
    decode(&mut decoder, &[0x82, 0x86, 0x84]).unwrap();
    assert_eq!(decoder.allocated(), 0);

    let mut block = vec![0x04];
    string(&[b'a'; 50_000], true, &mut block);
    decode(&mut decoder, &block).unwrap();
    assert_eq!(decoder.allocated(), 0);
}
