//! Names of volumes, as OpenNebula's transfer drivers for LVM give them.

use super::lock::VolumeLock;
use runtime::command::lvm::Volume;

/// What an image's volume is called, without its number.
const IMAGE: &str = "img-one-";
/// What follows the image's name in the name of its thin pool.
const POOL: &str = "-pool";
/// What follows the image's name in the name of a snapshot, before its number.
const SNAPSHOT: &str = "_one_s";
/// Tag of a volume that is being made, before the name of the host where that happens.
const MAKING: &str = "ferrostore.making.";

/// The name of an image's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageName {
    pub(super) id: u64,
    pub(super) volume: String,
}

impl ImageName {
    pub(super) fn of(id: u64) -> Self {
        Self { id, volume: format!("{IMAGE}{id}") }
    }

    /// Reads a name as OpenNebula writes it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let image = Self::of(name.strip_prefix(IMAGE)?.parse().ok()?);
        (image.volume == name).then_some(image)
    }

    /// The image whose volume or pool has this name.
    pub(super) fn owner_of(name: &str) -> Option<Self> {
        Self::parse(name.strip_suffix(POOL).unwrap_or(name))
    }

    /// What is to be removed for the image to go: its volume, or the pool of its own that holds it.
    pub(super) fn whole<'v>(&self, volumes: &'v [Volume]) -> Option<&'v str> {
        let volume = volumes.iter().find(|volume| volume.name == self.volume)?;
        let pool = self.pool();
        Some(volume.pool.as_deref().filter(|other| *other == pool).unwrap_or(&volume.name))
    }

    /// As [`Self::whole`], where the image is complete and its lock file says that it was not reported.
    pub(super) fn unreported<'v>(
        &self,
        lock: &VolumeLock,
        volumes: &'v [Volume],
    ) -> Option<&'v str> {
        let uuid = lock.unreported()?;
        // Another one may have its name now.
        let same = volumes.iter().any(|volume| volume.name == self.volume && volume.uuid == uuid);
        let complete = self.tagged(volumes, &making_tag()).is_none();
        (same && complete).then(|| self.whole(volumes))?
    }

    /// Of the image's volume and pool, what has a tag.
    pub(super) fn tagged<'v>(&self, volumes: &'v [Volume], tag: &str) -> Option<&'v str> {
        let pool = self.pool();
        volumes
            .iter()
            .find(|volume| {
                (volume.name == pool || volume.name == self.volume)
                    && volume.tags.iter().any(|other| other == tag)
            })
            .map(|volume| volume.name.as_str())
    }

    pub(super) fn pool(&self) -> String {
        format!("{}{POOL}", self.volume)
    }

    pub(super) fn snapshot(&self, id: u32) -> String {
        format!("{}{SNAPSHOT}{id}", self.volume)
    }

    /// Whether a volume is a snapshot of this image.
    pub(super) fn has_snapshot(&self, name: &str) -> bool {
        name.strip_prefix(&self.volume).and_then(|rest| rest.strip_prefix(SNAPSHOT)).is_some_and(
            |number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()),
        )
    }
}

/// The tag of a volume that is being made on this machine.
pub(super) fn making_tag() -> String {
    let host = nix::sys::utsname::uname()
        .map(|names| names.nodename().to_string_lossy().into_owned())
        .unwrap_or_default();
    // What LVM lets into a tag.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    host.chars().fold(MAKING.to_owned(), |tag, c| tag + &if plain(c) { c } else { '_' }.to_string())
}
