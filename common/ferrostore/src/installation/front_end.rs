//! Where an OpenNebula front-end keeps its drivers, and these drivers what they need.

use super::driver::{ACTIONS, BY_HAND, DsMad};
use super::{Enabled, InstallError};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, User, access, geteuid};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another installation may take, which a run waits for.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// A front-end.
#[derive(Debug)]
pub struct FrontEnd {
    /// The root that is not `/`.
    pub(super) root: Option<PathBuf>,
    /// A self-contained OpenNebula.
    pub(super) one_location: Option<PathBuf>,
    /// `$REMOTES`.
    pub remotes: PathBuf,
    /// OpenNebula's configuration.
    pub oned_conf: PathBuf,
    /// Where the drivers are that get copied.
    pub drivers: PathBuf,
    /// What is enabled. Drivers from elsewhere than the package are in no list: the package could not put them in
    /// place again.
    pub enabled: Option<Enabled>,
}

impl FrontEnd {
    /// The front-end below `root`, with drivers out of `drivers` instead of the package.
    #[must_use]
    pub fn new(root: Option<PathBuf>, drivers: Option<PathBuf>) -> Self {
        let one_location = std::env::var_os("ONE_LOCATION").filter(|path| !path.is_empty());
        let one_location = one_location.map(PathBuf::from);
        let below = |path: &Path| match &root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        };
        let of_one = |inside: &str, system: &str| match &one_location {
            Some(location) => below(&location.join(inside)),
            None => below(Path::new(system)),
        };
        let list = of_one("etc/ferrostore/enabled", "/etc/ferrostore/enabled");
        Self {
            remotes: of_one("var/remotes", "/var/lib/one/remotes"),
            oned_conf: of_one("etc/oned.conf", "/etc/one/oned.conf"),
            enabled: drivers.is_none().then(|| Enabled::at(list)),
            drivers: drivers.unwrap_or_else(|| below(Path::new("/usr/lib/ferrostore"))),
            root,
            one_location,
        }
    }

    /// The directory of the drivers of all kinds.
    #[must_use]
    pub fn datastores(&self) -> PathBuf {
        self.remotes.join("datastore")
    }

    /// The directory of the drivers of one DS_MAD.
    #[must_use]
    pub fn directory(&self, mad: &DsMad) -> PathBuf {
        self.datastores().join(&mad.name)
    }

    /// The configuration file of a DS_MAD.
    #[must_use]
    pub fn conf(&self, mad: &DsMad) -> PathBuf {
        self.remotes.join("etc/datastore").join(&mad.name).join(format!("{}.conf", mad.name))
    }

    /// The files that are put in place for a DS_MAD.
    ///
    /// # Errors
    /// [`InstallError::NoDriver`].
    pub(super) fn files(&self, mad: &DsMad) -> Result<Vec<&'static str>, InstallError> {
        if let Some(missing) = ACTIONS.iter().find(|action| !self.drivers.join(action).is_file()) {
            return Err(InstallError::NoDriver(self.drivers.join(missing)));
        }
        let beside = BY_HAND.iter().filter(|name| self.drivers.join(name).is_file());
        let beside = beside.filter(|_| mad.kind == "fs");
        Ok(ACTIONS.iter().chain(beside).copied().collect())
    }

    /// The version of OpenNebula, where `$REMOTES/VERSION` tells.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.remotes.join("VERSION")).ok()?;
        Some(text.trim().to_owned()).filter(|version| !version.is_empty())
    }

    /// Makes sure that `path` may be changed.
    pub(super) fn check_writable(path: &Path) -> Result<(), InstallError> {
        let Err(errno) = access(path, AccessFlags::W_OK) else { return Ok(()) };
        let user = User::from_uid(geteuid()).ok().flatten();
        let user = user.map_or_else(|| geteuid().to_string(), |user| user.name);
        let remedy = match errno {
            Errno::EROFS => "its file system is mounted read-only; mount it read-write",
            _ => "run this with sudo or as oneadmin",
        };
        Err(InstallError::NotWritable { path: path.to_owned(), user, remedy })
    }

    /// Keeps other installations out until the file is closed.
    pub(super) fn lock(&self) -> Result<File, InstallError> {
        let path = self.datastores();
        let directory = File::open(&path).map_err(InstallError::at("open", &path))?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(directory),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::WouldBlock) => return Err(InstallError::Busy(path)),
                Err(TryLockError::Error(error)) => {
                    return Err(InstallError::at("lock", &path)(error));
                }
            }
        }
    }

    /// `path` as programs see it that run on this front-end.
    pub(super) fn as_started(&self, path: &Path) -> PathBuf {
        let inside = self.root.as_ref().and_then(|root| path.strip_prefix(root).ok());
        inside.map_or_else(|| path.to_owned(), |inside| Path::new("/").join(inside))
    }

    /// The directory for what is unfinished, beside the drivers, so that every move into place is one rename. One
    /// that is there already is a killed run's: the lock is held.
    pub(super) fn work_directory(&self, mad: &DsMad) -> PathBuf {
        self.datastores().join(format!(".{}.ferrostore", mad.name))
    }
}
