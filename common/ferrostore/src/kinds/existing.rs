//! What kinds have in common that register what exists already and keep no data themselves.

use super::intake::path_error;
use super::{Datastore, DatastoreError, Usage};
use crate::image_source::{ImageSource, Purpose};
use one_protocol::message::{Image, Mebibytes};

/// Space in a datastore of devices. oned takes no image that is larger than FREE_MB, and those of such
/// a datastore have size 0 unless they say otherwise.
pub(super) const NO_SPACE_OF_ITS_OWN: Usage =
    Usage { used: Mebibytes(0), total: Mebibytes(1), free: Mebibytes(1) };

/// `IMAGE/PATH` as the SOURCE of the image that it names.
///
/// # Errors
/// Where it is missing, or could not be told from the rest of a reply.
pub(super) fn source_of(image: &Image) -> Result<String, DatastoreError> {
    let path = image.path()?;
    if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(path_error(
            image,
            "has blanks or control characters, and OpenNebula ends the name of an image's SOURCE at the first of them: rename it so that it contains neither",
        ));
    }
    Ok(path.to_owned())
}

/// The source of a datastore that registers existing storage and copies none.
///
/// # Errors
/// Where a copy is asked for.
pub(super) fn in_place(
    datastore: &impl Datastore,
    purpose: Purpose,
) -> Result<ImageSource, DatastoreError> {
    match purpose {
        Purpose::Register => Ok(ImageSource::in_place()),
        Purpose::Clone => Err(datastore.not_supported(purpose.action())),
    }
}
