//! File datastores (`fs`): an image is one file `BASE_PATH/<32 hexadecimal digits>`.

mod make;
mod snapshot;
mod source;
mod store;
mod trash;

use self::source::recorded;
use self::store::NewFile;
use super::intake::{Intake, head_of};
use super::{Datastore, DatastoreError, Export, Registered, Usage};
use crate::image_source::{ImageSource, Purpose};
use crate::policy::open_inside;
use crate::snapshots::{Layout, Snapshots, directory_of, with_suffix};
use crate::transfer::digest::md5_of;
use disk_image::qcow2::Header;
use disk_image::{Format, ImageError};
use one_protocol::message::{Image, Mebibytes, Message};
use one_protocol::settings::Settings;
use runtime::mount;
use runtime::staging;
use runtime::staging::{ImageLock, LockError, Staged};
use runtime::text;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A directory that holds images as files.
#[derive(Debug)]
pub struct FileDatastore {
    intake: Intake,
    /// BASE_PATH as it came: what replies begin with.
    base_path: String,
    directory: PathBuf,
    /// Bytes that images in the trash take, once that is known.
    trashed: OnceCell<u64>,
}

impl Datastore for FileDatastore {
    const BRINGS_IN: bool = true;

    fn open(message: &Message, settings: &Settings) -> Result<Self, DatastoreError> {
        let intake = Intake::new(message, settings)?;
        let attributes = &intake.attributes;
        let base_path = attributes.base_path()?.to_owned();

        let directory = text::path(&base_path);
        let mut trashed = Some(0);
        if settings.has_storage() {
            if let Some(export) = &attributes.nfs {
                mount::ensure(export, &directory)?;
            }
            staging::remove_stale(&directory);
            trashed = trash::open(&directory);
        }
        let trashed = trashed.map_or_else(OnceCell::new, OnceCell::from);
        Ok(Self { intake, base_path, directory, trashed })
    }

    fn ds_mad(&self) -> &str {
        &self.intake.attributes.ds_mad
    }

    fn located(&self, error: DatastoreError) -> DatastoreError {
        match error {
            DatastoreError::Image(error @ ImageError::Write { .. }) => {
                self.base_error(&format!("can't take the image: {error}"))
            }
            DatastoreError::Staging(error) => {
                self.base_error(&format!("can't be written: {error}"))
            }
            other => other,
        }
    }

    fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        self.open_source(image, purpose)
    }

    fn store(&self, image: &Image, mut source: ImageSource) -> Result<Registered, DatastoreError> {
        let policy = self.check(image, source.payload.purpose())?;
        // Up to the end: what is copied must not be removed meanwhile.
        let _guard = source.guard.take();
        let mut new = NewFile::of(self);
        let format = self.intake.import(image, source, policy, &mut new)?;
        new.publish(format)
    }

    fn mkfs(&self, image: &Image) -> Result<String, DatastoreError> {
        self.make(image)
    }

    fn rm(&self, image: &Image) -> Result<(), DatastoreError> {
        let file = self.own_image(image)?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(self.source_error(image, "is a directory and no image: remove it by hand"));
        }
        // The image first: once it is gone, the rest means nothing.
        let parts = [file.clone(), directory_of(&file), with_suffix(&file, ".md5sum")];
        let is_gone = || {
            let gone = parts.iter().all(|part| fs::symlink_metadata(part).is_err());
            if gone {
                log::info!("file {} was gone already", file.display());
            }
            gone
        };
        if is_gone() {
            return Ok(());
        }
        let keep = self.intake.retention()?;
        let lock = self.lock(image, &file)?;
        // Another driver may have held the lock.
        if is_gone() {
            return Ok(());
        }
        self.discard(image, lock, &parts, keep).map_err(|error| self.source_error(image, error))
    }

    fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        self.intake.measure(image)
    }

    fn snap_revert(&self, image: &Image) -> Result<(), DatastoreError> {
        self.revert(image)
    }

    fn snap_delete(&self, image: &Image) -> Result<(), DatastoreError> {
        self.delete_snapshot(image)
    }

    fn snap_flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        self.flatten(image)
    }

    fn monitor(&self) -> Result<Usage, DatastoreError> {
        self.ensure_directory()?;
        let stat = nix::sys::statvfs::statvfs(&self.directory)
            .map_err(|errno| self.base_error(&format!("can't be measured: {errno}")))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        let used = bytes(stat.blocks().saturating_sub(stat.blocks_free()));
        // What goes as soon as its space is needed is as good as free.
        let trashed = self.trashed().min(used);
        Ok(Usage {
            used: Mebibytes::holding(used - trashed),
            total: Mebibytes::holding(bytes(stat.blocks())),
            free: Mebibytes::holding(bytes(stat.blocks_available()).saturating_add(trashed)),
        })
    }

    fn export(&self, image: &Image) -> Result<Export, DatastoreError> {
        let path = self.own_image(image)?;
        let wait = self.intake.settings.lock_wait()?;
        let lock = ImageLock::shared(&self.directory, name_of(&path), wait);
        let _lock = lock.map_err(|error| self.source_error(image, error))?;
        let unreadable =
            |error: io::Error| self.source_error(image, format_args!("can't be read: {error}"));
        let file = open_inside(&path, &self.directory).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let snapshots = Snapshots::read(&path, &image.format, &self.directory)?;
        if snapshots.is_some_and(|snapshots| snapshots.layout() == Layout::Chain) {
            return Err(self.source_error(image, "is only the base of its snapshots: flatten the image to one of them before exporting it"));
        }
        let format = recorded(&image.format, &head_of(&file)?).unwrap_or(Format::Raw);
        let size = if format == Format::Qcow2 {
            Header::read(&file)
                .map_err(|error| {
                    DatastoreError::from(error)
                        .about("IMAGE/SOURCE", image.source().unwrap_or_default())
                })?
                .size
        } else {
            metadata.len()
        };
        Ok(Export {
            import_source: image.source()?.to_owned(),
            md5: md5_of(&file).map_err(unreadable)?,
            size: Mebibytes::holding(size),
            format: format.name().to_owned(),
        })
    }
}

impl FileDatastore {
    fn base_error(&self, reason: &str) -> DatastoreError {
        DatastoreError::value("DATASTORE/BASE_PATH", &self.base_path, reason)
    }

    #[allow(clippy::unused_self)] // reads as the others
    fn source_error(&self, image: &Image, reason: impl std::fmt::Display) -> DatastoreError {
        DatastoreError::value("IMAGE/SOURCE", image.source().unwrap_or_default(), reason)
    }

    /// Makes BASE_PATH where it is missing.
    fn ensure_directory(&self) -> Result<(), DatastoreError> {
        fs::create_dir_all(&self.directory).map_err(|error| {
            self.base_error(&format!(
                "can't be created: {error}; create it for the user that runs OpenNebula"
            ))
        })
    }

    /// Keeps other actions away from the image in `file`.
    fn lock(&self, image: &Image, file: &Path) -> Result<ImageLock, DatastoreError> {
        let wait = self.intake.settings.lock_wait()?;
        let lock = ImageLock::exclusive(&self.directory, name_of(file), wait);
        lock.map_err(|error| match error {
            LockError::InUse { .. } => self.source_error(image, error),
            LockError::Staging(error) => error.into(),
        })
    }

    /// A staged file in BASE_PATH.
    fn stage(&self) -> Result<Staged, DatastoreError> {
        let mode = self.intake.settings.image_mode()?;
        self.ensure_directory()?;
        let _ = self.trashed();
        let staged = Staged::create(&self.directory)?;
        if let Some(mode) = mode {
            staged.set_mode(mode)?;
        }
        Ok(staged)
    }

    /// SOURCE of the image named `name`.
    fn source_of(&self, name: &str) -> String {
        format!("{}/{name}", self.base_path.trim_end_matches('/'))
    }

    /// Puts a staged image in place; what it is recorded as.
    fn publish(&self, staged: Staged, format: Format) -> Result<Registered, DatastoreError> {
        let name = staged.publish()?;
        Ok(Registered { source: self.source_of(&name), format: format.name() })
    }

    /// The path of `IMAGE/SOURCE`, which must lie directly in BASE_PATH.
    fn own_image(&self, image: &Image) -> Result<PathBuf, DatastoreError> {
        let source = text::path(image.source()?);
        let outside = || {
            self.source_error(
                image,
                format_args!("is not directly in DATASTORE/BASE_PATH {}: only files of the datastore itself are touched", text::shown(&self.base_path)),
            )
        };
        let plain = source.is_absolute()
            && !source.components().any(|part| part == Component::ParentDir)
            && !source.to_string_lossy().ends_with('/');
        let (Some(parent), Some(name)) = (source.parent(), source.file_name()) else {
            return Err(outside());
        };
        // Paths compare by components, so "//" and "/./" make no difference.
        let inside = parent == self.directory
            || match (parent.canonicalize(), self.directory.canonicalize()) {
                (Ok(parent), Ok(directory)) => parent == directory,
                _ => false,
            };
        if !plain || !inside || staging::is_own(name) {
            return Err(outside());
        }
        Ok(self.directory.join(name))
    }
}

fn name_of(file: &Path) -> &OsStr {
    file.file_name().unwrap_or_default()
}

/// Whether `path` lies in a datastore beside the one in `directory`: `<all datastores>/<id>/<name>`.
fn in_sibling(path: &Path, directory: &Path) -> bool {
    let grandparent = |path: &Path| path.parent().and_then(Path::parent).map(Path::to_owned);
    let plain = !path.components().any(|part| part == Component::ParentDir);
    plain && path.is_absolute() && grandparent(path).as_deref() == directory.parent()
}
