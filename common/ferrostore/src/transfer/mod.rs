//! Where the bytes of an image come from, and what happens to them on their way: digests,
//! decompression, reading ahead.

pub mod archive;
pub mod decompress;
pub mod digest;
pub mod http;
pub mod limit;
pub mod location;
pub mod measure;
mod members;
pub mod tail;
mod url;
mod xz;

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};

/// Size of the pieces that are handed from one thread to the next, bytes.
const PIECE: usize = 256 << 10;
/// Pieces that wait at most.
const WAITING: usize = 4;

/// A stream that another thread reads ahead of time, so that reading (and decompressing, and whatever
/// else the stream does) and writing go on at once.
#[derive(Debug)]
pub struct ReadAhead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl ReadAhead {
    /// Begins reading `stream`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn of(mut stream: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(WAITING);
        std::thread::Builder::new().spawn(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let filled = disk_image::stream::fill(&mut stream, &mut piece);
                let last = !matches!(filled, Ok(PIECE));
                let sent = sender.send(filled.map(|count| {
                    piece.truncate(count);
                    piece
                }));
                // There is no receiver any more where the driver has given up.
                if last || sent.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { pieces, current: Vec::new(), position: 0, ended: false })
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() && !self.ended {
            match self.pieces.recv() {
                Ok(piece) => {
                    self.current = piece?;
                    self.position = 0;
                    self.ended = self.current.is_empty();
                }
                Err(_) => self.ended = true,
            }
        }
        let rest = &self.current[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}
