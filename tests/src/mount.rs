//! Real file systems on loop devices and in memory.

use crate::run;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kind of file system to run a test on.
#[derive(Clone, Copy, Debug)]
pub enum Disk {
    /// ext4 of so many bytes.
    Ext4(u64),
    /// XFS with reflink of so many bytes (at least 300 MiB).
    Xfs(u64),
    /// btrfs of so many bytes (at least 110 MiB).
    Btrfs(u64),
    /// tmpfs of so many bytes.
    Tmpfs(u64),
}

/// A mounted file system, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    device: Option<PathBuf>,
    is_xfs: bool,
}

impl Mount {
    /// Makes a file system and mounts it on the directory `point`, which must exist.
    pub fn new(disk: Disk, point: &Path) -> Self {
        Self::of(disk, point, point.with_extension("disk"))
    }

    /// The same, with what would be the file system's disk in the file `image`.
    pub fn of(disk: Disk, point: &Path, image: PathBuf) -> Self {
        let mut arguments: Vec<&str> = Vec::new();
        let size;
        let mkfs: Option<(&str, &[&str])> = match disk {
            Disk::Ext4(bytes) => {
                File::create(&image).and_then(|file| file.set_len(bytes)).unwrap();
                Some(("mkfs.ext4", &["-q", "-F", "-m", "0"]))
            }
            Disk::Xfs(bytes) => {
                File::create(&image).and_then(|file| file.set_len(bytes)).unwrap();
                Some(("mkfs.xfs", &["-q", "-m", "reflink=1"]))
            }
            Disk::Btrfs(bytes) => {
                File::create(&image).and_then(|file| file.set_len(bytes)).unwrap();
                Some(("mkfs.btrfs", &["-q"]))
            }
            Disk::Tmpfs(bytes) => {
                size = format!("size={bytes}");
                arguments.extend(["-t", "tmpfs", "-o", &size, "tmpfs"]);
                None
            }
        };
        if let Some((program, options)) = mkfs {
            let mut mkfs = options.to_vec();
            mkfs.push(image.to_str().unwrap());
            run(program, mkfs);
            arguments.extend(["-o", "loop", image.to_str().unwrap()]);
        }
        arguments.push(point.to_str().unwrap());
        run("mount", arguments);
        let is_xfs = matches!(disk, Disk::Xfs(_));
        Self { point: point.to_path_buf(), device: mkfs.map(|_| image), is_xfs }
    }
}

impl Mount {
    /// Cuts the power: nothing that isn't on the disk yet gets there any more. Then the power is back.
    ///
    /// Another mount namespace may still hold the dead file system, so its disk becomes another device.
    pub fn cut_power(&self) {
        let point = self.point.to_str().unwrap();
        run("xfs_io", ["-x", "-c", "shutdown", point]);
        run("umount", ["-l", point]);
        let image = self.device.as_ref().expect("a file system on a disk");
        let device = run("losetup", ["--find", "--show", image.to_str().unwrap()]).stdout;
        let device = String::from_utf8(device).expect("a path").trim().to_owned();
        let options: &[&str] = if self.is_xfs { &["-o", "nouuid"] } else { &[] };
        run("mount", options.iter().chain(&[device.as_str(), point]));
        // Gone once it is unmounted.
        run("losetup", ["--detach", &device]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A lazy unmount also succeeds while something still holds a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
        if let Some(device) = &self.device {
            let _ = fs::remove_file(device);
        }
    }
}
