//! Pieces of a file on a web server.

use super::{BACK_OFF, HttpError, WebFile, content_length, content_range, encoding, reader, text};
use std::io::{self, Read as _};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use ureq::http::{Response, header};

/// So much is fetched at once at least, bytes.
const PIECE: u64 = 64 << 10;

/// Pieces of a file, fetched as they are asked for.
#[derive(Debug)]
pub struct Pieces {
    file: WebFile,
    until: Instant,
    state: Mutex<State>,
}

/// The piece that is at hand, and what is known of the file.
#[derive(Debug, Default)]
struct State {
    offset: u64,
    bytes: Vec<u8>,
    length: Option<u64>,
    /// The server has no Range requests.
    whole_only: bool,
    asked: bool,
}

impl State {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Where to begin, to have the bytes from `offset` to `end`, and the few requests that follow.
    fn best_start(&self, offset: u64, end: u64) -> u64 {
        let before_end = |end: u64| offset.min(end.saturating_sub(PIECE));
        match self.length {
            _ if offset == 0 => 0,
            // Who reads backwards wants what comes before it next.
            Some(_) if self.asked && end <= self.offset => before_end(end),
            // As in the index of an xz file, near the end.
            Some(length) if offset.saturating_add(PIECE) > length => before_end(length),
            _ => offset,
        }
    }
}

impl Pieces {
    pub(super) fn new(file: WebFile, until: Instant) -> Self {
        Self { file, until, state: Mutex::default() }
    }

    /// Fetches the bytes from `start` to `end`; a passing trouble is tried once more.
    fn fetch(&self, state: &mut State, start: u64, end: u64) -> Result<Vec<u8>, HttpError> {
        match self.fetch_once(state, start, end) {
            Err(error) if error.may_pass() && Instant::now() + 4 * BACK_OFF < self.until => {
                std::thread::sleep(BACK_OFF);
                self.fetch_once(state, start, end)
            }
            result => result,
        }
    }

    fn fetch_once(&self, state: &mut State, start: u64, end: u64) -> Result<Vec<u8>, HttpError> {
        const NO_RANGES: HttpError = HttpError::Unmeasurable("the server has no Range requests");
        let time = self.until.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return Err(HttpError::Unmeasurable("the server is too slow"));
        }
        if state.whole_only && start > 0 {
            return Err(NO_RANGES);
        }
        let end = end.max(start.saturating_add(PIECE));
        let range = format!("bytes={start}-{}", end - 1);
        let response = self.file.get(&[(header::RANGE, &range)], Some(time))?;
        state.asked = true;
        match response.status().as_u16() {
            206 => {
                let (first, length) = content_range(&response)
                    .ok_or(HttpError::Unmeasurable("the server's Content-Range is not valid"))?;
                if first != start {
                    return Err(HttpError::Unmeasurable(
                        "the server answers with another part of the file",
                    ));
                }
                state.length = length;
            }
            200 => {
                state.whole_only = true;
                state.length = content_length(&response);
                if start > 0 {
                    return Err(NO_RANGES);
                }
            }
            // Nothing there: the file is empty, or ends before.
            416 => {
                state.length = length_of_nothing(&response).or(state.length);
                return Ok(Vec::new());
            }
            _ => return Err(HttpError::Status { status: response.status() }),
        }
        let magic = encoding::expected(&response)?.filter(|_| start == 0);
        let mut bytes = Vec::new();
        match reader(response).take(end - start).read_to_end(&mut bytes) {
            Ok(_) => encoding::check_start(&bytes, magic).map(|()| bytes),
            Err(_) if Instant::now() >= self.until => {
                Err(HttpError::Unmeasurable("the server is too slow"))
            }
            Err(_) => Err(HttpError::HungUp),
        }
    }

    /// Up to `length` bytes at `offset`; fewer only where the file ends.
    ///
    /// # Errors
    /// [`HttpError`], as an I/O error.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(length as u64);
        let end = state.length.map_or(end, |all| end.min(all));
        let held = state.offset..=state.end();
        if !state.asked || offset < *held.start() || end > *held.end() {
            let goes_on = state.asked && held.contains(&offset) && !state.whole_only;
            if goes_on {
                let start = state.end();
                let mut more = self.fetch(&mut state, start, end)?;
                state.bytes.append(&mut more);
            } else {
                let start = state.best_start(offset, end);
                state.bytes = self.fetch(&mut state, start, end)?;
                state.offset = start;
            }
        }
        let from = (offset.saturating_sub(state.offset) as usize).min(state.bytes.len());
        let to = (from + length).min(state.bytes.len());
        Ok(state.bytes[from..to].to_vec())
    }

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// Where the server doesn't tell.
    pub fn length(&self) -> io::Result<u64> {
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner).length;
        if let Some(length) = known {
            return Ok(length);
        }
        self.read_at(0, 1)?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.length.ok_or(HttpError::Unmeasurable("the server doesn't tell its length"))?)
    }
}

/// `Content-Range: bytes */LENGTH`.
fn length_of_nothing(response: &Response<ureq::Body>) -> Option<u64> {
    text(response, header::CONTENT_RANGE)?.trim().strip_prefix("bytes */")?.parse().ok()
}
