//! Pieces of a file on a web server.

use super::{BACK_OFF, HttpError, WebFile, content_length, content_range, encoding, reader, text};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::{Response, header};

/// So much is fetched at once at least, bytes.
const PIECE: u64 = 64 << 10;
/// What lies further from the start is not fetched from a server without Range requests, bytes.
const NEAR: u64 = 8 << 20;
const TOO_SLOW: &str = "the server is too slow";

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
        let end = end.max(start.saturating_add(PIECE));
        if state.whole_only {
            return self.skip_to(state, start, end);
        }
        let range = format!("bytes={start}-{}", end - 1);
        let response = self.file.get(&[(header::RANGE, &range)], Some(self.time_left()?))?;
        state.asked = true;
        match response.status().as_u16() {
            206 => {
                let Some((first, length)) = content_range(&response) else {
                    // Which part that is can't be told.
                    state.whole_only = true;
                    return self.skip_to(state, start, end);
                };
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
                    drop(response);
                    return self.skip_to(state, start, end);
                }
            }
            416 => {
                let length = length_of_nothing(&response).or(state.length);
                if length.is_some_and(|length| length <= start) {
                    // The file is empty, or ends before.
                    state.length = length;
                    return Ok(Vec::new());
                }
                // Some servers refuse every range.
                state.whole_only = true;
                return self.skip_to(state, start, end);
            }
            // So answer some that have no ranges. Whether that is the reason, all of the file tells.
            400 | 403 | 405 | 501 => {
                state.whole_only = true;
                return self.skip_to(state, start, end);
            }
            _ => return Err(HttpError::Status { status: response.status() }),
        }
        self.taken(response, start, end - start)
    }

    /// As [`Self::fetch_once`], where the server has no Range requests: all that comes before is passed over.
    fn skip_to(&self, state: &mut State, start: u64, end: u64) -> Result<Vec<u8>, HttpError> {
        if start > NEAR {
            return Err(HttpError::Unmeasurable("the server has no Range requests"));
        }
        let response = self.get_whole()?;
        state.asked = true;
        state.length = content_length(&response).or(state.length);
        let mut bytes = self.taken(response, 0, end)?;
        bytes.drain(..bytes.len().min(start as usize));
        Ok(bytes)
    }

    fn get_whole(&self) -> Result<Response<ureq::Body>, HttpError> {
        let response = self.file.get(&[], Some(self.time_left()?))?;
        if response.status().as_u16() == 200 {
            return Ok(response);
        }
        Err(HttpError::Status { status: response.status() })
    }

    fn time_left(&self) -> Result<Duration, HttpError> {
        let time = self.until.saturating_duration_since(Instant::now());
        if time.is_zero() { Err(HttpError::Unmeasurable(TOO_SLOW)) } else { Ok(time) }
    }

    /// Up to `count` bytes of an answer that begins at byte `start` of the file.
    fn taken(
        &self,
        response: Response<ureq::Body>,
        start: u64,
        count: u64,
    ) -> Result<Vec<u8>, HttpError> {
        let magic = encoding::expected(&response)?.filter(|_| start == 0);
        let mut bytes = Vec::new();
        let taken = reader(response).take(count).read_to_end(&mut bytes);
        taken.map_err(|_| broken_before(self.until))?;
        encoding::check_start(&bytes, magic).map(|()| bytes)
    }

    /// The whole file, from its first byte on, as far as it comes in time.
    ///
    /// # Errors
    /// [`HttpError`], as an I/O error.
    pub fn whole(&self) -> io::Result<impl Read + Send + use<>> {
        let response = self.get_whole()?;
        encoding::expected(&response)?;
        Ok(InTime { body: reader(response), until: self.until })
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

    /// Whether the server has answered with pieces so far, and not with all of the file.
    #[must_use]
    pub fn are_ranges(&self) -> bool {
        !self.state.lock().unwrap_or_else(PoisonError::into_inner).whole_only
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

fn broken_before(until: Instant) -> HttpError {
    if Instant::now() >= until { HttpError::Unmeasurable(TOO_SLOW) } else { HttpError::HungUp }
}

/// A body that counts only as far as it comes in time.
struct InTime<R> {
    body: R,
    until: Instant,
}

impl<R: Read> Read for InTime<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.body.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(_) => Err(broken_before(self.until).into()),
            Ok(count) if Instant::now() < self.until => Ok(count),
            Ok(_) => Err(HttpError::Unmeasurable(TOO_SLOW).into()),
        }
    }
}

/// `Content-Range: bytes */LENGTH`.
fn length_of_nothing(response: &Response<ureq::Body>) -> Option<u64> {
    text(response, header::CONTENT_RANGE)?.trim().strip_prefix("bytes */")?.parse().ok()
}
