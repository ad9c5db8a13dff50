//! What is wrong with an image that is registered all the same.

use crate::kinds::DatastoreError;
use disk_image::qcow2::Layer;
use one_protocol::message::{Image, Mebibytes};

/// Tells of the size in bytes that the disk of an image out of a marketplace really has, where oned has recorded
/// another one.
pub(super) fn warn_of_size(image: &Image, real: Option<u64>) {
    let real = real.map(Mebibytes::holding);
    if let (Some(real), Some(stated)) = (real, image.size)
        && real != stated
    {
        log::warn!(
            "the disk has {real} MiB, while IMAGE/SIZE, which is the size of the marketplace's app, is {stated} MiB: quotas count the latter; correct SIZE in the app"
        );
    }
}

/// Tells where an OVF file says that the disk has another size in bytes than the image in it, which is what counts.
pub(super) fn warn_of_capacity(capacity: u64, real: Option<u64>) {
    let stated = Mebibytes::holding(capacity);
    if let Some(real) = real.map(Mebibytes::holding)
        && real != stated
    {
        log::warn!(
            "the OVF file of the appliance says that the disk has {stated} MiB, and the image in it has {real} MiB: the latter counts"
        );
    }
}

/// Says so where the reference counts of a qcow2 image are wrong. It reads all the same.
pub(super) fn warn_of_wrong_counts(layer: &Layer) -> Result<(), DatastoreError> {
    if let Some(wrong) = layer.wrong_reference_counts()? {
        log::warn!(
            "the reference counts of the qcow2 image are wrong: {} clusters in use are counted as free, and {} free ones as in use; `qemu-img check -r all` repairs them",
            wrong.missing,
            wrong.leaked
        );
    }
    Ok(())
}
