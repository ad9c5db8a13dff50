//! Names of images in RBD pools: OpenNebula's, which its transfer drivers find images and snapshots by, and those of
//! what is not finished.
//!
//! Image 5 is `one-5`. Once it was reverted, snapshots that the image was not made from stay on volumes of their own,
//! `one-5-<ids joined by ':'>`: its carriers. `one-5-<vm>-<disk>` is a clone for a virtual machine, and no part of the
//! image. A dot is in no name of OpenNebula's images, so what follows it here is seen by nothing else.

use runtime::command::cluster::is_plain_path;
use std::path::Path;

/// What images are called, before their number.
const IMAGE: &str = "one-";
/// What follows the name of an image that is being made.
const TEMPORARY: &str = ".ferrostore";
/// What follows the name of an image that another one has replaced.
const OLD: &str = ".ferrostore-old";
/// What follows the name of an image that says that another one was flattened, and its snapshots may go.
const MARK: &str = ".ferrostore-flatten";

/// The name of an image of OpenNebula's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ImageName {
    pub(super) id: u64,
}

impl ImageName {
    /// Reads `one-<id>` as OpenNebula writes it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(Self { id: number(name.strip_prefix(IMAGE)?)? })
    }

    /// The image that a name of what is not finished belongs to.
    pub(super) fn owner_of_unfinished(name: &str) -> Option<Self> {
        [MARK, OLD, TEMPORARY].iter().find_map(|end| Self::parse(name.strip_suffix(end)?))
    }

    /// The image itself.
    pub(super) fn main(self) -> String {
        format!("{IMAGE}{}", self.id)
    }

    /// What will be the image, or take its place.
    pub(super) fn temporary(self) -> String {
        self.main() + TEMPORARY
    }

    /// What was the image before it was flattened.
    pub(super) fn old(self) -> String {
        self.main() + OLD
    }

    /// An empty image that is there from when a flattened one is whole to when its snapshots are gone.
    pub(super) fn mark(self) -> String {
        self.main() + MARK
    }

    /// The volume that carries the snapshots `ids`.
    pub(super) fn carrier(self, ids: &[u32]) -> String {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        format!("{}-{}", self.main(), ids.join(":"))
    }

    /// The snapshots that the volume `name` carries, where it is a carrier of this image.
    pub(super) fn carried(self, name: &str) -> Option<Vec<u32>> {
        let ids = name.strip_prefix(&self.main())?.strip_prefix('-')?;
        ids.split(':').map(|id| u32::try_from(number(id)?).ok()).collect()
    }

    /// Whether the volume `name` is a part of this image: itself, a carrier, or what it was before.
    pub(super) fn owns(self, name: &str) -> bool {
        name == self.main() || name == self.old() || self.carried(name).is_some()
    }
}

/// The number of a snapshot that OpenNebula has taken.
pub(super) fn snapshot_id(name: &str) -> Option<u32> {
    u32::try_from(number(name)?).ok()
}

/// A number as it is written in a name: one form only.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain)?;
    (text.len() == 1 || !text.starts_with('0')).then_some(number)
}

/// Splits `pool/image` or `pool/namespace/image`, each of names that are plain.
pub(super) fn split(source: &str) -> Option<(&str, &str)> {
    let (pool, image) = source.rsplit_once('/')?;
    (is_pool(pool) && is_image(image)).then_some((pool, image))
}

/// Whether this can be `pool` or `pool/namespace`.
pub(super) fn is_pool(name: &str) -> bool {
    let mut parts = name.split('/');
    parts.clone().count() <= 2 && parts.all(is_plain)
}

/// Whether this can be the name of a pool or a user: no option, and nothing that stands for something else.
pub(super) fn is_plain(name: &str) -> bool {
    let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    !name.is_empty() && !name.starts_with('-') && name.len() <= 200 && name.chars().all(sign)
}

fn is_image(name: &str) -> bool {
    !name.is_empty() && name.split(':').all(is_plain)
}

/// Whether this can be the path of a key or a configuration.
pub(super) fn is_path(path: &str) -> bool {
    is_plain_path(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: ImageName = ImageName { id: 5 };

    #[test]
    fn an_image_is_one_and_its_number_in_one_form() {
        assert_eq!(ImageName::parse("one-5"), Some(FIVE));
        for other in ["one-", "one-05", "one-5-1", "one-5.x", "One-5", "one--5", "one-+5", "5"] {
            assert_eq!(ImageName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn carriers_are_named_by_their_snapshots_in_ascending_order() {
        assert_eq!(FIVE.carrier(&[11, 0, 2]), "one-5-0:2:11");
        assert_eq!(FIVE.carried("one-5-0:2:11"), Some(vec![0, 2, 11]));
        assert_eq!(FIVE.carried("one-5-2"), Some(vec![2]));
        for other in ["one-5", "one-51-2", "one-5-7-0", "one-5-", "one-5-0:", "one-5-02", "one-5-a"]
        {
            assert_eq!(FIVE.carried(other), None, "{other}");
        }
    }

    #[test]
    fn other_images_and_disks_of_virtual_machines_are_no_part_of_an_image() {
        for own in ["one-5", "one-5-0", "one-5-0:3", "one-5.ferrostore-old"] {
            assert!(FIVE.owns(own), "{own}");
        }
        for other in ["one-51", "one-5-7-0", "one-5.ferrostore", "one-5.new.1", "one-5.flatten"] {
            assert!(!FIVE.owns(other), "{other}");
        }
    }

    #[test]
    fn what_is_not_finished_names_its_image() {
        for name in [FIVE.temporary(), FIVE.old(), FIVE.mark()] {
            assert_eq!(ImageName::owner_of_unfinished(&name), Some(FIVE), "{name}");
        }
        for other in ["one-5", "one-5-0.ferrostore", "x.ferrostore", "one-5.ferrostore.x"] {
            assert_eq!(ImageName::owner_of_unfinished(other), None, "{other}");
        }
    }

    #[test]
    fn a_source_is_a_pool_perhaps_a_namespace_and_an_image() {
        assert_eq!(split("one/one-5"), Some(("one", "one-5")));
        assert_eq!(split("one/ns/one-5-0:1"), Some(("one/ns", "one-5-0:1")));
        for other in [
            "one-5", "/one-5", "one/", "a/b/c/d", "one/a b", "one/-x", "-x/a", "one/a@b", "one/a;b",
        ] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn only_numbers_are_snapshots_of_opennebula() {
        assert_eq!((snapshot_id("0"), snapshot_id("12")), (Some(0), Some(12)));
        for other in ["", "01", "snap", "one_backup_1", "-1", "4294967296"] {
            assert_eq!(snapshot_id(other), None, "{other}");
        }
    }
}
