//! The file of the record: opened anew for each line, so that it may be rotated at any time.

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

/// For OpenNebula's user and group.
const MODE: u32 = 0o640;

/// Appends `line` to the file at `path`. Where that can't be, nothing is said: the call matters more.
pub(super) fn append(path: &Path, line: &str) {
    let _ = try_append(path, line);
}

fn try_append(path: &Path, line: &str) -> io::Result<()> {
    // In one piece, which the kernel puts behind the lines of others.
    open(path)?.write_all(line.as_bytes())
}

/// Opens a plain file, and makes it where it is missing. What waits for a reader, or leads elsewhere, is no place for a
/// record.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).mode(MODE).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match options.clone().create_new(true).open(path) {
                // Another driver was quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path)?,
                made => own(made?, path)?,
            }
        }
        file => file?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Gives a new file its mode whatever the umask; and the directory's owner, where root makes it by hand: OpenNebula's
/// user has to write to it too.
fn own(file: File, path: &Path) -> io::Result<File> {
    file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    if nix::unistd::geteuid().is_root()
        && let Some(directory) = path.parent()
    {
        let owner = directory.metadata()?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn lines_are_added_and_the_mode_is_fixed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        append(&path, "a\n");
        append(&path, "b\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, MODE);
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("target"), "").unwrap();
        symlink(path("target"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "fifo", "missing/log", "."] {
            append(&path(name), "a\n");
        }
        assert_eq!(fs::read(path("target")).unwrap(), b"");
        assert!(!path("missing").exists());
    }
}
