//! `export`.

use super::CephDatastore;
use crate::kinds::{DatastoreError, Export};
use disk_image::Format;
use disk_image::rbd_diff;
use one_protocol::message::{Image, Mebibytes};

impl CephDatastore {
    /// `export`: the image as the marketplace's drivers fetch it, by `rbd export` on a host of the datastore.
    pub(super) fn exported(&self, image: &Image) -> Result<Export, DatastoreError> {
        let (name, _lock, _) = self.locked(image)?;
        let pool = self.pool();
        let main = name.main();
        let info = pool.info(&main).map_err(|error| match error {
            error if error.is_missing() => {
                self.source_error(image, "is not in its pool: it may have been removed by hand")
            }
            error => error.into(),
        })?;
        let stream = pool.export_diff(&main, info.size)?;
        let mut hasher = crate::transfer::digest::Md5::default();
        rbd_diff::read(stream, info.size, &mut |run| hasher.take(run))
            .map_err(|error| self.source_error(image, format_args!("can't be read: {error}")))?;
        let size = image.size.unwrap_or_else(|| Mebibytes::holding(info.size));
        Ok(Export {
            import_source: self.address(&pool.spec(&main)),
            md5: hasher.finish(),
            size,
            format: match image.template_format.as_str() {
                "" => Format::Raw.name().to_owned(),
                format => format.to_owned(),
            },
        })
    }

    /// `rbd://<host>/<pool>/<image>`, with what else OpenNebula's downloader needs.
    fn address(&self, spec: &str) -> String {
        let host = self.intake.attributes.bridge_list.first().cloned().unwrap_or_else(|| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            name.trim().to_owned()
        });
        let ceph = &self.intake.attributes.ceph;
        let parameters: Vec<String> =
            [("CEPH_USER", &ceph.user), ("CEPH_KEY", &ceph.key), ("CEPH_CONF", &ceph.conf)]
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
        match &parameters[..] {
            [] => format!("rbd://{host}/{spec}"),
            parameters => format!("rbd://{host}/{spec}?{}", parameters.join("&")),
        }
    }
}
