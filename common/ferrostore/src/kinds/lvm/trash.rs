//! The trash of a volume group: deleted images whose volumes stay where they are, with a tag. A tag is the one thing that
//! OpenNebula's sudoers file lets OpenNebula's user give a volume in one step; a name is not.

use super::lock::GroupLock;
use super::names::ImageName;
use crate::trash::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use runtime::command::CommandError;
use runtime::command::lvm::{self, Volume};
use runtime::staging::trash::{LATEST, now};
use std::time::Duration;

/// Tag of what is in the trash, before the time of its deletion in milliseconds since 1970 and the seconds that it is kept.
const TRASHED: &str = "ferrostore.trash.";
/// Tag that holds the record, before that in base64.
const RECORD: &str = "ferrostore.record.";
/// Tag of an image that was restored: oned has another number for it than its name says.
pub(super) const RESTORED: &str = "ferrostore.restored";

/// The longest texts of a record, bytes: a tag has at most 1024 characters.
pub(super) const LONGEST: usize = 60;

/// A deleted image.
#[derive(Debug)]
pub struct Trashed {
    /// The volume that is tagged, and goes with all that is in it: that of the image, or its pool.
    pub volume: String,
    /// The image.
    pub(super) image: ImageName,
    /// When it was deleted, since 1970.
    pub deleted: Duration,
    /// How long it is kept.
    pub keep: Duration,
    /// Bytes that it takes.
    pub bytes: u64,
    pub(super) tags: Vec<String>,
}

impl Trashed {
    /// What it was. A method, so that the drivers hold no code that reads records.
    #[must_use]
    pub fn record(&self) -> Record {
        let record = self.tags.iter().find_map(|tag| {
            let bytes = STANDARD_NO_PAD.decode(tag.strip_prefix(RECORD)?).ok()?;
            serde_json::from_slice(&bytes).ok()
        });
        record.unwrap_or_default()
    }

    /// Bytes of the group that are free without it, where its pool, if it has one, has so many areas of metadata.
    fn taken(&self, metadata: u64, extent: u64) -> u64 {
        let is_pool = self.volume != self.image.volume;
        taken(self.bytes, u64::from(is_pool) * metadata, extent)
    }

    /// The name of the image's volume.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.image.volume
    }
}

/// The tags of an image that is deleted now, to be kept for `keep`.
pub(super) fn tags(deleted: Duration, keep: Duration, record: &str) -> [String; 2] {
    let record = STANDARD_NO_PAD.encode(record.trim_end());
    [format!("{TRASHED}{}.{}", deleted.as_millis(), keep.as_secs()), format!("{RECORD}{record}")]
}

/// Whether an image may have another number in oned than its name says.
pub(super) fn is_restored(volume: &Volume) -> bool {
    volume.tags.iter().any(|tag| tag == RESTORED)
}

/// Whether a volume is in the trash, with all that is in it.
pub(super) fn is_trashed(volume: &Volume) -> bool {
    volume.tags.iter().any(|tag| times(tag).is_some())
}

/// When what has this tag was deleted, and how long it is kept.
fn times(tag: &str) -> Option<(Duration, Duration)> {
    let (deleted, keep) = tag.strip_prefix(TRASHED)?.split_once('.')?;
    let number = |text: &str| text.parse().ok().filter(|&number: &u64| number <= LATEST);
    Some((Duration::from_millis(number(deleted)?), Duration::from_secs(number(keep)?)))
}

/// The deleted images among `volumes`, oldest first.
pub(super) fn among(volumes: &[Volume]) -> Vec<Trashed> {
    let mut found: Vec<Trashed> = volumes.iter().filter_map(|volume| of(volume, volumes)).collect();
    found.sort_by(|a, b| (a.deleted, &a.volume).cmp(&(b.deleted, &b.volume)));
    found
}

fn of(volume: &Volume, volumes: &[Volume]) -> Option<Trashed> {
    let (deleted, keep) = volume.tags.iter().find_map(|tag| times(tag))?;
    let image = ImageName::owner_of(&volume.name)?;
    let tags = volume.tags.iter().filter(|tag| tag.starts_with("ferrostore."));
    let tags: Vec<String> = tags.filter(|tag| *tag != RESTORED).cloned().collect();
    let parts = parts(&image, volumes);
    let size = |part: &str| volumes.iter().find(|v| v.name == part).map_or(0, |v| v.size);
    Some(Trashed {
        volume: volume.name.clone(),
        bytes: parts.iter().map(|part| size(part)).sum(),
        image,
        deleted,
        keep,
        tags,
    })
}

/// The volumes that are to be removed for an image to go with its snapshots: the pool takes along what is in it.
pub(super) fn parts<'v>(image: &ImageName, volumes: &'v [Volume]) -> Vec<&'v str> {
    let pool = image.pool();
    let pool = volumes.iter().find(|volume| volume.name == pool && volume.is_pool());
    let is_in_pool = |volume: &Volume| {
        pool.is_some() && volume.pool.as_deref() == pool.map(|pool| pool.name.as_str())
    };
    let ours = volumes.iter().filter(|volume| {
        (volume.name == image.volume || image.has_snapshot(&volume.name)) && !is_in_pool(volume)
    });
    ours.chain(pool).map(|volume| volume.name.as_str()).collect()
}

/// Removes what is past its time; whether there was any.
pub(super) fn expire(group: &str, volumes: &[Volume]) -> bool {
    let now = now();
    let mut expired = false;
    for trashed in among(volumes).iter().filter(|one| one.deleted.saturating_add(one.keep) <= now) {
        let removed = remove(group, trashed, volumes, "its time is over");
        expired |= removed;
    }
    expired
}

/// Runs `create`, which makes a volume of `bytes`, or a pool with one; where the group has no space for it, again without the
/// oldest images in the trash, as many as take those bytes. What would not fit without all of them costs none.
pub(super) fn with_space(
    group: &str,
    (bytes, thin): (u64, bool),
    _: &GroupLock,
    create: impl Fn() -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    loop {
        let error = match create() {
            Err(error) if finds_no_space(&error) => error,
            result => return result,
        };
        let (volumes, space) = (lvm::volumes(group)?, lvm::group_space(group)?);
        let trashed = among(&volumes);
        let wanted = taken(bytes, u64::from(thin), space.extent).saturating_sub(space.free).max(1);
        // With the last pool its spare metadata go as well.
        let most: u64 = trashed.iter().map(|one| one.taken(2, space.extent)).sum();
        if most < wanted {
            if !trashed.is_empty() {
                log::warn!(
                    "the trash of {group} keeps its {} MiB, because the image would not fit in their place either",
                    most >> 20
                );
            }
            return Err(error);
        }
        let (mut freed, mut any) = (0, false);
        for one in &trashed {
            if freed < wanted && remove(group, one, &volumes, "its space is needed") {
                freed += one.taken(1, space.extent);
                any = true;
            }
        }
        if !any {
            return Err(error);
        }
    }
}

/// Bytes of the group that a volume takes, or a pool with so many areas for its metadata: what LVM allots by itself.
fn taken(bytes: u64, metadata: u64, extent: u64) -> u64 {
    /// Metadata of a pool: one byte for so many of its data, at least so many and, as its chunks grow, at most, bytes.
    const SHARE: u64 = 1 << 10;
    const LEAST: u64 = 2 << 20;
    const MOST: u64 = 128 << 20;
    let extents = |bytes: u64| bytes.div_ceil(extent.max(1)).saturating_mul(extent);
    extents(bytes).saturating_add(metadata * extents((bytes / SHARE).clamp(LEAST, MOST)))
}

fn finds_no_space(error: &CommandError) -> bool {
    ["Insufficient free space", "insufficient free space", "free extents"]
        .iter()
        .any(|words| error.says(words))
}

fn remove(group: &str, trashed: &Trashed, volumes: &[Volume], why: &str) -> bool {
    let removed = lvm::remove(group, &parts(&trashed.image, volumes));
    match &removed {
        Ok(()) => log::info!("removed {group}/{} from the trash, because {why}", trashed.volume),
        Err(error) => log::warn!("volume {group}/{} stays in the trash: {error}", trashed.volume),
    }
    removed.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn volume(name: &str, pool: Option<&str>, tags: &[String]) -> Volume {
        let attributes = if name.ends_with("-pool") { "twi---tz-k" } else { "-wi------k" };
        Volume {
            name: name.into(),
            uuid: name.into(),
            size: 4 << 20,
            pool: pool.map(str::to_owned),
            origin: None,
            tags: tags.to_vec(),
            attributes: attributes.into(),
            data_percent: None,
            metadata_percent: None,
        }
    }

    #[test]
    fn what_is_tagged_is_in_the_trash_with_all_that_belongs_to_it() {
        let deleted = Duration::from_millis(1_795_885_712_123);
        let record = "{\"image\":7,\"name\":\"é\"}\n";
        let tags = tags(deleted, Duration::from_secs(3600), record).to_vec();
        assert!(tags.iter().all(|tag| tag.len() <= 1024));
        let pool = "img-one-7-pool";
        let volumes = [
            volume("img-one-5", None, &["ferrostore.trash.1.2".to_owned()]),
            volume("img-one-6", None, &["other".to_owned(), "ferrostore.trash.x".to_owned()]),
            volume("img-one-7", Some(pool), &[]),
            volume(pool, None, &tags),
            volume("img-one-7_one_s1", Some(pool), &[]),
        ];
        let found = among(&volumes);
        let names: Vec<&str> = found.iter().map(|one| one.volume.as_str()).collect();
        assert_eq!(names, ["img-one-5", pool]);
        assert_eq!((found[1].deleted, found[1].bytes), (deleted, 4 << 20));
        let record = found[1].record();
        assert_eq!((record.image, record.name.as_str()), (Some(7), "é"));
        assert_eq!(parts(&found[1].image, &volumes), [pool]);
    }

    #[test]
    fn a_volume_takes_whole_extents_and_a_pool_its_metadata() {
        const MIB: u64 = 1 << 20;
        assert_eq!(taken(8 * MIB, 0, 4 * MIB), 8 * MIB);
        assert_eq!(taken(8 * MIB + 1, 0, 4 * MIB), 12 * MIB);
        assert_eq!(taken(8 * MIB, 1, 4 * MIB), 12 * MIB);
        assert_eq!(taken(1 << 40, 2, 4 * MIB), (1 << 40) + 256 * MIB);
    }

    #[test]
    fn the_longest_record_fits_into_a_tag() {
        let numbers = "\"x\":".len() + 20;
        let texts = 7 * LONGEST + 8 * "\"persistent\":\"…\",".len();
        let record = "x".repeat(texts + 7 * numbers);
        let tags = tags(now(), Duration::from_secs(1), &record);
        assert!(tags.iter().all(|tag| tag.len() <= 1024), "{}", tags[1].len());
    }
}
