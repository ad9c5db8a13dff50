//! The bytes of an image as frames: sparse areas as their length only, and a digest over all of it.

use super::BridgeError;
use super::frame::{self, Tag};
use crate::image_source::{Bytes, ImageSource, Payload};
use crate::progress;
use crate::record;
use crate::transfer::archive::Choice;
use disk_image::observer::Moved;
use disk_image::raw::RawDisk;
use disk_image::sequence::{Run, read_sequentially};
use disk_image::stream::fill;
use disk_image::target::non_zero_runs;
use disk_image::{Format, ImageError};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Zeroes of this size and alignment are not sent, bytes: the block size of file systems.
const BLOCK: u64 = 4 << 10;
/// Size of the pieces that a stream is read in, bytes.
const PIECE: usize = 256 << 10;
/// Pieces that wait for a slow reader at most.
const WAITING: usize = 4;

/// Formats by their number.
const FORMATS: [Format; 6] =
    [Format::Raw, Format::Qcow2, Format::Vmdk, Format::Vdi, Format::Vhdx, Format::Vhd];
/// What is added to the number of a disk's format.
const DISK: u8 = 0x40;
/// What has yet to be admitted, and what of it is the member of an archive.
const UNVALIDATED: u8 = 0x80;
const MEMBER: u8 = 0x81;

fn byte_of(payload: Payload) -> u8 {
    let number = |format| {
        FORMATS.iter().zip(0..).find(|&(&other, _)| other == format).map_or(DISK - 1, |(_, n)| n)
    };
    match payload {
        Payload::File(format) => number(format),
        Payload::Disk(format) => DISK + number(format),
        Payload::Unvalidated | Payload::InPlace => UNVALIDATED,
        Payload::Member => MEMBER,
    }
}

fn payload_of(byte: u8) -> Option<Payload> {
    let format = |number: u8| FORMATS.get(usize::from(number)).copied();
    match byte {
        UNVALIDATED => Some(Payload::Unvalidated),
        MEMBER => Some(Payload::Member),
        DISK..UNVALIDATED => format(byte - DISK).map(Payload::Disk),
        _ => format(byte).map(Payload::File),
    }
}

/// Sends an image, and that it is whole only where its digests are as they should be.
///
/// # Errors
/// [`ImageError::Write`] where the connection is gone; others where the image can't be read, or is not
/// what it should be.
pub(super) fn send(image: ImageSource, out: &mut dyn Write) -> Result<(), BridgeError> {
    let bytes = match image.bytes {
        // Where its holes are is known.
        Bytes::File(file) => Bytes::Disk(Box::new(RawDisk::open(file).map_err(reading)?)),
        bytes => bytes,
    };
    let sent = send_bytes(bytes, image.payload, image.member.as_ref(), out)?;
    image.digests.verify()?;
    Ok(sent.end()?)
}

fn send_bytes<'o>(
    image: Bytes,
    payload: Payload,
    member: Option<&Choice>,
    out: &'o mut dyn Write,
) -> Result<Sent<'o>, ImageError> {
    let length = match &image {
        Bytes::Disk(disk) => Some(disk.virtual_size()),
        Bytes::File(_) | Bytes::Stream(_) | Bytes::Nothing => None,
    };
    progress::begin(length.unwrap_or(0));
    let mut sent = Sent { out, digest: Sha256::new(), length: 0, hole: 0 };
    let mut head = vec![byte_of(payload)];
    if length.is_some() || member.is_some() {
        head.extend(length.unwrap_or(UNKNOWN).to_le_bytes());
    }
    head.extend(member.map_or(Vec::new(), Choice::to_bytes));
    sent.frame(Tag::Image, &head)?;
    match image {
        Bytes::Disk(disk) => read_sequentially(disk.as_ref(), &mut |run| match run {
            Run::Bytes(bytes) => sent.bytes(bytes),
            Run::Zeroes(count) => {
                sent.zeroes(count);
                Ok(())
            }
        })?,
        Bytes::Nothing => return Err(reading(io::ErrorKind::Unsupported.into())),
        Bytes::File(file) => sent.stream(file)?,
        Bytes::Stream(stream) => sent.stream(stream)?,
    }
    Ok(sent)
}

fn reading(source: io::Error) -> ImageError {
    ImageError::Read { offset: 0, source }
}

/// An image that has been sent up to its last byte.
struct Sent<'o> {
    out: &'o mut dyn Write,
    digest: Sha256,
    length: u64,
    /// Zeroes that have not been sent yet.
    hole: u64,
}

impl Sent<'_> {
    fn frame(&mut self, tag: Tag, payload: &[u8]) -> Result<(), ImageError> {
        self.digest.update([tag as u8]);
        self.digest.update(payload);
        let offset = self.length;
        frame::write(self.out, tag, payload).map_err(|source| ImageError::Write { offset, source })
    }

    fn zeroes(&mut self, count: u64) {
        self.hole += count;
        self.length += count;
        progress::advance(count);
    }

    fn end_hole(&mut self) -> Result<(), ImageError> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            count => self.frame(Tag::Hole, &count.to_le_bytes()),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let start = self.length;
        let end = start + bytes.len() as u64;
        for (position, run) in non_zero_runs(start, bytes, BLOCK) {
            self.zeroes(position - self.length);
            self.end_hole()?;
            self.frame(Tag::Data, run)?;
            self.length += run.len() as u64;
            progress::advance(run.len() as u64);
        }
        self.zeroes(end - self.length);
        Ok(())
    }

    fn stream(&mut self, mut stream: impl Read) -> Result<(), ImageError> {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = fill(&mut stream, &mut buffer)
                .map_err(|source| ImageError::Read { offset: self.length, source })?;
            self.bytes(&buffer[..count])?;
            if count < PIECE {
                return Ok(());
            }
        }
    }

    /// Says that the image is whole, and good.
    ///
    /// # Errors
    /// Where the connection is gone.
    fn end(mut self) -> Result<(), ImageError> {
        self.end_hole()?;
        let mut payload = self.length.to_le_bytes().to_vec();
        payload.extend(self.digest.finalize_reset());
        self.frame(Tag::End, &payload)?;
        let offset = self.length;
        self.out.flush().map_err(|source| ImageError::Write { offset, source })
    }
}

/// What is handed from the thread that reads frames to the reader of the image.
enum Piece {
    Data(Vec<u8>),
    Hole(u64),
    End,
}

/// Takes the frames of an image and hands them on.
pub(super) struct Intake {
    sender: SyncSender<io::Result<Piece>>,
    digest: Sha256,
    length: u64,
}

/// Stands for a length that is not known.
const UNKNOWN: u64 = u64::MAX;

/// Begins to receive an image, whose first frame ([`Tag::Image`]) has the payload `first`.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where it can't be the first.
pub(super) fn receive(first: &[u8]) -> io::Result<(ImageSource, Intake)> {
    let (&payload, rest) = first.split_first().ok_or(io::ErrorKind::InvalidData)?;
    let payload = payload_of(payload).ok_or(io::ErrorKind::InvalidData)?;
    let (length, member) = rest.split_at(rest.len().min(size_of::<u64>()));
    let length = if length.is_empty() { None } else { Some(frame::number(length)?) };
    let length = length.filter(|&length| length != UNKNOWN);
    let member = if member.is_empty() { None } else { Some(Choice::from_bytes(member)?) };
    let (sender, pieces) = sync_channel(WAITING);
    let stream = Incoming { pieces, data: Vec::new(), position: 0, hole: 0, ended: false };
    let mut digest = Sha256::new();
    digest.update([Tag::Image as u8]);
    digest.update(first);
    let bytes = Bytes::Stream(Box::new(stream));
    let source = ImageSource { length, member, ..ImageSource::new(payload, bytes) };
    Ok((source, Intake { sender, digest, length: 0 }))
}

impl Intake {
    /// Takes the next frame; whether it was the last of the image. A reader that has gone is no error: it
    /// has failed, and says so itself.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where the frame has no place in an image, or the image is not
    /// what was sent.
    pub(super) fn take(&mut self, tag: Tag, payload: Vec<u8>) -> io::Result<bool> {
        if tag == Tag::End {
            let mut expected = self.length.to_le_bytes().to_vec();
            expected.extend(self.digest.finalize_reset());
            if payload != expected {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the image that arrived is not the one that was sent",
                ));
            }
            let _ = self.sender.send(Ok(Piece::End));
            return Ok(true);
        }
        self.digest.update([tag as u8]);
        self.digest.update(&payload);
        let (piece, count) = match tag {
            Tag::Data => {
                let count = payload.len() as u64;
                record::moved(Moved::Read, count);
                (Piece::Data(payload), count)
            }
            Tag::Hole => {
                let count = frame::number(&payload)?;
                (Piece::Hole(count), count)
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        self.length = self.length.checked_add(count).ok_or(io::ErrorKind::InvalidData)?;
        let _ = self.sender.send(Ok(piece));
        Ok(false)
    }

    /// Tells the reader that no more will come.
    pub(super) fn fail(self, error: io::Error) {
        let _ = self.sender.send(Err(error));
    }
}

/// The bytes of an image as its frames come in.
struct Incoming {
    pieces: Receiver<io::Result<Piece>>,
    data: Vec<u8>,
    position: usize,
    hole: u64,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.data.len() && self.hole == 0 && !self.ended {
            match self.pieces.recv() {
                Ok(Ok(Piece::Data(data))) => {
                    self.data = data;
                    self.position = 0;
                }
                Ok(Ok(Piece::Hole(count))) => self.hole = count,
                Ok(Ok(Piece::End)) => self.ended = true,
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        if self.hole > 0 {
            let count = self.hole.min(buffer.len() as u64);
            buffer[..count as usize].fill(0);
            self.hole -= count;
            return Ok(count as usize);
        }
        let rest = &self.data[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frames(bytes: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let stream = Bytes::Stream(Box::new(io::Cursor::new(bytes)));
        send_bytes(stream, Payload::Unvalidated, None, &mut out).unwrap().end().unwrap();
        out
    }

    fn received(mut frames: &[u8]) -> io::Result<Vec<u8>> {
        let (_, first) = frame::read(&mut frames)?.unwrap();
        let (source, mut intake) = receive(&first)?;
        let Bytes::Stream(mut stream) = source.bytes else { unreachable!() };
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).map(|_| bytes)
        });
        while let Some((tag, payload)) = frame::read(&mut frames)? {
            match intake.take(tag, payload) {
                Ok(last) => assert!(!last || frames.is_empty(), "the end comes last"),
                Err(error) => {
                    intake.fail(error);
                    return reader.join().unwrap();
                }
            }
        }
        drop(intake);
        reader.join().unwrap()
    }

    fn sparse() -> Vec<u8> {
        let mut bytes = vec![0; 3 << 20];
        bytes[100] = 1;
        bytes[1 << 20..(1 << 20) + 9000].fill(7);
        bytes.extend([9; 5]);
        bytes.extend([0; 5000]);
        bytes
    }

    #[test]
    fn an_image_arrives_as_it_was_sent_and_its_zeroes_are_not() {
        let frames = frames(sparse());
        assert!(frames.len() < 40_000, "{} bytes are sent", frames.len());
        assert_eq!(received(&frames).unwrap(), sparse());
        assert!(received(&super::tests::frames(Vec::new())).unwrap().is_empty());
    }

    #[test]
    fn an_image_that_is_cut_or_changed_is_an_error() {
        let good = frames(sparse());
        let end = good.len() - 5 - 8 - 32;
        assert_eq!(received(&good[..end]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        // `end - 8` is the lowest byte of the last hole: a hole of 2^56 bytes would be read for ever.
        for place in [5, 14 + 100, end - 8, end + 5, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert!(received(&bad).is_err(), "byte {place} changed");
        }
    }
}
