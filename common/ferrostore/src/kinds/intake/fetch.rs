//! Where the bytes of an image are: a file on this machine, or elsewhere, then fetched as one stream and
//! measured by a few pieces.

use super::bytes::within;
use super::measure::{LARGEST_HEADER, measure_image, stated_size};
use super::{Intake, Policy, path_error, reading};
use crate::image_source::{Bytes, ImageSource, Payload, PendingDigests};
use crate::kinds::DatastoreError;
use crate::policy::Kind;
use crate::transfer::decompress::decompress;
use crate::transfer::digest::Digests;
use crate::transfer::http::{HttpError, Pieces, WebFile};
use crate::transfer::limit::Limited;
use crate::transfer::location::{Location, without_password};
use crate::transfer::measure::{length_in_trailer, zstd_content_size};
use disk_image::ImageError;
use disk_image::admission::ImageRefusal;
use disk_image::foreign::ReadAt;
use disk_image::probe::{self, Compression, Content};
use one_protocol::message::Image;
use runtime::command;
use runtime::command::{Output, Part};
use runtime::text;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// `stat` runs inside the user's call, so it may take no longer than this, and a moment, in all.
const TIME_TO_MEASURE: Duration = Duration::from_secs(19);
/// A compressed file up to this size is fetched whole to measure it, bytes.
const SMALL: u64 = 8 << 20;
/// What the first block of a compressed file fits in, bytes.
const LARGEST_BLOCK: usize = 1 << 20;
/// What an ssh source is measured by at its end, bytes: the index of any xz file that fits in here.
const END: u64 = 1 << 20;

impl Intake {
    /// Opens what `IMAGE/PATH` names, for `cp`.
    pub(in crate::kinds) fn open(&self, image: &Image) -> Result<ImageSource, DatastoreError> {
        let digests = Digests::new(&image.digests)?;
        match Location::parse(image.path()?) {
            Location::Local(path) => {
                let file = self.admit_path(image, &path, &[Kind::File])?.file;
                let verification = digests.verify_file(&file)?;
                Ok(ImageSource {
                    digests: PendingDigests::File(verification),
                    ..ImageSource::new(Payload::Unvalidated, Bytes::File(file))
                })
            }
            remote => {
                let (stream, length) = self.fetch(image, &remote)?;
                let (stream, result) = digests.verify_stream(stream);
                Ok(ImageSource {
                    length,
                    digests: PendingDigests::Stream(result),
                    ..ImageSource::new(Payload::Unvalidated, Bytes::Stream(Box::new(stream)))
                })
            }
        }
    }

    fn web_file(&self, image: &Image) -> Result<WebFile, DatastoreError> {
        let verify = match self.attributes.tls_verify {
            Some(verify) => verify,
            None => self.settings.tls_verify(&self.attributes.ds_mad)?,
        };
        Ok(WebFile::new(image.path()?, verify))
    }

    /// The bytes of a remote image, at the rate that the datastore allows, and how many there are where that is known.
    fn fetch(
        &self,
        image: &Image,
        location: &Location,
    ) -> Result<(Box<dyn Read + Send>, Option<u64>), DatastoreError> {
        let mut length = None;
        let stream: Box<dyn Read + Send> = match location {
            Location::Http => {
                let download =
                    self.web_file(image)?.download().map_err(|error| path_error(image, error))?;
                length = download.length();
                Box::new(download)
            }
            Location::Ssh { host, path } => Box::new(command::ssh_file(host, path, Part::Whole)?),
            Location::Helper { scheme } => Box::new(self.helper(image, scheme)?),
            Location::Unknown(reason) => return Err(path_error(image, reason)),
            Location::Local(_) => return Err(path_error(image, "is on this machine")),
        };
        let stream = match self.attributes.limit_transfer_bw {
            Some(rate) => Box::new(Limited::new(stream, rate)),
            None => stream,
        };
        Ok((stream, length))
    }

    fn helper(&self, image: &Image, scheme: &str) -> Result<Output, DatastoreError> {
        let downloader = self.settings.downloader();
        if !downloader.is_file() {
            return Err(path_error(
                image,
                format_args!(
                    "can't be fetched: the scheme {scheme} needs OpenNebula's {}, which is not installed",
                    downloader.display()
                ),
            ));
        }
        let path = text::path(image.path()?);
        Ok(command::downloader(
            &downloader,
            path.as_os_str(),
            &without_password(image.path()?),
            &self.message,
        )?)
    }

    /// Size in bytes of the disk in a remote image.
    pub(super) fn measure_remote(
        &self,
        image: &Image,
        location: &Location,
        policy: Policy,
    ) -> Result<u64, DatastoreError> {
        let measured = match location {
            Location::Http => {
                let pieces = self.web_file(image)?.pieces(TIME_TO_MEASURE);
                measure_web(&pieces, policy)
            }
            Location::Ssh { host, path } => measure_ssh(host, path, policy),
            Location::Helper { scheme } => measure_stream(self.helper(image, scheme)?, policy),
            _ => return self.fetch(image, location).map(|_| 0),
        };
        match (measured, stated_size(image)) {
            (Err(Unmeasured::Uncertain(_)), Some(stated)) => Ok(stated),
            (Err(Unmeasured::Uncertain(why)), None) => Err(path_error(
                image,
                format_args!("can't be measured: {why}; give the image a SIZE (MiB)"),
            )),
            (Err(Unmeasured::Failed(error)), _) => Err(error),
            (Ok(bytes), _) => Ok(bytes),
        }
    }
}

/// Why a remote image has no known size.
enum Unmeasured {
    /// Only fetching all of it would tell.
    Uncertain(&'static str),
    Failed(DatastoreError),
}

impl From<DatastoreError> for Unmeasured {
    fn from(error: DatastoreError) -> Self {
        Self::Failed(error)
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

fn measure_web(pieces: &Pieces, policy: Policy) -> Result<u64, Unmeasured> {
    let read_at = |offset, length| pieces.read_at(offset, length);
    measure(&read_at, &|| pieces.length(), policy)
}

fn measure_ssh(host: &str, path: &[u8], policy: Policy) -> Result<u64, Unmeasured> {
    let until = Instant::now() + TIME_TO_MEASURE;
    let ssh = |part| -> Result<Output, Unmeasured> {
        let output = command::ssh_file(host, path, part).map_err(DatastoreError::from)?;
        Ok(output.until(until))
    };
    let mut start = Vec::new();
    ssh(Part::SizeAndStart(LARGEST_HEADER))?.read_to_end(&mut start)?;
    let Some(line) = start.iter().position(|&byte| byte == b'\n') else {
        return Err(io::Error::other("the other host doesn't tell its size").into());
    };
    let length: u64 = std::str::from_utf8(&start[..line])
        .ok()
        .and_then(|digits| digits.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the other host doesn't tell its size"))?;
    let start = &start[line + 1..];
    let end = std::cell::OnceCell::new();
    let read_at = |offset: u64, count: usize| -> io::Result<Vec<u8>> {
        if offset.saturating_add(count as u64) <= start.len() as u64 || length <= start.len() as u64
        {
            return within(start)(offset, count);
        }
        let from = length.saturating_sub(END);
        if offset < from {
            return Err(HttpError::Unmeasurable("its header lies too deep in the file").into());
        }
        if end.get().is_none() {
            let mut bytes = Vec::new();
            command::ssh_file(host, path, Part::End(END))
                .map_err(io::Error::other)?
                .until(until)
                .read_to_end(&mut bytes)?;
            let _ = end.set(bytes);
        }
        within(end.get().map_or(&[], Vec::as_slice))(offset - from, count)
    };
    measure(&read_at, &|| Ok(length), policy)
}

/// A source of which only a stream can be had: its header, or else all of it in the time that there is.
fn measure_stream(stream: Output, policy: Policy) -> Result<u64, Unmeasured> {
    let mut stream = stream.until(Instant::now() + TIME_TO_MEASURE);
    let mut start = Vec::new();
    stream.by_ref().take(LARGEST_HEADER as u64).read_to_end(&mut start)?;
    let mut length = start.len() as u64;
    let mut buffer = vec![0; 256 << 10];
    let rest = std::cell::RefCell::new((&mut stream, &mut buffer, &mut length));
    let count = || -> io::Result<u64> {
        let (stream, buffer, length) = &mut *rest.borrow_mut();
        loop {
            match stream.read(buffer)? {
                0 => return Ok(**length),
                count => **length += count as u64,
            }
        }
    };
    measure(&within(&start), &count, policy)
}

/// Measures an image of which pieces can be read, and the length be told.
fn measure(
    read_at: ReadAt,
    length: &dyn Fn() -> io::Result<u64>,
    policy: Policy,
) -> Result<u64, Unmeasured> {
    let head = read_at(0, probe::HEAD)?;
    let compression = match Content::of(&head) {
        Content::Compressed(compression) if policy.decompress => compression,
        Content::Compressed(_) => return Ok(length()?),
        _ if policy.plain_file && !head.is_empty() => return Ok(length()?),
        _ => return image_size(&head, read_at, &|| Ok(length()?), policy),
    };
    let (mut inner, mut all) = decompressed_start(compression, &head);
    let mut head = head;
    if inner.is_empty() && head.len() == probe::HEAD {
        // The first block is larger than that: up to 900 KB with bzip2.
        head = read_at(0, LARGEST_BLOCK)?;
        (inner, all) = decompressed_start(compression, &head);
        if inner.is_empty() && !all {
            return Err(Unmeasured::Uncertain("its beginning can't be decompressed"));
        }
    }
    let whole = || -> Result<u64, Unmeasured> {
        if all {
            return Ok(inner.len() as u64);
        }
        compressed_length(compression, &head, read_at, length()?)
    };
    if policy.plain_file {
        return whole();
    }
    let head = &inner[..inner.len().min(probe::HEAD)];
    image_size(head, &within(&inner), &whole, policy)
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
fn decompressed_start(compression: Compression, head: &[u8]) -> (Vec<u8>, bool) {
    let mut inner = Vec::new();
    let ended = decompress(compression, io::Cursor::new(head.to_vec()))
        .and_then(|stream| stream.take(LARGEST_HEADER as u64).read_to_end(&mut inner))
        .is_ok();
    // An error only says that the rest of the file is not there.
    let whole = head.len() != probe::HEAD && head.len() != LARGEST_BLOCK;
    (inner, ended && whole)
}

/// Length of what a compressed file of `length` bytes decompresses to.
fn compressed_length(
    compression: Compression,
    head: &[u8],
    read_at: ReadAt,
    length: u64,
) -> Result<u64, Unmeasured> {
    match compression {
        Compression::Xz => {
            if let Some(size) = length_in_trailer(read_at, length)? {
                return Ok(size);
            }
        }
        Compression::Zstd => {
            // A frame is hardly ever longer than its content: where this one would be, others follow.
            if let Some(size) = zstd_content_size(head)
                && length <= size + size / 64 + 1024
            {
                return Ok(size);
            }
        }
        Compression::Gzip | Compression::Bzip2 => {}
    }
    if length <= SMALL {
        let bytes = read_at(0, length as usize)?;
        let mut stream = decompress(compression, io::Cursor::new(bytes))?;
        return Ok(io::copy(&mut stream, &mut io::sink())?);
    }
    Err(Unmeasured::Uncertain("compressed like this, only fetching all of it would tell its size"))
}
