//! `mkfs` and `clone`.

use super::names::{ImageName, split};
use super::new::NewImage;
use super::{CephDatastore, LARGE, new_name};
use crate::image_source::{Bytes, ImageSource, Payload};
use crate::kinds::DatastoreError;
use crate::kinds::intake::{DISKS, Destination as _, file_system_error};
use disk_image::Format;
use disk_image::admission::check_size;
use one_protocol::message::{Image, Mebibytes};
use runtime::command::rbd::Pool;
use runtime::command::{self, Output};
use std::io::{self, Read};

impl CephDatastore {
    /// `mkfs`.
    pub(super) fn make(&self, image: &Image) -> Result<String, DatastoreError> {
        self.intake.check_types(image, "mkfs", &DISKS)?;
        let name = new_name(image)?;
        let source = self.source_of(name);
        let swap = match image.format.as_str() {
            // The transfer driver will put a virtual machine's disk there.
            "save_as" => return Ok(source),
            "" | "raw" => false,
            "swap" => true,
            other => {
                return Err(DatastoreError::value(
                    "IMAGE/FORMAT",
                    other,
                    "can't be made: a Ceph datastore keeps raw images, so it must be raw or swap",
                ));
            }
        };
        let size = image.size()?;
        let too_large = |why: &dyn std::fmt::Display| {
            DatastoreError::value("IMAGE/SIZE", size.to_string(), why.to_string())
        };
        let bytes = size.bytes().ok_or_else(|| too_large(&"is more MiB than an image can hold"))?;
        check_size(bytes, self.intake.settings.largest_disk()?)
            .map_err(|error| too_large(&error))?;
        let fs = self.intake.file_system(image, swap)?;
        let mut new = NewImage::of(self, name);
        if swap || fs.is_some() {
            self.fill_by_programs(&mut new, bytes, swap, fs, size)?;
        } else {
            new.create_empty(bytes)?;
        }
        new.finish()?;
        Ok(source)
    }

    /// Has the programs that make file systems and swap space work on a sparse file, and takes that.
    fn fill_by_programs(
        &self,
        new: &mut NewImage,
        bytes: u64,
        swap: bool,
        fs: Option<(String, Vec<String>)>,
        size: Mebibytes,
    ) -> Result<(), DatastoreError> {
        let staged = new.stage()?;
        staged.file().set_len(bytes).map_err(|source| DatastoreError::System {
            what: format!(
                "a file of {size} MiB can't be made in STAGING_DIR {}",
                self.place.staging_directory.display()
            ),
            source,
        })?;
        if swap {
            command::mkswap(staged.path())?;
        }
        if let Some((fs, options)) = fs {
            command::mkfs(&fs, &options, staged.path())
                .map_err(|error| file_system_error(&fs, size, &error))?;
        }
        new.adopt(staged, Format::Raw).map_err(|error| new.explained(error))
    }

    /// The image to clone. Nothing is read of it unless it goes to another machine: here the cluster copies it.
    pub(super) fn open_image(&self, image: &Image) -> Result<ImageSource, DatastoreError> {
        let (pool, original) = self.original(image)?;
        *self.reading.borrow_mut() = Some(format!("{pool}/{original}"));
        let pool = Pool { name: pool.to_owned(), ..self.pool().clone() };
        let export = Export { pool, image: original.to_owned(), started: None };
        Ok(ImageSource::new(Payload::Disk(Format::Raw), Bytes::Stream(Box::new(export))))
    }

    /// Copies the image `original` of the same cluster, so that it stands alone.
    #[allow(clippy::unused_self)] // reads as the others
    pub(super) fn copy(
        &self,
        image: &Image,
        original: &str,
        new: &mut NewImage,
    ) -> Result<(), DatastoreError> {
        let size = image.size.and_then(Mebibytes::bytes).unwrap_or(LARGE);
        let copied = new.create(|pool, temporary| pool.copy(original, temporary, size));
        copied.map_err(|error| missing(image, error))
    }

    /// The image to clone, which is in a pool of the same cluster.
    fn original<'i>(&self, image: &'i Image) -> Result<(&'i str, &'i str), DatastoreError> {
        let path = image.path()?;
        split(path).ok_or_else(|| {
            DatastoreError::value(
                "IMAGE/PATH",
                path,
                format_args!(
                    "is no image of a Ceph datastore, which would be {}/{}",
                    self.pool().name,
                    ImageName { id: 0 }.main()
                ),
            )
        })
    }
}

/// All bytes of an image, from when the first of them is asked for.
#[derive(Debug)]
struct Export {
    pool: Pool,
    image: String,
    started: Option<Output>,
}

impl Read for Export {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = match &mut self.started {
            Some(stream) => stream,
            none => {
                let stream = self.pool.export(&self.image, LARGE).map_err(io::Error::other)?;
                none.insert(stream)
            }
        };
        stream.read(buffer)
    }
}

/// Says of an image to clone that is not there where it would have to be.
fn missing(image: &Image, error: DatastoreError) -> DatastoreError {
    match error {
        DatastoreError::Cluster(error) if error.is_missing() => DatastoreError::value(
            "IMAGE/PATH",
            image.path().unwrap_or_default(),
            format_args!(
                "is no image of the cluster that this datastore is in: images can't be cloned from one cluster (CEPH_CONF) to another: {error}"
            ),
        ),
        other => other,
    }
}
