//! Writing an image into its destination, whatever it is and however it comes.

use super::bytes::{stream_head, within};
use super::warnings::{warn_of_capacity, warn_of_size, warn_of_wrong_counts};
use super::{Destination, Intake, Policy};
use super::{check_writeback, head_of, reader_of, reading};
use crate::image_source::{Bytes, ImageSource, Payload};
use crate::kinds::DatastoreError;
use crate::progress::{self, Source};
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
use runtime::space::{self, Expectation};
use runtime::staging::Staged;
use std::fs::File;
use std::io::{self, Read};

/// What a file may hold besides the data of its disk, bytes: headers, keys, snapshots.
const AROUND_A_DISK: u64 = 64 << 20;

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
            capacity: None,
            rest_is_image: true,
            is_compressed: false,
            destination,
        };
        let step = match (source.payload, source.bytes) {
            (Payload::Unvalidated, Bytes::File(file)) => import.file(file)?,
            (Payload::File(format), Bytes::File(file)) => import.image_file(file, format)?,
            (Payload::Disk(wanted), Bytes::File(file)) => Step::Write(Plan::copy(file, wanted)?),
            (Payload::Disk(wanted), Bytes::Disk(disk)) => Step::Write(Plan::new(disk, wanted)),
            (Payload::Unvalidated, Bytes::Stream(stream)) => Step::Done(import.stream(stream)?),
            (Payload::Member, Bytes::Stream(stream)) => Step::Done(import.member(stream)?),
            (Payload::File(format), Bytes::Stream(stream)) => {
                Step::Done(import.image_stream(stream, format)?)
            }
            (Payload::Disk(wanted), Bytes::Stream(stream)) => {
                Step::Done(import.disk_stream(stream, wanted)?)
            }
            // No kind opens these, and no other machine sends them.
            (Payload::Unvalidated | Payload::Member | Payload::File(_), Bytes::Disk(_))
            | (Payload::Member, Bytes::File(_))
            | (Payload::InPlace, _)
            | (_, Bytes::Nothing) => return Err(reading(io::ErrorKind::Unsupported.into()).into()),
        };
        let format = match step {
            Step::Done(format) => format,
            Step::Write(plan) => import.carry_out(&plan)?,
        };
        let capacity = import.capacity;
        source.digests.verify()?;
        if let Some(capacity) = capacity {
            warn_of_capacity(capacity, destination.disk_size(format));
        }
        if image.from_app {
            warn_of_size(image, destination.disk_size(format));
        }
        Ok(format)
    }
}

/// What follows once it is known what a file is.
enum Step {
    /// Nothing: the image is in its destination, in this format.
    Done(Format),
    /// A disk is written.
    Write(Plan),
}

/// How a disk comes into a destination.
struct Plan {
    disk: Box<dyn Disk>,
    /// The format that it is written in.
    layout: Format,
    /// The format that the result is in: another than `layout` where the bytes of an image are the disk.
    format: Format,
    /// Whether the result is judged as it lies in the destination: the file that it came from may have changed.
    judged: bool,
}

impl Plan {
    /// A disk in a format.
    fn new(disk: Box<dyn Disk>, format: Format) -> Self {
        Self { disk, layout: format, format, judged: false }
    }

    /// A file as it is, holes included, whose bytes are an image of `format`.
    fn copy(file: File, format: Format) -> Result<Self, DatastoreError> {
        let disk = Box::new(RawDisk::open(file).map_err(reading)?);
        Ok(Self { disk, layout: Format::Raw, format, judged: false })
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
    /// What an OVF file says that the disk has, bytes.
    pub(super) capacity: Option<u64>,
    /// Whether all that is yet to come of a stream belongs to the image.
    pub(super) rest_is_image: bool,
    /// Whether the stream is compressed.
    is_compressed: bool,
    pub(super) destination: &'d mut dyn Destination,
}

impl Import<'_> {
    /// The image in `file`, perhaps compressed.
    fn file(&mut self, file: File) -> Result<Step, DatastoreError> {
        let head = head_of(&file)?;
        if head.is_empty() {
            return Err(ImageRefusal::Empty.into());
        }
        if let Some(kind) = self.policy.archive(&head)? {
            return self.archive_file(kind, &file).map(Step::Done);
        }
        self.check_choice(&head)?;
        match Content::of(&head) {
            Content::Compressed(compression) if self.policy.decompress => {
                let length = file.metadata().ok().map(|metadata| metadata.len());
                let whole = Source::new(Whole { file, offset: 0 }, length);
                self.decompressed(compression, whole).map(Step::Done)
            }
            Content::Compressed(_) => Plan::copy(file, Format::Raw).map(Step::Write),
            _ if self.policy.plain_file => Plan::copy(file, Format::Raw).map(Step::Write),
            _ => self.plain_file(file, &head),
        }
    }

    /// The file of an image of a datastore, which is recorded there as `format`.
    fn image_file(&mut self, file: File, format: Format) -> Result<Step, DatastoreError> {
        let wanted = self.wanted(format, &head_of(&file)?);
        match format {
            // What is in a raw disk, its guest has written: it is not judged.
            Format::Raw if wanted == Format::Raw => Plan::copy(file, format).map(Step::Write),
            Format::Raw => {
                let disk = RawDisk::open(file).map_err(reading)?;
                Ok(Step::Write(Plan::new(Box::new(disk), wanted)))
            }
            _ if format == wanted => self.kept(file, format).map(Step::Write),
            _ => self.converted(file, format, wanted),
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
            let format = self.staged_file(file, &head)?;
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

    /// Writes a disk as planned. An image that stays what it is, is judged once more as it lies in the datastore.
    fn carry_out(&mut self, plan: &Plan) -> Result<Format, DatastoreError> {
        let disk = plan.disk.as_ref();
        let target = self.destination.begin(plan.layout, Some(disk.virtual_size()))?;
        let written = target.file();
        convert(disk, target)?;
        if plan.judged {
            admit_whole(written, plan.format, self.policy.largest_disk)?;
            if plan.format == Format::Qcow2 {
                warn_of_wrong_counts(&Layer::open(written.try_clone().map_err(reading)?)?)?;
            }
        }
        Ok(plan.format)
    }

    /// A file that was staged out of a stream and begins with `head`.
    fn staged_file(&mut self, file: File, head: &[u8]) -> Result<Format, DatastoreError> {
        match self.plain_file(file, head)? {
            Step::Done(format) => Ok(format),
            Step::Write(plan) => self.carry_out(&plan),
        }
    }

    /// A file whose own bytes, which begin with `head`, are the image.
    fn plain_file(&mut self, file: File, head: &[u8]) -> Result<Step, DatastoreError> {
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
            return Ok(Step::Write(Plan::new(Box::new(disk), wanted)));
        }
        if format == wanted {
            return self.kept(file, format).map(Step::Write);
        }
        self.converted(file, format, wanted)
    }

    /// An image that stays what it is.
    fn kept(&self, file: File, format: Format) -> Result<Plan, DatastoreError> {
        if self.destination.is_stream() {
            admit_whole(&file, format, self.policy.largest_disk)?;
            return Plan::copy(file, format);
        }
        Ok(Plan { judged: true, ..Plan::copy(file, format)? })
    }

    /// An image that stands alone, in another format.
    fn converted(
        &mut self,
        file: File,
        format: Format,
        wanted: Format,
    ) -> Result<Step, DatastoreError> {
        let size = admit_whole(&file, format, self.policy.largest_disk)?;
        let disk: Box<dyn Disk> = match format {
            Format::Raw => Box::new(RawDisk::open(file).map_err(reading)?),
            Format::Qcow2 => {
                let layer = Layer::open(file)?;
                warn_of_wrong_counts(&layer)?;
                readable(layer.header())?;
                Box::new(Chain::new(vec![layer], None))
            }
            Format::Vmdk => Box::new(SparseDisk::open(file)?),
            _ => return self.convert_foreign(&file, format, wanted, size).map(Step::Done),
        };
        Ok(Step::Write(Plan::new(disk, wanted)))
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
                let _expected = self.expect_rest();
                let target = self.destination.begin(wanted, Some(disk.virtual_size()))?;
                space::prepare(target.file(), None);
                vmdk::write(disk, target)?;
                Ok(wanted)
            }
            Opened::Unordered(mut stream) => {
                let staged = self.staged(&mut stream, None)?;
                let file = staged.file().try_clone().map_err(reading)?;
                admit_whole(&file, Format::Vmdk, self.policy.largest_disk)?;
                self.write(&SparseDisk::open(file)?, wanted)
            }
        }
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
        self.is_compressed = true;
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
                let format = self.staged_file(file, &head)?;
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
        // Zeroes may be yet to come, which are left out.
        self.rest_is_image &= self.is_compressed || !self.sparse;
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
        let _expected = self.expect_rest();
        let target = self.destination.begin(format, None)?;
        space::prepare(target.file(), None);
        stream::write(stream, target, limit)?;
        Ok(format)
    }

    fn staged(
        &mut self,
        stream: &mut dyn Read,
        limit: Option<Limit>,
    ) -> Result<Staged, DatastoreError> {
        let _expected = self.expect_rest();
        let staged = self.destination.stage()?;
        space::prepare(staged.file(), None);
        let target = Target::raw(staged.file(), self.sparse);
        stream::write(stream, target, limit)?;
        Ok(staged)
    }

    /// Has a full disk be known to need what is yet to come of a stream: what is compressed only grows.
    fn expect_rest(&self) -> Option<Expectation> {
        self.rest_is_image.then(|| space::expect(|_| progress::rest().unwrap_or(0)))
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
