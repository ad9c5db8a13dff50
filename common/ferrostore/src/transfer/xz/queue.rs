//! Blocks on their way through the decoders, in the order of the file.

use super::PIECE;
use super::format::Frame;
use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Compressed bytes that wait at most. The more there are, the earlier the next block can be begun.
const MOST_INPUT: usize = 12 << 20;
/// Decompressed bytes that wait at most.
const MOST_OUTPUT: usize = 12 << 20;
/// Pieces of the foremost block that may wait beyond that: whoever reads waits for these.
const FOREMOST: usize = 4;
/// Blocks under way at most, however small they are.
const MOST_BLOCKS: usize = 64;

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct GivenUp;

/// Number of a block, from the first one of the file on.
pub(super) type Number = u64;

/// What a block goes on with.
#[derive(Debug)]
pub(super) enum Input {
    Piece(Vec<u8>),
    End,
    /// Its rest can't be had; why not comes out of the queue behind it.
    Cut,
}

#[derive(Debug, Default)]
struct Block {
    /// For a thread that has not begun it yet.
    frame: Option<Frame>,
    input: VecDeque<Vec<u8>>,
    input_ended: bool,
    cut: bool,
    output: VecDeque<io::Result<Vec<u8>>>,
    ended: bool,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Block>,
    /// Number of the foremost one.
    foremost: Number,
    input: usize,
    output: usize,
    /// Pieces that have been read. Used again and again, they take no more memory than waits.
    spare: Vec<Vec<u8>>,
    ended: bool,
    given_up: bool,
}

impl State {
    fn block(&mut self, number: Number) -> &mut Block {
        // A block stays until its decoder has said that it is done.
        &mut self.blocks[(number - self.foremost) as usize]
    }
}

/// Blocks, of which one thread adds more, several decode one each, and one takes the output.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `ready`, changes the state, and tells the others.
    fn when<T>(
        &self,
        ready: impl Fn(&mut State) -> bool,
        change: impl FnOnce(&mut State) -> T,
    ) -> Result<T, GivenUp> {
        let waiting = |state: &mut State| !state.given_up && !ready(state);
        let mut state =
            self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        if state.given_up {
            return Err(GivenUp);
        }
        let result = change(&mut state);
        self.changed.notify_all();
        Ok(result)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// An empty piece.
    pub(super) fn piece(&self) -> Vec<u8> {
        self.state().spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE))
    }

    /// Takes back a piece that is no longer needed.
    pub(super) fn give_back(&self, mut piece: Vec<u8>) {
        if piece.capacity() >= PIECE {
            piece.clear();
            self.state().spare.push(piece);
        }
    }

    /// Adds a block: for one of the threads, or, without a frame, for the caller to decode.
    pub(super) fn add_block(&self, frame: Option<Frame>) -> Result<Number, GivenUp> {
        self.when(
            |state| state.blocks.len() < MOST_BLOCKS,
            |state| {
                state.blocks.push_back(Block { frame, ..Block::default() });
                state.foremost + state.blocks.len() as Number - 1
            },
        )
    }

    pub(super) fn add_input(&self, number: Number, piece: Vec<u8>) -> Result<(), GivenUp> {
        self.when(
            // The foremost block has all its input, or this is it: so whoever reads gets on.
            |state| state.input < MOST_INPUT,
            |state| {
                state.input += piece.len();
                state.block(number).input.push_back(piece);
            },
        )
    }

    pub(super) fn end_input(&self, number: Number) {
        self.change(|state| state.block(number).input_ended = true);
    }

    /// No more blocks follow, perhaps because of an error.
    pub(super) fn end(&self, error: Option<io::Error>) {
        self.change(|state| {
            for block in &mut state.blocks {
                block.cut = !block.input_ended;
            }
            if let Some(error) = error {
                let output = VecDeque::from([Err(error)]);
                state.blocks.push_back(Block { output, ended: true, ..Block::default() });
            }
            state.ended = true;
        });
    }

    /// A block to decode; `None` where no more will come.
    pub(super) fn next_block(&self) -> Result<Option<(Number, Frame)>, GivenUp> {
        self.when(
            |state| state.ended || state.blocks.iter().any(|block| block.frame.is_some()),
            |state| {
                let at = state.blocks.iter().position(|block| block.frame.is_some())?;
                Some((state.foremost + at as Number, state.blocks[at].frame.take()?))
            },
        )
    }

    pub(super) fn next_input(&self, number: Number) -> Result<Input, GivenUp> {
        self.when(
            |state| {
                let block = state.block(number);
                block.input_ended || block.cut || !block.input.is_empty()
            },
            |state| {
                let block = state.block(number);
                let Some(piece) = block.input.pop_front() else {
                    return if block.cut { Input::Cut } else { Input::End };
                };
                state.input -= piece.len();
                Input::Piece(piece)
            },
        )
    }

    pub(super) fn add_output(&self, number: Number, piece: Vec<u8>) -> Result<(), GivenUp> {
        self.when(
            |state| {
                let awaited = number == state.foremost;
                state.output < MOST_OUTPUT || awaited && state.block(number).output.len() < FOREMOST
            },
            |state| {
                state.output += piece.len();
                state.block(number).output.push_back(Ok(piece));
            },
        )
    }

    pub(super) fn end_block(&self, number: Number, error: Option<io::Error>) {
        self.change(|state| {
            let block = state.block(number);
            block.output.extend(error.map(Err));
            block.ended = true;
            // What a failed decoder has left.
            let left: usize = block.input.drain(..).map(|piece| piece.len()).sum();
            state.input -= left;
        });
    }

    /// The next decompressed bytes; none at the end.
    pub(super) fn next_piece(&self) -> io::Result<Vec<u8>> {
        loop {
            let next = self.when(
                |state| match state.blocks.front() {
                    Some(block) => block.ended || !block.output.is_empty(),
                    None => state.ended,
                },
                |state| {
                    let Some(block) = state.blocks.front_mut() else {
                        return Some(Ok(Vec::new()));
                    };
                    let next = block.output.pop_front();
                    match &next {
                        Some(Ok(piece)) => state.output -= piece.len(),
                        // Nothing behind an error is of any use.
                        Some(Err(_)) => state.given_up = true,
                        None => {
                            state.blocks.pop_front();
                            state.foremost += 1;
                        }
                    }
                    next
                },
            );
            match next {
                Ok(None) => {}
                Ok(Some(result)) => return result,
                Err(GivenUp) => return Ok(Vec::new()),
            }
        }
    }

    /// Nobody wants any more.
    pub(super) fn give_up(&self) {
        self.change(|state| state.given_up = true);
    }
}
