//! The Huffman code of strings in HPACK (RFC 7541 §5.2 and Appendix B), decoded. It is never written: what it saves on the
//! way to a neighbour is less than what it costs.
//!
//! The code is canonical: shorter codes come first, and codes of one length in the order of their symbols. So the lengths
//! say all, and the tables are made of them when this is compiled. What is common in text has codes of 5 to 8 bits and is
//! found in one step.

/// The lengths of the codes, in bits, by symbol: the bytes, and last the end of a string, which never occurs inside of one.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const LONGEST: u32 = 30;
/// Codes up to this length are found in one step.
const SHORT: u32 = 10;

/// A string that is not in the code: it has the symbol of the end in it, or ends with something else than up to seven of
/// that symbol's first bits, which are ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not in the Huffman code")]
pub struct Malformed;

/// What a window of bits begins with: the symbol, and the length of its code; 0 for a code that is not short.
#[derive(Clone, Copy)]
struct Begin {
    symbol: u8,
    length: u8,
}

/// The symbols whose codes have one length.
#[derive(Clone, Copy)]
struct Group {
    /// The first number that is a prefix of longer codes, and not a code of this length or of a shorter one.
    end: u32,
    /// What is added to a code of this length to get its place in [`SORTED`], modulo 2^32.
    shift: u32,
}

/// The code, to be searched by length.
struct Canon {
    /// The symbols in the order of their codes.
    sorted: [u16; SYMBOLS],
    /// By length.
    groups: [Group; LONGEST as usize + 1],
}

static CANON: Canon = {
    let mut canon =
        Canon { sorted: [0; SYMBOLS], groups: [Group { end: 0, shift: 0 }; LONGEST as usize + 1] };
    let mut code = 0_u32;
    let mut place = 0;
    let mut length = 1;
    while length <= LONGEST as usize {
        code <<= 1;
        canon.groups[length].shift = (place as u32).wrapping_sub(code);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                canon.sorted[place] = symbol as u16;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        canon.groups[length].end = code;
        length += 1;
    }
    canon
};

static BEGINS: [Begin; 1 << SHORT] = {
    let mut begins = [Begin { symbol: 0, length: 0 }; 1 << SHORT];
    let mut window = 0;
    while window < begins.len() {
        let (symbol, length) = search((window as u64) << (u64::BITS - SHORT), 1);
        if length <= SHORT {
            begins[window] = Begin { symbol: symbol as u8, length: length as u8 };
        }
        window += 1;
    }
    begins
};

/// Finds the code that a window begins with, its symbol and its length, when it is known to be no shorter than `length`.
const fn search(window: u64, mut length: u32) -> (u16, u32) {
    loop {
        let code = (window >> (u64::BITS - length)) as u32;
        let group = CANON.groups[length as usize];
        if code < group.end || length == LONGEST {
            return (CANON.sorted[code.wrapping_add(group.shift) as usize], length);
        }
        length += 1;
    }
}

fn first(window: u64) -> (u16, u32) {
    let begin = BEGINS[(window >> (u64::BITS - SHORT)) as usize];
    if begin.length > 0 { (begin.symbol.into(), begin.length.into()) } else { search(window, SHORT + 1) }
}

/// Decodes a whole string and writes it at the end of `to`: at most 8/5 of its size, since no code is shorter than 5 bits.
///
/// # Errors
/// When it is malformed; `to` then has a part of it.
pub fn decode(coded: &[u8], to: &mut Vec<u8>) -> Result<(), Malformed> {
    to.reserve(coded.len() * 8 / 5);
    // The bits that are next, from the highest on; how many they are; and the bytes after them.
    let (mut window, mut bits, mut rest) = (0_u64, 0, coded);
    while let Some((four, after)) = rest.split_first_chunk() {
        window |= u64::from(u32::from_be_bytes(*four)) << (u32::BITS - bits);
        bits += u32::BITS;
        rest = after;
        while bits >= LONGEST {
            let (symbol, length) = first(window);
            if symbol == END {
                return Err(Malformed);
            }
            to.push(symbol as u8);
            window <<= length;
            bits -= length;
        }
    }
    for byte in rest {
        window |= u64::from(*byte) << (u64::BITS - u8::BITS - bits);
        bits += u8::BITS;
    }
    // Past the end of the string there are ones, as in its padding: the end of a string begins with it.
    window |= u64::MAX >> bits;
    loop {
        let (symbol, length) = first(window);
        if length > bits {
            break;
        }
        if symbol == END {
            return Err(Malformed);
        }
        to.push(symbol as u8);
        window = !(!window << length);
        bits -= length;
    }
    if window == u64::MAX && bits < u8::BITS { Ok(()) } else { Err(Malformed) }
}
