//! Programs that make file systems and swap space.

use super::{CommandError, find, run, run_without_errors};
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
    run_without_errors(program, &arguments)?;
    check(fs, image)
}

/// Checks a new file system with its own program, where its `mkfs` can fail to write some of the tables and end with 0
/// all the same: while the disk is full for a moment, say. The others end with an error for each of their writes.
fn check(fs: &str, image: &Path) -> Result<(), CommandError> {
    let (program, package, arguments): (_, _, &[&str]) = match fs {
        "ext2" | "ext3" | "ext4" => ("e2fsck", "e2fsprogs", &["-f", "-n"]),
        "btrfs" => ("btrfs", "btrfs-progs", &["check", "--readonly"]),
        "exfat" => ("fsck.exfat", "exfatprogs", &["-n"]),
        _ => return Ok(()),
    };
    let mut list: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    list.push(image.into());
    match run(find(program, package)?, &list, ChildLimits::default()) {
        Ok(_) => Ok(()),
        Err(CommandError::Failed { .. }) => {
            let what = format!("a file system in which {program} finds errors");
            Err(CommandError::Incomplete { program: "mkfs", what })
        }
        Err(error) => Err(error),
    }
}

/// Makes swap space of the file `image` (`mkswap(8)`).
///
/// # Errors
/// Where `mkswap` is missing or fails (a file under 40 KiB).
pub fn mkswap(image: &Path) -> Result<(), CommandError> {
    run(find("mkswap", "util-linux")?, &[image.as_os_str()], ChildLimits::default()).map(drop)
}
