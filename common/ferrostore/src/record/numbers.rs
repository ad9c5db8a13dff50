//! How many bytes of images were moved, and how.

use disk_image::observer::Moved;
use runtime::lock_wait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static READ: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static SHARED: AtomicU64 = AtomicU64::new(0);
static ZERO: AtomicU64 = AtomicU64::new(0);
static RESUMED: AtomicU64 = AtomicU64::new(0);
/// What the driver on a bridge host says of itself.
static ELSEWHERE: Mutex<Numbers> = Mutex::new(Numbers::NONE);

/// What a call has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Bytes read from where the image comes from: a file, a connection.
    pub read: u64,
    /// Bytes written to images.
    pub written: u64,
    /// Bytes that share the blocks of another file (reflink).
    pub shared: u64,
    /// Zero bytes of disks that were not written.
    pub zero: u64,
    /// How often a download went on after its connection had broken.
    pub resumed: u64,
    /// How long locks were waited for.
    pub lock_wait: Duration,
}

impl Numbers {
    const NONE: Self =
        Self { read: 0, written: 0, shared: 0, zero: 0, resumed: 0, lock_wait: Duration::ZERO };
}

/// Counts bytes.
pub fn moved(how: Moved, bytes: u64) {
    let counter = match how {
        Moved::Read => &READ,
        Moved::Written => &WRITTEN,
        Moved::Shared => &SHARED,
        Moved::Zero => &ZERO,
    };
    counter.fetch_add(bytes, Ordering::Relaxed);
}

/// Counts a download that goes on.
pub fn resumed() {
    RESUMED.fetch_add(1, Ordering::Relaxed);
}

/// Takes over what the driver on a bridge host has done so far.
pub fn elsewhere(numbers: Numbers) {
    *ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
}

/// The numbers of this call, on this machine and on a bridge host.
#[must_use]
pub fn numbers() -> Numbers {
    let elsewhere = *ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Numbers {
        read: count(&READ) + elsewhere.read,
        written: count(&WRITTEN) + elsewhere.written,
        shared: count(&SHARED) + elsewhere.shared,
        zero: count(&ZERO) + elsewhere.zero,
        resumed: count(&RESUMED) + elsewhere.resumed,
        lock_wait: lock_wait::total() + elsewhere.lock_wait,
    }
}
