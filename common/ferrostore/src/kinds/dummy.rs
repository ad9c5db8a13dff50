//! No storage at all (`dummy`): every verb succeeds with an answer that could be one, and nothing is
//! done. It is for trying an installation. The answers are those of OpenNebula's own driver of that name.

use super::{Datastore, DatastoreError, Export, Registered, Usage};
use crate::image_source::{ImageSource, Purpose};
use one_protocol::message::{Image, Mebibytes, Message};
use one_protocol::settings::Settings;

const SOURCE: &str = "dummy_path";
const FORMAT: &str = "dummy_format";

/// Size of every image.
const SIZE: Mebibytes = Mebibytes(1024);

/// Images that exist as records only.
#[derive(Debug)]
pub struct DummyDatastore {
    ds_mad: String,
}

impl Datastore for DummyDatastore {
    fn open(message: &Message, _: &Settings) -> Result<Self, DatastoreError> {
        Ok(Self { ds_mad: message.datastore()?.ds_mad.clone() })
    }

    fn ds_mad(&self) -> &str {
        &self.ds_mad
    }

    fn source(&self, _: &Image, _: Purpose) -> Result<ImageSource, DatastoreError> {
        Ok(ImageSource::in_place())
    }

    fn store(&self, _: &Image, _: ImageSource) -> Result<Registered, DatastoreError> {
        Ok(Registered { source: SOURCE.to_owned(), format: FORMAT })
    }

    fn mkfs(&self, _: &Image) -> Result<String, DatastoreError> {
        Ok(SOURCE.to_owned())
    }

    fn rm(&self, _: &Image) -> Result<(), DatastoreError> {
        Ok(())
    }

    fn stat(&self, _: &Image) -> Result<Mebibytes, DatastoreError> {
        Ok(SIZE)
    }

    fn snap_revert(&self, _: &Image) -> Result<(), DatastoreError> {
        Ok(())
    }

    fn snap_delete(&self, _: &Image) -> Result<(), DatastoreError> {
        Ok(())
    }

    fn snap_flatten(&self, _: &Image) -> Result<(), DatastoreError> {
        Ok(())
    }

    fn monitor(&self) -> Result<Usage, DatastoreError> {
        Ok(Usage { used: Mebibytes(9720), total: Mebibytes(20480), free: Mebibytes(20480) })
    }

    fn export(&self, _: &Image) -> Result<Export, DatastoreError> {
        Ok(Export {
            import_source: SOURCE.to_owned(),
            md5: "0".repeat(32),
            size: SIZE,
            format: FORMAT.to_owned(),
        })
    }
}
