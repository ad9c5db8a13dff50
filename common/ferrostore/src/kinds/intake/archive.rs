//! Archives with a disk in them, on their way into a datastore.

use super::bytes::{beginning_with, stream_head, within};
use super::image_size::{LARGEST_HEADER, measure_image};
use super::import::Import;
use super::{Intake, Policy, reader_of, reading};
use crate::kinds::DatastoreError;
use crate::policy::{self, PathRules};
use crate::progress::Source;
use crate::transfer::ReadAhead;
use crate::transfer::archive::{ArchiveError, Choice, Found, Kind, NESTED, Passing, Survey};
use crate::transfer::decompress::decompress;
use crate::transfer::location::Location;
use crate::transfer::measure::{Whole, count};
use crate::transfer::tail::Tail;
use disk_image::Format;
use disk_image::admission::ImageRefusal;
use disk_image::admission::check_size;
use disk_image::foreign::ReadAt;
use disk_image::probe::{self, Content};
use one_protocol::message::Image;
use runtime::command::{self, Part};
use runtime::text;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What `IMAGE/PATH` names, and the member of it that is wanted.
pub(super) struct Located {
    pub(super) location: Location,
    pub(super) member: Option<Choice>,
}

impl Intake {
    /// Finds what `IMAGE/PATH` names: a file of that whole name, or what is in front of a `#` and a member of it.
    pub(super) fn locate(&self, image: &Image) -> Result<Located, DatastoreError> {
        let location = Location::parse(image.path()?);
        let choice = |text: &str| Some(text).filter(|text| !text.is_empty()).map(Choice::new);
        match &location {
            Location::Http(url) => {
                let choice = url.fragment().map(Choice::of_url);
                Ok(Located { location, member: choice })
            }
            // Without a # the path is looked at once, where it is opened.
            Location::Local(whole) if image.path()?.contains('#') && !self.is_file(whole) => {
                let path = image.path()?;
                for (at, _) in path.match_indices('#') {
                    let front = text::path(&path[..at]);
                    if self.is_file(&front) {
                        let location = Location::Local(front);
                        return Ok(Located { location, member: choice(&path[at + 1..]) });
                    }
                }
                Ok(Located { location, member: None })
            }
            Location::Ssh { host, path } if path.contains(&b'#') && !is_there(host, path) => {
                let at = path.iter().position(|&byte| byte == b'#').unwrap_or(path.len());
                let member = String::from_utf8_lossy(&path[at + 1..]);
                let choice = choice(&member);
                let location = Location::Ssh { host: host.clone(), path: path[..at].to_vec() };
                Ok(Located { location, member: choice })
            }
            _ => Ok(Located { location, member: None }),
        }
    }

    /// Whether `path` is a file that may be registered.
    fn is_file(&self, path: &std::path::Path) -> bool {
        let kinds = [policy::Kind::File, policy::Kind::Directory];
        PathRules::of(&self.attributes, &self.settings).locate(path, &kinds).is_ok()
    }
}

/// Whether another host has the file `path`.
fn is_there(host: &str, path: &[u8]) -> bool {
    let Ok(mut output) = command::ssh_file(host, path, Part::SizeAndStart(1)) else { return false };
    output.read_to_end(&mut Vec::new()).is_ok()
}

impl Policy {
    /// The archive that a file that begins with `head` is, where archives are looked into.
    pub(super) fn archive(&self, head: &[u8]) -> Result<Option<Kind>, DatastoreError> {
        /// What a disc and a partitioned disk have, and an archive has not.
        const RAW_MARKS: [(usize, &[u8], &str); 3] = [
            (0x8001, b"CD001", "an ISO 9660 disc"),
            (0x200, b"EFI PART", "a disk with GPT partitions"),
            (0x1fe, b"\x55\xaa", "a disk with MBR partitions"),
        ];
        if !self.decompress || self.plain_file {
            return Ok(None);
        }
        let Some(kind) = Kind::of_image(head)? else { return Ok(None) };
        let name = match kind {
            Kind::Tar => "a tar archive",
            Kind::Zip => "a zip archive",
        };
        // Two bytes are there by chance where something is compressed.
        let marks = RAW_MARKS.iter().filter(|mark| kind == Kind::Tar || mark.1.len() > 2);
        let other = match Content::of(head) {
            Content::Disk(Format::Raw) => marks
                .filter(|(offset, mark, _)| {
                    head.get(*offset..).is_some_and(|rest| rest.starts_with(mark))
                })
                .map(|(_, _, name)| *name)
                .next(),
            Content::Disk(format) => Some(format.name()),
            Content::Luks => Some("a LUKS container"),
            Content::Compressed(compression) => Some(compression.name()),
            Content::Refused(name) | Content::Ambiguous(name, _) => Some(name),
        };
        match other {
            Some(other) => Err(ImageRefusal::Ambiguous(name, other).into()),
            None => Ok(Some(kind)),
        }
    }
}

impl Import<'_> {
    /// The disk in an archive in `file`.
    pub(super) fn archive_file(
        &mut self,
        kind: Kind,
        file: &File,
    ) -> Result<Format, DatastoreError> {
        let length = file.metadata().map_err(reading)?.len();
        let read_at = reader_of(file);
        let survey = Survey::of(kind, &read_at, length)?;
        let found = survey.find(self.member.as_ref())?;
        survey.warn_of_missing();
        self.length = found.size();
        self.capacity = found.capacity;
        self.check_length()?;
        self.content(Source::new(open_member(file, &found).map_err(reading)?, self.length))
    }

    /// The disk in an archive that passes by.
    pub(super) fn archive_stream(
        &mut self,
        kind: Kind,
        stream: Box<dyn Read + Send>,
    ) -> Result<Format, DatastoreError> {
        let mut passing = Passing::new(kind, stream, self.member.clone());
        self.length = passing.find()?;
        self.capacity = passing.capacity();
        self.rest_is_image = false;
        self.check_length()?;
        self.content(passing)
    }

    /// What is in a member of an archive that is on its way.
    pub(super) fn member(
        &mut self,
        stream: Box<dyn Read + Send>,
    ) -> Result<Format, DatastoreError> {
        self.check_length()?;
        self.content(stream)
    }

    /// That a member is not longer than any disk may be.
    fn check_length(&self) -> Result<(), DatastoreError> {
        Ok(check_size(self.length.unwrap_or(0), self.policy.largest_disk)?)
    }

    /// That no member is chosen of an image that begins with `head` and is no archive, nor compressed.
    pub(super) fn check_choice(&self, head: &[u8]) -> Result<(), ArchiveError> {
        match &self.member {
            Some(choice) if !self.policy.decompress || !is_compressed(head) => {
                choice.without_archive()
            }
            _ => Ok(()),
        }
    }

    /// The content of a member, perhaps compressed.
    fn content(&mut self, stream: impl Read + Send + 'static) -> Result<Format, DatastoreError> {
        let mut stream = ReadAhead::of(stream).map_err(reading)?;
        let head = stream_head(&mut stream)?;
        check_not_nested(&head)?;
        let whole = io::Cursor::new(head.clone()).chain(stream);
        let Content::Compressed(compression) = Content::of(&head) else {
            return self.plain_stream(whole);
        };
        self.length = None;
        let mut stream = decompress(compression, whole, self.policy.memory)
            .and_then(ReadAhead::of)
            .map_err(reading)?;
        let head = stream_head(&mut stream)?;
        check_not_nested(&head)?;
        self.plain_stream(io::Cursor::new(head).chain(stream))
    }
}

fn is_compressed(head: &[u8]) -> bool {
    matches!(Content::of(head), Content::Compressed(_))
}

/// That a member that begins with `head` is no archive itself.
fn check_not_nested(head: &[u8]) -> Result<(), ArchiveError> {
    let nested = |kind| ArchiveError::Unsupported { kind, what: NESTED.to_owned() };
    Kind::of_image(head)?.map_or(Ok(()), |kind| Err(nested(kind)))
}

/// The rest of an archive is looked through for so long where the answer is known already.
const TIME_FOR_THE_REST: Duration = Duration::from_secs(5);

/// Size of the disk in the archive of which `read_at` reads pieces, bytes. What only reading all of a member
/// tells is read from `whole`, which yields all of its content, until `until`.
pub(super) fn measure_archive(
    kind: Kind,
    read_at: ReadAt,
    length: u64,
    choice: Option<&Choice>,
    policy: Policy,
    whole: &dyn Fn(&Found) -> io::Result<Box<dyn Read + Send>>,
    until: Instant,
) -> Result<u64, DatastoreError> {
    let found = Survey::of(kind, read_at, length)?.find(choice)?;
    let head = found.start(read_at, probe::HEAD as u64).map_err(reading)?;
    check_not_nested(&head)?;
    if let Content::Compressed(_) = Content::of(&head) {
        return measure_member(whole(&found).map_err(reading)?, policy, until);
    }
    let size = || found.size().ok_or_else(|| reading(io::ErrorKind::InvalidData.into()).into());
    if let Some((start, length)) = found.window() {
        let window = |offset: u64, count: usize| {
            let left = length.saturating_sub(offset).min(count as u64);
            read_at(start.saturating_add(offset), left as usize)
        };
        return measure_image(&head, &window, size, policy.largest_disk);
    }
    // Of a member that is compressed itself, or has holes, only the beginning is at hand.
    let start = std::cell::OnceCell::new();
    let open = || whole(&found);
    let from_start = |offset: u64, count: usize| -> io::Result<Vec<u8>> {
        if offset.saturating_add(count as u64) <= head.len() as u64 {
            return within(&head)(offset, count);
        }
        if start.get().is_none() {
            let _ = start.set(found.start(read_at, LARGEST_HEADER as u64)?);
        }
        let start = start.get().map_or(&[][..], Vec::as_slice);
        beginning_with(start, start.len() < LARGEST_HEADER, &open, until)(offset, count)
    };
    measure_image(&head, &from_start, size, policy.largest_disk)
}

/// Size of the disk in an archive that passes by, bytes.
pub(super) fn measure_passing(
    kind: Kind,
    stream: Box<dyn Read + Send>,
    choice: Option<&Choice>,
    policy: Policy,
    until: Instant,
) -> Result<u64, DatastoreError> {
    let deadline = Arc::new(Mutex::new(until));
    let stream = Box::new(Until { stream, deadline: Arc::clone(&deadline) });
    let mut passing = Passing::new(kind, stream, choice.cloned());
    let told = passing.find()?;
    let mut passing = Tail::new(passing);
    let mut start = Vec::new();
    (&mut passing).take(LARGEST_HEADER as u64).read_to_end(&mut start).map_err(reading)?;
    check_not_nested(&start)?;
    if let Content::Compressed(_) = Content::of(&start) {
        let whole = Box::new(io::Cursor::new(start).chain(passing));
        return measure_member(whole, policy, until);
    }
    let head = &start[..start.len().min(probe::HEAD)];
    let passing = std::cell::RefCell::new(passing);
    // It is counted where it did not tell its length, or that could be with a footer.
    let size = || match told.filter(|size| size % (1 << 20) != probe::TAIL as u64) {
        Some(size) => Ok(size),
        None => count(&mut *passing.borrow_mut(), until, policy.largest_disk)
            .map(|rest| rest + start.len() as u64)
            .map_err(|error| reading(error).into()),
    };
    let measured = measure_image(head, &within(&start), size, policy.largest_disk)?;
    let mut passing = passing.into_inner().into_inner();
    // Whether it is the only disk is not worth a long time.
    *deadline.lock().unwrap_or_else(PoisonError::into_inner) =
        until.min(Instant::now() + TIME_FOR_THE_REST);
    match passing.finish() {
        Err(ArchiveError::Read(error)) if error.kind() == io::ErrorKind::TimedOut => Ok(measured),
        result => Ok(result.map(|()| measured)?),
    }
}

/// Size of the disk in a compressed member, bytes.
fn measure_member(
    mut stream: Box<dyn Read + Send>,
    policy: Policy,
    until: Instant,
) -> Result<u64, DatastoreError> {
    let head = stream_head(&mut stream)?;
    let stream = io::Cursor::new(head.clone()).chain(stream);
    let mut stream: Box<dyn Read + Send> = match Content::of(&head) {
        Content::Compressed(compression) => {
            decompress(compression, stream, policy.memory).map_err(reading)?
        }
        _ => Box::new(stream),
    };
    // What is counted is without a footer.
    let mut stream = Tail::new(&mut stream);
    let mut start = Vec::new();
    (&mut stream).take(LARGEST_HEADER as u64).read_to_end(&mut start).map_err(reading)?;
    check_not_nested(&start)?;
    let rest = std::cell::RefCell::new(stream);
    let all = || {
        count(&mut *rest.borrow_mut(), until, policy.largest_disk)
            .map(|rest| rest + start.len() as u64)
            .map_err(|error| reading(error).into())
    };
    let head = &start[..start.len().min(probe::HEAD)];
    measure_image(head, &within(&start), all, policy.largest_disk)
}

/// A stream that ends with an error once it is too late.
struct Until {
    stream: Box<dyn Read + Send>,
    deadline: Arc<Mutex<Instant>>,
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.read(buffer)
    }
}

/// The content of a member of the archive in `file`.
pub(super) fn open_member(file: &File, found: &Found) -> io::Result<Box<dyn Read + Send>> {
    let file = file.try_clone()?;
    let open = move |offset| -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Whole { file: file.try_clone()?, offset }))
    };
    Ok(Box::new(found.open(Box::new(open))))
}
