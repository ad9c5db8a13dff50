//! Copying an image that is in a datastore already: `clone`.

use super::new::NewFile;
use super::{FileDatastore, in_sibling};
use crate::kinds::intake::{DISKS, Import, Policy, head_of, reading};
use crate::kinds::{DatastoreError, Registered};
use crate::policy::{Kind, PathError, open_inside};
use crate::snapshots::Snapshots;
use crate::transfer::given::{Bytes, Given, Nature, Outgoing, Pending};
use disk_image::admission::{ImageRefusal, admit_whole, check_size, open_chain, readable};
use disk_image::probe::Content;
use disk_image::qcow2::{Chain, Header, Layer};
use disk_image::raw::RawDisk;
use disk_image::{Disk, Format};
use one_protocol::message::{Image, ImageType};
use runtime::staging::ImageLock;
use runtime::text;
use std::fs::File;
use std::io;
use std::path::Path;

/// An image that is to be copied, and what shall become of it.
pub(super) enum Original {
    /// It stays as it is.
    Kept(File, Format),
    /// Its bytes are written into a new image of this format.
    Disk(Box<dyn Disk>, Format),
    /// Only qemu-img reads it; it becomes another format.
    Foreign(File, Format, Format),
}

impl FileDatastore {
    /// `clone`.
    pub(super) fn duplicate(&self, image: &Image) -> Result<Registered, DatastoreError> {
        let (original, _lock) = self.original(image)?;
        self.new_clone(image, |import| match original {
            // What is in a raw disk now, its guest has written.
            Original::Kept(file, Format::Raw) => import.copy(file, Format::Raw),
            Original::Kept(file, format) => import.keep(file, format),
            Original::Disk(disk, wanted) => import.write(disk.as_ref(), wanted),
            Original::Foreign(file, format, wanted) => {
                let size = admit_whole(&file, format, import.policy.largest_disk)?;
                import.convert_foreign(&file, format, wanted, size)
            }
        })
    }

    /// `clone`, of what another machine sends.
    pub(super) fn duplicate_given(
        &self,
        image: &Image,
        given: Given,
    ) -> Result<Registered, DatastoreError> {
        self.check_clone(image)?;
        self.new_clone(image, |import| import.given(given))
    }

    fn check_clone(&self, image: &Image) -> Result<Policy, DatastoreError> {
        let types = [DISKS[0], ImageType::Cdrom, DISKS[1]];
        self.intake.check_types(image, "clone", &types)?;
        self.intake.policy(image.image_type)
    }

    fn new_clone(
        &self,
        image: &Image,
        write: impl FnOnce(&mut Import) -> Result<Format, DatastoreError>,
    ) -> Result<Registered, DatastoreError> {
        let mut new = NewFile::of(self);
        let policy = self.intake.policy(image.image_type)?;
        let sparse = self.intake.attributes.sparse;
        let mut import = Import::new(policy, image.size, sparse, &mut new);
        let format = write(&mut import).map_err(|error| error.about_path(image))?;
        self.publish_new(new, format)
    }

    /// Opens the image at `IMAGE/PATH`, and keeps others from changing it where it is one of a datastore. What is
    /// open stays what it is without that, too: actions replace files and never write to them.
    pub(super) fn original(
        &self,
        image: &Image,
    ) -> Result<(Original, Option<ImageLock>), DatastoreError> {
        let policy = self.check_clone(image)?;
        let path = text::path(image.path()?);
        // No file of a datastore: then what holds for `cp` holds for it, and it must stand alone.
        let (Some(datastore), Some(name), true) =
            (path.parent(), path.file_name(), in_sibling(&path, &self.directory))
        else {
            let admitted = self.intake.admit_path(image, &path, &[Kind::File])?;
            let original = Original::alone(admitted.file, &image.format, policy);
            return Ok((original.map_err(|error| error.about_path(image))?, None));
        };
        let lock = ImageLock::shared(datastore, name, self.intake.settings.lock_wait());
        let lock = lock.map_err(|error| {
            DatastoreError::value("IMAGE/PATH", image.path().unwrap_or_default(), error)
        })?;
        let original = Original::of_datastore(&path, &image.format, policy)
            .map_err(|error| error.about_path(image))?;
        Ok((original, Some(lock)))
    }
}

impl Original {
    /// The image at `path` as its virtual machine sees it: with its backing files, if these are in the
    /// same datastore.
    fn of_datastore(path: &Path, format: &str, policy: Policy) -> Result<Self, DatastoreError> {
        let datastore = path.parent().unwrap_or(Path::new("/"));
        let snapshots = Snapshots::read(path, format, datastore)?;
        let active = snapshots.as_ref().map_or(path, Snapshots::active_file);
        let unopenable =
            |source: io::Error| -> DatastoreError { PathError::Unopenable { source }.into() };
        let file = open_inside(active, datastore).map_err(unopenable)?;
        if recorded(format, &head_of(&file)?)? == Format::Qcow2 {
            let header = Header::read(&file)?;
            if header.backing_file.is_some() {
                let chain = open_chain(active, datastore)?;
                chain.verify()?;
                check_size(header.size, policy.largest_disk)?;
                let wanted = policy.driver.unwrap_or(Format::Qcow2);
                return Ok(Self::Disk(Box::new(chain), wanted));
            }
        }
        Self::alone(file, format, policy)
    }

    /// The image in `file`, which holds all its data itself.
    fn alone(file: File, format: &str, policy: Policy) -> Result<Self, DatastoreError> {
        let head = head_of(&file)?;
        let format = recorded(format, &head)?;
        let wanted = match Content::of(&head) {
            Content::Luks if format == Format::Raw => Format::Raw,
            _ => policy.driver.unwrap_or(format),
        };
        Ok(match format {
            _ if format == wanted => Self::Kept(file, format),
            Format::Raw => Self::Disk(Box::new(RawDisk::open(file).map_err(reading)?), wanted),
            Format::Qcow2 => {
                admit_whole(&file, format, policy.largest_disk)?;
                let layer = Layer::open(file)?;
                readable(layer.header())?;
                Self::Disk(Box::new(Chain::new(vec![layer], None)), wanted)
            }
            _ => Self::Foreign(file, format, wanted),
        })
    }

    /// The image, for another machine.
    pub(super) fn outgoing(self) -> Result<Outgoing, DatastoreError> {
        let (nature, disk): (_, Box<dyn Disk>) = match self {
            Self::Kept(file, format) | Self::Foreign(file, format, _) => {
                (Nature::File(format), Box::new(RawDisk::open(file).map_err(reading)?))
            }
            Self::Disk(disk, wanted) => (Nature::Disk(wanted), disk),
        };
        Ok(Outgoing { nature, bytes: Bytes::Disk(disk), digests: Pending::Nothing })
    }
}

/// The format of an image whose file begins with `head`, as oned recorded it when it was registered.
fn recorded(format: &str, head: &[u8]) -> Result<Format, ImageRefusal> {
    Ok(match format {
        "qcow2" => Format::Qcow2,
        "vmdk" => Format::Vmdk,
        "vdi" => Format::Vdi,
        "vhdx" => Format::Vhdx,
        "vpc" => Format::Vhd,
        "" => match Content::of(head) {
            Content::Disk(format) => format,
            Content::Luks | Content::Compressed(_) => Format::Raw,
            Content::Refused(name) => return Err(ImageRefusal::Format(name)),
            Content::Ambiguous(one, other) => return Err(ImageRefusal::Ambiguous(one, other)),
        },
        _ => Format::Raw,
    })
}
