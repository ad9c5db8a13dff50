//! Space on a full disk: what is kept only for as long as nothing else needs its space.
//!
//! It is given up for what fits then, and not for what would fit nowhere: what an image needs, what writes it says with
//! [`expect`], as far as it can be told.

use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::statvfs::fstatvfs;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tells how many bytes more an image needs at least; where they are more than the limit, that they are more.
type Outlook = Box<dyn FnMut(u64) -> u64 + Send>;

/// Makes space; whether there is any more than before.
type Maker = Box<dyn FnMut(Need) -> bool + Send>;

/// What is needed.
pub struct Need {
    /// So much at once, bytes.
    bytes: u64,
    /// So much is free yet, bytes.
    free: u64,
    outlook: Option<Outlook>,
}

impl Need {
    /// So many bytes, of which none is free; how many more will follow, is not known.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        Self { bytes, free: 0, outlook: None }
    }

    /// As [`Need::of`], of a whole that is told by `outlook`.
    #[must_use]
    pub fn with_outlook(bytes: u64, outlook: impl FnMut(u64) -> u64 + Send + 'static) -> Self {
        Self { bytes, free: 0, outlook: Some(Box::new(outlook)) }
    }

    /// Bytes that are needed at once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are needed for the whole of an image, and are not free: at least so many, or more than `limit`. `None`: that
    /// is not known.
    pub fn in_all(&mut self, limit: u64) -> Option<u64> {
        let limit = limit.saturating_add(self.free);
        self.outlook.as_mut().map(|outlook| outlook(limit).saturating_sub(self.free))
    }
}

impl fmt::Debug for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Need({} bytes, {} free)", self.bytes, self.free)
    }
}

/// What is known of the image that is being written.
enum Whole {
    /// Nothing, or that all of it has its place.
    Unknown,
    /// How much it needs.
    Told(Outlook),
    /// That there is no place for it.
    Impossible,
}

struct State {
    maker: Option<Maker>,
    whole: Whole,
}

/// How many times space was made.
static MADE: AtomicU64 = AtomicU64::new(0);

static STATE: Mutex<State> = Mutex::new(State { maker: None, whole: Whole::Unknown });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `maker` asked for space where a disk is full. The last one counts.
pub fn set_maker(maker: impl FnMut(Need) -> bool + Send + 'static) {
    state().maker = Some(Box::new(maker));
}

/// Whether space can be made at all.
#[must_use]
pub fn has_maker() -> bool {
    state().maker.is_some()
}

/// As long as it lives, something is known of the image that is written.
#[derive(Debug)]
#[must_use]
pub struct Expectation(());

impl Drop for Expectation {
    fn drop(&mut self) {
        expect_nothing();
    }
}

/// Has `outlook` asked, should the disk be full, how many bytes more the image needs that is written now: at least. Where they
/// are more than the limit that it gets, it need not tell by how much.
pub fn expect(outlook: impl FnMut(u64) -> u64 + Send + 'static) -> Expectation {
    state().whole = Whole::Told(Box::new(outlook));
    Expectation(())
}

/// Has nothing be known of the image that is written now.
pub fn expect_nothing() {
    state().whole = Whole::Unknown;
}

/// Makes space for `bytes` more of the image that is being written, as far as can be; whether there is any more than before.
#[must_use]
pub fn make(bytes: u64) -> bool {
    make_with(&mut state(), bytes, 0)
}

fn make_with(state: &mut State, bytes: u64, free: u64) -> bool {
    let Some(maker) = &mut state.maker else { return false };
    let outlook = match std::mem::replace(&mut state.whole, Whole::Impossible) {
        Whole::Unknown => None,
        Whole::Told(outlook) => Some(outlook),
        Whole::Impossible => return false,
    };
    let made = maker(Need { bytes, free, outlook });
    if made {
        state.whole = Whole::Unknown;
        MADE.fetch_add(1, Ordering::Relaxed);
    }
    made
}

/// As [`make`], where those bytes are all that the image still needs.
#[must_use]
pub fn make_for_rest(bytes: u64) -> bool {
    let mut state = state();
    state.whole = Whole::Told(Box::new(move |_| bytes));
    make_with(&mut state, bytes, 0)
}

/// Makes space for one more file, or for its name; whether there is any more than before.
#[must_use]
pub fn make_for_entry() -> bool {
    state().maker.as_mut().is_some_and(|maker| maker(Need::of(1)))
}

/// Whether an error says that the disk, or a quota of bytes or files, is full.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes that are free where `file` lies.
#[must_use]
pub fn available(file: &File) -> u64 {
    fstatvfs(file).map_or(0, |stat| stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Makes space for the image that will be written into `file`, where that would be too late afterwards. It takes `most` bytes
/// at most, as far as that is known.
pub fn prepare(file: &File, most: Option<u64>) {
    /// File systems on which a write finds out only later, when nothing can be done any more, that the disk is full: NFS and
    /// SMB (`linux/magic.h`).
    const LATE: [i64; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];
    const SPARE: u64 = 1 << 20;
    let late = fstatfs(file)
        .is_ok_and(|stat| LATE.iter().any(|&magic| stat.filesystem_type() == FsType(magic)));
    if !late {
        return;
    }
    // Not down to the last block: the file system takes some for itself.
    let free = available(file).saturating_sub(SPARE);
    if most.is_some_and(|most| most <= free) {
        return;
    }
    let mut state = state();
    if let (Whole::Unknown, Some(most)) = (&state.whole, most) {
        state.whole = Whole::Told(Box::new(move |_| most));
    }
    if matches!(state.whole, Whole::Told(_)) {
        let _ = make_with(&mut state, 0, free);
    }
}

/// Runs `write`, which needs `bytes` on disk and can be repeated: where there is no space, once more for as long as some
/// can be made, here or by another thread of the same image.
///
/// # Errors
/// Those of `write`.
pub fn with_space<T>(bytes: u64, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut begun = times_made();
    write().or_else(|error| repeat(error, || make_unless_made_since(&mut begun, bytes), write))
}

/// How many times space was made so far, for [`make_unless_made_since`].
#[must_use]
pub fn times_made() -> u64 {
    MADE.load(Ordering::Relaxed)
}

/// As [`make`], unless space was made since a write began that found none, when it had been made `begun` times: two
/// writers that fail at once need it only once. The next attempt begins now.
#[must_use]
pub fn make_unless_made_since(begun: &mut u64, bytes: u64) -> bool {
    let mut state = state();
    let now = times_made();
    if std::mem::replace(begun, now) != now {
        return true;
    }
    let made = make_with(&mut state, bytes, 0);
    *begun = times_made();
    made
}

/// As [`with_space`], for what needs one more file, or its name.
///
/// # Errors
/// Those of `write`.
pub fn with_space_for_entry<T>(mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    write().or_else(|error| repeat(error, make_for_entry, write))
}

/// Runs `write` once more, which has failed with `error`, for as long as there was no space and `make` makes some.
///
/// # Errors
/// `error`, where it is not that there is no space, else those of `write`.
pub fn repeat<T>(
    mut error: io::Error,
    mut make: impl FnMut() -> bool,
    mut write: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    while is_exhausted(&error) && make() {
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
    use std::sync::Arc;

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
        set_maker(move |mut need| {
            if need.in_all(99).is_some_and(|bytes| bytes > 99) {
                return false;
            }
            left -= 1;
            need.bytes() == 7 && left >= 0
        });
        let too_much = expect(|limit| limit + 1);
        assert!(with_space(7, || attempt(9)).is_err(), "it needs too much");
        assert!(!make(7), "nor is anything given up for parts of it");
        drop(too_much);
        let _enough = expect(|_| 99);
        attempts = 0;
        let mut attempt = |free: u32| {
            attempts += 1;
            if attempts > free { Ok(attempts) } else { Err(full()) }
        };
        assert_eq!(with_space(7, || attempt(3)).ok(), Some(4));
        let other = || -> io::Result<()> { Err(io::ErrorKind::PermissionDenied.into()) };
        assert!(with_space(7, other).is_err());
        assert!(with_space(7, || -> io::Result<()> { Err(full()) }).is_err(), "it is used up");
        // The state is that of the whole process: so this is no test of its own.
        two_writers_that_fail_at_once_make_space_once();
    }

    fn two_writers_that_fail_at_once_make_space_once() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        expect_nothing();
        set_maker(move |_| counted.fetch_add(1, Ordering::Relaxed) < 5);
        let mut attempts = 0;
        let write = || {
            attempts += 1;
            // While this one is at work, another writer finds no space.
            if attempts == 1 && make(7) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        };
        assert!(with_space(7, write).is_ok());
        assert_eq!((attempts, calls.load(Ordering::Relaxed)), (2, 1));
        let full = || -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
        assert!(with_space(7, full).is_err(), "each failure of its own has some made");
        assert_eq!(calls.load(Ordering::Relaxed), 6);
    }
}
