//! xz streams, whose blocks are decoded on several cores where they say how long they are, as those do
//! that `xz -T` makes (The .xz File Format 1.2.1).
//!
//! One thread takes the blocks apart, others decode one each, and whoever reads gets them in order.
//! Memory is bounded by what waits, compressed and decompressed, and by the dictionaries, whatever
//! the size of the blocks. Where that would be too much, or the blocks don't tell their length,
//! one thread decodes as the bytes come.

mod format;
mod queue;

use super::decompress::skip_padding;
use format::{BlockHeader, Index, StreamHeader};
use liblzma::bufread::XzDecoder;
use liblzma::stream::{Action, Status, Stream};
use queue::{GivenUp, Input, Number, Queue};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// Size of the pieces that are handed from one thread to the next, bytes.
const PIECE: usize = 256 << 10;
/// Threads that decode at most.
const MOST_THREADS: usize = 4;
/// Memory of all dictionaries together where blocks are decoded at once, bytes: two of 8 MiB, as
/// `xz -6` uses.
const DICTIONARIES: u64 = 16 << 20;
/// What a decoder needs beside its dictionary, bytes.
const DECODER: u64 = 1 << 20;
/// Memory that a dictionary may need where one thread decodes, bytes: 64 MiB, the largest that the
/// presets of xz use, and a little.
const LARGEST_DECODER: u64 = 80 << 20;

/// The decompressed bytes of xz streams, one behind the other.
pub(super) struct XzReader {
    queue: Arc<Queue>,
    piece: Vec<u8>,
    position: usize,
}

impl XzReader {
    /// Begins decoding `input`.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn new(mut input: impl BufRead + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let filled = Arc::clone(&queue);
        std::thread::Builder::new().spawn(move || {
            let result = Splitter { queue: &filled, threads: 0, share: 0 }.split(&mut input);
            filled.end(match result {
                Err(Stop::Failed(error)) => Some(error),
                // Who has given up knows why.
                Ok(()) | Err(Stop::GivenUp) => None,
            });
        })?;
        Ok(Self { queue, piece: Vec::new(), position: 0 })
    }
}

impl Read for XzReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.piece.len() {
            self.queue.give_back(std::mem::take(&mut self.piece));
            self.piece = self.queue.next_piece()?;
            self.position = 0;
        }
        let rest = &self.piece[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

impl Drop for XzReader {
    fn drop(&mut self) {
        self.queue.give_up();
    }
}

/// Why decoding stops before its end.
enum Stop {
    Failed(io::Error),
    /// Nobody wants more.
    GivenUp,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<GivenUp> for Stop {
    fn from(_: GivenUp) -> Self {
        Self::GivenUp
    }
}

/// Takes streams apart.
struct Splitter<'q> {
    queue: &'q Arc<Queue>,
    /// Threads that decode blocks; 0 before there are any.
    threads: usize,
    /// Memory that each of these may use, bytes.
    share: u64,
}

impl Splitter<'_> {
    fn split(&mut self, input: &mut impl BufRead) -> Result<(), Stop> {
        loop {
            self.stream(input)?;
            if !skip_padding(input)? {
                return Ok(());
            }
        }
    }

    fn stream(&mut self, input: &mut impl BufRead) -> Result<(), Stop> {
        let header = StreamHeader::read(input)?;
        let mut index = Index::default();
        while let Some(block) = BlockHeader::read(input, &header)? {
            if index.is_empty() && !self.can_decode_at_once(&block)? {
                let number = self.queue.add_block(None)?;
                let done = self.serial(number, &header, &block, input);
                return done.map_err(|stop| self.ended_by(number, stop));
            }
            let Some(sizes) = block.sizes else {
                return Err(format::corrupt("only some of its blocks tell their length").into());
            };
            index.add(sizes);
            let number = self.queue.add_block(Some(block.frame(&header, sizes)))?;
            let mut left = sizes.padded() - block.bytes.len() as u64;
            while left > 0 {
                let mut piece = self.queue.piece();
                let most = left.min(PIECE as u64);
                let result = input.by_ref().take(most).read_to_end(&mut piece);
                let count = piece.len() as u64;
                self.queue.add_input(number, piece)?;
                result?;
                if count < most {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                left -= count;
            }
            self.queue.end_input(number);
        }
        Ok(index.verify(input, &header)?)
    }

    /// Whether the blocks of a stream that begins with `block` can be decoded at once; starts the threads for
    /// it, with the first such stream.
    fn can_decode_at_once(&mut self, block: &BlockHeader) -> io::Result<bool> {
        if block.sizes.is_none() {
            return Ok(false);
        }
        if self.threads == 0 {
            let cores =
                std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
            let threads = cores.min((DICTIONARIES / block.dictionary.max(1)) as usize);
            if threads < 2 {
                return Ok(false);
            }
            self.share = DICTIONARIES / threads as u64 + DECODER;
            for _ in 0..threads {
                let (queue, share) = (Arc::clone(self.queue), self.share);
                std::thread::Builder::new().spawn(move || decode_blocks(&queue, share))?;
            }
            self.threads = threads;
        }
        Ok(block.dictionary + DECODER <= self.share)
    }

    /// Whoever waits for the block learns of the error in its place: no other thread ends it.
    fn ended_by(&self, number: Number, stop: Stop) -> Stop {
        if let Stop::Failed(error) = stop {
            self.queue.end_block(number, Some(error));
        }
        Stop::GivenUp
    }

    /// Decodes a stream on this thread.
    fn serial(
        &self,
        number: Number,
        header: &StreamHeader,
        block: &BlockHeader,
        input: &mut impl BufRead,
    ) -> Result<(), Stop> {
        let begun = [&header.0[..], &block.bytes].concat();
        let stream = io::Cursor::new(begun).chain(input);
        match decode_as_it_comes(self.queue, number, stream) {
            Ok(()) => self.queue.end_block(number, None),
            Err(Stop::Failed(error)) => {
                self.queue.end_block(number, Some(error));
                return Err(Stop::GivenUp);
            }
            Err(Stop::GivenUp) => return Err(Stop::GivenUp),
        }
        Ok(())
    }
}

fn decode_as_it_comes(queue: &Queue, number: Number, stream: impl BufRead) -> Result<(), Stop> {
    let decoder = Stream::new_stream_decoder(LARGEST_DECODER, 0).map_err(io::Error::from)?;
    let mut reader = XzDecoder::new_stream(stream, decoder);
    loop {
        let mut piece = queue.piece();
        let result = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let ended = piece.is_empty();
        if !ended {
            queue.add_output(number, piece)?;
        }
        result?;
        if ended {
            return Ok(());
        }
    }
}

/// What a thread does: decodes one block after the other.
fn decode_blocks(queue: &Queue, memory: u64) {
    while let Ok(Some((number, frame))) = queue.next_block() {
        match decode_block(queue, number, &frame, memory) {
            Ok(()) => queue.end_block(number, None),
            Err(Stop::Failed(error)) => queue.end_block(number, Some(error)),
            Err(Stop::GivenUp) => return,
        }
    }
}

fn decode_block(
    queue: &Queue,
    number: Number,
    frame: &format::Frame,
    memory: u64,
) -> Result<(), Stop> {
    let decoder = Stream::new_stream_decoder(memory, 0).map_err(io::Error::from)?;
    let mut block = Block { queue, number, decoder, output: queue.piece() };
    block.feed(&frame.before)?;
    let whole = loop {
        match queue.next_input(number)? {
            Input::Piece(piece) => {
                block.feed(&piece)?;
                queue.give_back(piece);
            }
            Input::End => break block.feed(&frame.after)?,
            Input::Cut => break true,
        }
    };
    block.flush()?;
    if whole { Ok(()) } else { Err(format::corrupt("a block is not complete").into()) }
}

/// A block that is being decoded.
struct Block<'q> {
    queue: &'q Queue,
    number: Number,
    decoder: Stream,
    output: Vec<u8>,
}

impl Block<'_> {
    /// Decodes `input`; whether that was the end.
    fn feed(&mut self, mut input: &[u8]) -> Result<bool, Stop> {
        loop {
            let before = (self.decoder.total_in(), self.decoder.total_out());
            let result = self.decoder.process_vec(input, &mut self.output, Action::Run);
            let idle = before == (self.decoder.total_in(), self.decoder.total_out());
            input = &input[(self.decoder.total_in() - before.0) as usize..];
            let room = self.output.len() < self.output.capacity();
            if result.is_err() || !room {
                self.flush()?;
            }
            match result.map_err(io::Error::from)? {
                Status::StreamEnd => return Ok(true),
                _ if input.is_empty() && room => return Ok(false),
                _ if idle && room => return Err(format::corrupt("a block doesn't go on").into()),
                _ => {}
            }
        }
    }

    fn flush(&mut self) -> Result<(), GivenUp> {
        if self.output.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.output, self.queue.piece());
        self.queue.add_output(self.number, full)
    }
}
