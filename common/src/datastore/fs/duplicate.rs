//! Copying an image that is in a datastore already: `clone`.

use super::new::NewFile;
use super::{FileDatastore, in_sibling};
use crate::datastore::intake::{DISKS, Import, head_of, reader_of, reading};
use crate::datastore::{DatastoreError, Registered};
use crate::gate::image::open_chain;
use crate::gate::path::{Kind, open_inside};
use crate::image::Format;
use crate::image::foreign;
use crate::image::probe::Content;
use crate::image::qcow2::Layer;
use crate::image::raw::RawDisk;
use crate::message::{Image, ImageType, text};
use crate::snapshots::Snapshots;
use std::io;
use std::path::Path;

impl FileDatastore {
    /// `clone`.
    pub(super) fn duplicate(&self, image: &Image) -> Result<Registered, DatastoreError> {
        let types = [DISKS[0], ImageType::Cdrom, DISKS[1]];
        self.intake.check_types(image, "clone", &types)?;
        let policy = self.intake.policy(image.image_type)?;
        let path = text::path(image.path()?);
        if !in_sibling(&path, &self.directory) {
            // No file of a datastore: then what holds for `cp` holds for it.
            self.intake.admit_path(image, &path, &[Kind::File])?;
        }
        let mut new = NewFile::of(self);
        let import = Import {
            policy,
            size: image.size,
            sparse: self.intake.attributes.sparse,
            destination: &mut new,
        };
        let format =
            copy_image(import, &path, &image.format).map_err(|error| error.about_path(image))?;
        self.publish_new(new, format)
    }
}

/// Copies the image at `path` as its virtual machine sees it. Its format is what oned recorded
/// when it was registered: what is in a raw disk now, its guest has written.
fn copy_image(mut import: Import, path: &Path, format: &str) -> Result<Format, DatastoreError> {
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
        _ => import.policy.driver.unwrap_or(format),
    };
    if format == Format::Qcow2 {
        let header = Layer::open(file.try_clone().map_err(reading)?)?.header().clone();
        if wanted == Format::Qcow2 && header.backing_file.is_none() {
            return import.keep(file, format);
        }
        return import.write(&open_chain(active, datastore)?, wanted);
    }
    match format {
        _ if format == wanted => import.copy(file, format),
        Format::Raw => import.write(&RawDisk::open(file).map_err(reading)?, wanted),
        _ => {
            let size = foreign::virtual_size(format, &reader_of(&file))?;
            import.convert_foreign(&file, format, wanted, size)
        }
    }
}
