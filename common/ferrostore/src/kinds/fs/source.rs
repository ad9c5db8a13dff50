//! Images that are brought in: from `IMAGE/PATH` for `cp`, from a datastore for `clone`.

use super::store::REGISTERED;
use super::{FileDatastore, in_sibling};
use crate::image_source::{Bytes, ImageSource, Payload, Purpose};
use crate::kinds::DatastoreError;
use crate::kinds::intake::{DISKS, Policy, head_of};
use crate::policy::{Kind, PathError, open_inside};
use crate::snapshots::Snapshots;
use disk_image::admission::{ImageRefusal, admit_whole, check_size, open_chain, readable};
use disk_image::probe::Content;
use disk_image::qcow2::{Chain, Header, Layer};
use disk_image::vmdk::SparseDisk;
use disk_image::{Disk, Format};
use one_protocol::message::{Image, ImageType};
use runtime::staging::ImageLock;
use runtime::text;
use std::fs::File;
use std::io;
use std::path::Path;

impl FileDatastore {
    /// The image at `IMAGE/PATH`.
    pub(super) fn open_source(
        &self,
        image: &Image,
        purpose: Purpose,
    ) -> Result<ImageSource, DatastoreError> {
        let policy = self.check(image, purpose)?;
        match purpose {
            Purpose::Register => self.intake.open(image),
            Purpose::Clone => self.open_image(image, policy),
        }
    }

    /// Checks that images of this type are brought in here, and how.
    pub(super) fn check(&self, image: &Image, purpose: Purpose) -> Result<Policy, DatastoreError> {
        const CLONED: [ImageType; 3] = [DISKS[0], ImageType::Cdrom, DISKS[1]];
        let types: &[ImageType] = match purpose {
            Purpose::Register => &REGISTERED,
            Purpose::Clone => &CLONED,
        };
        self.intake.check_types(image, purpose.action(), types)?;
        self.intake.policy(image.image_type)
    }

    /// Opens the image at `IMAGE/PATH`, and keeps others from changing it where it is one of a datastore. What is
    /// open stays what it is without that, too: actions replace files and never write to them.
    fn open_image(&self, image: &Image, policy: Policy) -> Result<ImageSource, DatastoreError> {
        let path = text::path(image.path()?);
        // No file of a datastore: then what holds for `cp` holds for it, and it must stand alone.
        let (Some(datastore), Some(name), true) =
            (path.parent(), path.file_name(), in_sibling(&path, &self.directory))
        else {
            let file = self.intake.admit_path(image, &path, &[Kind::File])?.file;
            return standing_alone(file, &image.format, policy);
        };
        let lock = ImageLock::shared(datastore, name, self.intake.settings.lock_wait()?);
        let lock = lock.map_err(|error| {
            DatastoreError::value("IMAGE/PATH", image.path().unwrap_or_default(), error)
        })?;
        let source = of_datastore(&path, &image.format, policy)?;
        Ok(ImageSource { guard: Some(Box::new(lock)), ..source })
    }
}

/// The image at `path` as its virtual machine sees it: with its backing files, if these are in the same datastore.
fn of_datastore(path: &Path, format: &str, policy: Policy) -> Result<ImageSource, DatastoreError> {
    let datastore = path.parent().unwrap_or(Path::new("/"));
    let snapshots = Snapshots::read(path, format, datastore)?;
    let active = snapshots.as_ref().map_or(path, Snapshots::active_file);
    let unopenable =
        |source: io::Error| -> DatastoreError { PathError::Unopenable { source }.into() };
    let file = open_inside(active, datastore).map_err(unopenable)?;
    if recorded(format, &head_of(&file)?)? == Format::Qcow2 {
        let header = Header::read(&file)?;
        // Where oned does not know it as qcow2, nor has it snapshots, its guest may have written that name.
        let may_back = named(format).is_some() || snapshots.is_some();
        if header.backing_file.is_some() && may_back {
            let chain = open_chain(active, datastore)?;
            chain.verify()?;
            check_size(header.size, policy.largest_disk)?;
            return Ok(as_disk(chain, policy.driver.unwrap_or(Format::Qcow2)));
        }
    }
    standing_alone(file, format, policy)
}

/// The image in `file`, which holds all its data itself.
fn standing_alone(file: File, format: &str, policy: Policy) -> Result<ImageSource, DatastoreError> {
    let format = recorded(format, &head_of(&file)?)?;
    match policy.driver {
        // The guest's bytes, and not the file, so that nothing is staged where they go.
        Some(wanted) if format == Format::Qcow2 && wanted != format => {
            admit_whole(&file, format, policy.largest_disk)?;
            let layer = Layer::open(file)?;
            readable(layer.header())?;
            Ok(as_disk(Chain::new(vec![layer], None), wanted))
        }
        Some(wanted) if format == Format::Vmdk => {
            admit_whole(&file, format, policy.largest_disk)?;
            Ok(as_disk(SparseDisk::open(file)?, wanted))
        }
        _ => Ok(ImageSource::new(Payload::File(format), Bytes::File(file))),
    }
}

fn as_disk(disk: impl Disk + 'static, wanted: Format) -> ImageSource {
    ImageSource::new(Payload::Disk(wanted), Bytes::Disk(Box::new(disk)))
}

/// The format of an image whose file begins with `head`: as oned recorded it when it was registered, or, where that is a
/// word that names no format (`save_as`), what the file is.
pub(super) fn recorded(format: &str, head: &[u8]) -> Result<Format, ImageRefusal> {
    if let Some(format) = named(format) {
        return Ok(format);
    }
    match Content::of(head) {
        Content::Disk(format) => Ok(format),
        Content::Luks | Content::Compressed(_) => Ok(Format::Raw),
        Content::Refused(name) => Err(ImageRefusal::Format(name)),
        Content::Ambiguous(one, other) => Err(ImageRefusal::Ambiguous(one, other)),
    }
}

/// The format that a word of a message names.
fn named(word: &str) -> Option<Format> {
    let formats =
        [Format::Raw, Format::Qcow2, Format::Vmdk, Format::Vdi, Format::Vhdx, Format::Vhd];
    match word {
        "swap" => Some(Format::Raw),
        _ => formats.into_iter().find(|format| format.name() == word),
    }
}
