//! A program whose output is an image.

use super::CommandError;
use crate::process;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So much of what a program prints on standard error is kept, bytes.
pub(super) const LONGEST_REASON: u64 = 16 << 10;

/// What a program prints, as a stream: it ends well only where the program does.
#[derive(Debug)]
pub struct Output {
    program: PathBuf,
    arguments: Vec<OsString>,
    child: Child,
    stdout: ChildStdout,
    stderr: Option<JoinHandle<String>>,
    ended: Arc<AtomicBool>,
    timed_out: Arc<AtomicBool>,
    /// What must not be shown, and what is shown in its place.
    pub(super) secret: Option<(String, String)>,
}

impl Output {
    pub(super) fn of(
        program: PathBuf,
        arguments: Vec<OsString>,
        mut command: Command,
    ) -> Result<Self, CommandError> {
        let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
        // A group of its own, so that what it starts can be stopped with it.
        command.process_group(0);
        let mut child = process::spawn(&mut command).map_err(not_started)?;
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(not_started(std::io::ErrorKind::BrokenPipe.into()));
        };
        // Read beside the output, so that a talkative program doesn't wait for us for ever.
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.by_ref().take(LONGEST_REASON).read_to_end(&mut text);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            program,
            arguments,
            child,
            stdout,
            stderr: Some(stderr),
            ended: Arc::default(),
            timed_out: Arc::default(),
            secret: None,
        })
    }

    /// Stops the program, and what it has started, at `until`.
    #[must_use]
    pub fn until(self, until: Instant) -> Self {
        let (ended, timed_out) = (Arc::clone(&self.ended), Arc::clone(&self.timed_out));
        let child = self.child.id();
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if Instant::now() >= until {
                    timed_out.store(true, Ordering::Relaxed);
                    process::kill_child(child);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        self
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let status = process::wait(&mut self.child)?;
        self.ended.store(true, Ordering::Relaxed);
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if self.timed_out.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if status.success() {
            return Ok(());
        }
        let stderr = match &self.secret {
            Some((secret, shown)) => stderr.replace(secret, shown),
            None => stderr,
        };
        Err(std::io::Error::other(CommandError::Failed {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            status,
            stderr,
        }))
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stdout.read(buffer)?;
        if self.timed_out.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if count == 0 && !buffer.is_empty() {
            self.end()?;
        }
        Ok(count)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        process::kill_child(self.child.id());
        let _ = process::wait(&mut self.child);
    }
}
