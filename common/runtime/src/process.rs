//! What happens when oned, or a person, tells a driver to stop.
//!
//! SIGTERM, SIGINT and SIGHUP are blocked in every thread and taken by one that waits for them.
//! It stops the children, removes what is staged, says so in one line and ends the process. Past the
//! point of no return (the staged file has its final name) a signal comes too late: the driver
//! finishes within moments and reports what it did, so that oned never records a failure for an
//! image that exists.

use crate::sys::write_error_line;
use crate::{file_lock, work_directory};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What takes something back that this process has made and that is no file.
type Undo = Box<dyn FnOnce() + Send>;

/// Lists and no maps: there is one of each as a rule, and the code of maps would be in every driver.
struct State {
    staged: Vec<PathBuf>,
    locks: Vec<(PathBuf, Arc<File>)>,
    children: Vec<i32>,
    undo: Vec<(u64, Undo)>,
    committed: bool,
    published: Option<Made>,
    /// Stops the work that another machine does.
    delegate: Option<Box<dyn FnOnce() + Send>>,
    stopped_by: Option<Signal>,
}

static STATE: Mutex<State> = Mutex::new(State {
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

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts watching for signals on behalf of `action`. Call it before any thread or child is started.
pub fn watch(action: &'static str) {
    let _ = ACTION.set(action);
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    if pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).is_err() {
        return;
    }
    let watcher = std::thread::Builder::new().stack_size(64 << 10);
    // Without the thread the signals stay blocked and the driver runs to its end.
    let _ = watcher.spawn(move || {
        while let Ok(signal) = signals.wait() {
            let mut state = state();
            if let Some(stop) = state.delegate.take()
                && !state.committed
            {
                state.stopped_by = Some(signal);
                drop(state);
                stop();
                std::thread::sleep(TIMEOUT);
                state = self::state();
            }
            if state.committed {
                continue;
            }
            abandon(&mut state);
            write_error_line(&format!("{action}: {}", stopped(signal)));
            // The state is still ours: no thread can stage or publish anything any more.
            std::process::exit(1);
        }
    });
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
    {
        abandon(&mut state);
    }
}

fn abandon(state: &mut State) {
    for &child in &state.children {
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        // And what it has started, where it leads a group.
        let _ = kill(Pid::from_raw(-child), Signal::SIGKILL);
    }
    for path in &state.staged {
        if std::fs::remove_file(path).is_err() {
            let _ = std::fs::remove_dir_all(path);
        }
    }
    for (path, file) in &state.locks {
        file_lock::release(file, path);
    }
    let paths = state.staged.iter().chain(state.locks.iter().map(|(path, _)| path));
    let mut left: Vec<&Path> = Vec::new();
    for area in paths.filter_map(|path| path.parent()) {
        if area.ends_with(work_directory::NAME) && !left.contains(&area) {
            work_directory::leave_at_the_end(area);
            left.push(area);
        }
    }
    for (_, undo) in std::mem::take(&mut state.undo) {
        undo();
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

/// Runs `create`, which makes a file, and remembers that file for removal, in one step.
pub(crate) fn stage<T, E>(
    create: impl FnOnce() -> Result<T, E>,
    path: impl FnOnce(&T) -> &Path,
) -> Result<T, E> {
    let mut state = state();
    let created = create()?;
    state.staged.push(path(&created).to_owned());
    Ok(created)
}

/// Forgets a staged file that has been removed or has another name now.
pub(crate) fn forget(path: &Path) {
    state().staged.retain(|staged| staged != path);
}

/// Runs `acquire`, which takes a lock, and remembers its file for removal, in one step. What `acquire` gave
/// besides is given on.
pub(crate) fn lock<T>(
    acquire: impl FnOnce() -> io::Result<Option<(PathBuf, File, T)>>,
) -> io::Result<Option<(PathBuf, Arc<File>, T)>> {
    let mut state = state();
    let Some((path, file, rest)) = acquire()? else { return Ok(None) };
    let file = Arc::new(file);
    state.locks.push((path.clone(), Arc::clone(&file)));
    Ok(Some((path, file, rest)))
}

/// Lets a lock go.
pub(crate) fn unlock(path: &Path) {
    let mut state = state();
    if let Some(at) = state.locks.iter().position(|(locked, _)| locked == path) {
        let (_, file) = state.locks.swap_remove(at);
        file_lock::release(&file, path);
    }
}

/// Remembers a new image that oned has not heard of yet.
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

/// The signal for which [`delegate`]'s function was called.
#[must_use]
pub fn stopped_by() -> Option<Signal> {
    state().stopped_by
}

/// Declares that the action takes effect now: from here on a signal comes too late.
///
/// If a signal is being handled at this moment, this call never returns.
pub fn mark_committed() {
    state().committed = true;
}

/// Starts a child that is stopped when the driver is told to stop.
///
/// # Errors
/// As [`std::process::Command::spawn`].
pub fn spawn(command: &mut std::process::Command) -> std::io::Result<std::process::Child> {
    let mut state = state();
    let child = command.spawn()?;
    state.children.push(child.id() as i32);
    Ok(child)
}

/// Forgets a child that has ended.
pub fn reaped(child: u32) {
    state().children.retain(|running| *running != child as i32);
}
