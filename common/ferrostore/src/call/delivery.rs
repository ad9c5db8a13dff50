//! Handing over the reply: oned's manager has read it before the driver ends.
//!
//! The manager reads both outputs to their end in threads of its own, which it stops 0.1 s after the driver has ended.
//! On a busy machine they may not have run once by then, and the reply is lost.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{dup2_stderr, dup2_stdout};
use runtime::clock::Clock;
use runtime::sys::unread_bytes;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A reader that has not taken all by then is not waited for any longer.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A reader that is waiting already takes less time than this.
const PROMPT: Duration = Duration::from_micros(50);

/// The driver looks so often whether a slow reader has taken all.
const PAUSE: Duration = Duration::from_micros(500);

/// A slow reader has at most so much time to find the end of the outputs.
const LONGEST_END: Duration = Duration::from_millis(500);

/// Waits until what was written to both outputs has been read, if they are pipes, and closes them. A reader that
/// took its time gets the same time again, to find their end.
pub(super) fn hand_over() {
    let unread = || is_unread(io::stdout().as_fd()) || is_unread(io::stderr().as_fd());
    hand_over_by(&mut Instant::now(), unread, close_outputs);
}

fn hand_over_by(clock: &mut impl Clock, unread: impl Fn() -> bool, close: impl FnOnce()) {
    while clock.elapsed() < READ_TIMEOUT && unread() {
        if clock.elapsed() < PROMPT {
            clock.yield_now();
        } else {
            clock.sleep(PAUSE);
        }
    }
    let waited = clock.elapsed();
    close();
    if waited > 2 * PAUSE {
        clock.sleep(waited.min(LONGEST_END));
    }
}

/// Whether a pipe holds bytes that its reader may still read.
fn is_unread(output: BorrowedFd) -> bool {
    let is_pipe = fstat(output)
        .is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits());
    is_pipe && unread_bytes(output).is_ok_and(|count| count > 0) && has_reader(output)
}

fn has_reader(pipe: BorrowedFd) -> bool {
    let mut state = [PollFd::new(pipe, PollFlags::empty())];
    let polled = poll(&mut state, PollTimeout::ZERO);
    // Without a reader the kernel reports an error, asked for or not.
    polled.is_ok_and(|_| {
        !state[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    })
}

/// Closes both outputs. Their numbers go to nothing, so that no file gets one of them.
fn close_outputs() {
    let Ok(nowhere) = File::options().write(true).open("/dev/null") else { return };
    let _ = dup2_stdout(&nowhere);
    let _ = dup2_stderr(&nowhere);
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::clock::ManualClock;
    use std::cell::Cell;

    /// The time at which the outputs are closed, and that at which the driver ends, where their reader has taken all
    /// at the look of this number.
    fn times(read_at_look: u32) -> (Duration, Duration) {
        let (mut clock, looks) = (ManualClock::default(), Cell::new(0));
        let unread = || {
            looks.set(looks.get() + 1);
            looks.get() < read_at_look
        };
        let closed = Cell::new(false);
        hand_over_by(&mut clock, unread, || closed.set(true));
        assert!(closed.get());
        let end = clock.0;
        let waited = if end > 2 * PAUSE { end / 2 } else { end };
        (waited, end)
    }

    #[test]
    fn a_reply_that_has_been_read_costs_no_time() {
        assert_eq!(times(1), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_prompt_reader_is_not_slept_for() {
        let (_, end) = times(20);
        assert!(end < PROMPT, "{end:?}");
    }

    #[test]
    fn a_slow_reader_gets_the_same_time_again_to_find_the_end() {
        let (waited, end) = times(100);
        assert!(waited > 10 * PAUSE && end == 2 * waited, "{waited:?}, {end:?}");
    }

    #[test]
    fn a_reader_that_never_reads_is_given_up() {
        let (_, end) = times(u32::MAX);
        assert!(end >= READ_TIMEOUT && end <= READ_TIMEOUT + PAUSE + LONGEST_END, "{end:?}");
    }
}
