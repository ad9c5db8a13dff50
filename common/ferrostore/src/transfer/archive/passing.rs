//! An archive that passes by, of which the member that is wanted is taken when it comes.
//!
//! What comes later can't be known then. So the rest is looked through as well, and where it shows that the
//! wrong member was taken, that is an error at the end, in the place of the end.

use super::choice::{Choice, Inside, Likely, UNREADABLE, likely, may_be_disk};
use super::forward::{Forward as _, Streamed};
use super::manifest::{self, Digested, Digesting, Manifest};
use super::member::{Current, Input, PIECE};
use super::ovf::{self, Ovf, OvfDisk};
use super::survey::{folder, too_many};
use super::{ArchiveError, Entry, Form, Kind, MOST_MEMBERS, NAMES, has_suffix, tar, zip};
use disk_image::probe;
use std::collections::HashSet;
use std::io::{self, BufReader, Read};

/// Digests of members that wait for a manifest, at most.
const MOST_DIGESTED: usize = 1000;

/// An archive that comes as a stream. Read, it yields the content of the member that [`Passing::find`] found.
pub struct Passing {
    kind: Kind,
    members: Members,
    choice: Option<Choice>,
    ovf: Option<Ovf>,
    manifest: Option<Manifest>,
    inside: Inside,
    /// The names of the members so far.
    names: HashSet<String>,
    size_of_names: usize,
    /// The member at which the archive is.
    current: Option<Current>,
    /// What was read of it to see what it is.
    head: io::Cursor<Vec<u8>>,
    taken: Option<Taken>,
    digested: Vec<Digested>,
    ended: bool,
}

/// What is taken.
struct Taken {
    /// The name of the member, or of the first part of it.
    name: String,
    size: Option<u64>,
    /// The disk of the OVF file that it is.
    disk: Option<OvfDisk>,
    /// Parts so far; `None` where it is in one piece.
    parts: Option<usize>,
    /// Bytes of content so far.
    length: u64,
}

enum Members {
    Tar(tar::Members<Streamed<Input>>),
    Zip(zip::Members<Input>),
}

impl Members {
    fn input(&mut self) -> &mut Streamed<Input> {
        match self {
            Self::Tar(members) => members.input(),
            Self::Zip(members) => members.input(),
        }
    }

    /// Moves on to the next member, behind all of `current`.
    fn advance(&mut self, current: Option<Current>) -> Result<Option<Entry>, ArchiveError> {
        match self {
            Self::Tar(members) => members.advance(),
            Self::Zip(members) => {
                if let Some(mut current) = current {
                    current.pass_over(members.input())?;
                    if !current.told_its_length() {
                        members.end(current.decoder())?;
                    }
                }
                members.advance()
            }
        }
    }
}

impl Passing {
    /// The archive of `kind` that `stream` holds, of which the disk is wanted, or the member that is chosen.
    #[must_use]
    pub fn new(kind: Kind, stream: Box<dyn Read + Send>, choice: Option<Choice>) -> Self {
        let input = BufReader::with_capacity(PIECE, stream);
        let members = match kind {
            Kind::Tar => Members::Tar(tar::Members::new(Streamed::new(input, 0))),
            Kind::Zip => Members::Zip(zip::Members::new(input)),
        };
        Self {
            kind,
            members,
            choice,
            ovf: None,
            manifest: None,
            inside: Inside::default(),
            names: HashSet::new(),
            size_of_names: 0,
            current: None,
            head: io::Cursor::default(),
            taken: None,
            digested: Vec::new(),
            ended: false,
        }
    }

    /// Moves on to the member that is wanted; how many bytes of content it has, where that is known.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn find(&mut self) -> Result<Option<u64>, ArchiveError> {
        while let Some(entry) = self.next_entry()? {
            if let Some(taken) = self.look_at(&entry)? {
                let size = taken.size;
                self.taken = Some(taken);
                return Ok(size);
            }
        }
        Err(match &self.choice {
            Some(choice) if self.has_ovf_disks() => self.disks_of_ovf().not_inside(choice),
            Some(choice) => self.inside.not_inside(choice),
            None => self.missing_disk().unwrap_or_else(|| self.inside.no_disk()),
        })
    }

    /// What an OVF file says that the virtual machine sees of it, bytes.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.taken.as_ref()?.disk.as_ref()?.capacity
    }

    /// Looks through the rest, once the member has been read as far as it is wanted.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn finish(&mut self) -> Result<(), ArchiveError> {
        while !self.ended {
            self.next_part()?;
        }
        Ok(())
    }

    fn missing_disk(&self) -> Option<ArchiveError> {
        self.ovf.as_ref()?.disks().first().map(OvfDisk::missing)
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.head = io::Cursor::default();
        let current = self.current.take();
        let Some(entry) = self.members.advance(current)? else { return Ok(None) };
        self.size_of_names += entry.name.len();
        if self.names.len() == MOST_MEMBERS || self.size_of_names > NAMES {
            return Err(too_many(self.kind));
        }
        if !self.names.insert(entry.name.clone())
            && self.taken.as_ref().is_some_and(|taken| taken.name == entry.name)
        {
            return Err(ArchiveError::Twice(entry.name));
        }
        if !matches!(entry.stored.form, Form::Unreadable(_)) {
            let digesting = self.digesting(&entry.name);
            self.current = Some(Current::new(self.kind, &entry.stored, digesting)?);
        } else if let (Members::Zip(members), Some(length)) =
            (&mut self.members, entry.stored.length)
        {
            // Nothing of it can be read.
            members.input().skip(length)?;
        }
        Ok(Some(entry))
    }

    /// The digests of a member that a manifest may be about.
    fn digesting(&self, name: &str) -> Option<Digesting> {
        match &self.manifest {
            Some(manifest) => manifest.expected(name).map(Digesting::expecting),
            None if has_suffix(name, "ovf") => Some(Digesting::all(name)),
            // Manifests are about what an OVF file tells of.
            None => self.ovf.as_ref().map(|_| Digesting::all(name)),
        }
    }

    /// Takes note of a member; how it is taken, if it is the one that is wanted.
    fn look_at(&mut self, entry: &Entry) -> Result<Option<Taken>, ArchiveError> {
        let Entry { name, stored } = entry;
        if self.current.is_some() && self.is_description(name)? {
            return Ok(None);
        }
        let taken =
            |disk, parts| Taken { name: name.clone(), size: stored.size, disk, parts, length: 0 };
        if self.has_ovf_disks() {
            if let Some(disk) = self.wanted_disk()? {
                let parts = if disk.is_in(name) { Some(None) } else { None };
                let parts = parts.or((disk.part_in(name) == Some(0)).then_some(Some(1)));
                if let Some(parts) = parts {
                    let size = if parts.is_some() { disk.length } else { stored.size };
                    return Ok(Some(Taken { size, ..taken(Some(disk), parts) }));
                }
            }
            return Ok(self.is_chosen(name).then(|| taken(None, None)));
        }
        let number = self.inside.disks();
        let is_disk = self.note(entry)?;
        let wanted = self.choice.as_ref().map_or(Some(0), Choice::number);
        let is_wanted = self.is_chosen(name) || is_disk && wanted == Some(number);
        Ok(is_wanted.then(|| taken(None, None)))
    }

    fn is_chosen(&self, name: &str) -> bool {
        self.choice.as_ref().is_some_and(|choice| choice.is(name))
    }

    fn has_ovf_disks(&self) -> bool {
        self.ovf.as_ref().is_some_and(|ovf| !ovf.disks().is_empty())
    }

    /// The disk of the OVF file that is wanted.
    fn wanted_disk(&self) -> Result<Option<OvfDisk>, ArchiveError> {
        let disks = self.ovf.as_ref().map_or(&[][..], Ovf::disks);
        let disk = match &self.choice {
            None if disks.len() > 1 => return Err(self.disks_of_ovf().several()),
            None => disks.first(),
            Some(choice) => {
                disks.iter().find(|disk| choice.is_of(disk)).or_else(|| disks.get(choice.number()?))
            }
        };
        disk.map_or(Ok(()), OvfDisk::check)?;
        Ok(disk.cloned())
    }

    fn disks_of_ovf(&self) -> Inside {
        let mut inside = Inside::default();
        for disk in self.ovf.as_ref().map_or(&[][..], Ovf::disks) {
            inside.add_disk(&disk.name, disk.capacity);
        }
        inside
    }

    /// Takes note of what a member seems to be; whether that is a disk.
    fn note(&mut self, entry: &Entry) -> Result<bool, ArchiveError> {
        let (name, size) = (&entry.name, entry.stored.size);
        let likely = if self.current.is_none() {
            likely(name, &UNREADABLE)
        } else if may_be_disk(name, size) {
            self.peek()?;
            likely(name, self.head.get_ref())
        } else {
            Likely::Other
        };
        match likely {
            Likely::Disk => self.inside.add_disk(name, size),
            Likely::Refused(why) => self.inside.add_other(name, size, Some(why)),
            Likely::Other => self.inside.add_other(name, size, None),
        }
        Ok(likely == Likely::Disk)
    }

    fn peek(&mut self) -> io::Result<()> {
        let mut head = vec![0; probe::HEAD];
        let mut filled = 0;
        while let Some(current) = self.current.as_mut().filter(|_| filled < head.len()) {
            match current.read(self.members.input(), &mut head[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        head.truncate(filled);
        self.head = io::Cursor::new(head);
        Ok(())
    }

    fn read_current(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.current.as_mut() {
            Some(current) => current.read(self.members.input(), buffer),
            None => Ok(0),
        }
    }

    /// Reads the OVF file and the manifest; whether a member is one of the two.
    fn is_description(&mut self, name: &str) -> Result<bool, ArchiveError> {
        if self.ovf.is_none() && has_suffix(name, "ovf") {
            let bytes = self.content(name, ovf::LARGEST)?;
            self.ovf = Some(Ovf::parse(&bytes, folder(name))?);
        } else if self.manifest.is_none() && has_suffix(name, "mf") {
            let bytes = self.content(name, manifest::LARGEST)?;
            let manifest = Manifest::parse(&bytes, folder(name));
            self.digested.iter().try_for_each(|digested| digested.verify_by(&manifest))?;
            self.digested.clear();
            self.manifest = Some(manifest);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// All of a small member.
    fn content(&mut self, name: &str, largest: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        loop {
            let from = bytes.len();
            bytes.resize(from + probe::HEAD, 0);
            let count = self.read_current(&mut bytes[from..])?;
            bytes.truncate(from + count);
            if bytes.len() > largest {
                let what = format!("whose {name:?} is too large");
                return Err(ArchiveError::unsupported(self.kind, what));
            }
            if count == 0 {
                self.verify_digests()?;
                return Ok(bytes);
            }
        }
    }

    /// Verifies the digests of a member that has been read, or keeps them until there is a manifest.
    fn verify_digests(&mut self) -> Result<(), ArchiveError> {
        let Some(digested) = self.current.as_mut().and_then(Current::digested) else {
            return Ok(());
        };
        digested.verify()?;
        if self.manifest.is_none() && self.digested.len() < MOST_DIGESTED {
            self.digested.push(digested);
        }
        Ok(())
    }

    /// Moves on to the next part of what is taken; whether there is one. Where there is none, the rest of the
    /// archive is looked through, and then what came is judged by all that is known.
    fn next_part(&mut self) -> Result<bool, ArchiveError> {
        while let Some(entry) = self.next_entry()? {
            if let Some(Taken { parts: Some(parts), disk: Some(disk), .. }) = &mut self.taken {
                let part = disk.part_in(&entry.name);
                if part == Some(*parts) {
                    *parts += 1;
                    return Ok(true);
                }
                if part > Some(*parts) {
                    return Err(ArchiveError::unsupported(
                        self.kind,
                        "whose parts are not in their order; register a local file",
                    ));
                }
            }
            if self.current.is_some() && self.is_description(&entry.name)? {
                continue;
            }
            if self.choice.is_none() && !self.has_ovf_disks() {
                self.note(&entry)?;
            }
        }
        self.ended = true;
        self.judge()?;
        self.members.input().drain()?;
        Ok(false)
    }

    fn judge(&self) -> Result<(), ArchiveError> {
        let Some(taken) = &self.taken else { return Ok(()) };
        if let Some(disk) = &taken.disk {
            disk.check_length(taken.length)?;
        }
        if taken.disk.is_none() && self.has_ovf_disks() && !self.is_chosen(&taken.name) {
            // The OVF file came later, and what it says counts.
            let wanted = self.wanted_disk()?;
            if wanted.is_none_or(|wanted| !wanted.is_in(&taken.name)) {
                return Err(late());
            }
        } else if self.choice.is_none() && !self.has_ovf_disks() && self.inside.disks() > 1 {
            return Err(self.inside.several());
        }
        if let Some(manifest) = &self.manifest {
            manifest.warn_of_missing(|name| self.names.contains(name));
        }
        Ok(())
    }
}

fn late() -> ArchiveError {
    ArchiveError::Ovf(
        "comes behind the disks that it tells of; name the disk with # at the end of IMAGE/PATH"
            .to_owned(),
    )
}

impl Read for Passing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let mut count = self.head.read(buffer)?;
            if count == 0 {
                count = self.read_current(buffer)?;
            }
            if count > 0 {
                if let Some(taken) = &mut self.taken {
                    taken.length += count as u64;
                }
                return Ok(count);
            }
            self.verify_digests()?;
            self.next_part()?;
        }
        Ok(0)
    }
}
