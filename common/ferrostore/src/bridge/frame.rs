//! What the two drivers say to each other once the connection stands: frames.
//!
//! A frame is a tag (one byte), the length of its payload (four bytes, little-endian) and the payload.
//! The front-end sends a preamble ([`Tag::Role`], [`Tag::Setting`]s, [`Tag::Message`]), then perhaps the bytes
//! of an image, at last [`Tag::Keep`]. The other side sends the bytes of an image, or [`Tag::Reply`]. In between it
//! may ask for a lock ([`Tag::Lock`], [`Tag::Unlock`]); what begins with an image from the front-end has it
//! from the beginning, since an answer would wait behind the image. Before it commits a long action, it asks whether that
//! is still wanted ([`Tag::Commit`], [`Tag::Proceed`]); where it is not, the front-end ends.

use std::io::{self, Read, Write};

/// Payloads are never longer, bytes: a message that fills it has millions of attributes.
const LONGEST: u32 = 64 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// What the other side shall do: one byte, a [`super::Role`].
    Role = b'r',
    /// A name, a NUL and a value.
    Setting = b's',
    /// The message as XML. It ends the preamble.
    Message = b'm',
    /// What the bytes that follow are: one byte, and their number where it is known (eight bytes, else none).
    Image = b'i',
    /// Bytes of an image.
    Data = b'd',
    /// So many zero bytes of an image (eight bytes).
    Hole = b'h',
    /// The image is complete: its length (eight bytes) and the SHA-256 digest of its frames.
    End = b'e',
    /// Nothing: the connection lives.
    Alive = b'a',
    /// What the action replies.
    Reply = b'y',
    /// The reply has arrived: what the action has made is wanted.
    Keep = b'k',
    /// The other side needs a lock of the front-end's: its name.
    Lock = b'l',
    /// The other side has the lock.
    Locked = b'o',
    /// It can't have the lock: why.
    Refused = b'x',
    /// The other side needs the lock no more.
    Unlock = b'u',
    /// The other side has the lock up to its end, which is what the front-end asks for.
    Last = b'z',
    /// What the other side has done so far: a [`super::report`].
    Report = b'f',
    /// The other side is about to commit the action.
    Commit = b'c',
    /// The action is still wanted.
    Proceed = b'p',
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        const ALL: [Tag; 18] = [
            Tag::Role,
            Tag::Setting,
            Tag::Message,
            Tag::Image,
            Tag::Data,
            Tag::Hole,
            Tag::End,
            Tag::Alive,
            Tag::Reply,
            Tag::Keep,
            Tag::Lock,
            Tag::Locked,
            Tag::Refused,
            Tag::Unlock,
            Tag::Last,
            Tag::Report,
            Tag::Commit,
            Tag::Proceed,
        ];
        ALL.into_iter().find(|&tag| tag as u8 == byte)
    }
}

/// Writes a frame in one piece.
///
/// # Errors
/// As writing. A payload that is too long is [`io::ErrorKind::InvalidInput`].
pub(super) fn write(out: &mut (impl Write + ?Sized), tag: Tag, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|&length| length <= LONGEST);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    // One call, so that frames of several threads don't mix.
    let mut frame = Vec::with_capacity(5 + payload.len());
    frame.push(tag as u8);
    frame.extend(length.to_le_bytes());
    frame.extend(payload);
    out.write_all(&frame)
}

/// Reads a frame; `None` where the other side has nothing more to say.
///
/// # Errors
/// As reading. What is no frame is [`io::ErrorKind::InvalidData`], and half a frame
/// [`io::ErrorKind::UnexpectedEof`].
pub(super) fn read(from: &mut (impl Read + ?Sized)) -> io::Result<Option<(Tag, Vec<u8>)>> {
    let mut head = [0; 5];
    loop {
        match from.read(&mut head[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    from.read_exact(&mut head[1..])?;
    let tag = Tag::of(head[0]).ok_or(io::ErrorKind::InvalidData)?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Grows with what comes, not with what is announced.
    let mut payload = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut payload)?;
    if payload.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((tag, payload)))
}

/// The number in a payload of eight bytes.
pub(super) fn number(payload: &[u8]) -> io::Result<u64> {
    let bytes = payload.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        write(&mut bytes, Tag::Message, b"<x/>").unwrap();
        write(&mut bytes, Tag::Keep, b"").unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from).unwrap(), Some((Tag::Message, b"<x/>".to_vec())));
        assert_eq!(read(&mut from).unwrap(), Some((Tag::Keep, Vec::new())));
        assert_eq!(read(&mut from).unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_or_half_a_frame_is_an_error() {
        let kind = |mut bytes: &[u8]| read(&mut bytes).unwrap_err().kind();
        assert_eq!(kind(b"?\0\0\0\0"), io::ErrorKind::InvalidData);
        assert_eq!(kind(b"d\xff\xff\xff\xff"), io::ErrorKind::InvalidData);
        assert_eq!(kind(b"d\x02\0\0\0x"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"d\x02"), io::ErrorKind::UnexpectedEof);
    }
}
