//! What stands around the data of an xz stream: headers, index, footer (The .xz File Format 1.2.1,
//! sections 2 to 4).

use flate2::Crc;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, BufRead};

/// Length of a stream's header, and of its footer, bytes.
pub(super) const STREAM_HEADER: usize = 12;
const MAGIC: &[u8] = b"\xfd7zXZ\0";
const FOOTER_MAGIC: &[u8] = b"YZ";
/// Filter ID of LZMA2.
const LZMA2: u64 = 0x21;
/// Sizes of the checks, by their ID, bytes.
const CHECKS: [u64; 16] = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

pub(super) fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// The header of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamHeader(pub(super) [u8; STREAM_HEADER]);

impl StreamHeader {
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Self> {
        let mut bytes = [0; STREAM_HEADER];
        input.read_exact(&mut bytes)?;
        let (magic, rest) = bytes.split_at(MAGIC.len());
        // Flags that are not known mean something else than what is read here.
        if magic != MAGIC || rest[0] != 0 || rest[1] > 15 || crc32(&rest[..2]) != rest[2..] {
            return Err(corrupt("what follows is no xz stream"));
        }
        Ok(Self(bytes))
    }

    fn flags(&self) -> [u8; 2] {
        [self.0[6], self.0[7]]
    }

    fn check_size(&self) -> u64 {
        CHECKS[usize::from(self.0[7] & 15)]
    }

    fn footer(&self, index_length: u64) -> Vec<u8> {
        let backward = (index_length / 4 - 1) as u32;
        let fields = [&backward.to_le_bytes()[..], &self.flags()].concat();
        [&crc32(&fields)[..], &fields, FOOTER_MAGIC].concat()
    }
}

/// How long a block is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// With its header and its check, but without the padding, bytes.
    unpadded: u64,
    /// Decompressed, bytes.
    uncompressed: u64,
}

impl Sizes {
    /// Length of the whole block in the file, bytes.
    pub(super) fn padded(self) -> u64 {
        self.unpadded.next_multiple_of(4)
    }
}

/// The header of a block.
#[derive(Debug)]
pub(super) struct BlockHeader {
    pub(super) bytes: Vec<u8>,
    /// Where it tells both.
    pub(super) sizes: Option<Sizes>,
    /// Size of its dictionary, bytes.
    pub(super) dictionary: u64,
}

/// What makes a stream of its own out of a block: what comes before and after it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) before: Vec<u8>,
    pub(super) after: Vec<u8>,
}

impl BlockHeader {
    /// The next block of a stream; `None` where its index follows.
    pub(super) fn read(
        input: &mut impl BufRead,
        stream: &StreamHeader,
    ) -> io::Result<Option<Self>> {
        let first = *input.fill_buf()?.first().ok_or(io::ErrorKind::UnexpectedEof)?;
        if first == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; (usize::from(first) + 1) * 4];
        input.read_exact(&mut bytes)?;
        let (fields, crc) = bytes.split_at(bytes.len() - 4);
        if crc32(fields) != crc {
            return Err(corrupt("the header of a block is damaged"));
        }
        let (sizes, dictionary) = parse(fields, bytes.len() as u64, stream)
            .ok_or_else(|| corrupt("the header of a block is not valid"))?;
        Ok(Some(Self { bytes, sizes, dictionary }))
    }

    /// The frame in which a decoder of whole streams takes this block.
    pub(super) fn frame(&self, stream: &StreamHeader, sizes: Sizes) -> Frame {
        let mut index = vec![0, 1];
        for number in [sizes.unpadded, sizes.uncompressed] {
            push_number(&mut index, number);
        }
        index.resize(index.len().next_multiple_of(4), 0);
        index.extend(crc32(&index));
        let footer = stream.footer(index.len() as u64);
        Frame { before: [&stream.0[..], &self.bytes].concat(), after: [index, footer].concat() }
    }
}

/// Sizes and dictionary out of a block header without its checksum.
fn parse(fields: &[u8], header: u64, stream: &StreamHeader) -> Option<(Option<Sizes>, u64)> {
    let flags = *fields.get(1)?;
    let mut rest = &fields[2..];
    let compressed = if flags & 0x40 != 0 { Some(take_number(&mut rest)?) } else { None };
    let uncompressed = if flags & 0x80 != 0 { Some(take_number(&mut rest)?) } else { None };
    let mut dictionary = 0;
    for _ in 0..=flags & 3 {
        let (id, length) = (take_number(&mut rest)?, take_number(&mut rest)?);
        let properties = rest.split_off(..usize::try_from(length).ok()?)?;
        if id == LZMA2 {
            dictionary = dictionary_size(*properties.first()?);
        }
    }
    let Some((compressed, uncompressed)) = compressed.zip(uncompressed) else {
        return Some((None, dictionary));
    };
    let unpadded = compressed.checked_add(header + stream.check_size())?;
    // The largest that a number can be, and leaves room for padding.
    (unpadded < 1 << 62).then_some((Some(Sizes { unpadded, uncompressed }), dictionary))
}

/// Dictionary size of LZMA2 (5.3.1): 2 or 3 times a power of 2.
fn dictionary_size(property: u8) -> u64 {
    let bits = u32::from(property & 0x3f);
    if bits >= 40 { u64::from(u32::MAX) } else { u64::from(2 | bits & 1) << (bits / 2 + 11) }
}

/// A multibyte integer (1.2).
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// What the index of a stream must say. However many blocks there are, this is of one size.
#[derive(Debug, Default)]
pub(super) struct Index {
    blocks: u64,
    sizes: DefaultHasher,
}

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    pub(super) fn add(&mut self, sizes: Sizes) {
        self.blocks += 1;
        self.sizes.write_u64(sizes.unpadded);
        self.sizes.write_u64(sizes.uncompressed);
    }

    /// Reads the index and the footer of the stream, which must be about the blocks that were added.
    pub(super) fn verify(&self, input: &mut impl BufRead, stream: &StreamHeader) -> io::Result<()> {
        let wrong = || corrupt("its index is not about its blocks");
        let mut reader = Summed { input, crc: Crc::new(), length: 0 };
        if reader.number()? != 0 || reader.number()? != self.blocks {
            return Err(wrong());
        }
        let mut said = Self::default();
        while said.blocks < self.blocks {
            said.add(Sizes { unpadded: reader.number()?, uncompressed: reader.number()? });
        }
        if said.sizes.finish() != self.sizes.finish() {
            return Err(wrong());
        }
        while !reader.length.is_multiple_of(4) {
            if reader.byte()? != 0 {
                return Err(wrong());
            }
        }
        let (crc, length) = (reader.crc.sum().to_le_bytes(), reader.length + 4);
        let mut end = [0; 4 + STREAM_HEADER];
        input.read_exact(&mut end)?;
        if end != *[&crc[..], &stream.footer(length)].concat() {
            return Err(corrupt("its index or its footer is damaged"));
        }
        Ok(())
    }
}

/// Reads bytes and sums them up.
struct Summed<'r, R> {
    input: &'r mut R,
    crc: Crc,
    length: u64,
}

impl<R: BufRead> Summed<'_, R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        self.crc.update(&byte);
        self.length += 1;
        Ok(byte[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = Vec::with_capacity(9);
        loop {
            bytes.push(self.byte()?);
            if bytes.len() == 9 || bytes.last().is_some_and(|byte| byte & 0x80 == 0) {
                break;
            }
        }
        take_number(&mut bytes.as_slice())
            .ok_or_else(|| corrupt("a number in its index is too long"))
    }
}
