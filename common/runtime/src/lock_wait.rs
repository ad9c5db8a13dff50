//! How long this process has waited for locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static MICROSECONDS: AtomicU64 = AtomicU64::new(0);

/// Adds the time since `start`, when a lock was asked for.
pub fn add_since(start: Instant) {
    let waited = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    MICROSECONDS.fetch_add(waited, Ordering::Relaxed);
}

/// All of it.
#[must_use]
pub fn total() -> Duration {
    Duration::from_micros(MICROSECONDS.load(Ordering::Relaxed))
}
