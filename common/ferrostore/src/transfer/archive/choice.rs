//! Which member of an archive is meant, and what is said where that is not clear.

use super::ovf::OvfDisk;
use super::{ArchiveError, Kind, has_suffix};
use disk_image::Format;
use disk_image::probe::{Compression, Content};
use std::io;

/// Names that are told at most where something is wrong.
const TOLD: usize = 10;
/// What the names of disks end in; of others only the content can tell that they are disks.
const SUFFIXES: [&str; 12] =
    ["raw", "img", "vmdk", "qcow2", "qcow", "vhd", "vhdx", "vdi", "iso", "dd", "disk", "hdd"];
const COMPRESSED: [&str; 4] = ["gz", "bz2", "xz", "zst"];
/// What makes a disc of a raw image.
const DISC: (usize, &[u8]) = (0x8001, b"CD001");
/// What is shorter is no disk, whatever its name is, but what a link leads to, in a zip archive that comes as a stream.
const SECTOR: usize = 512;
/// What stands for the beginning of a member that can't be read.
pub(super) const UNREADABLE: [u8; SECTOR] = [1; SECTOR];

/// The member that a user wants, as it stands behind the `#` in `IMAGE/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    text: String,
    decoded: Option<String>,
    /// Whether it may mean something else, where there is no archive.
    is_fragment: bool,
}

impl Choice {
    /// The choice `text`: a name, or the number of a disk, counted from 1. In a URL it may be encoded.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let decoded = String::from_utf8(crate::transfer::url::percent_decoded(text)).ok();
        let plain = |text: &str| super::plain_name(text.as_bytes());
        let decoded = decoded.filter(|decoded| decoded != text).map(|decoded| plain(&decoded));
        Self { text: plain(text), decoded, is_fragment: false }
    }

    /// The choice `text` at the end of a URL, which no server is told of.
    #[must_use]
    pub fn of_url(text: &str) -> Self {
        Self { is_fragment: true, ..Self::new(text) }
    }

    /// The choice, for another machine.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[u8::from(self.is_fragment)], self.text.as_bytes()].concat()
    }

    /// What [`Choice::to_bytes`] made.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`].
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        match bytes.split_first().map(|(first, text)| (first, std::str::from_utf8(text))) {
            Some((0, Ok(text))) => Ok(Self::new(text)),
            Some((1, Ok(text))) => Ok(Self::of_url(text)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What is said of the choice where it is of no archive.
    ///
    /// # Errors
    /// [`ArchiveError::NoArchive`].
    pub fn without_archive(&self) -> Result<(), ArchiveError> {
        if !self.is_fragment {
            return Err(ArchiveError::NoArchive(self.text.clone()));
        }
        log::warn!("IMAGE/PATH has #{} at its end, but is no archive: that is left out", self.text);
        Ok(())
    }

    /// The place of the disk among the disks, counted from 0.
    pub(super) fn number(&self) -> Option<usize> {
        self.text.parse::<usize>().ok()?.checked_sub(1)
    }

    /// Whether it is the name of a disk of an OVF file.
    pub(super) fn is_of(&self, disk: &OvfDisk) -> bool {
        disk.is_in(&self.text) || self.is(&disk.name)
    }

    /// Whether it is the name `name`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.text == name || self.decoded.as_deref() == Some(name)
    }
}

/// What a member is, by its first bytes and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likely {
    Disk,
    /// A part of an image, or an image in a format that no datastore takes.
    Refused(&'static str),
    Other,
}

/// What a member named `name` is that begins with `head`.
pub(super) fn likely(name: &str, head: &[u8]) -> Likely {
    let base = name.rsplit('/').next().unwrap_or_default();
    // macOS keeps what belongs to a file beside it, under its own suffix.
    if head.is_empty() || base.starts_with("._") || name.starts_with("__MACOSX/") {
        return Likely::Other;
    }
    match Content::of(head) {
        Content::Disk(Format::Raw) => {
            let (offset, magic) = DISC;
            let is_disc = head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
            let may_be = head.len() >= SECTOR && has_suffix_of_disk(base);
            if is_disc || may_be { Likely::Disk } else { Likely::Other }
        }
        Content::Disk(_) | Content::Luks => Likely::Disk,
        Content::Compressed(compression) if has_suffix_of_disk(without(base, compression)) => {
            Likely::Disk
        }
        Content::Refused(name) | Content::Ambiguous(name, _) => Likely::Refused(name),
        Content::Compressed(_) => Likely::Other,
    }
}

fn has_suffix_of_disk(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| has_suffix(name, suffix))
}

fn without(name: &str, _: Compression) -> &str {
    match name.rsplit_once('.') {
        Some((rest, end)) if COMPRESSED.iter().any(|known| end.eq_ignore_ascii_case(known)) => rest,
        _ => name,
    }
}

/// Whether a member may be a disk at all, before anything of it is read.
pub(super) fn may_be_disk(name: &str, size: Option<u64>) -> bool {
    const OTHERS: [&str; 12] =
        ["ovf", "mf", "cert", "txt", "md", "nvram", "vmx", "vmxf", "vmsd", "xml", "json", "pdf"];
    size != Some(0) && !OTHERS.iter().any(|suffix| has_suffix(name, suffix))
}

/// What is inside, for messages.
#[derive(Debug, Default)]
pub(super) struct Inside {
    disks: Vec<String>,
    first: Option<String>,
    others: Vec<String>,
    count: usize,
}

impl Inside {
    /// Notes a disk; the names of the first few are kept.
    pub(super) fn add_disk(&mut self, name: &str, size: Option<u64>) {
        let number = self.disks.len() + 1;
        self.first.get_or_insert_with(|| name.to_owned());
        self.disks.push(if number > TOLD {
            String::new()
        } else {
            format!("#{number} {}", described(name, size))
        });
    }

    /// Notes what is no disk, and why.
    pub(super) fn add_other(&mut self, name: &str, size: Option<u64>, why: Option<&str>) {
        self.count += 1;
        if self.others.len() < TOLD {
            let why = why.map_or_else(String::new, |why| format!(", a {why}"));
            self.others.push(format!("{}{why}", described(name, size)));
        }
    }

    fn list(&self) -> String {
        let total = self.disks.len() + self.count;
        let told: Vec<_> = self
            .disks
            .iter()
            .filter(|name| !name.is_empty())
            .chain(&self.others)
            .take(TOLD)
            .cloned()
            .collect();
        let more = total - told.len();
        match (told.is_empty(), more) {
            (true, _) => "nothing is inside".to_owned(),
            (_, 0) => format!("inside are {}", told.join(", ")),
            _ => format!("inside are {} and {more} more", told.join(", ")),
        }
    }

    pub(super) fn several(&self) -> ArchiveError {
        let mut told: Vec<_> = self.disks.iter().filter(|name| !name.is_empty()).cloned().collect();
        if self.disks.len() > told.len() {
            told.push("...".to_owned());
        }
        ArchiveError::Several {
            count: self.disks.len(),
            list: told.join(", "),
            example: self.first.clone().unwrap_or_default(),
        }
    }

    pub(super) fn no_disk(&self) -> ArchiveError {
        ArchiveError::NoDisk { list: self.list() }
    }

    pub(super) fn not_inside(&self, choice: &Choice) -> ArchiveError {
        ArchiveError::NotInside { wanted: choice.text.clone(), list: self.list() }
    }

    pub(super) fn disks(&self) -> usize {
        self.disks.len()
    }
}

fn described(name: &str, size: Option<u64>) -> String {
    let name = runtime::text::shown(name);
    match size {
        None => name,
        Some(size) if size < 1 << 20 => format!("{name} ({size} bytes)"),
        Some(size) => format!("{name} ({} MiB)", size.div_ceil(1 << 20)),
    }
}

/// That a member is in an archive of `kind` which can't be found again in another form.
pub(super) fn changed(kind: Kind) -> ArchiveError {
    ArchiveError::damaged(kind, "it is no longer what it was when it was looked through")
}
