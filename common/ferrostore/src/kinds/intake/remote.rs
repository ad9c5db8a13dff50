//! Measuring a remote image before it is registered, by as little of it as its format allows.

use super::archive::{measure_archive, measure_passing};
use super::bytes::{beginning_with, passing_over, within};
use super::image_size::{LARGEST_HEADER, measure_image};
use super::measure::stated_size;
use super::{Intake, Policy, path_error, reading};
use crate::kinds::DatastoreError;
use crate::transfer::archive::{ArchiveError, Choice, Found, Kind};
use crate::transfer::decompress::decompress;
use crate::transfer::http::{HttpError, Url};
use crate::transfer::location::Location;
use crate::transfer::measure::{count, length_in_trailer};
use disk_image::ImageError;
use disk_image::admission::{ImageRefusal, check_size};
use disk_image::foreign::ReadAt;
use disk_image::probe::{self, Compression, Content};
use one_protocol::message::Image;
use runtime::command::{self, Output, Part};
use std::cell::{OnceCell, RefCell};
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// `stat` runs inside the user's call, so it may take no longer than this, and a moment, in all.
const TIME_TO_MEASURE: Duration = Duration::from_secs(19);
/// As [`TIME_TO_MEASURE`], for images that oned asks no SIZE for (CDROM): only reading them can tell.
const TIME_WITHOUT_A_SIZE: Duration = Duration::from_secs(300);
/// A compressed file up to this size is read in one piece to measure it, bytes.
const SMALL: u64 = 8 << 20;
/// What the first block of a compressed file fits in, bytes.
const LARGEST_BLOCK: usize = 1 << 20;
/// What an ssh source is measured by at its end, bytes: the index of any xz file that fits in here.
const END: u64 = 1 << 20;

impl Intake {
    /// Size in bytes of the disk in a remote image.
    pub(super) fn measure_remote(
        &self,
        image: &Image,
        location: &Location,
        choice: Option<&Choice>,
        policy: Policy,
    ) -> Result<u64, DatastoreError> {
        let stated = stated_size(image);
        let time = if image.has_size { TIME_TO_MEASURE } else { TIME_WITHOUT_A_SIZE };
        let until = Instant::now() + time;
        let measured = match location {
            Location::Http(url) => self.measure_web(image, url, choice, until, policy),
            Location::Ssh { host, path } => self.measure_ssh((host, path), choice, until, policy),
            Location::Helper { scheme } => {
                measure_stream(self.helper(image, scheme)?, choice, until, policy)
            }
            _ => return self.fetch(image, location).map(|_| 0),
        };
        match (measured, stated) {
            (Err(Unmeasured::Uncertain(_)), Some(stated)) => {
                Ok(check_size(stated, policy.largest_disk).map(|()| stated)?)
            }
            (Err(Unmeasured::Uncertain(why)), None) => {
                let remedy = if image.has_size {
                    "give the image a SIZE (MiB)"
                } else {
                    "let the server have it without compression, or register a local file"
                };
                Err(path_error(image, format_args!("can't be measured: {why}; {remedy}")))
            }
            (Err(Unmeasured::Failed(error)), _) => Err(error),
            (Ok(bytes), _) => Ok(bytes),
        }
    }

    fn measure_web(
        &self,
        image: &Image,
        url: &Url,
        choice: Option<&Choice>,
        until: Instant,
        policy: Policy,
    ) -> Result<u64, Unmeasured> {
        let pieces = self.web_file(image, url)?.pieces(until);
        let remote = Remote {
            read_at: &|offset, length| pieces.read_at(offset, length),
            length: &|| pieces.length(),
            whole: &|| Ok(self.at_its_rate(Box::new(pieces.whole()?))),
            in_pieces: true,
        };
        remote.measure(choice, until, policy)
    }

    fn measure_ssh(
        &self,
        (host, path): (&str, &[u8]),
        choice: Option<&Choice>,
        until: Instant,
        policy: Policy,
    ) -> Result<u64, Unmeasured> {
        let ssh = |part| -> io::Result<Output> {
            Ok(command::ssh_file(host, path, part).map_err(io::Error::other)?.until(until))
        };
        let mut start = Vec::new();
        command::ssh_file(host, path, Part::SizeAndStart(LARGEST_HEADER))
            .map_err(DatastoreError::from)?
            .until(until)
            .read_to_end(&mut start)?;
        let untold = || io::Error::other("the other host doesn't tell its size");
        let line = start.iter().position(|&byte| byte == b'\n').ok_or_else(untold)?;
        let length: u64 = std::str::from_utf8(&start[..line])
            .ok()
            .and_then(|digits| digits.trim().parse().ok())
            .ok_or_else(untold)?;
        let start = &start[line + 1..];
        let end = OnceCell::new();
        let read_at = |offset: u64, count: usize| -> io::Result<Vec<u8>> {
            let known = start.len() as u64;
            if offset.saturating_add(count as u64) <= known || length <= known {
                return within(start)(offset, count);
            }
            let from = length.saturating_sub(END);
            if offset < from {
                return Err(HttpError::Unmeasurable("its header lies too deep in the file").into());
            }
            if end.get().is_none() {
                let mut bytes = Vec::new();
                ssh(Part::End(END))?.read_to_end(&mut bytes)?;
                let _ = end.set(bytes);
            }
            within(end.get().map_or(&[], Vec::as_slice))(offset - from, count)
        };
        let remote = Remote {
            read_at: &read_at,
            length: &|| Ok(length),
            whole: &|| Ok(self.at_its_rate(Box::new(ssh(Part::Whole)?))),
            in_pieces: true,
        };
        remote.measure(choice, until, policy)
    }
}

/// A source of which only a stream can be had: its header, or else all of it in the time that there is.
fn measure_stream(
    stream: Output,
    choice: Option<&Choice>,
    until: Instant,
    policy: Policy,
) -> Result<u64, Unmeasured> {
    let mut stream = stream.until(until);
    let mut start = Vec::new();
    stream.by_ref().take(LARGEST_HEADER as u64).read_to_end(&mut start)?;
    let rest = RefCell::new(Some(stream));
    let whole = || -> io::Result<Box<dyn Read + Send>> {
        let rest = rest.take().ok_or_else(|| io::Error::other("it can be read only once"))?;
        Ok(Box::new(io::Cursor::new(start.clone()).chain(rest)))
    };
    let remote = Remote {
        read_at: &within(&start),
        length: &|| count(&mut *whole()?, until, u64::MAX),
        whole: &whole,
        in_pieces: false,
    };
    remote.measure(choice, until, policy)
}

/// An image elsewhere.
struct Remote<'r> {
    /// Reads pieces of it.
    read_at: ReadAt<'r>,
    /// How many bytes it has.
    length: &'r dyn Fn() -> io::Result<u64>,
    /// All of it, from the first byte on.
    whole: &'r dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    /// Whether pieces can be had from anywhere, and its length without reading all of it.
    in_pieces: bool,
}

/// Why a remote image has no known size.
enum Unmeasured {
    /// Only fetching all of it can tell.
    Uncertain(&'static str),
    Failed(DatastoreError),
}

impl From<DatastoreError> for Unmeasured {
    fn from(error: DatastoreError) -> Self {
        match error {
            DatastoreError::Image(ImageError::Read { source, .. })
            | DatastoreError::Archive(ArchiveError::Read(source)) => source.into(),
            error => Self::Failed(error),
        }
    }
}

impl From<ImageRefusal> for Unmeasured {
    fn from(error: ImageRefusal) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for Unmeasured {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            return Self::Uncertain("it takes too long to get enough of it");
        }
        match error.downcast::<HttpError>() {
            Ok(HttpError::Unmeasurable(why)) => Self::Uncertain(why),
            Ok(error) => Self::Failed(reading(error.into()).into()),
            Err(error) => Self::Failed(reading(error).into()),
        }
    }
}

impl Remote<'_> {
    fn measure(
        &self,
        choice: Option<&Choice>,
        until: Instant,
        policy: Policy,
    ) -> Result<u64, Unmeasured> {
        let head = (self.read_at)(0, probe::HEAD)?;
        if let Some(kind) = policy.archive(&head)? {
            return self.archive(kind, choice, until, policy);
        }
        let length = || self.counted_length(until, policy);
        let compression = match Content::of(&head) {
            Content::Compressed(compression) if policy.decompress => compression,
            Content::Compressed(_) => return length(),
            _ if policy.plain_file && !head.is_empty() => return length(),
            _ => {
                choice.map_or(Ok(()), Choice::without_archive).map_err(DatastoreError::from)?;
                let read_at = |offset, count| self.read_anyhow(offset, count, until);
                return image_size(&head, &read_at, &length, policy);
            }
        };
        let (mut inner, mut all) = decompressed_start(compression, &head, policy.memory);
        if inner.is_empty() && head.len() == probe::HEAD {
            // The first block is larger than that: up to 900 KB with bzip2.
            let head = (self.read_at)(0, LARGEST_BLOCK)?;
            (inner, all) = decompressed_start(compression, &head, policy.memory);
            if inner.is_empty() && !all {
                return Err(Unmeasured::Uncertain("its beginning can't be decompressed"));
            }
        }
        let whole = || -> Result<u64, Unmeasured> {
            if all {
                return Ok(inner.len() as u64);
            }
            self.decompressed_length(compression, until, policy)
        };
        if policy.plain_file {
            return whole();
        }
        let head = &inner[..inner.len().min(probe::HEAD)];
        if let Some(kind) = policy.archive(head)? {
            let stream = decompress(compression, (self.whole)()?, policy.memory)?;
            return Ok(measure_passing(kind, stream, choice, policy, until)?);
        }
        choice.map_or(Ok(()), Choice::without_archive).map_err(DatastoreError::from)?;
        let open = || decompress(compression, (self.whole)()?, policy.memory);
        image_size(head, &beginning_with(&inner, all, &open, until), &whole, policy)
    }

    /// A piece, from wherever it can be had.
    fn read_anyhow(&self, offset: u64, count: usize, until: Instant) -> io::Result<Vec<u8>> {
        match without_pieces((self.read_at)(offset, count).map(Some))? {
            Some(bytes) => Ok(bytes),
            None => passing_over(self.whole, until)(offset, count),
        }
    }

    /// How many bytes it has, where pieces can be had and that is told with them.
    fn told_length(&self) -> io::Result<Option<u64>> {
        if self.in_pieces { without_pieces((self.length)().map(Some)) } else { Ok(None) }
    }

    /// How many bytes it has: as told, or else counted.
    fn counted_length(&self, until: Instant, policy: Policy) -> Result<u64, Unmeasured> {
        match without_pieces((self.length)().map(Some))? {
            Some(length) => Ok(length),
            None => Ok(count(&mut *(self.whole)()?, until, policy.largest_disk)?),
        }
    }

    /// Size of the disk in an archive: by pieces of it, or else as it passes by.
    fn archive(
        &self,
        kind: Kind,
        choice: Option<&Choice>,
        until: Instant,
        policy: Policy,
    ) -> Result<u64, Unmeasured> {
        if let Some(length) = self.told_length()? {
            let whole = |found: &Found| -> io::Result<Box<dyn Read + Send>> {
                Ok(Box::new(found.take_from((self.whole)()?)))
            };
            let measured =
                measure_archive(kind, self.read_at, length, choice, policy, &whole, until);
            if !measured.as_ref().is_err_and(needs_pieces) {
                return Ok(measured?);
            }
        }
        Ok(measure_passing(kind, (self.whole)()?, choice, policy, until)?)
    }

    /// Length of what a compressed file decompresses to: what is at the end of an xz file, else counted. A
    /// zstd frame says how long it is, but not whether another one follows.
    fn decompressed_length(
        &self,
        compression: Compression,
        until: Instant,
        policy: Policy,
    ) -> Result<u64, Unmeasured> {
        let mut whole = None;
        if let Some(length) = self.told_length()? {
            if compression == Compression::Xz
                && let Some(size) = without_pieces(length_in_trailer(self.read_at, length))?
            {
                return Ok(size);
            }
            if length <= SMALL {
                whole = without_pieces((self.read_at)(0, length as usize).map(Some))?;
            }
        }
        let stream: Box<dyn Read + Send> = match whole {
            Some(bytes) => Box::new(io::Cursor::new(bytes)),
            None => (self.whole)()?,
        };
        let stream = decompress(compression, stream, policy.memory)?;
        let mut ahead = crate::transfer::ReadAhead::of(stream)?;
        Ok(count(&mut ahead, until, policy.largest_disk)?)
    }
}

/// Whether an error says that pieces can't be had.
pub(super) fn needs_pieces(error: &DatastoreError) -> bool {
    let (DatastoreError::Image(ImageError::Read { source, .. })
    | DatastoreError::Archive(ArchiveError::Read(source))) = error
    else {
        return false;
    };
    is_unmeasurable(source)
}

fn is_unmeasurable(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<HttpError>());
    matches!(error, Some(HttpError::Unmeasurable(_)))
}

/// What pieces tell; nothing where they can't be had.
fn without_pieces<T>(told: io::Result<Option<T>>) -> io::Result<Option<T>> {
    told.or_else(|error| if is_unmeasurable(&error) { Ok(None) } else { Err(error) })
}

/// As [`measure_image`], where the length of the file may be unknown.
fn image_size(
    head: &[u8],
    read_at: ReadAt,
    length: &dyn Fn() -> Result<u64, Unmeasured>,
    policy: Policy,
) -> Result<u64, Unmeasured> {
    let uncertain = std::cell::RefCell::new(None);
    let length = || {
        length().map_err(|error| {
            let placeholder = ImageError::Read { offset: 0, source: io::ErrorKind::Other.into() };
            *uncertain.borrow_mut() = Some(error);
            placeholder.into()
        })
    };
    let measured = measure_image(head, read_at, length, policy.largest_disk);
    match uncertain.into_inner() {
        Some(error) => Err(error),
        None => Ok(measured?),
    }
}

/// What the start of a compressed file decompresses to, and whether that is all of it.
fn decompressed_start(compression: Compression, head: &[u8], memory: u64) -> (Vec<u8>, bool) {
    let mut inner = Vec::new();
    let ended = decompress(compression, io::Cursor::new(head.to_vec()), memory)
        .and_then(|stream| stream.take(LARGEST_HEADER as u64).read_to_end(&mut inner))
        .is_ok();
    // An error only says that the rest of the file is not there.
    let whole = head.len() != probe::HEAD && head.len() != LARGEST_BLOCK;
    let all = ended && whole && inner.len() < LARGEST_HEADER;
    (inner, all)
}
