//! Bringing an image in: `cp`.

use super::FileDatastore;
use crate::command;
use crate::datastore::{DatastoreError, Registered};
use crate::gate::image::{Admission, ImageRefusal, admit, readable, stands_alone};
use crate::gate::path::{Admitted, Kind};
use crate::image::foreign::{self};
use crate::image::probe::{self, Content};
use crate::image::qcow2::{Chain, Layer, read_up_to};
use crate::image::raw::RawDisk;
use crate::image::stream::{self, Limit};
use crate::image::target::Target;
use crate::image::{Disk, Format, ImageError, convert};
use crate::message::{DatastoreType, Image, ImageType, Mebibytes};
use crate::source::Ahead;
use crate::source::decompress::decompress;
use crate::source::digest::Digests;
use crate::source::location::Location;
use crate::source::measure::Whole;
use crate::staging::Staged;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// What shall become of what comes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// The format to keep it in; `None`: as it comes.
    pub(super) driver: Option<Format>,
    pub(super) decompress: bool,
    /// A kernel or a context file: bytes without a meaning.
    pub(super) plain_file: bool,
}

pub(super) fn reading(source: io::Error) -> ImageError {
    ImageError::Read { offset: 0, source }
}

impl FileDatastore {
    pub(super) fn policy(&self, image_type: Option<ImageType>) -> Result<Policy, DatastoreError> {
        let attributes = &self.attributes;
        let plain_file = attributes.datastore_type == DatastoreType::File;
        let driver = match attributes.driver.as_str() {
            "" => None,
            "raw" => Some(Format::Raw),
            "qcow2" => Some(Format::Qcow2),
            other => {
                return Err(DatastoreError::value(
                    "DATASTORE/TEMPLATE/DRIVER",
                    other,
                    "is no format that images can be kept in: it must be raw or qcow2, or empty",
                ));
            }
        };
        let converts = attributes.convert && !plain_file && image_type != Some(ImageType::Cdrom);
        Ok(Policy {
            driver: driver.filter(|_| converts),
            decompress: !attributes.no_decompress,
            plain_file,
        })
    }

    pub(super) fn admit_path(
        &self,
        image: &Image,
        path: &Path,
        kinds: &[Kind],
    ) -> Result<Admitted, DatastoreError> {
        let admitted = self.path_rules().admit(path, kinds);
        admitted.map_err(|error| DatastoreError::from(error).about_path(image))
    }

    /// `cp`.
    pub(super) fn register(&self, image: &Image) -> Result<Registered, DatastoreError> {
        use ImageType::{Cdrom, Context, Datablock, Kernel, Os, Ramdisk};
        self.check_types(image, "cp", &[Os, Cdrom, Datablock, Kernel, Ramdisk, Context])?;
        let policy = self.policy(image.image_type)?;
        let digests = Digests::new(&image.digests)?;
        let (staged, format) = match Location::parse(image.path()?) {
            Location::Local(path) => {
                let admitted = self.admit_path(image, &path, &[Kind::File])?;
                let verification = digests.verify_file(&admitted.file)?;
                let imported = self
                    .import(admitted.file, policy, image.size)
                    .map_err(|error| error.about_path(image))?;
                verification.finish()?;
                imported
            }
            remote => {
                let stream = self.fetch(image, &remote)?;
                let (stream, result) = digests.verify_stream(stream);
                let imported = self
                    .import_stream(Box::new(stream), policy, image.size)
                    .map_err(|error| error.about_path(image))?;
                result.verify()?;
                imported
            }
        };
        self.publish(staged, format)
    }

    /// Brings the bytes of `file` into a staged image; in which format that is.
    fn import(
        &self,
        file: File,
        policy: Policy,
        size: Option<Mebibytes>,
    ) -> Result<(Staged, Format), DatastoreError> {
        let head = head_of(&file)?;
        if head.is_empty() {
            return Err(ImageRefusal::Empty.into());
        }
        match Content::of(&head) {
            Content::Compressed(compression) if policy.decompress => {
                let whole = Whole { file, offset: 0 };
                let stream = decompress(compression, whole).and_then(Ahead::of).map_err(reading)?;
                self.import_plain_stream(stream, policy, size)
            }
            Content::Compressed(_) => Ok((self.copy(file)?, Format::Raw)),
            _ if policy.plain_file => Ok((self.copy(file)?, Format::Raw)),
            _ => self.import_file(file, &head, policy),
        }
    }

    /// A file as it is, holes included.
    pub(super) fn copy(&self, file: File) -> Result<Staged, DatastoreError> {
        let disk = RawDisk::open(file).map_err(reading)?;
        self.write(&disk, Format::Raw)
    }

    pub(super) fn write(&self, disk: &dyn Disk, format: Format) -> Result<Staged, DatastoreError> {
        let staged = self.stage()?;
        let target = self.target(&staged, format)?;
        convert(disk, target)?;
        Ok(staged)
    }

    fn target<'s>(&self, staged: &'s Staged, format: Format) -> Result<Target<'s>, DatastoreError> {
        Target::new(format, staged.file(), self.attributes.sparse).ok_or_else(|| {
            DatastoreError::value("DATASTORE/TEMPLATE/DRIVER", format.name(), "can't be written")
        })
    }

    /// A file whose own bytes are the image.
    fn import_file(
        &self,
        file: File,
        head: &[u8],
        policy: Policy,
    ) -> Result<(Staged, Format), DatastoreError> {
        let (admission, size) = admit(head, &reader_of(&file))?;
        let format = admission.format();
        let wanted = match admission {
            Admission::Luks => Format::Raw,
            Admission::Disk(format) => policy.driver.unwrap_or(format),
        };
        let staged = match format {
            _ if format == wanted => self.keep(file, format)?,
            Format::Raw => self.write(&RawDisk::open(file).map_err(reading)?, wanted)?,
            Format::Qcow2 => {
                let layer = Layer::open(file)?;
                readable(layer.header())?;
                layer.verify()?;
                self.write(&Chain::new(vec![layer], None), wanted)?
            }
            _ => self.convert_foreign(&file, format, wanted, size.unwrap_or(0))?,
        };
        Ok((staged, wanted))
    }

    /// A copy of an image that stays what it is. It is judged once more as it lies in the datastore:
    /// the file that it came from may have changed since.
    pub(super) fn keep(&self, file: File, format: Format) -> Result<Staged, DatastoreError> {
        let staged = self.copy(file)?;
        check_kept(&staged, format)?;
        Ok(staged)
    }

    pub(super) fn convert_foreign(
        &self,
        file: &File,
        format: Format,
        wanted: Format,
        size: u64,
    ) -> Result<Staged, DatastoreError> {
        command::qemu_img()?;
        crate::progress::begin(0);
        let staged = self.stage()?;
        // The child opens the very file that was judged, through a descriptor that it inherits.
        let shared = nix::unistd::dup(file).map_err(|errno| reading(errno.into()))?;
        let source = format!("/proc/self/fd/{}", shared.as_raw_fd());
        // Tables and headers of a qcow2 file come on top of its data.
        let largest = size + size / 64 + (64 << 20);
        command::qemu_img_convert(
            Path::new(&source),
            format.name(),
            staged.path(),
            wanted.name(),
            largest,
        )
        .map_err(|error| match error {
            error if error.is_out_of_space() => {
                let source = io::ErrorKind::StorageFull.into();
                ImageError::Write { offset: 0, source }.into()
            }
            error => DatastoreError::from(error),
        })?;
        if wanted == Format::Raw && !self.attributes.sparse {
            Target::raw(staged.file(), false).finish(size)?;
        }
        Ok(staged)
    }

    /// A stream, perhaps compressed: everything happens in one pass, unless a conversion needs all of the
    /// image at once.
    pub(super) fn import_stream(
        &self,
        stream: Box<dyn Read + Send>,
        policy: Policy,
        size: Option<Mebibytes>,
    ) -> Result<(Staged, Format), DatastoreError> {
        let mut stream = Ahead::of(stream).map_err(reading)?;
        let head = stream_head(&mut stream)?;
        let whole = io::Cursor::new(head.clone()).chain(stream);
        match Content::of(&head) {
            Content::Compressed(compression) if policy.decompress => {
                let stream = decompress(compression, whole).and_then(Ahead::of).map_err(reading)?;
                self.import_plain_stream(stream, policy, size)
            }
            Content::Compressed(_) => {
                let mut whole = whole;
                Ok((self.write_stream(&mut whole, Format::Raw, None)?, Format::Raw))
            }
            _ => self.import_plain_stream(whole, policy, size),
        }
    }

    /// A stream whose own bytes are the image.
    fn import_plain_stream(
        &self,
        mut stream: impl Read,
        policy: Policy,
        size: Option<Mebibytes>,
    ) -> Result<(Staged, Format), DatastoreError> {
        let head = stream_head(&mut stream)?;
        if head.is_empty() {
            return Err(ImageRefusal::Empty.into());
        }
        let content = Content::of(&head);
        let mut stream = io::Cursor::new(head.as_slice()).chain(stream);
        if policy.plain_file {
            return Ok((self.write_stream(&mut stream, Format::Raw, None)?, Format::Raw));
        }
        if let Content::Disk(format) = content
            && format != Format::Raw
        {
            // What is converted is needed whole; what is kept can be judged whole.
            let staged = self.write_stream(&mut stream, Format::Raw, None)?;
            if policy.driver.is_some_and(|wanted| wanted != format) {
                let file = staged.file().try_clone().map_err(reading)?;
                return self.import_file(file, &head, policy);
            }
            check_kept(&staged, format)?;
            return Ok((staged, format));
        }
        let (admission, _) = admit(&head, &within(&head))?;
        let (format, limit) = match admission {
            Admission::Disk(Format::Raw) => {
                (policy.driver.unwrap_or(Format::Raw), size.and_then(stated_limit))
            }
            Admission::Luks => (Format::Raw, None),
            Admission::Disk(format) => (format, None),
        };
        Ok((self.write_stream(&mut stream, format, limit)?, format))
    }

    fn write_stream(
        &self,
        stream: &mut dyn Read,
        layout: Format,
        limit: Option<Limit>,
    ) -> Result<Staged, DatastoreError> {
        let staged = self.stage()?;
        let target = self.target(&staged, layout)?;
        stream::write(stream, target, limit)?;
        Ok(staged)
    }
}

/// An image that was copied as it is must be what it was taken for.
fn check_kept(staged: &Staged, format: Format) -> Result<(), DatastoreError> {
    let file = staged.file().try_clone().map_err(reading)?;
    match format {
        Format::Raw => {}
        Format::Qcow2 => {
            let layer = Layer::open(file)?;
            stands_alone(layer.header())?;
            layer.verify()?;
        }
        _ => {
            foreign::virtual_size(format, &reader_of(&file))?;
        }
    }
    Ok(())
}

/// A raw image may be as large as `stat` said that it is, and the MiB that this was rounded up by.
fn stated_limit(size: Mebibytes) -> Option<Limit> {
    let bytes = Mebibytes(size.0.checked_add(1)?).bytes()?;
    (size.0 > 0).then_some(Limit {
        bytes,
        why: "which is more than IMAGE/SIZE says; register it with its real SIZE",
    })
}

pub(super) fn head_of(file: &File) -> Result<Vec<u8>, ImageError> {
    let mut head = vec![0; probe::HEAD];
    let length = read_up_to(file, &mut head, 0).map_err(reading)?;
    head.truncate(length);
    Ok(head)
}

fn stream_head(stream: &mut impl Read) -> Result<Vec<u8>, ImageError> {
    let mut head = vec![0; probe::HEAD];
    let length = stream::fill(stream, &mut head).map_err(reading)?;
    head.truncate(length);
    Ok(head)
}

pub(super) fn reader_of(file: &File) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| {
        let mut bytes = vec![0; length];
        let read = read_up_to(file, &mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

pub(super) fn within(bytes: &[u8]) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
    move |offset, length| {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
        Ok(rest[..rest.len().min(length)].to_vec())
    }
}
