//! What happens when oned, or a person, tells a driver to stop.
//!
//! SIGTERM, SIGINT and SIGHUP are blocked in every thread and taken by one that waits for them.
//! It stops the children, removes what is staged, says so in one line and ends the process. After
//! the commit (the staged file has its final name) a signal comes too late: the driver
//! finishes within moments and reports what it did, so that oned never records a failure for an
//! image that exists.
//!
//! Other reasons end a driver in the same way: see [`stop`]. SIGUSR1 only asks how far it is.

use crate::file_lock::FileLock;
use crate::hooks;
use crate::sys::write_error_line;
use crate::work_directory;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

/// What takes something back that this process has made and that is no file.
type Undo = Box<dyn FnOnce() + Send>;

/// What a signal must know. No file is touched while it is locked: a server that does not answer must not keep a signal
/// waiting. Lists and no maps: there is one of each as a rule, and the code of maps would be in every driver.
struct State {
    /// Steps under way that make or remove files, and will say so here.
    steps: usize,
    /// A signal is being handled: nothing may begin any more.
    stopping: bool,
    staged: Vec<PathBuf>,
    locks: Vec<(PathBuf, Arc<FileLock>)>,
    children: Vec<i32>,
    undo: Vec<(u64, Undo)>,
    committed: bool,
    published: Option<Made>,
    /// Stops the work that another machine does.
    delegate: Option<Box<dyn FnOnce() + Send>>,
    stopped_by: Option<String>,
}

static STATE: Mutex<State> = Mutex::new(State {
    steps: 0,
    stopping: false,
    staged: Vec::new(),
    locks: Vec::new(),
    children: Vec::new(),
    undo: Vec::new(),
    committed: false,
    published: None,
    delegate: None,
    stopped_by: None,
});

/// How long another machine has to say what became of its work after a signal.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Waiting for a step that is under way, and removing files, may each take so long after a signal. What is left then,
/// on a server that does not answer, is removed by the next driver.
const CLEAN_UP_TIME: Duration = Duration::from_secs(1);

/// Notified after every change of the state.
static CHANGED: Condvar = Condvar::new();

/// What [`stopped`] begins with.
pub const STOPPED: &str = "stopped by ";

/// What a driver says when it was told to stop.
#[must_use]
pub fn stopped(signal: Signal) -> String {
    format!("{STOPPED}{signal} before it was done; nothing was changed")
}

static ACTION: OnceLock<&str> = OnceLock::new();

/// A new image that has not been reported yet.
enum Made {
    File(Published),
    Other(Box<dyn Unreported>),
}

/// A new image that is a file.
#[derive(Debug)]
pub(crate) struct Published {
    /// Its file.
    pub(crate) image: PathBuf,
    /// The name under which it was staged, as long as that is there.
    pub(crate) staged: Option<PathBuf>,
    /// For as long as this is open, no remove takes its driver for dead.
    pub(crate) _hold: File,
    /// The directory of its datastore.
    pub(crate) datastore: PathBuf,
}

/// The state. Once a signal is being handled, this call never returns.
fn state() -> MutexGuard<'static, State> {
    CHANGED
        .wait_while(locked_state(), |state| state.stopping)
        .unwrap_or_else(PoisonError::into_inner)
}

/// As [`state`], for what a signal waits for.
fn locked_state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `step`, which makes or removes files, and has `record` note what came of it: a signal finds the state before or
/// after that, unless the step takes too long.
fn step<T>(
    mut state: MutexGuard<'_, State>,
    step: impl FnOnce() -> T,
    record: impl FnOnce(&mut State, &T),
) -> T {
    state.steps += 1;
    drop(state);
    let result = step();
    let mut state = locked_state();
    record(&mut state, &result);
    state.steps -= 1;
    CHANGED.notify_all();
    result
}

/// Starts watching for signals on behalf of `action`. Call it before any thread or child is started.
pub fn watch(action: &'static str) {
    let _ = ACTION.set(action);
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        signals.add(signal);
    }
    if pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).is_err() {
        return;
    }
    let watcher = std::thread::Builder::new().stack_size(64 << 10);
    // Without the thread the signals stay blocked and the driver runs to its end.
    let _ = watcher.spawn(move || {
        while let Ok(signal) = signals.wait() {
            match signal {
                Signal::SIGUSR1 => hooks::tell_status(),
                _ => stop(&stopped(signal)),
            }
        }
    });
}

/// Ends this process as a signal does, and says `reason`. Where the action has been committed, it is too late: then this
/// returns.
pub fn stop(reason: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut state = state();
    if let Some(stop) = state.delegate.take()
        && !state.committed
    {
        state.stopped_by = Some(reason.to_owned());
        drop(state);
        stop();
        std::thread::sleep(TIMEOUT);
        state = self::state();
    }
    if state.committed {
        return;
    }
    state.stopping = true;
    let steps = CHANGED.wait_timeout_while(state, CLEAN_UP_TIME, |state| state.steps > 0);
    let (mut state, _) = steps.unwrap_or_else(PoisonError::into_inner);
    let late = reason.to_owned();
    abandon(&mut state, move || end(&late));
    end(reason);
}

/// Says why the driver ends, and ends it.
fn end(reason: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        hooks::stopping(reason);
        let action = ACTION.get().unwrap_or(&"a driver");
        write_error_line(&format!("{action}: {reason}"));
        std::process::exit(1);
    });
}

/// Asks whether the action is still to be committed. Where it is not, this never returns: see [`stop`].
pub fn check_before_commit() {
    if let Some(reason) = hooks::reason_not_to_commit() {
        stop(&reason);
    }
}

/// Action, process and host, for others to know whom they wait for.
pub(crate) fn describe_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let action = ACTION.get().unwrap_or(&"a driver");
    format!("{action} (process {} on {})", std::process::id(), host.trim())
}

/// Removes what this process has staged. For a panic, which ends the process without unwinding.
pub fn clean_up_after_panic() {
    if let Ok(mut state) = STATE.try_lock()
        && !state.committed
        && !state.stopping
    {
        abandon(&mut state, || {});
    }
}

/// Stops the children and removes the files of this process, and then what is no file. `late` is called where the files
/// take too long.
fn abandon(state: &mut State, late: impl FnOnce() + Send + 'static) {
    for &child in &state.children {
        kill_with_group(child);
    }
    let removed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&removed);
    let timer = std::thread::Builder::new().stack_size(64 << 10);
    // Without the thread it takes as long as it takes.
    let _ = timer.spawn(move || {
        std::thread::sleep(CLEAN_UP_TIME);
        if !seen.load(Ordering::Acquire) {
            late();
        }
    });
    remove_files(state);
    removed.store(true, Ordering::Release);
    for (_, undo) in std::mem::take(&mut state.undo) {
        undo();
    }
}

fn remove_files(state: &State) {
    for path in &state.staged {
        if std::fs::remove_file(path).is_err() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
    for (path, lock) in &state.locks {
        lock.release(path);
    }
    let paths = state.staged.iter().chain(state.locks.iter().map(|(path, _)| path));
    let mut left: Vec<&Path> = Vec::new();
    for area in paths.filter_map(|path| path.parent()) {
        if area.ends_with(work_directory::NAME) && !left.contains(&area) {
            work_directory::leave_at_the_end(area);
            left.push(area);
        }
    }
}

/// Something that is taken back if the driver is told to stop, until this is dropped.
#[derive(Debug)]
pub struct CleanupGuard(u64);

/// Has `undo` run if the driver is told to stop. Call it before there is anything to take back: `undo`
/// may find nothing. It must neither start children through [`spawn`] nor call anything else here.
#[must_use]
pub fn on_stop(undo: impl FnOnce() + Send + 'static) -> CleanupGuard {
    let mut state = state();
    let id = state.undo.last().map_or(0, |(last, _)| last + 1);
    state.undo.push((id, Box::new(undo)));
    CleanupGuard(id)
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        state().undo.retain(|(id, _)| *id != self.0);
    }
}

/// Runs `create`, which makes a file, and remembers that file for removal.
pub(crate) fn stage<T, E>(
    create: impl FnOnce() -> Result<T, E>,
    path: impl FnOnce(&T) -> &Path,
) -> Result<T, E> {
    step(state(), create, |state, created| {
        if let Ok(created) = created {
            state.staged.push(path(created).to_owned());
        }
    })
}

/// Forgets a staged file that has been removed or has another name now.
pub(crate) fn forget(path: &Path) {
    state().staged.retain(|staged| staged != path);
}

/// Runs `acquire`, which takes a lock, and remembers the lock's file for removal. Whatever else `acquire` returns is
/// passed on.
pub(crate) fn register_lock<T>(
    acquire: impl FnOnce() -> io::Result<Option<(PathBuf, FileLock, T)>>,
) -> io::Result<Option<(PathBuf, Arc<FileLock>, T)>> {
    let acquire = || Ok(acquire()?.map(|(path, lock, rest)| (path, Arc::new(lock), rest)));
    step(state(), acquire, |state, taken: &io::Result<_>| {
        if let Ok(Some((path, lock, _))) = taken {
            state.locks.push((PathBuf::clone(path), Arc::clone(lock)));
        }
    })
}

/// Releases a lock.
pub(crate) fn unlock(path: &Path) {
    let mut state = state();
    let Some(at) = state.locks.iter().position(|(locked, _)| locked == path) else { return };
    let (_, lock) = state.locks.swap_remove(at);
    step(state, || lock.release(path), |_, ()| {});
}

/// Remembers a new image that oned does not know yet.
pub(crate) fn published(image: Published) {
    state().published = Some(Made::File(image));
}

/// A new image that is no file.
pub trait Unreported: Send {
    /// Removes it.
    fn roll_back_new_image(self: Box<Self>);

    /// Lets it stay.
    ///
    /// # Errors
    /// As [`confirm`].
    fn confirm(&self) -> io::Result<()>;
}

/// As for a file, for any other image.
pub fn published_other(image: impl Unreported + 'static) {
    state().published = Some(Made::Other(Box::new(image)));
}

/// Lets the new image that this process has made stay: its reply is given.
///
/// # Errors
/// Where a later recovery would still take it for one that was never reported: then the call must fail.
pub fn confirm() -> io::Result<()> {
    let made = state().published.take();
    let mut published = match made {
        None => return Ok(()),
        Some(Made::Other(image)) => {
            return image.confirm().inspect_err(|_| state().published = Some(Made::Other(image)));
        }
        Some(Made::File(published)) => published,
    };
    if let Some(staged) = published.staged.take() {
        // The reply is out: so much depends on this that it is tried again.
        let removed = std::fs::remove_file(&staged).or_else(|_| std::fs::remove_file(&staged));
        if removed.is_err() {
            published.staged = Some(staged);
            state().published = Some(Made::File(published));
            return removed;
        }
    }
    let datastore = std::mem::take(&mut published.datastore);
    // NFS keeps a removed file in its directory for as long as it is open.
    drop(published);
    work_directory::leave(&datastore);
    Ok(())
}

/// Removes the new image that this process has made: the call failed after all (its reply could not be
/// given, say), and oned will never ask for the removal of an image that it doesn't know. Whether
/// there was one. From here on a signal changes nothing: the driver says itself what became of it.
#[allow(clippy::must_use_candidate)] // most callers fail anyway
pub fn roll_back_new_image() -> bool {
    let published = {
        let mut state = state();
        state.committed = true;
        state.published.take()
    };
    match published {
        None => return false,
        Some(Made::Other(image)) => image.roll_back_new_image(),
        Some(Made::File(published)) => {
            // In this order: killed in between, recovery does the rest.
            let _ = std::fs::remove_file(&published.image);
            if let Some(staged) = &published.staged {
                let _ = std::fs::remove_file(staged);
            }
            let datastore = published.datastore.clone();
            drop(published);
            work_directory::leave(&datastore);
        }
    }
    true
}

/// Has a signal call `stop` first, and gives the action a moment to tell how it ends: its work is done
/// by another machine, which `stop` tells to give up.
pub fn delegate(stop: impl FnOnce() + Send + 'static) {
    state().delegate = Some(Box::new(stop));
}

/// The reason for which [`delegate`]'s function was called.
#[must_use]
pub fn stopped_by() -> Option<String> {
    state().stopped_by.clone()
}

/// Declares that the action takes effect now: from here on a signal comes too late.
///
/// If a signal is being handled at this moment, this call never returns.
pub fn mark_committed() {
    state().committed = true;
}

/// Starts a child that is stopped when the driver is told to stop. [`wait`] for it.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut state = state();
    let child = command.spawn()?;
    state.children.push(child.id() as i32);
    Ok(child)
}

/// Waits for the end of a child of [`spawn`].
///
/// # Errors
/// As `waitpid(2)`.
pub fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    wait_unreaped(child);
    forget_child(child);
    child.wait()
}

/// Waits for the end of a child without reaping it: no other process gets its id yet.
pub fn wait_unreaped(child: &Child) {
    while has_ended(child, WaitPidFlag::empty()) == Err(Errno::EINTR) {}
}

/// How a child of [`spawn`] has ended; `None` where it has not.
///
/// # Errors
/// As `waitpid(2)`.
pub fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    if has_ended(child, WaitPidFlag::WNOHANG) == Ok(false) {
        return Ok(None);
    }
    forget_child(child);
    child.try_wait()
}

/// As [`Child::wait_with_output`], for a child of [`spawn`].
///
/// # Errors
/// As `read(2)` and `waitpid(2)`.
pub fn wait_with_output(mut child: Child) -> io::Result<Output> {
    let stderr = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| bytes)
        })
    });
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    let status = wait(&mut child)?;
    let stderr = stderr.and_then(|thread| thread.join().ok()).transpose()?.unwrap_or_default();
    Ok(Output { status, stdout, stderr })
}

/// Kills a child of [`spawn`] and its process group, unless it has been waited for: then its id may be another
/// process's by now. Whether it was killed.
#[allow(clippy::must_use_candidate)] // most callers only want it gone
pub fn kill_child(id: u32) -> bool {
    let state = locked_state();
    let running = state.children.contains(&(id as i32));
    if running {
        kill_with_group(id as i32);
    }
    running
}

/// Whether a child has ended. It is not reaped: until then no other process gets its id.
fn has_ended(child: &Child, flags: WaitPidFlag) -> nix::Result<bool> {
    let child = Id::Pid(Pid::from_raw(child.id() as i32));
    let status = waitid(child, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | flags)?;
    Ok(status != WaitStatus::StillAlive)
}

/// From here on nothing kills this child any more.
fn forget_child(child: &Child) {
    let id = child.id() as i32;
    state().children.retain(|running| *running != id);
}

fn kill_with_group(child: i32) {
    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    // And what it has started, where it leads a group.
    let _ = kill(Pid::from_raw(-child), Signal::SIGKILL);
}

#[cfg(test)]
mod tests;
