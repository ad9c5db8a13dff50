//! Compressed files of several members, one behind the other, and what else stands behind the last one.

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Decodes one member.
pub(super) trait Decoder<R>: Read + Sized {
    /// The name of the format.
    const NAME: &str;

    /// The decoder of the member that `input` begins with.
    fn new(input: Rest<R>) -> Self;

    /// What follows the member, once that has been read to its end.
    fn into_rest(self) -> Rest<R>;

    /// Whether bytes that begin with `start` are another member, whole or cut off: up to [`START`] of them,
    /// fewer only where the file ends.
    fn is_member(start: &[u8]) -> bool;
}

/// How many bytes tell a member, at most.
const START: usize = 4;

impl<R: BufRead> Decoder<R> for GzDecoder<Rest<R>> {
    const NAME: &str = "gzip";

    fn new(input: Rest<R>) -> Self {
        GzDecoder::new(input)
    }

    fn into_rest(self) -> Rest<R> {
        self.into_inner()
    }

    fn is_member(start: &[u8]) -> bool {
        begins(start, b"\x1f\x8b")
    }
}

impl<R: BufRead> Decoder<R> for BzDecoder<Rest<R>> {
    const NAME: &str = "bzip2";

    fn new(input: Rest<R>) -> Self {
        BzDecoder::new(input)
    }

    fn into_rest(self) -> Rest<R> {
        self.into_inner()
    }

    fn is_member(start: &[u8]) -> bool {
        begins(start, b"BZh") && start.get(3).is_none_or(|level| (b'1'..=b'9').contains(level))
    }
}

/// Whether one of the two is the beginning of the other.
fn begins(start: &[u8], magic: &[u8]) -> bool {
    start.iter().zip(magic).all(|(one, other)| one == other)
}

/// The decompressed bytes of all members. As `gzip -d` and `bzip2 -d` do it, whatever follows the last one
/// without being another one is left out; it is read, though, so that digests cover it.
pub(super) struct Members<D, R> {
    /// `None` at the end.
    decoder: Option<D>,
    input: std::marker::PhantomData<fn() -> R>,
}

impl<R: BufRead, D: Decoder<R>> Members<D, R> {
    /// The members that `input` begins with.
    pub(super) fn new(input: R) -> Self {
        Self { decoder: Some(D::new(Rest::of(input))), input: std::marker::PhantomData }
    }
}

impl<R: BufRead, D: Decoder<R>> Read for Members<D, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = self.decoder.as_mut() {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut rest) = self.decoder.take().map(D::into_rest) else { break };
            let start = rest.look_ahead(START)?;
            if !start.is_empty() && D::is_member(start) {
                self.decoder = Some(D::new(rest));
            } else {
                leave_out(rest, D::NAME)?;
            }
        }
        Ok(0)
    }
}

/// Reads what is behind the last member. Zeroes are what tapes and block devices fill up with.
fn leave_out(mut rest: impl BufRead, name: &str) -> io::Result<()> {
    if !skip_padding(&mut rest)? {
        return Ok(());
    }
    let count = io::copy(&mut rest, &mut io::sink())?;
    log::warn!(
        "the {name} data is complete, and {count} bytes behind it are no {name} data: they are left out, as {name} does it"
    );
    Ok(())
}

/// Input of which the first bytes have been looked at.
pub(super) struct Rest<R> {
    /// These, as far as they have not been read.
    start: Vec<u8>,
    input: R,
}

impl<R: BufRead> Rest<R> {
    /// `input`, of which nothing has been read.
    pub(super) fn of(input: R) -> Self {
        Self { start: Vec::new(), input }
    }

    /// The next `count` bytes, or a few more; fewer only where the input ends.
    pub(super) fn look_ahead(&mut self, count: usize) -> io::Result<&[u8]> {
        let missing = count.saturating_sub(self.start.len()) as u64;
        self.input.by_ref().take(missing).read_to_end(&mut self.start)?;
        Ok(&self.start)
    }
}

impl<R: BufRead> Read for Rest<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Rest<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start.is_empty() { self.input.fill_buf() } else { Ok(&self.start) }
    }

    fn consume(&mut self, count: usize) {
        if self.start.is_empty() {
            self.input.consume(count);
        } else {
            self.start.drain(..count.min(self.start.len()));
        }
    }
}

/// Passes over zero bytes; whether anything follows.
pub(super) fn skip_padding(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = input.fill_buf()?;
        let length = bytes.len();
        let zeroes = bytes.iter().take_while(|&&byte| byte == 0).count();
        input.consume(zeroes);
        if length == 0 {
            return Ok(false);
        }
        if zeroes < length {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufReader, Write as _};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What is read of `parts`, however few bytes come at once.
    fn read<D: Decoder<BufReader<io::Cursor<Vec<u8>>>>>(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let read = |capacity| {
            let input = BufReader::with_capacity(capacity, io::Cursor::new(parts.concat()));
            let mut bytes = Vec::new();
            Members::<D, _>::new(input).read_to_end(&mut bytes).map(|_| bytes)
        };
        let results = [1, 2, 3, 4096].map(read);
        let texts = results.each_ref().map(|result| result.as_ref().map_err(ToString::to_string));
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
        results.into_iter().next().unwrap()
    }

    type Gzip = GzDecoder<Rest<BufReader<io::Cursor<Vec<u8>>>>>;
    type Bzip2 = BzDecoder<Rest<BufReader<io::Cursor<Vec<u8>>>>>;

    #[test]
    fn members_are_joined_and_the_rest_is_left_out() {
        let (one, two) = (gzip(b"one"), gzip(b"two"));
        for rest in [&b""[..], b"\0\0\0\0\0\0\0", b"F", b"\0\0garbage", b"garbage", b"\x1f\x8c.."] {
            assert_eq!(read::<Gzip>(&[&one, &two, rest]).unwrap(), b"onetwo", "{rest:?}");
        }
        let (one, two) = (bzip2(b"one"), bzip2(b"two"));
        for rest in [&b""[..], b"\0\0\0\0\0\0\0", b"F", b"\0\0garbage", b"garbage", b"BZh0", b"BZi"]
        {
            assert_eq!(read::<Bzip2>(&[&one, &two, rest]).unwrap(), b"onetwo", "{rest:?}");
        }
    }

    #[test]
    fn a_member_that_is_cut_off_is_no_rest() {
        let (gzip, bzip2) = (gzip(b"one"), bzip2(b"one"));
        for rest in [&b"\x1f"[..], b"\x1f\x8b", b"\x1f\x8b\x07........", &gzip[..gzip.len() - 1]] {
            assert!(read::<Gzip>(&[&gzip, rest]).is_err(), "{rest:?}");
        }
        for rest in [&b"B"[..], b"BZ", b"BZh", b"BZh9", b"BZh9........", &bzip2[..bzip2.len() - 1]]
        {
            assert!(read::<Bzip2>(&[&bzip2, rest]).is_err(), "{rest:?}");
        }
    }

    #[test]
    fn a_member_behind_zeroes_is_left_out_as_the_tools_do() {
        let padded = [&gzip(b"one")[..], b"\0\0\0\0\0", &gzip(b"two")];
        assert_eq!(read::<Gzip>(&padded).unwrap(), b"one");
        let padded = [&bzip2(b"one")[..], b"\0\0\0\0\0", &bzip2(b"two")];
        assert_eq!(read::<Bzip2>(&padded).unwrap(), b"one");
    }
}
