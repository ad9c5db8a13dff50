//! Block devices, as the kernel describes them.

use std::path::PathBuf;

/// Size of a sector, bytes: the unit of sizes that the kernel and LVM speak of.
pub const SECTOR: u64 = 512;

/// The directory in which the kernel tells of the block device with this number (`sysfs(5)`).
#[must_use]
pub fn block_device_directory(number: u64) -> PathBuf {
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}
