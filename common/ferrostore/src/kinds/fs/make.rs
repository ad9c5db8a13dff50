//! Making a new empty image: `mkfs`.

use super::FileDatastore;
use crate::kinds::DatastoreError;
use crate::kinds::intake::{DISKS, check_writeback, file_system_error};
use disk_image::admission::check_size;
use disk_image::raw::RawDisk;
use disk_image::target::Target;
use disk_image::{Format, ImageError, convert, qcow2};
use one_protocol::message::Image;
use runtime::command::{self, CommandError};
use runtime::space;
use runtime::staging;
use runtime::staging::Staged;

/// Why a file system can't be made.
enum MakeError {
    /// There is no file for it.
    Empty(DatastoreError),
    /// The program failed, on a disk that was full then or not.
    Program(CommandError, bool),
}

/// A disk with less free space is full, bytes: the program has written what it could.
const FULL: u64 = 1 << 20;

impl FileDatastore {
    /// `mkfs`.
    pub(super) fn make(&self, image: &Image) -> Result<String, DatastoreError> {
        self.intake.check_types(image, "mkfs", &DISKS)?;
        if image.format == "save_as" {
            // The transfer driver will put a virtual machine's disk there.
            let name = staging::image_name().map_err(|source| DatastoreError::System {
                what: "no name can be made for the image".to_owned(),
                source,
            })?;
            return Ok(self.source_of(&name));
        }
        let size = image.size()?;
        let bytes = size.bytes().ok_or_else(|| {
            DatastoreError::value(
                "IMAGE/SIZE",
                size.to_string(),
                "is more MiB than a file can hold",
            )
        })?;
        let format = match image.format.as_str() {
            "" | "raw" | "swap" => Format::Raw,
            "qcow2" => Format::Qcow2,
            other => {
                return Err(DatastoreError::value(
                    "IMAGE/FORMAT",
                    other,
                    "can't be made: it must be raw, qcow2 or swap",
                ));
            }
        };
        let swap = image.format == "swap";
        let fs = self.intake.file_system(image, swap)?;
        check_size(bytes, self.intake.settings.largest_disk()?)
            .map_err(|error| DatastoreError::value("IMAGE/SIZE", size.to_string(), error))?;
        if format == Format::Qcow2 {
            qcow2::check_size(bytes)
                .map_err(|error| DatastoreError::value("IMAGE/SIZE", size.to_string(), error))?;
        }
        let staged = match fs {
            None => {
                let staged = self.empty(bytes, format)?;
                if swap {
                    command::mkswap(staged.path())?;
                }
                staged
            }
            Some((fs, options)) => {
                let make = || {
                    let staged = self.empty(bytes, Format::Raw).map_err(MakeError::Empty)?;
                    command::mkfs(&fs, &options, staged.path()).map_err(|error| {
                        let full =
                            error.is_out_of_space() || space::available(staged.file()) < FULL;
                        MakeError::Program(error, full)
                    })?;
                    Ok(staged)
                };
                let is_full = |error: &MakeError| matches!(error, MakeError::Program(_, true));
                let staged = space::with_space_for_program(make, is_full);
                let staged = staged.map_err(|error| match error {
                    MakeError::Empty(error) => error,
                    MakeError::Program(error, _) => file_system_error(&fs, size, &error),
                })?;
                self.in_format(staged, format)?
            }
        };
        Ok(self.publish(staged, format)?.source)
    }

    fn empty(&self, bytes: u64, format: Format) -> Result<Staged, DatastoreError> {
        let staged = self.stage()?;
        let target = match format {
            Format::Qcow2 => Target::qcow2(staged.file()),
            _ => Target::raw(staged.file(), self.intake.attributes.sparse),
        };
        target.finish(bytes).map_err(|error| match error {
            ImageError::Write { source, .. } if source.raw_os_error() == Some(nix::libc::EFBIG) => {
                DatastoreError::value(
                    "IMAGE/SIZE",
                    (bytes >> 20).to_string(),
                    "is more MiB than a file of this datastore can hold",
                )
            }
            other => other.into(),
        })?;
        Ok(staged)
    }

    /// The raw image in `staged` in another format.
    fn in_format(&self, staged: Staged, format: Format) -> Result<Staged, DatastoreError> {
        let reading = |source| ImageError::Read { offset: 0, source };
        if format == Format::Raw {
            if !self.intake.attributes.sparse {
                // Making the file system may have freed blocks again.
                let length = staged.file().metadata().map_err(reading)?.len();
                Target::raw(staged.file(), false).finish(length)?;
            }
            return Ok(staged);
        }
        let raw = RawDisk::open(staged.file().try_clone().map_err(reading)?).map_err(reading)?;
        let converted = self.stage()?;
        convert(&raw, Target::qcow2(converted.file()))?;
        check_writeback(staged.file())?;
        Ok(converted)
    }
}
