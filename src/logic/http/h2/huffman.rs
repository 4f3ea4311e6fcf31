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
const SHORTEST: u32 = 5;
const LONGEST: u32 = 30;
/// How many bits are looked at in one step: two codes of what is common in text.
const STEP: u32 = 12;

/// A string that is not in the code: it has the symbol of the end in it, or ends with something else than up to seven of
/// that symbol's first bits, which are ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not in the Huffman code")]
pub struct Malformed;

/// What a window of bits begins with: one whole code, or two.
#[derive(Clone, Copy)]
struct Step {
    symbols: [u8; 2],
    /// The length of the first code; 0 when it does not fit into a step.
    first: u8,
    /// The length of what is whole.
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

static STEPS: [Step; 1 << STEP] = {
    let mut steps = [Step { symbols: [0; 2], first: 0, length: 0 }; 1 << STEP];
    let mut place = 0;
    while place < steps.len() {
        let window = (place as u64) << (u64::BITS - STEP);
        let (symbol, first) = search(window, SHORTEST);
        if first <= STEP {
            let (next, second) = search(window << first, SHORTEST);
            let length = if first + second <= STEP { first + second } else { first };
            steps[place] =
                Step { symbols: [symbol as u8, next as u8], first: first as u8, length: length as u8 };
        }
        place += 1;
    }
    steps
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

/// The bits of a string that have not been decoded.
struct Window<'b> {
    /// Those that are next, from the highest on. Below them may be some that come after.
    next: u64,
    /// How many of them count.
    bits: u32,
    /// What comes after them.
    rest: &'b [u8],
}

impl Window<'_> {
    /// Fills up to 56 bits or more, or to the end of the string.
    fn fill(&mut self) {
        if let Some(eight) = self.rest.first_chunk() {
            self.next |= u64::from_be_bytes(*eight) >> self.bits;
            let whole = (u64::BITS - 1 - self.bits) / u8::BITS;
            self.rest = &self.rest[whole as usize..];
            self.bits += whole * u8::BITS;
            return;
        }
        while self.bits < u64::BITS - u8::BITS
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.next |= u64::from(*byte) << (u64::BITS - u8::BITS - self.bits);
            self.bits += u8::BITS;
            self.rest = rest;
        }
    }

    /// Decodes the codes, one or two, that the window begins with, when at least [`LONGEST`] bits count.
    fn step(&mut self) -> Result<([u8; 2], usize), Malformed> {
        let step = STEPS[(self.next >> (u64::BITS - STEP)) as usize];
        let (symbols, count, length) = if step.first > 0 {
            (step.symbols, 1 + usize::from(step.length > step.first), step.length.into())
        } else {
            let (symbol, length) = search(self.next, STEP + 1);
            if symbol == END {
                return Err(Malformed);
            }
            ([symbol as u8, 0], 1, length)
        };
        self.next <<= length;
        self.bits -= length;
        Ok((symbols, count))
    }

    /// Decodes the last code; `None` when there is only the padding.
    fn last(&mut self) -> Result<Option<u8>, Malformed> {
        // Past the end of the string there are ones, as in its padding: the end's code begins with them.
        let padded = self.next | u64::MAX >> self.bits;
        let step = STEPS[(padded >> (u64::BITS - STEP)) as usize];
        let (symbol, length) = match step.first {
            0 => search(padded, STEP + 1),
            first => (step.symbols[0].into(), first.into()),
        };
        if length > self.bits {
            return if padded == u64::MAX && self.bits < u8::BITS { Ok(None) } else { Err(Malformed) };
        }
        self.next <<= length;
        self.bits -= length;
        Ok(Some(symbol as u8))
    }
}

/// Decodes a whole string and writes it at the end of `to`: at most 8/5 of its size, since no code is shorter than 5 bits.
///
/// # Errors
/// When it is malformed; `to` then has a part of it.
pub fn decode(coded: &[u8], to: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut at = to.len();
    // Two bytes are written in each step, though one may count.
    to.resize(at + coded.len() * 8 / 5 + 2, 0);
    let mut window = Window { next: 0, bits: 0, rest: coded };
    loop {
        window.fill();
        if window.bits < LONGEST {
            break;
        }
        while window.bits >= LONGEST {
            let (symbols, count) = window.step()?;
            to[at..at + 2].copy_from_slice(&symbols);
            at += count;
        }
    }
    while let Some(symbol) = window.last()? {
        to[at] = symbol;
        at += 1;
    }
    to.truncate(at);
    Ok(())
}
