//! An archive that is looked through before anything is taken out of it.

use super::choice::{Choice, Inside, Likely, UNREADABLE, likely, may_be_disk};
use super::forward::Placed;
use super::manifest::{self, Digesting, Manifest};
use super::member::{MemberReader, Part, SourceOpener};
use super::ovf::{self, Ovf, OvfDisk};
use super::{ArchiveError, Entry, Form, Kind, MOST_MEMBERS, NAMES, Stored, has_suffix, tar, zip};
use disk_image::foreign::ReadAt;
use disk_image::probe;
use std::io::{self, Read};

/// What is inside an archive of which any part can be reached.
pub struct Survey<'r> {
    kind: Kind,
    read_at: ReadAt<'r>,
    length: u64,
    entries: Vec<Entry>,
    ovf: Ovf,
    manifest: Manifest,
}

/// A member that has been found.
#[derive(Debug, Clone)]
pub struct Found {
    kind: Kind,
    /// Its name.
    pub name: String,
    /// What an OVF file says the virtual machine sees, bytes.
    pub capacity: Option<u64>,
    parts: Vec<Part>,
}

impl<'r> Survey<'r> {
    /// Looks through an archive of `kind` and of `length` bytes.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn of(kind: Kind, read_at: ReadAt<'r>, length: u64) -> Result<Self, ArchiveError> {
        let entries = match kind {
            Kind::Tar => list_tar(read_at, length)?,
            Kind::Zip => zip::list(read_at, length)?,
        };
        let mut survey = Self {
            kind,
            read_at,
            length,
            entries,
            ovf: Ovf::default(),
            manifest: Manifest::default(),
        };
        let by_suffix = |suffix: &str| {
            let mut entries = survey.entries.iter();
            entries
                .find(|entry| has_suffix(&entry.name, suffix) && !is_of_macos(&entry.name))
                .cloned()
        };
        if let Some(entry) = by_suffix("mf") {
            let bytes = survey.content(&entry, manifest::LARGEST)?;
            survey.manifest = Manifest::parse(&bytes, folder(&entry.name));
        }
        if let Some(entry) = by_suffix("ovf") {
            let bytes = survey.content(&entry, ovf::LARGEST)?;
            if let Some(expected) = survey.manifest.expected(&entry.name) {
                let mut digesting = Digesting::expecting(expected);
                digesting.update(&bytes);
                digesting.finish().verify()?;
            }
            survey.ovf = Ovf::parse(&bytes, folder(&entry.name))?;
        }
        Ok(survey)
    }

    /// All of a small member.
    fn content(&self, entry: &Entry, largest: usize) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.start(entry, largest as u64 + 1)?;
        if bytes.len() > largest {
            let what = format!("whose {:?} is too large", entry.name);
            return Err(ArchiveError::unsupported(self.kind, what));
        }
        Ok(bytes)
    }

    /// The first `count` bytes of a member; fewer only where it has no more.
    fn start(&self, entry: &Entry, count: u64) -> Result<Vec<u8>, ArchiveError> {
        let stored = self.located(entry)?;
        Ok(start_of(self.kind, self.read_at, &[Part { stored, digest: None }], count)?)
    }

    fn located(&self, entry: &Entry) -> Result<Stored, ArchiveError> {
        match self.kind {
            Kind::Tar => Ok(entry.stored.clone()),
            Kind::Zip => zip::locate(self.read_at, self.length, entry),
        }
    }

    /// Tells of members that the manifest names and that are not there.
    pub fn warn_of_missing(&self) {
        self.manifest.warn_of_missing(|name| self.entries.iter().any(|e| e.name == name));
    }

    /// The disk in it, or the member that is chosen.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn find(&self, choice: Option<&Choice>) -> Result<Found, ArchiveError> {
        if let Some(choice) = choice
            && let Some(found) = self.named(choice)?
        {
            return Ok(found);
        }
        let mut inside = Inside::default();
        if self.ovf.disks().is_empty() {
            return self.by_content(choice, inside);
        }
        for disk in self.ovf.disks() {
            inside.add_disk(&disk.name, disk.capacity);
        }
        let disk = match choice {
            None if self.ovf.disks().len() > 1 => return Err(inside.several()),
            None => self.ovf.disks().first(),
            Some(choice) => choice.number().and_then(|number| self.ovf.disks().get(number)),
        };
        let disk = disk.ok_or_else(|| match choice {
            Some(choice) => inside.not_inside(choice),
            None => inside.no_disk(),
        })?;
        self.disk_of_ovf(disk)
    }

    /// The member that is chosen by its name.
    fn named(&self, choice: &Choice) -> Result<Option<Found>, ArchiveError> {
        if let Some(disk) = self.ovf.disks().iter().find(|disk| choice.is_of(disk)) {
            return self.disk_of_ovf(disk).map(Some);
        }
        let mut entries = self.entries.iter().filter(|entry| choice.is(&entry.name));
        let Some(entry) = entries.next() else { return Ok(None) };
        self.found(&entry.name, &[entry], None).map(Some)
    }

    /// The disk among members that only their content and their names tell.
    fn by_content(
        &self,
        choice: Option<&Choice>,
        mut inside: Inside,
    ) -> Result<Found, ArchiveError> {
        let (mut disks, mut refused) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let (name, size) = (&entry.name, entry.stored.size);
            let likely = if matches!(entry.stored.form, Form::Unreadable(_)) {
                likely(name, &UNREADABLE)
            } else if may_be_disk(name, size) {
                likely(name, &self.start(entry, probe::HEAD as u64)?)
            } else {
                Likely::Other
            };
            match likely {
                Likely::Disk => {
                    inside.add_disk(name, size);
                    disks.push(entry);
                }
                Likely::Refused(why) => {
                    inside.add_other(name, size, Some(why));
                    refused.push(entry);
                }
                Likely::Other => inside.add_other(name, size, None),
            }
        }
        let entry = match choice {
            None if disks.len() > 1 => return Err(inside.several()),
            // What is refused is refused with the reason for it.
            None => disks.first().or(refused.first().filter(|_| refused.len() == 1)),
            Some(choice) => choice.number().and_then(|number| disks.get(number)),
        };
        let entry = entry.ok_or_else(|| match choice {
            Some(choice) => inside.not_inside(choice),
            None => inside.no_disk(),
        })?;
        self.found(&entry.name, &[entry], None)
    }

    /// The file, or the parts of it, that hold a disk of the OVF file.
    fn disk_of_ovf(&self, disk: &OvfDisk) -> Result<Found, ArchiveError> {
        disk.check()?;
        let exactly = self.entries.iter().find(|entry| entry.name == disk.name);
        let whole = exactly.or_else(|| self.entries.iter().find(|entry| disk.is_in(&entry.name)));
        if !disk.is_chunked
            && let Some(entry) = whole
        {
            return self.found(&disk.name, &[entry], disk.capacity);
        }
        let part = |number| self.entries.iter().find(|e| disk.part_in(&e.name) == Some(number));
        let mut chunks = Vec::new();
        while let Some(entry) = part(chunks.len()) {
            chunks.push(entry);
        }
        if chunks.is_empty() {
            chunks.extend(whole);
        }
        disk.check_length(chunks.iter().map(|chunk| chunk.stored.size.unwrap_or(0)).sum())?;
        if chunks.is_empty() {
            return Err(disk.missing());
        }
        self.found(&disk.name, &chunks, disk.capacity)
    }

    fn found(
        &self,
        name: &str,
        entries: &[&Entry],
        capacity: Option<u64>,
    ) -> Result<Found, ArchiveError> {
        let mut parts = Vec::new();
        for entry in entries {
            if self.entries.iter().filter(|other| other.name == entry.name).count() > 1 {
                return Err(ArchiveError::Twice(entry.name.clone()));
            }
            let digest = self.manifest.expected(&entry.name);
            parts.push(Part { stored: self.located(entry)?, digest });
        }
        Ok(Found { kind: self.kind, name: name.to_owned(), capacity, parts })
    }
}

fn is_of_macos(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|base| base.starts_with("._"))
}

/// The folder of a member, with its slash.
pub(super) fn folder(name: &str) -> &str {
    &name[..name.rfind('/').map_or(0, |at| at + 1)]
}

fn list_tar(read_at: ReadAt, length: u64) -> Result<Vec<Entry>, ArchiveError> {
    let mut members = tar::Members::new(Placed::new(read_at, length));
    let (mut entries, mut names) = (Vec::new(), 0);
    while let Some(entry) = members.advance()? {
        names += entry.name.len();
        if entries.len() == MOST_MEMBERS || names > NAMES {
            return Err(too_many(Kind::Tar));
        }
        let end = entry.stored.length.and_then(|stored| entry.stored.offset.checked_add(stored));
        if end.is_none_or(|end| end > length) {
            return Err(ArchiveError::damaged(Kind::Tar, "it is cut off in the data of a member"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

pub(super) fn too_many(kind: Kind) -> ArchiveError {
    let what = format!("with more than {MOST_MEMBERS} members; take the disk out of it");
    ArchiveError::unsupported(kind, what)
}

/// The first bytes of the parts of a member.
fn start_of(kind: Kind, read_at: ReadAt, parts: &[Part], count: u64) -> io::Result<Vec<u8>> {
    // Little more is read of the archive than is asked for: it may be on another machine.
    let mut bytes = Vec::new();
    for part in parts {
        let mut decoder = super::decoder::Decoder::new(kind, &part.stored)?;
        let end = part.stored.length.map_or(u64::MAX, |stored| part.stored.offset + stored);
        let input = At { source: read_at, position: part.stored.offset, end };
        let mut input = io::BufReader::with_capacity(probe::HEAD, input);
        while (bytes.len() as u64) < count {
            let from = bytes.len();
            let most = (count - from as u64).min(probe::HEAD as u64) as usize;
            bytes.resize(from + most, 0);
            let read = decoder.read(&mut input, &mut bytes[from..])?;
            bytes.truncate(from + read);
            if read == 0 {
                break;
            }
        }
    }
    Ok(bytes)
}

struct At<'r> {
    source: ReadAt<'r>,
    position: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = (buffer.len() as u64).min(self.end - self.position) as usize;
        let bytes = (self.source)(self.position, most)?;
        let count = bytes.len().min(most);
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Found {
    /// How many bytes of content it has, where the archive says so.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.parts.iter().map(|part| part.stored.size).sum()
    }

    /// Its first `count` bytes; fewer only where it has no more.
    ///
    /// # Errors
    /// As `read_at`, or where the member is damaged.
    pub fn start(&self, read_at: ReadAt, count: u64) -> io::Result<Vec<u8>> {
        start_of(self.kind, read_at, &self.parts, count)
    }

    /// Where its bytes are in the archive, where they are there as they are and in one piece: offset and length.
    #[must_use]
    pub fn window(&self) -> Option<(u64, u64)> {
        match self.parts.as_slice() {
            [
                Part {
                    stored: Stored { form: Form::Plain, offset, length: Some(length), .. }, ..
                },
            ] => Some((*offset, *length)),
            _ => None,
        }
    }

    /// Its content, out of the archive that `open` opens.
    #[must_use]
    pub fn open(&self, open: SourceOpener) -> MemberReader {
        MemberReader::of_file(self.kind, &self.parts, open)
    }

    /// Its content, out of the archive that `stream` holds, which is read to its end.
    #[must_use]
    pub fn take_from(&self, stream: Box<dyn Read + Send>) -> MemberReader {
        MemberReader::of_stream(self.kind, &self.parts, stream)
    }
}
