//! Programs that make file systems and swap space.

use super::{CommandError, find, run};
use crate::sys::ChildLimits;
use std::ffi::OsString;
use std::path::Path;

/// Makes a file system of type `fs` in the file `image` (`mkfs.<fs>`), with the administrator's
/// `options`.
///
/// # Errors
/// Where there is no `mkfs.<fs>`, or it fails: too small a file, options that it doesn't know.
pub fn mkfs(fs: &str, options: &[String], image: &Path) -> Result<(), CommandError> {
    make(fs, &[], options, image)
}

/// As [`mkfs`], on a block device that is zero: its blocks are not given back first, since what they read
/// as then is up to the device.
///
/// # Errors
/// As [`mkfs`].
pub fn mkfs_on_device(fs: &str, options: &[String], device: &Path) -> Result<(), CommandError> {
    let keep: &[&str] = match fs {
        "ext2" | "ext3" | "ext4" => &["-E", "nodiscard"],
        "xfs" | "btrfs" => &["-K"],
        _ => &[],
    };
    make(fs, keep, options, device)
}

fn make(fs: &str, keep: &[&str], options: &[String], image: &Path) -> Result<(), CommandError> {
    let package = match fs {
        "ext2" | "ext3" | "ext4" => "e2fsprogs".to_owned(),
        "xfs" => "xfsprogs".to_owned(),
        "btrfs" => "btrfs-progs".to_owned(),
        "vfat" | "fat" | "msdos" => "dosfstools".to_owned(),
        "ntfs" => "ntfs-3g".to_owned(),
        other => format!("the package with mkfs.{other}"),
    };
    let program = find(&format!("mkfs.{fs}"), &package)?;
    // Their own ways to say "never ask, there is no device behind this".
    let quiet: &[&str] = match fs {
        "ext2" | "ext3" | "ext4" => &["-F", "-q"],
        "xfs" | "btrfs" => &["-f", "-q"],
        _ => &[],
    };
    let mut arguments: Vec<OsString> = quiet.iter().chain(keep).map(OsString::from).collect();
    arguments.extend(options.iter().map(OsString::from));
    arguments.push(image.into());
    run(program, &arguments, ChildLimits::default()).map(drop)
}

/// Makes swap space of the file `image` (`mkswap(8)`).
///
/// # Errors
/// Where `mkswap` is missing or fails (a file under 40 KiB).
pub fn mkswap(image: &Path) -> Result<(), CommandError> {
    run(find("mkswap", "util-linux")?, &[image.as_os_str()], ChildLimits::default()).map(drop)
}
