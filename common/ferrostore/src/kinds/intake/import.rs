//! Writing an image into its destination, whatever it is and however it comes.

use super::bytes::{stream_head, within};
use super::{Destination, Intake, Policy};
use super::{check_writeback, head_of, reader_of, reading};
use crate::image_source::{Bytes, ImageSource, Payload};
use crate::kinds::DatastoreError;
use crate::progress::Source;
use crate::record;
use crate::transfer::ReadAhead;
use crate::transfer::archive::Choice;
use crate::transfer::decompress::decompress;
use crate::transfer::measure::Whole;
use crate::transfer::tail::Tail;
use disk_image::admission::{Admission, ImageRefusal, admit, admit_whole, check_trailer, readable};
use disk_image::foreign::ReadAt;
use disk_image::probe::{self, Compression, Content};
use disk_image::qcow2::{Chain, Layer};
use disk_image::raw::RawDisk;
use disk_image::stream::{self, Limit};
use disk_image::target::Target;
use disk_image::vmdk::{self, Opened, Sequential, SparseDisk};
use disk_image::{Disk, Format, convert};
use one_protocol::message::{Image, Mebibytes};
use runtime::staging::Staged;
use std::fs::File;
use std::io::{self, Read};

impl Intake {
    /// Writes the image `source` into `destination`; in which format that is.
    pub(in crate::kinds) fn import(
        &self,
        image: &Image,
        source: ImageSource,
        policy: Policy,
        destination: &mut dyn Destination,
    ) -> Result<Format, DatastoreError> {
        let mut import = Import {
            policy,
            size: image.measured_size(),
            sparse: self.attributes.sparse,
            length: source.length,
            member: source.member,
            destination,
        };
        let format = match (source.payload, source.bytes) {
            (Payload::Unvalidated, Bytes::File(file)) => import.file(file),
            (Payload::Unvalidated, Bytes::Stream(stream)) => import.stream(stream),
            (Payload::File(format), Bytes::File(file)) => import.image_file(file, format),
            (Payload::File(format), Bytes::Stream(stream)) => import.image_stream(stream, format),
            (Payload::Disk(wanted), Bytes::Stream(stream)) => import.disk_stream(stream, wanted),
            (Payload::Disk(wanted), Bytes::File(file)) => import.copy(file, wanted),
            (Payload::Disk(wanted), Bytes::Disk(disk)) => import.write(disk.as_ref(), wanted),
            // No kind opens these, and no other machine sends them.
            (Payload::Unvalidated | Payload::File(_), Bytes::Disk(_))
            | (Payload::InPlace, _)
            | (_, Bytes::Nothing) => Err(reading(io::ErrorKind::Unsupported.into()).into()),
        }?;
        source.digests.verify()?;
        if image.from_app {
            warn_of_size(image, destination.disk_size(format));
        }
        Ok(format)
    }
}

/// Tells of the size in bytes that the disk of an image out of a marketplace really has, where oned has recorded
/// another one.
fn warn_of_size(image: &Image, real: Option<u64>) {
    let real = real.map(Mebibytes::holding);
    if let (Some(real), Some(stated)) = (real, image.size)
        && real != stated
    {
        log::warn!(
            "the disk has {real} MiB, while IMAGE/SIZE, which is the size of the marketplace's app, is {stated} MiB: quotas count the latter; correct SIZE in the app"
        );
    }
}

/// An image on its way into a destination. What is returned is the format that it is kept in.
pub(super) struct Import<'d> {
    pub(super) policy: Policy,
    /// `IMAGE/SIZE`.
    size: Option<Mebibytes>,
    pub(super) sparse: bool,
    /// How many bytes a stream will have, where that is known.
    pub(super) length: Option<u64>,
    /// The member that is wanted, where it comes in an archive.
    pub(super) member: Option<Choice>,
    pub(super) destination: &'d mut dyn Destination,
}

impl Import<'_> {
    /// The image in `file`, perhaps compressed.
    fn file(&mut self, file: File) -> Result<Format, DatastoreError> {
        let head = head_of(&file)?;
        if head.is_empty() {
            return Err(ImageRefusal::Empty.into());
        }
        if let Some(kind) = self.policy.archive(&head)? {
            return self.archive_file(kind, &file);
        }
        self.check_choice(&head)?;
        match Content::of(&head) {
            Content::Compressed(compression) if self.policy.decompress => {
                let length = file.metadata().ok().map(|metadata| metadata.len());
                let whole = Source::new(Whole { file, offset: 0 }, length);
                self.decompressed(compression, whole)
            }
            Content::Compressed(_) => self.copy(file, Format::Raw),
            _ if self.policy.plain_file => self.copy(file, Format::Raw),
            _ => self.plain_file(file, &head),
        }
    }

    /// The file of an image of a datastore, which is recorded there as `format`.
    fn image_file(&mut self, file: File, format: Format) -> Result<Format, DatastoreError> {
        let largest = self.policy.largest_disk;
        let wanted = self.wanted(format, &head_of(&file)?);
        match format {
            // What is in a raw disk, its guest has written: it is not judged.
            Format::Raw if wanted == Format::Raw => self.copy(file, format),
            Format::Raw => self.write(&RawDisk::open(file).map_err(reading)?, wanted),
            _ if format == wanted => self.keep(file, format),
            Format::Qcow2 => self.convert_qcow2(file, wanted),
            Format::Vmdk => self.convert_vmdk(file, wanted),
            _ => {
                let size = admit_whole(&file, format, largest)?;
                self.convert_foreign(&file, format, wanted, size)
            }
        }
    }

    /// As [`Self::image_file`], from another machine.
    fn image_stream(
        &mut self,
        stream: Box<dyn Read + Send>,
        format: Format,
    ) -> Result<Format, DatastoreError> {
        let mut stream = ReadAhead::of(stream).map_err(reading)?;
        let head = stream_head(&mut stream)?;
        let wanted = self.wanted(format, &head);
        let mut whole = io::Cursor::new(head.as_slice()).chain(stream);
        if format == Format::Raw {
            return self.write_stream(&mut whole, wanted, None);
        }
        let staged = self.staged(&mut whole, None)?;
        if format != wanted {
            let file = staged.file().try_clone().map_err(reading)?;
            let format = self.plain_file(file, &head)?;
            check_writeback(staged.file())?;
            return Ok(format);
        }
        admit_whole(staged.file(), format, self.policy.largest_disk)?;
        self.destination.adopt(staged, format)?;
        Ok(format)
    }

    /// The guest's bytes of an image of a datastore, from another machine.
    fn disk_stream(
        &mut self,
        stream: Box<dyn Read + Send>,
        wanted: Format,
    ) -> Result<Format, DatastoreError> {
        let mut stream = ReadAhead::of(stream).map_err(reading)?;
        self.write_stream(&mut stream, wanted, None)
    }

    /// The format that an image of `format`, whose file begins with `head`, is kept in.
    fn wanted(&self, format: Format, head: &[u8]) -> Format {
        let luks = format == Format::Raw && matches!(Content::of(head), Content::Luks);
        if luks { Format::Raw } else { self.policy.driver.unwrap_or(format) }
    }

    /// A file as it is, holes included, whose bytes are an image of `format`.
    fn copy(&mut self, file: File, format: Format) -> Result<Format, DatastoreError> {
        self.write(&RawDisk::open(file).map_err(reading)?, Format::Raw)?;
        Ok(format)
    }

    /// A disk in another format.
    pub(super) fn write(
        &mut self,
        disk: &dyn Disk,
        format: Format,
    ) -> Result<Format, DatastoreError> {
        let target = self.destination.begin(format, Some(disk.virtual_size()))?;
        convert(disk, target)?;
        Ok(format)
    }

    /// A file whose own bytes, which begin with `head`, are the image.
    fn plain_file(&mut self, file: File, head: &[u8]) -> Result<Format, DatastoreError> {
        let largest = self.policy.largest_disk;
        let (admission, _) = admit(head, &reader_of(&file), largest)?;
        let format = admission.format();
        record::note(|facts| format.name().clone_into(&mut facts.format_in));
        let wanted = match admission {
            Admission::Luks => Format::Raw,
            Admission::Disk(format) => self.policy.driver.unwrap_or(format),
        };
        if format == Format::Raw
            && let Some(disk) = disk_of_fixed_vhd(&file)?
        {
            return self.write(&disk, wanted);
        }
        match format {
            _ if format == wanted => self.keep(file, format),
            Format::Raw => {
                admit_whole(&file, format, largest)?;
                self.write(&RawDisk::open(file).map_err(reading)?, wanted)
            }
            Format::Qcow2 => self.convert_qcow2(file, wanted),
            Format::Vmdk => self.convert_vmdk(file, wanted),
            _ => {
                let size = admit_whole(&file, format, largest)?;
                self.convert_foreign(&file, format, wanted, size)
            }
        }
    }

    /// A qcow2 image that stands alone, in another format.
    fn convert_qcow2(&mut self, file: File, wanted: Format) -> Result<Format, DatastoreError> {
        admit_whole(&file, Format::Qcow2, self.policy.largest_disk)?;
        let layer = Layer::open(file)?;
        warn_of_wrong_counts(&layer)?;
        readable(layer.header())?;
        self.write(&Chain::new(vec![layer], None), wanted)
    }

    /// A vmdk image, in another format.
    fn convert_vmdk(&mut self, file: File, wanted: Format) -> Result<Format, DatastoreError> {
        admit_whole(&file, Format::Vmdk, self.policy.largest_disk)?;
        self.write(&SparseDisk::open(file)?, wanted)
    }

    /// A vmdk image out of a stream, in another format: in one pass, where its grains come in order.
    fn vmdk_stream(
        &mut self,
        stream: &mut dyn Read,
        head: &[u8],
        wanted: Format,
    ) -> Result<Format, DatastoreError> {
        admit(head, &within(head), self.policy.largest_disk)?;
        let limit = self.limit(AROUND_A_DISK);
        match Sequential::open(stream::Limited::new(stream, limit))? {
            Opened::Sequential(disk) => {
                let target = self.destination.begin(wanted, Some(disk.virtual_size()))?;
                vmdk::write(disk, target)?;
                Ok(wanted)
            }
            Opened::Unordered(mut stream) => {
                let staged = self.staged(&mut stream, None)?;
                let file = staged.file().try_clone().map_err(reading)?;
                self.convert_vmdk(file, wanted)
            }
        }
    }

    /// A copy of an image that stays what it is. It is judged once more as it lies in the datastore:
    /// the file that it came from may have changed since.
    fn keep(&mut self, file: File, format: Format) -> Result<Format, DatastoreError> {
        let largest = self.policy.largest_disk;
        if self.destination.is_stream() {
            admit_whole(&file, format, largest)?;
            return self.copy(file, format);
        }
        let disk = RawDisk::open(file).map_err(reading)?;
        let target = self.destination.begin(Format::Raw, Some(disk.virtual_size()))?;
        let copy = target.file();
        convert(&disk, target)?;
        admit_whole(copy, format, largest)?;
        if format == Format::Qcow2 {
            warn_of_wrong_counts(&Layer::open(copy.try_clone().map_err(reading)?)?)?;
        }
        Ok(format)
    }

    /// A stream, perhaps compressed: everything happens in one pass, unless a conversion needs all of the
    /// image at once.
    fn stream(&mut self, stream: Box<dyn Read + Send>) -> Result<Format, DatastoreError> {
        let mut stream = ReadAhead::of(stream).map_err(reading)?;
        let head = stream_head(&mut stream)?;
        let mut whole = io::Cursor::new(head.clone()).chain(stream);
        if let Some(kind) = self.policy.archive(&head)? {
            return self.archive_stream(kind, Box::new(whole));
        }
        self.check_choice(&head)?;
        match Content::of(&head) {
            Content::Compressed(compression) if self.policy.decompress => {
                self.decompressed(compression, whole)
            }
            Content::Compressed(_) => self.write_stream(&mut whole, Format::Raw, None),
            _ => self.plain_stream(whole),
        }
    }

    /// A compressed stream, of an image or of an archive with one.
    fn decompressed(
        &mut self,
        compression: Compression,
        stream: impl Read + Send + 'static,
    ) -> Result<Format, DatastoreError> {
        self.length = None;
        record::note(|facts| compression.name().clone_into(&mut facts.compression));
        let mut stream = decompress(compression, stream, self.policy.memory)
            .and_then(ReadAhead::of)
            .map_err(reading)?;
        let head = stream_head(&mut stream)?;
        let whole = io::Cursor::new(head.clone()).chain(stream);
        if let Some(kind) = self.policy.archive(&head)? {
            return self.archive_stream(kind, Box::new(whole));
        }
        self.check_choice(&head)?;
        self.plain_stream(whole)
    }

    /// A stream whose own bytes are the image.
    pub(super) fn plain_stream(&mut self, mut stream: impl Read) -> Result<Format, DatastoreError> {
        let head = stream_head(&mut stream)?;
        if head.is_empty() {
            return Err(ImageRefusal::Empty.into());
        }
        let mut stream = Tail::new(io::Cursor::new(head.as_slice()).chain(stream));
        if self.policy.plain_file {
            return self.write_stream(&mut stream, Format::Raw, Some(self.limit(0)));
        }
        if let Content::Disk(format) = Content::of(&head)
            && format != Format::Raw
        {
            record::note(|facts| format.name().clone_into(&mut facts.format_in));
            if let Some(wanted) = self.policy.driver
                && format == Format::Vmdk
            {
                return self.vmdk_stream(&mut stream, &head, wanted);
            }
            // What is converted is needed whole; what is kept can be judged whole.
            let staged = self.staged(&mut stream, Some(self.limit(AROUND_A_DISK)))?;
            if self.policy.driver.is_some_and(|wanted| wanted != format) {
                let file = staged.file().try_clone().map_err(reading)?;
                let format = self.plain_file(file, &head)?;
                check_writeback(staged.file())?;
                return Ok(format);
            }
            admit_whole(staged.file(), format, self.policy.largest_disk)?;
            if format == Format::Qcow2 {
                let file = staged.file().try_clone().map_err(reading)?;
                warn_of_wrong_counts(&Layer::open(file)?)?;
            }
            self.destination.adopt(staged, format)?;
            return Ok(format);
        }
        let (format, limit) = match admit(&head, &within(&head), self.policy.largest_disk)?.0 {
            Admission::Luks => (Format::Raw, self.limit(AROUND_A_DISK)),
            Admission::Disk(format) => (self.policy.driver.unwrap_or(format), self.limit(0)),
        };
        record::note(|facts| Format::Raw.name().clone_into(&mut facts.format_in));
        let format = self.write_stream(&mut stream, format, Some(limit))?;
        check_trailer(stream.last())?;
        Ok(format)
    }

    /// How long the stream of an image may be whose file holds `around` bytes, and a sixteenth of its disk,
    /// besides the disk. `IMAGE/SIZE` alone is no reason to refuse an image: it may be a user's guess.
    fn limit(&self, around: u64) -> Limit {
        let stated = self.size.and_then(Mebibytes::bytes).unwrap_or(0);
        let disk = self.policy.largest_disk.max(stated);
        let tables = if around > 0 { disk / 16 } else { 0 };
        Limit {
            bytes: disk.saturating_add(tables).saturating_add(around),
            why: "which is more than MAX_VIRTUAL_SIZE in datastore.conf allows; make it smaller, or have the administrator raise that",
        }
    }

    /// Writes the bytes of a raw disk into an image of `format`.
    fn write_stream(
        &mut self,
        stream: &mut dyn Read,
        format: Format,
        limit: Option<Limit>,
    ) -> Result<Format, DatastoreError> {
        if self.destination.needs_size() {
            // A limit is what IMAGE/SIZE comes to, which `stat` has rounded up.
            let announced = limit.and(self.size).and_then(Mebibytes::bytes);
            let Some(size) = self.length.or(announced) else {
                let staged = self.staged(stream, limit)?;
                let file = staged.file().try_clone().map_err(reading)?;
                let format = self.write(&RawDisk::open(file).map_err(reading)?, format)?;
                check_writeback(staged.file())?;
                return Ok(format);
            };
            let target = self.destination.begin(format, Some(size))?;
            let why = "which is all that was announced; register it with its real SIZE";
            stream::write(stream, target, Some(Limit { bytes: size, why }))?;
            return Ok(format);
        }
        let target = self.destination.begin(format, None)?;
        stream::write(stream, target, limit)?;
        Ok(format)
    }

    fn staged(
        &mut self,
        stream: &mut dyn Read,
        limit: Option<Limit>,
    ) -> Result<Staged, DatastoreError> {
        let staged = self.destination.stage()?;
        let target = Target::raw(staged.file(), self.sparse);
        stream::write(stream, target, limit)?;
        Ok(staged)
    }
}

/// The disk in a fixed vhd: all of the file but its footer.
fn disk_of_fixed_vhd(file: &File) -> Result<Option<RawDisk>, DatastoreError> {
    let length = file.metadata().map_err(reading)?.len();
    let read_at = reader_of(file);
    if fixed_vhd_size(length, &read_at).map_err(reading)? == length {
        return Ok(None);
    }
    let size = length - probe::TAIL as u64;
    let disk = RawDisk::beginning(file.try_clone().map_err(reading)?, size);
    Ok(Some(disk.map_err(reading)?))
}

/// Size in bytes of the disk in a file of `length` bytes that looks raw: without the footer of a fixed vhd.
pub(super) fn fixed_vhd_size(length: u64, read_at: ReadAt) -> io::Result<u64> {
    let Some(size) = length.checked_sub(probe::TAIL as u64) else { return Ok(length) };
    let footer = read_at(size, probe::TAIL)?;
    Ok(if probe::fixed_vhd(&footer) == Some(size) { size } else { length })
}

/// Says so where the reference counts of a qcow2 image are wrong. It reads all the same.
fn warn_of_wrong_counts(layer: &Layer) -> Result<(), DatastoreError> {
    if let Some(wrong) = layer.wrong_reference_counts()? {
        log::warn!(
            "the reference counts of the qcow2 image are wrong: {} clusters in use are counted as free, and {} free ones as in use; `qemu-img check -r all` repairs them",
            wrong.missing,
            wrong.leaked
        );
    }
    Ok(())
}

/// What a file may hold besides the data of its disk, bytes: headers, keys, snapshots.
const AROUND_A_DISK: u64 = 64 << 20;
