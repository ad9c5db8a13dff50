//! What a program may want to know of a conversion, and to say in its errors.
//!
//! Like the `log` crate: a program sets its [`Observer`] once; without one nothing is reported.

use std::io;
use std::sync::OnceLock;

/// What became of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// They were read from a source.
    Read,
    /// They were written.
    Written,
    /// The target shares their blocks with the source.
    Shared,
    /// They are zero and were left out.
    Zero,
}

/// Follows the work of this crate.
pub trait Observer: Sync {
    /// Work on `total` bytes begins (0: unknown).
    fn begin(&self, total: u64);

    /// `bytes` more are done.
    fn advance(&self, bytes: u64);

    /// How to lift a limit that this program sets. Empty, or a clause that begins with ", ".
    fn advice(&self, _: Advice) -> &'static str {
        ""
    }

    /// So many bytes were moved in this way.
    fn moved(&self, _: Moved, _: u64) {}

    /// What to say in front of an error in writing: what to do about a full disk, say. Empty or ending with ": ".
    fn hint(&self, _: &io::Error) -> &'static str {
        ""
    }
}

/// What a program may add to a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The virtual size is over the program's limit.
    RaiseLimit,
    /// An encrypted image can't be converted.
    KeepEncrypted,
}

static OBSERVER: OnceLock<&'static dyn Observer> = OnceLock::new();

/// Sets the observer of this process; the first one stays.
pub fn set(observer: &'static dyn Observer) {
    let _ = OBSERVER.set(observer);
}

pub(crate) fn begin(total: u64) {
    if let Some(observer) = OBSERVER.get() {
        observer.begin(total);
    }
}

pub(crate) fn advance(bytes: u64) {
    if let Some(observer) = OBSERVER.get() {
        observer.advance(bytes);
    }
}

pub(crate) fn advice(advice: Advice) -> &'static str {
    OBSERVER.get().map_or("", |observer| observer.advice(advice))
}

pub(crate) fn moved(how: Moved, bytes: u64) {
    if let Some(observer) = OBSERVER.get() {
        observer.moved(how, bytes);
    }
}

pub(crate) fn hint(error: &io::Error) -> &'static str {
    OBSERVER.get().map_or("", |observer| observer.hint(error))
}
