//! Snapshots as full copies.

use super::Snapshots;
use crate::{Cloud, KIB, MIB, pattern, run};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An image with a full copy for each snapshot (TM_MAD `ssh`, or FORMAT raw on any TM).
#[derive(Debug)]
pub struct Copies<'cloud>(Snapshots<'cloud>);

impl<'cloud> std::ops::Deref for Copies<'cloud> {
    type Target = Snapshots<'cloud>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'cloud> Copies<'cloud> {
    /// The number under which the live disk's reference copy is kept.
    pub const LIVE: u32 = 1000;

    /// An image with snapshots 0, 1 and 2, of growing size, and a live disk unlike any of them.
    pub fn of_three(cloud: &'cloud Cloud, format: &str) -> Self {
        Self::of_three_by(cloud, format, MIB)
    }

    /// The same, each larger than the one before by `step` bytes, which are at least 128 KiB.
    pub fn of_three_by(cloud: &'cloud Cloud, format: &str, step: u64) -> Self {
        let name = "fedcba9876543210fedcba9876543210";
        let mut copies = Self(Snapshots::new(cloud, "ssh", format, cloud.base_path(), name));
        for number in 0..3 {
            let file = copies.file(number);
            copies.make(number, &file, step);
        }
        let source = copies.source();
        copies.make(Self::LIVE, Path::new(&source), step);
        copies
    }

    fn make(&mut self, number: u32, file: &Path, step: u64) {
        let size = (3 + u64::from(number % 10)) * step;
        let raw = self.0.cloud.raw(&format!("copy.{number}"), size);
        let noise = pattern(u64::from(number) + 500, 300 * KIB as usize);
        let disk = fs::OpenOptions::new().write(true).open(&raw).unwrap();
        disk.write_all_at(&noise, 70 * KIB).unwrap();
        if self.format == "raw" {
            run("cp", [raw.as_path(), file]);
        } else {
            let qcow2 = self.0.cloud.qcow2(&raw, &format!("copy.{number}.qcow2"), "");
            run("cp", [qcow2.as_path(), file]);
        }
        self.0.refer(number, file);
    }
}
