//! The stock scripts that the drivers replace, and the copies that are kept of them.

use super::{DsMad, FrontEnd, InstallError, trampoline};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

/// Whether `path` is one of these drivers: a program that carries their name, or the trampoline of one. Stock drivers
/// are scripts.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    const NAME: &[u8] = b"ferrostore";
    let regular = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let read = || -> io::Result<bool> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        file.read_exact(&mut magic)?;
        if magic != *b"\x7fELF" {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes.windows(NAME.len()).any(|window| window == NAME))
    };
    regular && (read().unwrap_or(false) || trampoline::is_trampoline(path))
}

/// Whether there is anything of that name, be it a broken link.
pub(super) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Whether both are the same script, or links with the same target.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    match (fs::read_link(a), fs::read_link(b)) {
        (Ok(a), Ok(b)) => a == b,
        (Err(_), Err(_)) => matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b),
        _ => false,
    }
}

/// Copies of the scripts that were there before, newest first: `NAME.stock`, and `NAME.stock.2` and so on where an
/// upgrade of OpenNebula brought new scripts in between.
pub(super) fn copies(front_end: &FrontEnd, mad: &DsMad) -> Vec<PathBuf> {
    let mut copies = Vec::new();
    loop {
        let copy = copy_number(front_end, mad, copies.len() as u32 + 1);
        if !exists(&copy) {
            break;
        }
        copies.push(copy);
    }
    copies.reverse();
    copies
}

fn copy_number(front_end: &FrontEnd, mad: &DsMad, number: u32) -> PathBuf {
    let suffix = if number == 1 { String::new() } else { format!(".{number}") };
    front_end.datastores().join(format!("{}.stock{suffix}", mad.name))
}

/// The newest script of that name that was kept.
pub(super) fn kept(copies: &[PathBuf], action: &str) -> Option<PathBuf> {
    copies.iter().map(|copy| copy.join(action)).find(|path| exists(path))
}

/// Where the next copy goes.
pub(super) fn next(front_end: &FrontEnd, mad: &DsMad) -> PathBuf {
    let first = copies(front_end, mad).len() as u32 + 1;
    copy_number(front_end, mad, first)
}

/// Those of `files` in `directory` that are about to be replaced and are none of ours.
pub(super) fn foreign(
    directory: &Path,
    files: &[&'static str],
) -> Result<Vec<&'static str>, InstallError> {
    let mut foreign = Vec::new();
    for file in files {
        let path = directory.join(file);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(InstallError::Directory(path));
        }
        if exists(&path) && !is_ours(&path) {
            foreign.push(*file);
        }
    }
    Ok(foreign)
}

/// Gives the file at `from` a second name: the same file, or else a copy with its mode, time and owner.
pub(super) fn second_name(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else {
        fs::copy(from, to)?;
        let file = File::options().write(true).open(to)?;
        file.set_modified(metadata.modified()?)?;
        file.sync_all()?;
    }
    // Only root can give files away.
    let _ = lchown(to, Some(metadata.uid()), Some(metadata.gid()));
    Ok(())
}

/// Makes `copy` a directory like `model`, with the `files` of it.
pub(super) fn copy_files(model: &Path, files: &[&str], copy: &Path) -> io::Result<()> {
    fs::create_dir(copy)?;
    for file in files {
        second_name(&model.join(file), &copy.join(file))?;
    }
    let metadata = fs::metadata(model)?;
    fs::set_permissions(copy, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    let _ = lchown(copy, Some(metadata.uid()), Some(metadata.gid()));
    File::open(copy)?.sync_all()
}
