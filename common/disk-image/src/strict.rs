//! What libdeflate reads in a damaged deflate stream and zlib refuses: codes that the format (RFC 1951) never uses.
//!
//! libdeflate takes a code that stands for nothing as one that is next to it. QEMU uses zlib, which calls such a
//! stream damaged, and so do these drivers. What else a stream must be, libdeflate checks itself.
//!
//! Where a stream's first block has codes of its own, only its head is looked at: to know where the next one begins
//! means to go through all symbols, which takes longer than libdeflate needs for the stream. Of a hundred damaged
//! streams that zlib alone refuses, this finds all but one or two (measured on bits that were changed at random).

/// Bits that the lengths 257 to 285 of section 3.2.5 have behind them.
const LENGTH_BITS: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// Bits that the distances 0 to 29 have behind them.
const DISTANCE_BITS: [u8; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
/// Where the lengths of the code for code lengths go, section 3.2.7.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The symbol that ends a block.
const END: u16 = 256;
/// The longest code, bits.
const LONGEST: usize = 15;

/// Whether a stream that libdeflate has read has none but the format's own codes in it, up to the end of its first
/// head.
pub(super) fn has_valid_deflate_codes(stream: &[u8]) -> bool {
    check(stream).is_some()
}

fn check(stream: &[u8]) -> Option<()> {
    let mut bits = Bits { bytes: stream, buffer: 0, count: 0 };
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => bits.skip_stored()?,
            1 => {
                let mut symbols = [8; 288];
                symbols[144..256].fill(9);
                symbols[256..280].fill(7);
                walk(&mut bits, &symbols, &[5; 30])?;
            }
            _ => {
                let (lengths, symbols) = code_lengths(&mut bits)?;
                let (symbols, distances) = lengths.split_at(symbols);
                if is_complete(symbols) && is_complete(distances) {
                    return Some(());
                }
                walk(&mut bits, symbols, distances)?;
            }
        }
        if last {
            return Some(());
        }
    }
}

/// The lengths of a block's own codes, and how many of them are those of literals and lengths.
fn code_lengths(bits: &mut Bits) -> Option<(Vec<u8>, usize)> {
    let symbols = usize::from(bits.take(5)?) + 257;
    let distances = usize::from(bits.take(5)?) + 1;
    if symbols > 257 + LENGTH_BITS.len() || distances > DISTANCE_BITS.len() {
        return None;
    }
    let mut outer = [0; ORDER.len()];
    for place in ORDER.iter().take(usize::from(bits.take(4)?) + 4) {
        outer[*place] = u8::try_from(bits.take(3)?).ok()?;
    }
    if !is_complete(&outer) {
        return None;
    }
    let code = Code::of(&outer)?;
    let mut lengths = Vec::with_capacity(symbols + distances);
    while lengths.len() < symbols + distances {
        let (length, times) = match code.next(bits)? {
            16 => (*lengths.last()?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (u8::try_from(length).ok()?, 1),
        };
        lengths.resize(lengths.len() + usize::from(times), length);
    }
    (lengths.len() == symbols + distances).then_some((lengths, symbols))
}

/// Whether every sequence of bits begins with a code.
fn is_complete(lengths: &[u8]) -> bool {
    let used: u32 = lengths
        .iter()
        .filter(|&&length| length > 0)
        .map(|length| 1 << (LONGEST - usize::from(*length)))
        .sum();
    used == 1 << LONGEST
}

/// Goes through the symbols of a block.
fn walk(bits: &mut Bits, symbols: &[u8], distances: &[u8]) -> Option<()> {
    let (symbols, distances) = (Code::of(symbols)?, Code::of(distances)?);
    loop {
        let symbol = symbols.next(bits)?;
        if symbol == END {
            return Some(());
        }
        if let Some(length) = symbol.checked_sub(END + 1) {
            bits.take(*LENGTH_BITS.get(usize::from(length))?)?;
            let distance = distances.next(bits)?;
            bits.take(*DISTANCE_BITS.get(usize::from(distance))?)?;
        }
    }
}

/// A Huffman code.
struct Code {
    /// For each sequence of `longest` bits the symbol that it begins with, and the length of that symbol's code, which
    /// is 0 where there is none.
    table: Vec<(u16, u8)>,
    longest: u8,
}

impl Code {
    /// The code whose symbols have these lengths, 0 for one that is not used: section 3.2.2. None where there are more
    /// codes than sequences of bits.
    fn of(lengths: &[u8]) -> Option<Self> {
        let longest = lengths.iter().copied().max()?;
        let mut table = vec![(0, 0); 1 << longest];
        let mut code = 0_usize;
        for length in 1..=longest {
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, other)| **other == length) {
                // Codes come with their first bit first, all else with its last.
                let begin = code.reverse_bits() >> (usize::BITS - u32::from(length));
                if code >> length != 0 {
                    return None;
                }
                for place in table.iter_mut().skip(begin).step_by(1 << length) {
                    *place = (u16::try_from(symbol).ok()?, length);
                }
                code += 1;
            }
            code <<= 1;
        }
        Some(Self { table, longest })
    }

    fn next(&self, bits: &mut Bits) -> Option<u16> {
        let (symbol, length) = self.table[usize::from(bits.peek(self.longest))];
        bits.take(length).filter(|_| length > 0)?;
        Some(symbol)
    }
}

/// The bits of a stream, those of each byte from the lowest one up.
struct Bits<'a> {
    bytes: &'a [u8],
    buffer: u64,
    count: u8,
}

impl Bits<'_> {
    /// The next `count` bits, at most 16, which stay; zeroes behind the end.
    fn peek(&mut self, count: u8) -> u16 {
        while self.count < 16
            && let Some((byte, rest)) = self.bytes.split_first()
        {
            self.buffer |= u64::from(*byte) << self.count;
            self.count += 8;
            self.bytes = rest;
        }
        (self.buffer & ((1 << count) - 1)) as u16
    }

    /// The next `count` bits, at most 16; None behind the end.
    fn take(&mut self, count: u8) -> Option<u16> {
        let value = self.peek(count);
        self.count = self.count.checked_sub(count)?;
        self.buffer >>= count;
        Some(value)
    }

    /// Goes to the end of a block that is stored as it is, section 3.2.4.
    fn skip_stored(&mut self) -> Option<()> {
        self.take(self.count % 8)?;
        let length = self.take(16)?;
        self.take(16)?;
        let mut left = usize::from(length);
        while left > 0 && self.count > 0 {
            self.take(8)?;
            left -= 1;
        }
        self.bytes = self.bytes.get(left..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

    const LENGTH: usize = 4096;

    /// Numbers without a pattern, the same ones each time (xorshift64).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit as u64) as usize
        }
    }

    fn deflate(data: &[u8], level: u32, blocks: usize) -> Vec<u8> {
        let mut stream = Vec::with_capacity(2 * LENGTH);
        let mut compress = Compress::new(Compression::new(level), false);
        for piece in data.chunks(data.len().div_ceil(blocks)) {
            compress.compress_vec(piece, &mut stream, FlushCompress::Partial).unwrap();
        }
        compress.compress_vec(&[], &mut stream, FlushCompress::Finish).unwrap();
        stream
    }

    fn libdeflate_reads(stream: &[u8]) -> bool {
        let mut out = [0; LENGTH];
        let read = libdeflater::Decompressor::new().deflate_decompress(stream, &mut out);
        read == Ok(LENGTH)
    }

    fn zlib_reads(stream: &[u8]) -> bool {
        let mut out = [0; LENGTH];
        let mut zlib = Decompress::new(false);
        let status = zlib.decompress(stream, &mut out, FlushDecompress::Finish);
        matches!(status, Ok(Status::StreamEnd | Status::BufError))
            && zlib.total_out() == LENGTH as u64
    }

    #[test]
    fn damage_that_zlib_refuses_is_refused() {
        let mut numbers = Numbers(0x5eed);
        let (mut read, mut lenient) = (0, 0);
        for round in 0..400 {
            let different = [2, 4, 20, 200][round % 4];
            let repeated = 1 + numbers.below(60);
            let data: Vec<u8> = (0..LENGTH)
                .scan(0, |byte, _| {
                    if numbers.below(repeated) == 0 {
                        *byte = numbers.below(different) as u8;
                    }
                    Some(*byte)
                })
                .collect();
            let stream = deflate(&data, [1, 6, 9][round % 3], 1 + numbers.below(3));
            assert!(libdeflate_reads(&stream) && has_valid_deflate_codes(&stream), "round {round}");
            for _ in 0..250 {
                let mut damaged = stream.clone();
                let reach =
                    if numbers.below(2) == 0 { damaged.len().min(60) } else { damaged.len() };
                for _ in 0..=numbers.below(3) {
                    damaged[numbers.below(reach)] ^= 1 << numbers.below(8);
                }
                if !libdeflate_reads(&damaged) {
                    continue;
                }
                let (strict, zlib) = (has_valid_deflate_codes(&damaged), zlib_reads(&damaged));
                assert_eq!(strict, zlib, "round {round}: {damaged:02x?}");
                read += 1;
                lenient += usize::from(!zlib);
            }
        }
        println!("{read} damaged streams read, {lenient} of them by libdeflate alone");
        assert!(read > 1000 && lenient > 10, "{read}, {lenient}");
    }
}
