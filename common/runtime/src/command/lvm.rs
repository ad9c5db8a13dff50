//! The programs of LVM. Unless the driver runs as root they are run through `sudo -n`, and they are
//! only those that OpenNebula's own sudoers file lists: lvcreate, lvremove, lvchange, lvextend, lvs,
//! vgdisplay; and lvrename, without which there is another way.
//!
//! A program that changes a volume group is never broken off: it runs to its end even where its driver
//! is told to stop or is killed.

use super::{CommandError, find, run_unbroken};
use crate::block_device::SECTOR;
use crate::block_device::block_device_directory;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

const PACKAGE: &str = "lvm2";

/// Between the fields of a report: neither names nor tags hold it (`lvm(8)`).
const SEPARATOR: &str = "|";

/// The options of a report that is a table without headings, sizes in bytes.
const TABLE: [&str; 6] = ["--units", "b", "--nosuffix", "--noheadings", "--separator", SEPARATOR];

/// Flags of every volume that OpenNebula keeps images in: skipped by a general activation (`-ky`).
const SKIPPED: &str = "-ky";

/// One volume of a volume group, as `lvs` reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its name in its group.
    pub name: String,
    /// What no other volume ever has, without hyphens.
    pub uuid: String,
    /// Size in bytes.
    pub size: u64,
    /// The thin pool that it lies in.
    pub pool: Option<String>,
    /// The volume that it was made as a snapshot of.
    pub origin: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// `lv_attr` (`lvs(8)`): type, permissions, allocation, fixed minor, state, open, target type,
    /// zeroing, health, skipping.
    pub attributes: String,
    /// How full a thin pool's data is, whole percents; only while it is active.
    pub data_percent: Option<u64>,
    /// How full a thin pool's metadata is, whole percents; only while it is active.
    pub metadata_percent: Option<u64>,
}

impl Volume {
    fn attribute(&self, position: usize) -> char {
        self.attributes.chars().nth(position).unwrap_or('-')
    }

    /// Whether it is a thin pool.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.attribute(0) == 't'
    }

    /// Whether it can be written and is as volumes of images are at rest: inactive, and skipped by
    /// a general activation.
    #[must_use]
    pub fn is_image_at_rest(&self) -> bool {
        [1, 4, 9].map(|position| self.attribute(position)) == ['w', '-', 'k']
    }

    /// Whether a program on this machine has it open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.attribute(5) == 'o'
    }

    /// Out of a line with the fields of [`volumes`].
    fn of(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim_start().split(SEPARATOR).collect();
        let [name, uuid, size, pool, origin, tags, attributes, data, metadata] = fields[..] else {
            return None;
        };
        let text = |field: &str| (!field.is_empty()).then(|| field.to_owned());
        let percent = |field: &str| field.split('.').next()?.parse().ok();
        Some(Self {
            name: text(name)?,
            uuid: text(uuid)?.replace('-', ""),
            size: size.parse().ok()?,
            pool: text(pool),
            origin: text(origin),
            tags: tags.split(',').filter_map(text).collect(),
            attributes: text(attributes)?,
            data_percent: percent(data),
            metadata_percent: percent(metadata),
        })
    }
}

/// Space in a volume group, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSpace {
    /// In all.
    pub size: u64,
    /// In no volume.
    pub free: u64,
    /// Volumes take whole extents of this size.
    pub extent: u64,
}

/// Runs a program that OpenNebula's sudoers file lists.
pub(super) fn privileged<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<u8>, CommandError> {
    let program = find(program, PACKAGE)?;
    let mut list: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
    if nix::unistd::geteuid().is_root() {
        return run_unbroken(program, &list);
    }
    list.splice(0..0, ["-n".into(), program.into()]);
    run_unbroken(find("sudo", "sudo")?, &list)
}

/// A size as LVM takes it: in whole sectors, which it rounds up to its own extents.
fn sized(bytes: u64) -> String {
    format!("{}b", bytes.next_multiple_of(SECTOR))
}

fn unexpected(program: &'static str, output: &[u8]) -> CommandError {
    CommandError::Unexpected {
        program,
        output: String::from_utf8_lossy(&output[..output.len().min(200)]).into_owned(),
    }
}

/// The volumes of a group, those that LVM hides left out.
///
/// # Errors
/// Where there is no such group, or the program can't be run.
pub fn volumes(group: &str) -> Result<Vec<Volume>, CommandError> {
    const FIELDS: &str =
        "lv_name,lv_uuid,lv_size,pool_lv,origin,lv_tags,lv_attr,data_percent,metadata_percent";
    let output = privileged("lvs", TABLE.into_iter().chain(["-o", FIELDS, group]))?;
    parse_volumes(&output).ok_or_else(|| unexpected("lvs", &output))
}

fn parse_volumes(output: &[u8]) -> Option<Vec<Volume>> {
    std::str::from_utf8(output).ok()?.lines().map(Volume::of).collect()
}

/// The UUID of the volume whose device this is, as in [`Volume::uuid`].
///
/// # Errors
/// Where it is no volume's.
pub fn uuid(device: &File) -> io::Result<String> {
    let directory = block_device_directory(device.metadata()?.rdev());
    let uuids = std::fs::read_to_string(directory.join("dm/uuid"))?;
    // `LVM-`, then the UUIDs of group and volume, of 32 characters each.
    let volume = uuids.trim().strip_prefix("LVM-").and_then(|uuids| uuids.get(32..64));
    volume.map(str::to_owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The space of a group.
///
/// # Errors
/// As [`volumes`].
pub fn group_space(group: &str) -> Result<GroupSpace, CommandError> {
    let arguments =
        ["-C"].into_iter().chain(TABLE).chain(["-o", "vg_size,vg_free,vg_extent_size", group]);
    let output = privileged("vgdisplay", arguments)?;
    parse_space(&output).ok_or_else(|| unexpected("vgdisplay", &output))
}

fn parse_space(output: &[u8]) -> Option<GroupSpace> {
    let fields: Vec<&str> = std::str::from_utf8(output).ok()?.trim().split(SEPARATOR).collect();
    let [size, free, extent] = fields[..] else { return None };
    let number = |field: &str| field.trim().parse().ok();
    Some(GroupSpace { size: number(size)?, free: number(free)?, extent: number(extent)? })
}

/// Makes a plain volume of at least `size` bytes and activates it. What it holds is what its blocks
/// held before.
///
/// # Errors
/// Where the name is taken or the group has no space.
pub fn create_thick(group: &str, name: &str, size: u64, tag: &str) -> Result<(), CommandError> {
    let size = sized(size);
    let arguments =
        ["-K", "-ay", SKIPPED, "-W", "n", "-L", &size, "-n", name, "--addtag", tag, group];
    privileged("lvcreate", arguments).map(drop)
}

/// Makes a thin volume of at least `size` bytes in a pool of its own of the same size, and activates
/// both. It reads as zero. It is the pool that gets the tag.
///
/// # Errors
/// As [`create_thick`].
pub fn create_thin(
    group: &str,
    name: &str,
    pool: &str,
    size: u64,
    tag: &str,
) -> Result<(), CommandError> {
    let size = sized(size);
    let arguments = [
        "--type",
        "thin",
        "-K",
        "-ay",
        SKIPPED,
        "-W",
        "n",
        "-Z",
        "y",
        "-L",
        &size,
        "-V",
        &size,
        "--thinpool",
        pool,
        "-n",
        name,
        "--addtag",
        tag,
        group,
    ];
    privileged("lvcreate", arguments).map(drop)
}

/// Makes a thin snapshot of a thin volume, inactive.
///
/// # Errors
/// Where the origin is missing, the name is taken or the pool can't take it.
pub fn snapshot(group: &str, origin: &str, name: &str) -> Result<(), CommandError> {
    let origin = format!("{group}/{origin}");
    privileged("lvcreate", ["-s", "-an", SKIPPED, "-n", name, &origin]).map(drop)
}

/// Gives a volume another name. OpenNebula's sudoers file does not list `lvrename`.
///
/// # Errors
/// Where sudo refuses it, the volume is missing or the name is taken.
pub fn rename(group: &str, name: &str, new: &str) -> Result<(), CommandError> {
    privileged("lvrename", [group, name, new]).map(drop)
}

/// Makes a volume as large as `size` bytes at least.
///
/// # Errors
/// Where the group has no space.
pub fn extend(group: &str, name: &str, size: u64) -> Result<(), CommandError> {
    let (size, volume) = (sized(size), format!("{group}/{name}"));
    privileged("lvextend", ["-L", &size, &volume]).map(drop)
}

/// Activates a volume.
///
/// # Errors
/// Where it is missing.
pub fn activate(group: &str, name: &str) -> Result<(), CommandError> {
    privileged("lvchange", ["-K", "-ay", &format!("{group}/{name}")]).map(drop)
}

/// Deactivates volumes, and takes a tag off them where they have it.
///
/// # Errors
/// Where one of them is missing or in use.
pub fn deactivate(
    group: &str,
    names: &[&str],
    without_tag: Option<&str>,
) -> Result<(), CommandError> {
    let volumes: Vec<String> = names.iter().map(|name| format!("{group}/{name}")).collect();
    let mut arguments = vec!["-an"];
    arguments.extend(without_tag.iter().flat_map(|tag| ["--deltag", tag]));
    arguments.extend(volumes.iter().map(String::as_str));
    privileged("lvchange", arguments).map(drop)
}

/// Gives a volume tags and takes others off it, in one step.
///
/// # Errors
/// Where it is missing.
pub fn change_tags(
    group: &str,
    name: &str,
    added: &[&str],
    removed: &[&str],
) -> Result<(), CommandError> {
    let volume = format!("{group}/{name}");
    let mut arguments: Vec<&str> = added.iter().flat_map(|tag| ["--addtag", *tag]).collect();
    arguments.extend(removed.iter().flat_map(|tag| ["--deltag", *tag]));
    arguments.push(&volume);
    privileged("lvchange", arguments).map(drop)
}

/// Removes volumes, a pool with all that is in it.
///
/// # Errors
/// Where one of them is missing or in use.
pub fn remove(group: &str, names: &[&str]) -> Result<(), CommandError> {
    let volumes: Vec<String> = names.iter().map(|name| format!("{group}/{name}")).collect();
    privileged("lvremove", std::iter::once("-y").chain(volumes.iter().map(String::as_str)))
        .map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REPORT: &str = "\
  img-one-5|Ab0dEf-GhIj-KlMn-OpQr-StUv-WxYz-012345|16777216||||-wi------k||
  img-one-7-pool|Ab0dEf-GhIj-KlMn-OpQr-StUv-WxYz-012346|16777216|||a,b.c=d|twi-aotz-k|12.50|10.94
  img-one-7_one_s1|Ab0dEf-GhIj-KlMn-OpQr-StUv-WxYz-012347|8388608|img-one-7-pool|img-one-7||Vwi-aotz-k|0.00|
";

    #[test]
    fn volumes_are_read_out_of_the_report_of_lvs() {
        let volumes = parse_volumes(REPORT.as_bytes()).unwrap();
        let names: Vec<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["img-one-5", "img-one-7-pool", "img-one-7_one_s1"]);
        let [thick, pool, snapshot] = &volumes[..] else { unreachable!() };
        assert_eq!((thick.size, &thick.pool, &thick.origin), (16 << 20, &None, &None));
        assert_eq!((thick.is_pool(), thick.is_open(), thick.tags.len()), (false, false, 0));
        assert!(thick.is_image_at_rest() && !snapshot.is_image_at_rest());
        assert!(pool.is_pool());
        assert_eq!(pool.tags, ["a", "b.c=d"]);
        assert_eq!((pool.data_percent, pool.metadata_percent), (Some(12), Some(10)));
        assert_eq!(snapshot.pool.as_deref(), Some("img-one-7-pool"));
        assert_eq!(snapshot.origin.as_deref(), Some("img-one-7"));
        assert!(snapshot.is_open());
    }

    #[test]
    fn a_group_without_volumes_has_an_empty_report() {
        assert_eq!(parse_volumes(b""), Some(vec![]));
    }

    #[test]
    fn what_is_no_report_is_no_empty_report() {
        for text in
            ["Volume group", "{}", "  x|", &REPORT[..REPORT.len() - 30], "  |u|5||||-wi------k||"]
        {
            assert_eq!(parse_volumes(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_space_of_a_group_is_read_out_of_the_table_of_vgdisplay() {
        let space = GroupSpace { size: 4_290_772_992, free: 4_227_858_432, extent: 4_194_304 };
        assert_eq!(parse_space(b"  4290772992|4227858432|4194304\n"), Some(space));
        assert_eq!(parse_space(b"  \n"), None);
    }
}
