//! Real block devices.

use crate::run;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Held while a test attaches a device: the kernel gives one that was detached to the next who asks.
static ATTACHING: Mutex<()> = Mutex::new(());

fn no_other_attaches() -> MutexGuard<'static, ()> {
    ATTACHING.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        let _alone = no_other_attaches();
        let output = run("losetup", ["--find", "--show", file.to_str().unwrap()]);
        let path = String::from_utf8(output.stdout).unwrap().trim().into();
        Self { path, attached: true }
    }

    /// The device file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the data away; the device file stays, and no other test gets it for as long as the result lives.
    pub fn detach(&mut self) -> MutexGuard<'static, ()> {
        let alone = no_other_attaches();
        run("losetup", ["--detach", self.path.to_str().unwrap()]);
        self.attached = false;
        // The kernel waits until all have closed it.
        let emptied = Instant::now() + Duration::from_secs(10);
        while self.sectors() != 0 {
            assert!(Instant::now() < emptied, "{} is still in use", self.path.display());
            sleep(Duration::from_millis(10));
        }
        alone
    }

    fn sectors(&self) -> u64 {
        let name = self.path.file_name().unwrap();
        let size = Path::new("/sys/class/block").join(name).join("size");
        std::fs::read_to_string(size).unwrap().trim().parse().unwrap()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Once detached, the device may be another program's.
        if self.attached {
            let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
        }
    }
}
