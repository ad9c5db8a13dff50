//! Two readers of qcow2 that share no code with the one under test, nor with qemu.

use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatDriverBuilder, PermissiveImplicitOpenGate, SyncFormatAccess};
use qcow2_rs::dev::Qcow2DevParams;
use qcow2_rs::helpers::Qcow2IoBuf;
use qcow2_rs::utils::qcow2_setup_dev_tokio;
use std::path::Path;

/// What is read at a time.
const CHUNK: usize = 1 << 20;

/// Checks that a reader's disk is `raw`, with zeros up to the next full sector.
#[track_caller]
fn same(reader: &str, path: &Path, disk: &[u8], raw: &[u8]) {
    let path = path.display();
    let size = raw.len().next_multiple_of(512);
    assert_eq!(disk.len(), size, "{reader}: the size of the disk in {path}");
    let differs =
        disk.iter().zip(raw.iter().chain(std::iter::repeat(&0))).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{reader}: where {path} differs");
}

/// Checks by imago that a qcow2 and what it backs on hold `raw`.
#[track_caller]
pub fn imago_reads(path: &Path, raw: &[u8]) {
    let image = Qcow2::<File>::builder_path(path)
        .open_sync(PermissiveImplicitOpenGate::default())
        .unwrap_or_else(|error| panic!("imago can't open {}: {error}", path.display()));
    let image = SyncFormatAccess::new(image).unwrap();
    let mut disk = vec![0xee; usize::try_from(image.size()).unwrap()];
    for (number, chunk) in disk.chunks_mut(CHUNK).enumerate() {
        image
            .read(chunk, (number * CHUNK) as u64)
            .unwrap_or_else(|error| panic!("imago can't read {}: {error}", path.display()));
    }
    same("imago", path, &disk, raw);
}

/// Checks by qcow2-rs that a qcow2 and what it backs on hold `raw`.
///
/// It panics on relative backing names, hangs on clusters below 4 KiB and misreads overlays that
/// are larger than what they back on: not for those.
#[track_caller]
pub fn qcow2_rs_reads(path: &Path, raw: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let disk = runtime.block_on(async {
        let params = Qcow2DevParams::new(9, None, None, true, false);
        let device = qcow2_setup_dev_tokio(path, &params)
            .await
            .unwrap_or_else(|error| panic!("qcow2-rs can't open {}: {error:?}", path.display()));
        let size = usize::try_from(device.info.virtual_size()).unwrap();
        let mut disk = Vec::with_capacity(size);
        while disk.len() < size {
            let mut buffer = Qcow2IoBuf::<u8>::new(CHUNK.min(size - disk.len()));
            device.read_at(&mut buffer, disk.len() as u64).await.unwrap_or_else(|error| {
                panic!("qcow2-rs can't read {}: {error:?}", path.display())
            });
            disk.extend_from_slice(&buffer);
        }
        disk
    });
    same("qcow2-rs", path, &disk, raw);
}
