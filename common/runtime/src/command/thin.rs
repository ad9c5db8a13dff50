//! What a thin pool knows of its volumes: which of their blocks it has given any space. `dmsetup` (through
//! sudo, where it is allowed) has the pool take a picture of its metadata, `thin_dump` reads that.

use super::{CommandError, find, lvm::privileged, run};
use crate::block_device::{SECTOR, block_device_directory};
use crate::sys::ChildLimits;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where a thin volume, active and open as `device`, has any data, as offset and length in bytes in
/// ascending order; everything else reads as zero. `None` where it is no thin volume, or the pool can't
/// be asked. One process may ask a pool at a time.
#[must_use]
pub fn allocated_ranges(device: &File) -> Option<Vec<(u64, u64)>> {
    let volume = Mapped::of(device.metadata().ok()?.rdev())?;
    let pool = volume.below("-tpool")?;
    let metadata = pool.below("-tmeta")?;
    let ask = || -> Result<Vec<u8>, CommandError> {
        let table = privileged("dmsetup", ["table", &volume.name])?;
        let table = String::from_utf8_lossy(&table).into_owned();
        // One word more, and what the volume lacks is read from elsewhere.
        let [_, _, "thin", _, id] = table.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(CommandError::Unexpected { program: "dmsetup", output: table });
        };
        let picture = |verb: &str| privileged("dmsetup", ["message", &pool.name, "0", verb]);
        if picture("reserve_metadata_snap").is_err() {
            // A killed driver may have left one, which shows what was then.
            let _ = picture("release_metadata_snap");
            picture("reserve_metadata_snap")?;
        }
        let dump = find("thin_dump", "thin-provisioning-tools").and_then(|program| {
            let path = Path::new("/dev/mapper").join(&metadata.name);
            let path = path.to_string_lossy();
            let arguments = ["--metadata-snap", "--dev-id", id, &path];
            run(program, &arguments, ChildLimits::default())
        });
        picture("release_metadata_snap")?;
        dump
    };
    match ask() {
        Ok(dump) => ranges(&String::from_utf8_lossy(&dump)),
        Err(error) => {
            log::info!("all of the volume is read: {error}");
            None
        }
    }
}

/// A device-mapper device, in sysfs.
#[derive(Debug)]
struct Mapped {
    directory: PathBuf,
    name: String,
}

impl Mapped {
    fn of(number: u64) -> Option<Self> {
        Self::at(block_device_directory(number))
    }

    fn at(directory: PathBuf) -> Option<Self> {
        let name = fs::read_to_string(directory.join("dm/name")).ok()?.trim().to_owned();
        Some(Self { directory, name })
    }

    /// The device that this one lies on and whose UUID ends like this.
    fn below(&self, end: &str) -> Option<Self> {
        fs::read_dir(self.directory.join("slaves")).ok()?.flatten().find_map(|entry| {
            let uuid = fs::read_to_string(entry.path().join("dm/uuid")).ok()?;
            if uuid.trim().ends_with(end) { Self::at(entry.path()) } else { None }
        })
    }
}

/// Reads the dump of one volume (`thin_dump(8)`, XML).
fn ranges(dump: &str) -> Option<Vec<(u64, u64)>> {
    let attribute = |line: &str, name: &str| -> Option<u64> {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()?.parse().ok()
    };
    let lines = || dump.lines().map(str::trim);
    let head = lines().find(|line| line.starts_with("<superblock "))?;
    let block = attribute(head, "data_block_size")?.checked_mul(SECTOR)?;
    if !lines().any(|line| line == "</superblock>") || !dump.contains("<device ") {
        return None;
    }
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for line in lines() {
        let (first, count) = if line.starts_with("<range_mapping ") {
            (attribute(line, "origin_begin")?, attribute(line, "length")?)
        } else if line.starts_with("<single_mapping ") {
            (attribute(line, "origin_block")?, 1)
        } else {
            continue;
        };
        let (offset, length) = (first.checked_mul(block)?, count.checked_mul(block)?);
        match ranges.last_mut() {
            Some((last, long)) if *last + *long == offset => *long += length,
            Some((last, long)) if *last + *long > offset => return None,
            _ => ranges.push((offset, length)),
        }
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"<superblock uuid="" time="0" transaction="1" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="1" mapped_blocks="6" transaction="0" creation_time="0" snap_time="0">
    <single_mapping origin_block="1" data_block="9" time="0"/>
    <range_mapping origin_begin="7" data_begin="0" length="3" time="0"/>
    <range_mapping origin_begin="10" data_begin="20" length="2" time="1"/>
  </device>
</superblock>
"#;

    #[test]
    fn neighbouring_blocks_are_one_range() {
        const BLOCK: u64 = 64 << 10;
        assert_eq!(ranges(DUMP), Some(vec![(BLOCK, BLOCK), (7 * BLOCK, 5 * BLOCK)]));
    }

    #[test]
    fn an_empty_volume_has_no_ranges() {
        let empty: String = DUMP
            .lines()
            .filter(|line| !line.contains("mapping "))
            .fold(String::new(), |text, line| text + line + "\n");
        assert_eq!(ranges(&empty), Some(vec![]));
    }

    #[test]
    fn what_is_no_whole_dump_tells_nothing() {
        assert_eq!(ranges(""), None);
        assert_eq!(ranges(DUMP.trim_end().trim_end_matches("</superblock>")), None);
        let backwards = DUMP.replace("origin_begin=\"10\"", "origin_begin=\"8\"");
        assert_eq!(ranges(&backwards), None);
        let no_volume: String =
            DUMP.lines().filter(|line| line.contains("superblock")).collect::<Vec<_>>().join("\n");
        assert_eq!(ranges(&no_volume), None);
    }
}
