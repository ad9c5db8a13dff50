//! vmdk with its one extent in the same file: a header, a text that describes the image, tables, data.

use super::{
    Field, LARGEST_TABLE, Layout, ReadAt, corrupt, has_parent, read, sectors, unsupported,
};
use crate::{Format, ImageError};

const FORMAT: Format = Format::Vmdk;
/// QEMU looks for a parent in so many bytes behind the first sector, whatever the header says.
const DESCRIPTOR: u64 = 20 * 512;
/// Where the header says that the grain directory is described by a footer.
const AT_END: u64 = u64::MAX;
/// A footer, between a marker and the end of the stream, a sector each.
const FOOTER: u64 = 3 * 512;
const HAS_SECOND_DIRECTORY: u32 = 1 << 1;
const CAPACITY: usize = 12;

pub(super) fn layout(read_at: ReadAt) -> Result<Layout, ImageError> {
    let header = read(FORMAT, read_at, 0, 512)?;
    let header = Field { bytes: &header, format: FORMAT };
    let capacity = header.le64(CAPACITY)?;
    let (place, length) = (header.le64(28)?, sectors(FORMAT, header.le64(36)?)?);
    if place == 0 || length == 0 || length > LARGEST_TABLE {
        return Err(needs_others("has no usable descriptor, so it is a part of another image"));
    }
    // Every writer puts it there. Were it elsewhere, two readers could read two descriptors.
    if place != 1 {
        return Err(needs_others(&format!("has its descriptor in sector {place} instead of 1")));
    }
    let wanted = length.max(DESCRIPTOR);
    let descriptor = read_at(512, wanted as usize).map_err(ImageError::reading(512))?;
    let end = descriptor.iter().position(|&byte| byte == 0).unwrap_or(descriptor.len());
    if names_a_parent(&descriptor) {
        return Err(has_parent(FORMAT));
    }
    check_descriptor(&descriptor[..end], capacity)?;
    let mut parts = Vec::new();
    let grains = header.le64(20)?.saturating_mul(u64::from(header.le32(44)?));
    if grains == 0 {
        return Err(corrupt(FORMAT, "its grains have no size"));
    }
    let directory = capacity.div_ceil(grains).saturating_mul(4);
    if header.le64(56)? != AT_END {
        parts.push(("the grain directory", sectors(FORMAT, header.le64(56)?)?, directory));
    }
    if header.le32(8)? & HAS_SECOND_DIRECTORY != 0 {
        let second = sectors(FORMAT, header.le64(48)?)?;
        parts.push(("the second grain directory", second, directory));
    }
    Ok(Layout { size: sectors(FORMAT, capacity)?, parts })
}

/// That a footer, where the header refers to it, describes the same disk as the header.
pub(super) fn check_footer(length: u64, read_at: ReadAt) -> Result<(), ImageError> {
    let header = read(FORMAT, read_at, 0, 512)?;
    if (Field { bytes: &header, format: FORMAT }).le64(56)? != AT_END {
        return Ok(());
    }
    let start = length
        .checked_sub(FOOTER)
        .ok_or_else(|| corrupt(FORMAT, "it is cut off before its footer"))?;
    let footer = read(FORMAT, read_at, start + 512, 512)?;
    // All but where the grain directories are.
    if footer[..48] != header[..48] || footer[64..80] != header[64..80] {
        return Err(corrupt(FORMAT, "its footer is missing or describes another disk"));
    }
    Ok(())
}

fn needs_others(what: &str) -> ImageError {
    unsupported(
        FORMAT,
        format!("{what}; save it as one file (monolithicSparse or streamOptimized)"),
    )
}

fn names_a_parent(descriptor: &[u8]) -> bool {
    const HINT: &[u8] = b"parentfilenamehint";
    descriptor.windows(HINT.len()).any(|word| word.eq_ignore_ascii_case(HINT))
}

/// Checks a descriptor line by line: it may hold what a self-contained image of `capacity` sectors needs,
/// each thing once and in the plainest form, and nothing else. Readers differ in how they look for things
/// in it, so whatever one of them could take for something else is refused.
fn check_descriptor(descriptor: &[u8], capacity: u64) -> Result<(), ImageError> {
    const KEYS: [&str; 6] =
        ["version", "encoding", "CID", "parentCID", "isNativeSnapshot", "createType"];
    let odd = |line: &str| {
        needs_others(&format!("has the descriptor line {line:?}, which is not accepted"))
    };
    let text = std::str::from_utf8(descriptor)
        .map_err(|_| corrupt(FORMAT, "its descriptor is no text"))?;
    let lower = text.to_ascii_lowercase();
    if capacity == 0
        || ["createtype", "parentcid"].iter().any(|key| lower.matches(key).count() != 1)
    {
        return Err(needs_others("doesn't describe itself in the usual way"));
    }
    let mut extents = 0;
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        if line.chars().any(char::is_control) {
            return Err(odd(line));
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("RW ") {
            let mut words = rest.splitn(3, ' ');
            let own = words.next().and_then(|size| size.parse().ok()) == Some(capacity)
                && words.next() == Some("SPARSE");
            if !own {
                return Err(odd(line));
            }
            extents += 1;
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| odd(line))?;
        let (key, value) = (key.trim_end(), value.trim().trim_matches('"'));
        let known = key.starts_with("ddb.") || KEYS.contains(&key);
        let single = match key {
            "createType" => ["monolithicSparse", "streamOptimized"].contains(&value),
            "parentCID" => value.eq_ignore_ascii_case("ffffffff"),
            _ => true,
        };
        if key == "parentCID" && !single {
            return Err(has_parent(FORMAT));
        }
        if !known || !single {
            return Err(odd(line));
        }
    }
    if extents == 1 {
        return Ok(());
    }
    Err(needs_others("does not hold its data in a single extent of its own"))
}
