//! Real block devices.

use crate::run;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device, detached when dropped.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    attached: bool,
}

impl LoopDevice {
    /// A device of `size` bytes, a multiple of 512, that keeps its data in the new file `file`.
    pub fn new(file: &Path, size: u64) -> Self {
        File::create(file).and_then(|file| file.set_len(size)).unwrap();
        let output = run("losetup", ["--find", "--show", file.to_str().unwrap()]);
        let path = String::from_utf8(output.stdout).unwrap().trim().into();
        Self { path, attached: true }
    }

    /// The device file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the data away; the device file stays.
    pub fn detach(&mut self) {
        run("losetup", ["--detach", self.path.to_str().unwrap()]);
        self.attached = false;
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Once detached, the device may be somebody else's.
        if self.attached {
            let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
        }
    }
}
