//! Space on a full disk: what is kept only for as long as nothing else needs its space.

use std::io;
use std::sync::{Mutex, PoisonError};

/// Makes space for so many bytes; whether it made any.
type Maker = Box<dyn FnMut(u64) -> bool + Send>;

static MAKER: Mutex<Option<Maker>> = Mutex::new(None);

/// Has `maker` asked for space where a disk is full. The last one counts.
pub fn set_maker(maker: impl FnMut(u64) -> bool + Send + 'static) {
    *MAKER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(maker));
}

/// Makes space for `bytes` more, as far as can be; whether there is any more than before.
#[must_use]
pub fn make(bytes: u64) -> bool {
    let mut maker = MAKER.lock().unwrap_or_else(PoisonError::into_inner);
    maker.as_mut().is_some_and(|maker| maker(bytes))
}

/// Whether an error says that the disk, or a quota of bytes or files, is full.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Runs `write`, which needs `bytes` on disk and can be repeated: where there is no space, once more for as long as some
/// can be made.
///
/// # Errors
/// Those of `write`.
pub fn with_space<T>(bytes: u64, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    write().or_else(|error| repeat(error, bytes, write))
}

/// As [`with_space`], where `write` has failed once already.
///
/// # Errors
/// `error`, where it is not that there is no space, else those of `write`.
pub fn repeat<T>(
    mut error: io::Error,
    bytes: u64,
    mut write: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    while is_exhausted(&error) && make(bytes) {
        match write() {
            Ok(done) => return Ok(done),
            Err(again) => error = again,
        }
    }
    Err(error)
}

/// As [`with_space`], for a program that does not tell how much it needs: `is_exhausted` tells whether it found no space.
///
/// # Errors
/// Those of `run`.
pub fn with_space_for_program<T, E>(
    mut run: impl FnMut() -> Result<T, E>,
    is_exhausted: impl Fn(&E) -> bool,
) -> Result<T, E> {
    /// Each time so much is made, bytes: to start a program again takes longer than to write a block again.
    const STEP: u64 = 1 << 20;
    loop {
        match run() {
            Err(error) if is_exhausted(&error) && make(STEP) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_space_is_repeated_as_long_as_some_is_made() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let mut attempts = 0;
        let mut attempt = |free: u32| {
            attempts += 1;
            if attempts > free { Ok(attempts) } else { Err(full()) }
        };
        assert!(with_space(1, || attempt(1)).is_err(), "there is no maker");
        let mut left = 3;
        set_maker(move |bytes| {
            left -= 1;
            bytes == 7 && left >= 0
        });
        assert_eq!(with_space(7, || attempt(3)).ok(), Some(4));
        let other = || -> io::Result<()> { Err(io::ErrorKind::PermissionDenied.into()) };
        assert!(with_space(7, other).is_err());
        assert!(with_space(7, || -> io::Result<()> { Err(full()) }).is_err(), "it is used up");
    }
}
