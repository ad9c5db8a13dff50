//! A Ceph cluster, as the programs of the package `ceph-common` reach it: the options that all of them
//! take, how long they may take, and what their failures mean.
//!
//! Every call ends. librados gives up a cluster that does not answer (`client_mount_timeout`), and an
//! operation on an object that a full pool or a missing OSD holds up (`rados_osd_op_timeout`); and each
//! program has a deadline of its own besides, at which it is killed.

pub use super::cluster_error::{ClusterError, Obstacle};
use super::running::{Ending, Running};
use super::{CommandError, Output, find, plain, prepared};
use crate::sys::ChildLimits;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The package with `rbd`, `rados` and `ceph`.
const PACKAGE: &str = "ceph-common";
/// How long the monitors have to answer.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a program that works on one object or a few has beyond the time of two operations.
const QUICK: Duration = Duration::from_secs(30);
/// What a program that moves an image has at least.
const BULK: Duration = Duration::from_secs(600);
/// And the least rate that it is expected to reach, bytes a second.
const SLOWEST: u64 = 4 << 20;

/// How long a program may take.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// It asks for, or changes, a few objects.
    Quick,
    /// It works through an image of so many bytes.
    Bulk(u64),
}

/// How a cluster is reached.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// `CEPH_USER`: the name without `client.`; `None`: `admin`.
    pub user: Option<String>,
    /// `CEPH_KEY`: the file that holds the user's key.
    pub key: Option<PathBuf>,
    /// `CEPH_CONF`; `None`: `/etc/ceph/ceph.conf`.
    pub conf: Option<PathBuf>,
    /// How long one operation on an object may take.
    pub operation_timeout: Duration,
    /// Whether librbd makes new images where it is installed (`LIBRBD`).
    pub librbd: bool,
    /// What programs that change names hold open: the lock of the image that they work on.
    pub lock: OnceLock<Arc<File>>,
    /// Whether this is what a driver that was told to stop takes back with: then no program ends with the driver.
    pub at_stop: bool,
}

impl Cluster {
    /// Options of Ceph's configuration, by their names, that every client gets.
    pub(super) fn settings(&self) -> Vec<(&'static str, OsString)> {
        let seconds = |time: Duration| OsString::from(time.as_secs().max(1).to_string());
        let key = self.key.iter().map(|key| ("keyfile", OsString::from(key)));
        let timeouts = [
            ("client_mount_timeout", seconds(MOUNT_TIMEOUT)),
            ("rados_mon_op_timeout", seconds(MOUNT_TIMEOUT)),
            ("rados_osd_op_timeout", seconds(self.operation_timeout)),
        ];
        key.chain(timeouts).collect()
    }

    /// The options that every program takes.
    fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: OsString| options.extend([name.into(), value]);
        if let Some(conf) = &self.conf {
            add("--conf", conf.into());
        }
        if let Some(user) = &self.user {
            add("--id", user.into());
        }
        for (name, value) in self.settings() {
            add(&format!("--{}", name.replace('_', "-")), value);
        }
        options
    }

    /// How long a program may take.
    pub(super) fn limit(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Quick => MOUNT_TIMEOUT + 2 * self.operation_timeout + QUICK,
            Pace::Bulk(size) => {
                BULK + 2 * self.operation_timeout + Duration::from_secs(size / SLOWEST)
            }
        }
    }

    /// Runs a program that only asks, or whose work is of no use without the driver; what it printed.
    pub(super) fn ask(
        &self,
        program: &str,
        words: &[&str],
        pace: Pace,
    ) -> Result<String, ClusterError> {
        self.run(program, words, pace, Ending::WithDriver)
    }

    /// Runs a program that changes names: it comes to its end whatever becomes of the driver.
    pub(super) fn change(
        &self,
        program: &str,
        words: &[&str],
        pace: Pace,
    ) -> Result<(), ClusterError> {
        self.run(program, words, pace, Ending::ByItself).map(drop)
    }

    /// Starts a program that changes names, and does not wait for its end.
    pub(super) fn leave(&self, program: &str, words: &[&str]) -> Result<(), ClusterError> {
        let running = self.start(program, words, Ending::ByItself, None)?;
        running.forget();
        Ok(())
    }

    fn run(
        &self,
        program: &str,
        words: &[&str],
        pace: Pace,
        ending: Ending,
    ) -> Result<String, ClusterError> {
        let ending = if self.at_stop { Ending::ByItself } else { ending };
        let running = self.start(program, words, ending, None)?;
        let limit = self.limit(pace);
        running.limited(limit);
        running.wait(limit)
    }

    /// Starts a program whose output is a stream.
    pub(super) fn stream(&self, name: &str, words: &[&str]) -> Result<Output, ClusterError> {
        let program = find(name, PACKAGE)?;
        let mut arguments = self.options();
        arguments.extend(words.iter().map(OsString::from));
        let command = prepared(&program, &arguments, ChildLimits::default());
        Ok(Output::of(program, arguments, command)?)
    }

    /// Starts a program that reads `input`. It is not stopped with the driver: the end of its input ends it.
    pub(super) fn feed(
        &self,
        program: &str,
        words: &[&str],
        input: Stdio,
    ) -> Result<Running, ClusterError> {
        self.start(program, words, Ending::ByItself, Some(input))
    }

    fn start(
        &self,
        name: &str,
        words: &[&str],
        ending: Ending,
        input: Option<Stdio>,
    ) -> Result<Running, ClusterError> {
        let program = find(name, PACKAGE)?;
        let mut arguments = self.options();
        arguments.extend(words.iter().map(OsString::from));
        let command = match ending {
            Ending::WithDriver => prepared(&program, &arguments, ChildLimits::default()),
            Ending::ByItself => plain(&program, &arguments),
        };
        let lock = self.lock.get().filter(|_| ending == Ending::ByItself);
        let input = match (input, lock) {
            (Some(input), _) => input,
            // A lock belongs to all that hold the file open, and ends with the last of them.
            (None, Some(lock)) => {
                let copy = lock.try_clone();
                copy.map_err(|source| CommandError::NotStarted { program, source })?.into()
            }
            (None, None) => Stdio::null(),
        };
        let name = std::iter::once(name).chain(words.iter().copied()).collect::<Vec<_>>();
        Ok(Running::start(&name.join(" "), command, ending, input, None)?)
    }
}

/// Whether a value can be an argument of these programs without being an option or naming something else.
#[must_use]
pub fn is_plain_path(path: &Path) -> bool {
    path.is_absolute() && path.to_str().is_some_and(|text| !text.contains(|c: char| c.is_control()))
}
