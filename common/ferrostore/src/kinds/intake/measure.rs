//! Measuring an image before it is registered: `stat`.

use super::archive::{Located, measure_archive, measure_passing, open_member};
use super::bytes::beginning_with;
use super::image_size::{LARGEST_HEADER, measure_image};
use super::{Intake, Policy, head_of, path_error, reader_of, reading};
use crate::kinds::DatastoreError;
use crate::policy::Kind;
use crate::transfer::archive::{ArchiveError, Choice, Found};
use crate::transfer::decompress::decompress;
use crate::transfer::location::Location;
use crate::transfer::measure::{Whole, decompressed_length};
use disk_image::ImageError;
use disk_image::admission::check_size;
use disk_image::probe::{self, Content};
use one_protocol::message::{Image, Mebibytes};
use runtime::found::disk_usage;
use std::fs::File;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

impl Intake {
    /// The size that the image at `IMAGE/PATH` will have: `stat`.
    pub(in crate::kinds) fn measure(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        let policy = self.policy(None)?;
        let Located { location, member } = self.locate(image)?;
        let bytes = match &location {
            Location::Local(path) => {
                let admitted = self.admit_path(image, path, &[Kind::File, Kind::Directory])?;
                match admitted.kind {
                    Kind::Directory => {
                        disk_usage(&admitted.file).map_err(|error| reading(error).into())
                    }
                    _ => measure_local(image, &admitted.file, member.as_ref(), policy),
                }
            }
            remote => self.measure_remote(image, remote, member.as_ref(), policy),
        };
        bytes.map(Mebibytes::holding).map_err(|error| error.about_path(image))
    }
}

/// Decoding for the sake of the length alone may take so long: a user waits for the answer.
const TIME_TO_DECODE: Duration = Duration::from_secs(60);
/// As [`TIME_TO_DECODE`], for images that oned asks no SIZE for (CDROM).
const TIME_WITHOUT_A_SIZE: Duration = Duration::from_secs(300);

/// Size of the disk in `file`, or what the message says where reading it takes too long.
fn measure_local(
    image: &Image,
    file: &File,
    choice: Option<&Choice>,
    policy: Policy,
) -> Result<u64, DatastoreError> {
    let time = if image.has_size { TIME_TO_DECODE } else { TIME_WITHOUT_A_SIZE };
    match (measure_file(file, choice, policy, Instant::now() + time), stated_size(image)) {
        (Err(error), Some(stated)) if took_too_long(&error) => {
            Ok(check_size(stated, policy.largest_disk).map(|()| stated)?)
        }
        (Err(error), None) if took_too_long(&error) => {
            let remedy = if image.has_size {
                "give the image a SIZE (MiB)"
            } else {
                "decompress it before registering it"
            };
            let reason = format_args!("takes too long to decompress for its size; {remedy}");
            Err(path_error(image, reason))
        }
        (measured, _) => measured,
    }
}

/// The size that the message gives the image, bytes.
pub(super) fn stated_size(image: &Image) -> Option<u64> {
    image.size.filter(|size| size.0 > 0).and_then(Mebibytes::bytes)
}

fn took_too_long(error: &DatastoreError) -> bool {
    matches!(error,
        DatastoreError::Image(ImageError::Read { source, .. })
        | DatastoreError::Archive(ArchiveError::Read(source))
        if source.kind() == io::ErrorKind::TimedOut)
}

/// Size of the disk in `file`, bytes.
fn measure_file(
    file: &File,
    choice: Option<&Choice>,
    policy: Policy,
    until: Instant,
) -> Result<u64, DatastoreError> {
    let length = file.metadata().map_err(reading)?.len();
    let head = head_of(file)?;
    if let Some(kind) = policy.archive(&head)? {
        let whole = |found: &Found| open_member(file, found);
        return measure_archive(kind, &reader_of(file), length, choice, policy, &whole, until);
    }
    match Content::of(&head) {
        Content::Compressed(compression) if policy.decompress => {
            let open = || {
                let whole = Whole { file: file.try_clone()?, offset: 0 };
                decompress(compression, whole, policy.memory)
            };
            let mut inner = Vec::new();
            open()
                .and_then(|stream| stream.take(LARGEST_HEADER as u64).read_to_end(&mut inner))
                .map_err(reading)?;
            let all = || {
                decompressed_length(compression, file, policy.memory, policy.largest_disk, until)
                    .map_err(|error| reading(error).into())
            };
            if policy.plain_file {
                return all();
            }
            let head = &inner[..inner.len().min(probe::HEAD)];
            if let Some(kind) = policy.archive(head)? {
                return measure_passing(kind, open().map_err(reading)?, choice, policy, until);
            }
            choice.map_or(Ok(()), Choice::without_archive)?;
            let read_at = beginning_with(&inner, inner.len() < LARGEST_HEADER, &open, until);
            measure_image(head, &read_at, all, policy.largest_disk)
        }
        Content::Compressed(_) => Ok(length),
        _ if policy.plain_file && length > 0 => Ok(length),
        _ => {
            choice.map_or(Ok(()), Choice::without_archive)?;
            measure_image(&head, &reader_of(file), || Ok(length), policy.largest_disk)
        }
    }
}
