//! One ssh connection with the driver on a bridge host at its other end.

use super::frame::{self, Tag};
use super::lock_serving::{Frames, LockServingWriter, Stopper};
use super::out::Out;
use super::self_executable;
use super::{BridgeError, Role};
use crate::kinds::FrontEndLock;
use one_protocol::settings::Carried;
use runtime::command::{Session, ssh_script};
use runtime::process;
use runtime::text::one_line;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::net::Shutdown;
use std::process::{ChildStderr, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the shell on the other side runs, whatever the action: it reads five lines (directory of the
/// drivers, staging directory, name, digest and size of the executable), runs the executable that has
/// this digest, and takes it first from its standard input where there is none.
const BOOTSTRAP: &str = include_str!("bootstrap.sh");
/// What its lines begin with. What a login script prints before is passed over.
const STATUS: &str = "ferrostore-bridge ";
/// So much of that is read at most, bytes.
const LONGEST_GREETING: u64 = 64 << 10;
/// So much of what is said on standard error is kept, bytes.
const LONGEST_REASON: usize = 16 << 10;
/// ssh's exit code where it is the connection that failed.
const CONNECTION_FAILED: i32 = 255;
/// The other side gets a frame this often, so that it can tell when the front-end is gone.
const ALIVE: Duration = Duration::from_secs(15);
/// So long the other side may take to clean up, once told that nothing more comes.
const PARTING: Duration = Duration::from_secs(5);

/// What is to be run on a host.
#[derive(Debug)]
pub(super) struct RemoteCommand {
    pub(super) action: &'static str,
    /// Directory of the drivers there.
    pub(super) drivers: String,
    /// `STAGING_DIR`.
    pub(super) staging: String,
}

/// Why there is no connection.
pub(super) enum Unconnected {
    /// Another host may do: nothing has been done here.
    Unreachable(String),
    /// The administrator must know.
    Failed(BridgeError),
}

impl From<BridgeError> for Unconnected {
    fn from(error: BridgeError) -> Self {
        Self::Failed(error)
    }
}

/// The driver on another host, waiting for its call.
pub(super) struct Connection {
    host: String,
    session: Session,
    out: Out,
    frames: Frames,
    errors: Errors,
}

impl Connection {
    /// Reaches the driver on `host`.
    ///
    /// # Errors
    /// [`Unconnected`].
    pub(super) fn open(
        host: &str,
        command: &RemoteCommand,
        lock: Option<&FrontEndLock>,
    ) -> Result<Self, Unconnected> {
        let mut session = ssh_script(host, BOOTSTRAP).map_err(BridgeError::from)?;
        let (Some(output), Some(errors)) = (session.output.take(), session.errors.take()) else {
            return Err(Unconnected::Unreachable("ssh has no output".to_owned()));
        };
        let errors = Errors::collect_stderr(errors, host.to_owned(), command.action)
            .map_err(|error| Unconnected::Unreachable(error.to_string()))?;
        let own = self_executable::get()?;
        let lines = format!(
            "{}\n{}\n{}\n{}\n{}\n",
            command.drivers, command.staging, command.action, own.digest, own.size
        );
        // Where ssh has ended already, its exit code tells more than a broken pipe.
        let _ = session.input.write_all(lines.as_bytes());
        let mut frames = BufReader::new(output);
        loop {
            let Some((machine, status)) = status_line(&mut frames) else {
                let status = session.wait().ok();
                return Err(Unconnected::Unreachable(errors.reason(status)));
            };
            let unusable = |reason: String| {
                Err(BridgeError::Unusable { host: host.to_owned(), reason }.into())
            };
            let here = nix::sys::utsname::uname()
                .map(|name| name.machine().to_string_lossy().into_owned())
                .unwrap_or_default();
            if machine != here {
                return unusable(format!(
                    "its processor ({machine}) is not the front-end's ({here}), so the driver can't run there: give the datastore bridge hosts with the same processor"
                ));
            }
            let staging = &command.staging;
            match status.as_str() {
                "ready" => break,
                "send" => {
                    log::info!(
                        "host {host} has no driver of this version in {}: sending it to {staging}",
                        command.drivers
                    );
                    let _ = own.send(&mut session.input);
                }
                "unsafe" => {
                    return unusable(format!(
                        "the directory ferrostore-<user id> in STAGING_DIR {staging} belongs to another user, or others may write to it: remove it, or set DATASTORE/TEMPLATE/STAGING_DIR"
                    ));
                }
                "noexec" => {
                    return unusable(format!(
                        "STAGING_DIR {staging} is mounted noexec, so the driver can't run from there: set DATASTORE/TEMPLATE/STAGING_DIR to another directory, or put the drivers into {}",
                        command.drivers
                    ));
                }
                "unwritable" => {
                    return unusable(format!(
                        "there is no driver of this version in {}, and none can be put into STAGING_DIR {staging}: make it writable, or set DATASTORE/TEMPLATE/STAGING_DIR",
                        command.drivers
                    ));
                }
                _ => {
                    return unusable(format!(
                        "the copy of the driver in STAGING_DIR {staging} is not what was sent: see whether there is space, and try again"
                    ));
                }
            }
        }
        let input = session.input.try_clone().map_err(BridgeError::System)?;
        let out = Out::new(BufWriter::with_capacity(64 << 10, input));
        let frames = Frames::of(frames, out.clone(), lock.cloned());
        Ok(Self { host: host.to_owned(), session, out, frames, errors })
    }

    /// Tells the other side what to do.
    pub(super) fn call(&mut self, role: Role, message: &[u8], settings: &Carried) {
        // Where this fails, what the other side says tells why.
        let mut send = |tag, payload: &[u8]| frame::write(&mut self.out, tag, payload);
        let _ = send(Tag::Role, &[role as u8])
            .and_then(|()| settings.pairs().try_for_each(|pair| send(Tag::Setting, &pair)))
            .and_then(|()| send(Tag::Message, message))
            .and_then(|()| self.out.flush());
        let mut out = self.out.clone();
        let _ = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            loop {
                std::thread::sleep(ALIVE);
                if frame::write(&mut out, Tag::Alive, b"").and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
        });
    }

    /// The host's name, as the message has it.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// What is sent to the other side, which is listened to meanwhile.
    pub(super) fn out(&mut self) -> LockServingWriter<'_> {
        LockServingWriter { out: self.out.clone(), frames: &mut self.frames }
    }

    /// What is sent to the other side, for a thread beside one that listens.
    pub(super) fn plain_writer(&self) -> Out {
        self.out.clone()
    }

    /// Waits until the other side says something that is not about locks, which it gets meanwhile;
    /// [`Self::next`] tells it.
    pub(super) fn listen(&mut self) {
        self.frames.listen();
    }

    /// Something by which another thread tells the other side that nothing more comes.
    ///
    /// # Errors
    /// As `dup(2)`.
    pub(super) fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { input: self.session.input.try_clone()?, lock: self.frames.lock.clone() })
    }

    /// Has the other side work under the lock from the beginning.
    ///
    /// # Errors
    /// Where the lock can't be had.
    pub(super) fn acquire(&self, lock: &FrontEndLock) -> Result<(), BridgeError> {
        self.frames.lock.acquire(&lock.name).map_err(BridgeError::Lock)
    }

    /// The next frame of the other side.
    ///
    /// # Errors
    /// As [`frame::read`]; [`Self::failure`] tells more.
    pub(super) fn next(&mut self) -> io::Result<Option<(Tag, Vec<u8>)>> {
        self.frames.next()
    }

    /// Waits for the reply, and tells the other side that it is here.
    ///
    /// # Errors
    /// What the other side says, or that it is gone.
    pub(super) fn reply(mut self) -> Result<Vec<u8>, BridgeError> {
        let Ok(Some((Tag::Reply, reply))) = self.next() else { return Err(self.failure()) };
        if !self.frames.commit_was_checked {
            process::check_before_commit();
        }
        // From here on the image, or whatever the action has done, stays.
        process::mark_committed();
        let _ = frame::write(&mut self.out, Tag::Keep, b"").and_then(|()| self.out.flush());
        match self.session.wait() {
            Ok(status) if status.success() => {
                self.errors.wait();
                Ok(reply)
            }
            _ => Err(self.failure()),
        }
    }

    /// What the other side says of its failure, once it has ended.
    pub(super) fn failure(mut self) -> BridgeError {
        let status = self.part();
        let host = std::mem::take(&mut self.host);
        let mut reason = self.errors.reason(status);
        if let Some(stopped) = process::stopped_by()
            && reason.starts_with(process::STOPPED)
        {
            // There it was the end of the connection that stopped it.
            reason = stopped;
        }
        BridgeError::Failed { host, reason }
    }

    /// Tells the other side that nothing more comes, and waits until it has cleaned up.
    pub(super) fn part(&mut self) -> Option<ExitStatus> {
        let _ = self.out.flush();
        self.frames.lock.leave_until_end();
        let _ = self.session.input.shutdown(Shutdown::Write);
        let until = Instant::now() + self.frames.lock.timeout(PARTING);
        let status = loop {
            match self.session.try_wait() {
                Ok(None) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                status => break status.ok().flatten(),
            }
        };
        self.frames.lock.end();
        status
    }
}

/// The next line of [`BOOTSTRAP`]: the machine's processor, and a word. `None` where there is none.
fn status_line(from: &mut impl BufRead) -> Option<(String, String)> {
    let mut from = from.take(LONGEST_GREETING);
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        // A greeting need not end its line.
        let status = line.find(STATUS).map(|at| line[at + STATUS.len()..].trim_end());
        if let Some((machine, word)) = status.and_then(|status| status.rsplit_once(' ')) {
            return Some((machine.to_owned(), word.to_owned()));
        }
    }
}

/// What comes on standard error: log lines are passed on at once, the rest is kept.
struct Errors {
    collected: Arc<Mutex<Collected>>,
    ended: Receiver<()>,
}

#[derive(Default)]
struct Collected {
    /// The one line in which the driver there says why it failed.
    error: Option<String>,
    other: String,
}

impl Errors {
    fn collect_stderr(errors: ChildStderr, host: String, action: &'static str) -> io::Result<Self> {
        let collected = Arc::new(Mutex::new(Collected::default()));
        let (sender, ended) = channel();
        let all = Arc::clone(&collected);
        std::thread::Builder::new().spawn(move || {
            let mut errors = BufReader::new(errors);
            let mut line = Vec::new();
            while (&mut errors).take(LONGEST_GREETING).read_until(b'\n', &mut line).unwrap_or(0) > 0
            {
                let text = one_line(&String::from_utf8_lossy(&line));
                all.lock().unwrap_or_else(PoisonError::into_inner).take(&text, &host, action);
                line.clear();
            }
            let _ = sender.send(());
        })?;
        Ok(Self { collected, ended })
    }

    /// Waits until all has been passed on, once ssh has ended.
    fn wait(&self) {
        // A connection that others share may keep standard error open for long.
        let _ = self.ended.recv_timeout(Duration::from_millis(200));
    }

    /// Why the other side failed, once ssh has ended with `status`.
    fn reason(&self, status: Option<ExitStatus>) -> String {
        self.wait();
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = collected.error.take() {
            return error;
        }
        let other = std::mem::take(&mut collected.other);
        let said = |text: &str| if other.is_empty() { text.to_owned() } else { other.clone() };
        match status.and_then(|status| status.code()) {
            _ if other.contains("GLIBC_") => format!(
                "its C library is too old for these drivers: {other}; build them on the oldest system that runs them"
            ),
            Some(CONNECTION_FAILED) => said("ssh reported no reason for the connection failure"),
            Some(0) => said("the driver there ended without a reply"),
            Some(code) => format!(
                "the driver can't be run there, or failed: {} (exit code {code})",
                said("no output")
            ),
            None => said("the connection broke, or the driver there did not end"),
        }
    }
}

impl Collected {
    fn take(&mut self, line: &str, host: &str, action: &str) {
        let levels = [
            ("ERROR: ", log::Level::Error),
            ("WARN: ", log::Level::Warn),
            ("INFO: ", log::Level::Info),
            ("DEBUG: ", log::Level::Debug),
        ];
        for (prefix, level) in levels {
            if let Some(text) = line.strip_prefix(prefix) {
                log::log!(level, "host {host}: {text}");
                return;
            }
        }
        match line.strip_prefix(action).and_then(|rest| rest.strip_prefix(": ")) {
            Some(error) => self.error = Some(error.to_owned()),
            None if self.other.len() < LONGEST_REASON && !line.is_empty() => {
                if !self.other.is_empty() {
                    self.other.push_str("; ");
                }
                self.other.push_str(line);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_login_scripts_are_passed_over() {
        let text = "Welcome!\nferrostore-bridgehead\nno endferrostore-bridge x86_64 ready\nrest";
        let mut from = text.as_bytes();
        assert_eq!(status_line(&mut from), Some(("x86_64".to_owned(), "ready".to_owned())));
        assert_eq!(from, b"rest");
        assert_eq!(status_line(&mut b"Welcome!".as_slice()), None);
    }

    #[test]
    fn the_bootstrap_fits_into_single_quotes() {
        assert!(!BOOTSTRAP.contains('\'') && !BOOTSTRAP.contains('!'));
    }
}
