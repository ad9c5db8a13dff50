//! The NFS export that a datastore lies on: mounted where it is not yet, and known to answer before
//! anything in it is touched.

use crate::command::{self, CommandError};
use crate::file_lock::{FileLock, LockMode, LockScope};
use crate::text::shown;
use nix::sys::statvfs::statvfs;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// An export that is to be mounted on `BASE_PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsExport {
    /// `<host>:<path>`, as `mount(8)` takes it; an IPv6 address in brackets.
    pub source: String,
    /// Options as `mount -o` takes them; empty: none.
    pub options: String,
}

/// How long all of it may take, the server's answer included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A file in the export that tells OpenNebula that it was mounted for a datastore and not by hand.
pub const MARKER: &str = ".automounted";

/// Links that may lead to the place where an export is mounted.
const MOST_LINKS: usize = 8;

/// Why a datastore's export can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// What is mounted can't be found out.
    #[error("the mounted file systems can't be listed (/proc/self/mountinfo): {0}")]
    Table(io::Error),
    /// The place can't be found or made.
    #[error(
        "DATASTORE/BASE_PATH {} can't be mounted on: {source}; create it for the user that runs OpenNebula",
        shown(directory)
    )]
    Directory {
        /// BASE_PATH.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// Something else is mounted there.
    #[error(
        "DATASTORE/BASE_PATH {} has {} ({kind}) mounted on it, and not {}, which NFS_AUTO_HOST and NFS_AUTO_PATH ask for: unmount it, or correct the attributes",
        shown(directory),
        shown(found),
        shown(wanted)
    )]
    Occupied {
        /// BASE_PATH.
        directory: String,
        /// What is mounted.
        found: String,
        /// The type of that.
        kind: String,
        /// The export that should be.
        wanted: String,
    },
    /// Another driver has been mounting it for too long.
    #[error("{} is being mounted by another driver, and that takes longer than {} s: see whether the server (NFS_AUTO_HOST) answers", shown(export), TIMEOUT.as_secs())]
    Waited {
        /// The export.
        export: String,
    },
    /// The program failed.
    #[error(
        "{} (NFS_AUTO_HOST, NFS_AUTO_PATH) can't be mounted: {error}; check server, export and NFS_AUTO_OPTS, and that sudo lets this user run mount",
        shown(export)
    )]
    Command {
        /// The export.
        export: String,
        /// Why.
        error: CommandError,
    },
    /// The program succeeded, and nothing is mounted.
    #[error(
        "{} (NFS_AUTO_HOST, NFS_AUTO_PATH) is not mounted although mount succeeded: check NFS_AUTO_OPTS",
        shown(export)
    )]
    NotThere {
        /// The export.
        export: String,
    },
    /// The server doesn't answer.
    #[error(
        "the NFS server of {} (NFS_AUTO_HOST) does not answer, after {seconds} s: see whether it is up and can be reached",
        shown(export)
    )]
    Silent {
        /// The export.
        export: String,
        /// How long it was waited for, s.
        seconds: u64,
    },
    /// The export is mounted but of no use.
    #[error(
        "{} (NFS_AUTO_HOST, NFS_AUTO_PATH) is mounted but can't be used: {error}; unmount it, and it will be mounted anew",
        shown(export)
    )]
    Unusable {
        /// The export.
        export: String,
        /// Why.
        error: io::Error,
    },
}

/// Sees to it that `export` is mounted on `base_path` and that its server answers.
///
/// Until this returns, nothing in `base_path` is looked at: on an export whose server is gone that could
/// take for ever.
///
/// # Errors
/// [`MountError`], after half a minute at the latest; then nothing was written into `base_path`.
pub fn ensure(export: &NfsExport, base_path: &Path) -> Result<(), MountError> {
    let began = Instant::now();
    let until = began + TIMEOUT;
    let place = Place { export, base_path };
    let mounted_here = if place.is_mounted()? { false } else { place.mount(until)? };
    wait_for_answer(export, base_path, began, until)?;
    if mounted_here && let Err(error) = mark(base_path) {
        log::warn!("file {} can't be written: {error}", base_path.join(MARKER).display());
    }
    Ok(())
}

struct Place<'a> {
    export: &'a NfsExport,
    base_path: &'a Path,
}

impl Place<'_> {
    /// Whether the export is mounted.
    fn is_mounted(&self) -> Result<bool, MountError> {
        let table = fs::read("/proc/self/mountinfo").map_err(MountError::Table)?;
        let found = match real_place(self.base_path, &table) {
            Ok(place) => last_on(&table, &place),
            // What does not exist yet has nothing mounted on it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(self.directory_error(source)),
        };
        let Some(mounted) = found else { return Ok(false) };
        let same = same_export(&mounted.source, &self.export.source);
        if same && matches!(mounted.kind.as_str(), "nfs" | "nfs4") {
            return Ok(true);
        }
        Err(MountError::Occupied {
            directory: self.base_path.display().to_string(),
            found: mounted.source.to_string_lossy().into_owned(),
            kind: mounted.kind,
            wanted: self.export.source.clone(),
        })
    }

    /// Mounts the export, unless another driver does so meanwhile; whether it was this one.
    fn mount(&self, until: Instant) -> Result<bool, MountError> {
        fs::create_dir_all(self.base_path).map_err(|source| self.directory_error(source))?;
        let _lock = self.lock(until)?;
        if self.is_mounted()? {
            return Ok(false);
        }
        let export = || self.export.source.clone();
        command::mount_nfs(
            OsStr::new(&self.export.source),
            self.base_path,
            &bounded(&self.export.options),
            until,
        )
        .map_err(|error| MountError::Command { export: export(), error })?;
        if self.is_mounted()? { Ok(true) } else { Err(MountError::NotThere { export: export() }) }
    }

    /// Keeps other drivers from mounting the same. The lock is on the directory above, which is never covered by the
    /// mount; where that can't be locked, two drivers mount at worst twice.
    fn lock(&self, until: Instant) -> Result<Option<FileLock>, MountError> {
        let parent = self.base_path.parent().unwrap_or(Path::new("/"));
        let parent = File::open(parent).map_err(|source| self.directory_error(source))?;
        let lock = FileLock::on(parent, LockScope::File);
        let timeout = until.saturating_duration_since(Instant::now());
        let export = &self.export.source;
        match lock
            .lock(LockMode::Exclusive, timeout, || format!("another driver to mount {export}"))
        {
            Ok(true) => Ok(Some(lock)),
            Ok(false) => Err(MountError::Waited { export: export.clone() }),
            Err(_) => Ok(None),
        }
    }

    fn directory_error(&self, source: io::Error) -> MountError {
        MountError::Directory { directory: self.base_path.display().to_string(), source }
    }
}

/// The options, with a bound where they set none: `mount.nfs` would try again for two minutes, and as root's it can't
/// be stopped by us.
fn bounded(options: &str) -> String {
    if options.split(',').any(|option| option.starts_with("retry=")) {
        return options.to_owned();
    }
    [options, "retry=0"].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(",")
}

/// Asks the server for the space of its export, which no cache can tell, and for its directory, which may be another
/// one by now.
fn wait_for_answer(
    wanted: &NfsExport,
    base_path: &Path,
    began: Instant,
    until: Instant,
) -> Result<(), MountError> {
    let (sender, receiver) = mpsc::channel();
    let path = base_path.to_owned();
    // A thread, because the call may never come back. At the end of the process it is gone.
    std::thread::spawn(move || sender.send(look_at(&path)));
    let export = wanted.source.clone();
    match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(MountError::Unusable { export, error }),
        Err(_) => Err(MountError::Silent { export, seconds: began.elapsed().as_secs() }),
    }
}

fn look_at(path: &Path) -> io::Result<()> {
    statvfs(path)?;
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)?.metadata().map(drop)
}

fn mark(base_path: &Path) -> io::Result<()> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(flags)
        .open(base_path.join(MARKER))
        .map(drop)
}

/// A line of the table.
struct Mounted {
    source: OsString,
    kind: String,
}

/// The real path of `path` whose last part is not looked into where something is mounted on it.
fn real_place(path: &Path, table: &[u8]) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
        let place = parent.canonicalize()?.join(name);
        if last_on(table, &place).is_some() {
            return Ok(place);
        }
        match fs::read_link(&place) {
            Ok(target) => path = place.parent().unwrap_or(Path::new("/")).join(target),
            // It is no link, or not there yet.
            Err(_) => return Ok(place),
        }
    }
    path.canonicalize()
}

/// What was mounted last on `place`, by `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
fn last_on(table: &[u8], place: &Path) -> Option<Mounted> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            if unescaped(fields.nth(4)?) != place.as_os_str() {
                return None;
            }
            // A varying number of fields comes before the dash.
            fields.find(|field| *field == b"-")?;
            let kind = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mounted { kind, source: unescaped(fields.next()?) })
        })
        .next_back()
}

/// The text of a field, in which blanks and backslashes are three octal digits each.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0_u32, |value, digit| {
                matches!(digit, b'0'..=b'7').then(|| value * 8 + u32::from(digit - b'0'))
            })
        };
        if let (b'\\', Some(value)) = (byte, tail.get(..3).and_then(octal)) {
            bytes.push(value as u8);
            rest = &tail[3..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}

/// Whether two sources `<host>:<path>` are the same, however their slashes are written.
fn same_export(one: &OsStr, other: &str) -> bool {
    let split = |text: &[u8]| {
        let at = text.windows(2).position(|pair| pair == b":/")?;
        let path = PathBuf::from(OsStr::from_bytes(&text[at + 1..]));
        Some((text[..at].to_ascii_lowercase(), path))
    };
    let pair = (split(one.as_bytes()), split(other.as_bytes()));
    matches!(pair, (Some(one), Some(other)) if one.0 == other.0
        && one.1.components().eq(other.1.components()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TABLE: &[u8] = b"22 27 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n\
        90 27 0:50 / /srv/a\\040b rw,relatime shared:41 master:7 - nfs4 nas:/export/a\\040b rw,vers=4.2\n\
        91 27 0:51 / /srv/twice rw - ext4 /dev/vdb rw\n\
        92 91 0:52 / /srv/twice rw - nfs [fd00::1]:/ rw,vers=3\n\
        broken line\n";

    #[test]
    fn the_table_tells_what_was_mounted_last() {
        let found = |path: &str| {
            last_on(TABLE, Path::new(path)).map(|m| (m.source.into_string().unwrap(), m.kind))
        };
        assert_eq!(found("/srv/a b"), Some(("nas:/export/a b".into(), "nfs4".into())));
        assert_eq!(found("/srv/twice"), Some(("[fd00::1]:/".into(), "nfs".into())));
        assert_eq!(found("/srv"), None);
        assert_eq!(found("/srv/a"), None);
    }

    #[test]
    fn slashes_and_the_case_of_the_host_make_no_difference() {
        let same = |one: &str, other: &str| same_export(OsStr::new(one), other);
        assert!(same("nas:/export/", "NAS:/export"));
        assert!(same("[fd00::1]:/", "[fd00::1]:/"));
        assert!(same("nas://a//b", "nas:/a/b"));
        assert!(!same("nas:/a", "nas:/ab"));
        assert!(!same("nas:/a", "nas2:/a"));
        assert!(!same("/dev/vdb", "nas:/a"));
        assert!(!same("tmpfs", "nas:/a"));
    }

    #[test]
    fn the_time_of_mounting_is_bounded_unless_the_administrator_says_otherwise() {
        assert_eq!(bounded(""), "retry=0");
        assert_eq!(bounded("soft,vers=3"), "soft,vers=3,retry=0");
        assert_eq!(bounded("retry=1,soft"), "retry=1,soft");
    }
}
