//! Bringing an image in: `cp`, `clone`, and `stat` before it.

use super::{DISKS, FileDatastore, in_sibling};
use crate::command;
use crate::datastore::{DatastoreError, Registered};
use crate::gate::image::{Admission, ImageRefusal, admit, open_chain, readable, stands_alone};
use crate::gate::path::{Admitted, Kind};
use crate::image::foreign::{self, luks_payload};
use crate::image::probe::{self, Content};
use crate::image::qcow2::{Chain, Layer, read_up_to};
use crate::image::raw::RawDisk;
use crate::image::stream::{self, Limit};
use crate::image::target::Target;
use crate::image::{Disk, Format, ImageError, convert};
use crate::message::{DatastoreType, Image, ImageType, Mebibytes, text};
use crate::snapshots::Snapshots;
use crate::source::Ahead;
use crate::source::decompress::decompress;
use crate::source::digest::Digests;
use crate::source::location::Location;
use crate::source::measure::{Whole, decompressed_length};
use crate::staging::Staged;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// How much of a compressed image is decompressed to find its size in its header, bytes: the metadata
/// of vhdx, which lie furthest from the start, are within.
pub(super) const LARGEST_HEADER: usize = 4 << 20;

/// What shall become of what comes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// The format to keep it in; `None`: as it comes.
    driver: Option<Format>,
    pub(super) decompress: bool,
    /// A kernel or a context file: bytes without a meaning.
    pub(super) plain_file: bool,
}

pub(super) fn reading(source: io::Error) -> ImageError {
    ImageError::Read { offset: 0, source }
}

impl FileDatastore {
    fn policy(&self, image_type: Option<ImageType>) -> Result<Policy, DatastoreError> {
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

    fn admit_path(
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
    fn copy(&self, file: File) -> Result<Staged, DatastoreError> {
        let disk = RawDisk::open(file).map_err(reading)?;
        self.write(&disk, Format::Raw)
    }

    fn write(&self, disk: &dyn Disk, format: Format) -> Result<Staged, DatastoreError> {
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
    fn keep(&self, file: File, format: Format) -> Result<Staged, DatastoreError> {
        let staged = self.copy(file)?;
        check_kept(&staged, format)?;
        Ok(staged)
    }

    fn convert_foreign(
        &self,
        file: &File,
        format: Format,
        wanted: Format,
        size: u64,
    ) -> Result<Staged, DatastoreError> {
        command::qemu_img()?;
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
        )?;
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
        let needs_all = match content {
            Content::Disk(Format::Raw) | Content::Luks => false,
            Content::Disk(Format::Qcow2) => policy.driver.is_some_and(|f| f != Format::Qcow2),
            Content::Disk(_) => true,
            _ => false,
        };
        if needs_all {
            let staged = self.write_stream(&mut stream, Format::Raw, None)?;
            let file = staged.file().try_clone().map_err(reading)?;
            return self.import_file(file, &head, policy);
        }
        let (admission, _) = admit(&head, &within(&head))?;
        let (format, limit) = match admission {
            Admission::Disk(Format::Raw) => {
                (policy.driver.unwrap_or(Format::Raw), size.and_then(stated_limit))
            }
            Admission::Luks => (Format::Raw, None),
            Admission::Disk(format) => (format, None),
        };
        // A qcow2 image that stays one is a stream of bytes like any other.
        let layout = if content == Content::Disk(Format::Raw) { format } else { Format::Raw };
        let staged = self.write_stream(&mut stream, layout, limit)?;
        if layout != format {
            check_kept(&staged, format)?;
        }
        Ok((staged, format))
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

    /// `stat`.
    pub(super) fn measure(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        let policy = self.policy(None)?;
        let bytes = match Location::parse(image.path()?) {
            Location::Local(path) => {
                let admitted = self.admit_path(image, &path, &[Kind::File, Kind::Directory])?;
                match admitted.kind {
                    Kind::Directory => {
                        disk_usage(&admitted.real_path).map_err(|error| reading(error).into())
                    }
                    _ => measure_file(&admitted.file, policy),
                }
            }
            remote => self.measure_remote(image, &remote, policy),
        };
        bytes.map(Mebibytes::holding).map_err(|error| error.about_path(image))
    }

    /// `clone`.
    pub(super) fn duplicate(&self, image: &Image) -> Result<Registered, DatastoreError> {
        let types = [DISKS[0], ImageType::Cdrom, DISKS[1]];
        self.check_types(image, "clone", &types)?;
        let policy = self.policy(image.image_type)?;
        let path = text::path(image.path()?);
        if !in_sibling(&path, &self.directory) {
            // No file of a datastore: then what holds for `cp` holds for it.
            self.admit_path(image, &path, &[Kind::File])?;
        }
        let (staged, format) = self
            .copy_image(&path, &image.format, policy)
            .map_err(|error| error.about_path(image))?;
        self.publish(staged, format)
    }

    /// Copies the image at `path` as its virtual machine sees it. Its format is what oned recorded
    /// when it was registered: what is in a raw disk now, its guest has written.
    fn copy_image(
        &self,
        path: &Path,
        format: &str,
        policy: Policy,
    ) -> Result<(Staged, Format), DatastoreError> {
        let datastore = path.parent().unwrap_or(Path::new("/"));
        let snapshots = Snapshots::read(path, format, datastore)?;
        let active = snapshots.as_ref().map_or(path, Snapshots::active_file);
        let unopenable = |source: io::Error| -> DatastoreError {
            crate::gate::path::PathError::Unopenable { source }.into()
        };
        let file = open_inside(active, datastore).map_err(unopenable)?;
        let head = head_of(&file)?;
        let format = match format {
            "" => match Content::of(&head) {
                Content::Disk(format) => format,
                _ => Format::Raw,
            },
            "qcow2" => Format::Qcow2,
            "vmdk" => Format::Vmdk,
            "vdi" => Format::Vdi,
            "vhdx" => Format::Vhdx,
            "vpc" => Format::Vhd,
            _ => Format::Raw,
        };
        let wanted = match Content::of(&head) {
            Content::Luks if format == Format::Raw => Format::Raw,
            _ => policy.driver.unwrap_or(format),
        };
        if format == Format::Qcow2 {
            let header = Layer::open(file.try_clone().map_err(reading)?)?.header().clone();
            if wanted == Format::Qcow2 && header.backing_file.is_none() {
                return Ok((self.keep(file, format)?, format));
            }
            return Ok((self.write(&open_chain(active, datastore)?, wanted)?, wanted));
        }
        let staged = match format {
            _ if format == wanted => self.copy(file)?,
            Format::Raw => self.write(&RawDisk::open(file).map_err(reading)?, wanted)?,
            _ => {
                let size = foreign::virtual_size(format, &reader_of(&file))?;
                self.convert_foreign(&file, format, wanted, size)?
            }
        };
        Ok((staged, wanted))
    }
}

/// Opens the regular file `path`, which must really lie in the directory `datastore`.
fn open_inside(path: &Path, datastore: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A FIFO must not make us wait, nor a link lead us out.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW | nix::libc::O_NOCTTY;
    let real = path.canonicalize()?;
    let refuse = |why: &str| Err(io::Error::other(why.to_owned()));
    if !real.starts_with(datastore.canonicalize()?) {
        return refuse("it is a link that leads out of its datastore");
    }
    let metadata = std::fs::symlink_metadata(&real)?;
    if !metadata.is_file() {
        return refuse("it is no regular file");
    }
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&real)?;
    if file.metadata()?.is_file() { Ok(file) } else { refuse("it is no regular file") }
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

fn head_of(file: &File) -> Result<Vec<u8>, ImageError> {
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

fn reader_of(file: &File) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> {
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

/// Size of the disk in `file`, bytes.
fn measure_file(file: &File, policy: Policy) -> Result<u64, DatastoreError> {
    let length = file.metadata().map_err(reading)?.len();
    let head = head_of(file)?;
    match Content::of(&head) {
        Content::Compressed(compression) if policy.decompress => {
            let whole = Whole { file: file.try_clone().map_err(reading)?, offset: 0 };
            let mut inner = Vec::new();
            decompress(compression, whole)
                .map_err(reading)?
                .take(LARGEST_HEADER as u64)
                .read_to_end(&mut inner)
                .map_err(reading)?;
            let all = || decompressed_length(compression, file).map_err(|e| reading(e).into());
            if policy.plain_file {
                return all();
            }
            let head = &inner[..inner.len().min(probe::HEAD)];
            measure_image(head, &within(&inner), all)
        }
        Content::Compressed(_) => Ok(length),
        _ if policy.plain_file && length > 0 => Ok(length),
        _ => measure_image(&head, &reader_of(file), || Ok(length)),
    }
}

/// Size of the disk whose file begins with `head` and has `length` bytes in all.
pub(super) fn measure_image(
    head: &[u8],
    read_at: foreign::ReadAt,
    length: impl Fn() -> Result<u64, DatastoreError>,
) -> Result<u64, DatastoreError> {
    match admit(head, read_at)? {
        (_, Some(size)) => Ok(size),
        (Admission::Luks, None) => Ok(luks_payload(length()?, read_at)?),
        (Admission::Disk(_), None) => length(),
    }
}

/// Bytes that a directory takes on disk, with all that is in it, as `du(1)` counts.
fn disk_usage(directory: &Path) -> io::Result<u64> {
    use std::collections::HashSet;
    use std::os::unix::fs::MetadataExt as _;
    let mut linked = HashSet::new();
    let mut waiting = vec![directory.to_owned()];
    let mut blocks = std::fs::symlink_metadata(directory)?.blocks();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.nlink() == 1
                || metadata.is_dir()
                || linked.insert((metadata.dev(), metadata.ino()))
            {
                blocks += metadata.blocks();
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(blocks * 512)
}
