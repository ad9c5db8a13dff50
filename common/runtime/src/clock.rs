//! Time, as it passes or as a test has it pass.

use std::time::{Duration, Instant};

/// What a wait needs of time.
pub trait Clock {
    /// The time since the wait began.
    fn elapsed(&self) -> Duration;

    /// Lets `time` pass.
    fn sleep(&mut self, time: Duration);

    /// Lets another thread or process run.
    fn yield_now(&mut self);
}

impl Clock for Instant {
    fn elapsed(&self) -> Duration {
        Instant::elapsed(self)
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn yield_now(&mut self) {
        std::thread::yield_now();
    }
}

/// A clock for tests: time passes only where it is waited for.
#[derive(Debug, Default)]
pub struct ManualClock(pub Duration);

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        self.0
    }

    fn sleep(&mut self, time: Duration) {
        self.0 += time;
    }

    fn yield_now(&mut self) {
        self.0 += Duration::from_micros(1);
    }
}
