//! Handing over the reply: oned's manager has read it before the driver ends.
//!
//! The manager reads both outputs to their end in threads of its own, which it stops 0.1 s after the driver has ended.
//! On a busy machine they may not have run once by then, and the reply is lost.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{dup2_stderr, dup2_stdout};
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
    let start = Instant::now();
    while start.elapsed() < READ_TIMEOUT
        && (is_unread(io::stdout().as_fd()) || is_unread(io::stderr().as_fd()))
    {
        if start.elapsed() < PROMPT {
            std::thread::yield_now();
        } else {
            std::thread::sleep(PAUSE);
        }
    }
    let waited = start.elapsed();
    close_outputs();
    if waited > 2 * PAUSE {
        std::thread::sleep(waited.min(LONGEST_END));
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
