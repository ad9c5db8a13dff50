//! DS_DRIVER_ACTION_DATA as it stands on the wire: every value still text.
//!
//! Only the elements that a driver reads are listed; serde passes over the others.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Message {
    pub(super) image: Option<Image>,
    pub(super) datastore: Option<Datastore>,
    pub(super) source_bridge_list: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Image {
    pub(super) id: String,
    pub(super) r#type: String,
    pub(super) persistent: String,
    pub(super) source: String,
    pub(super) path: String,
    pub(super) format: String,
    pub(super) fs: String,
    pub(super) size: Option<String>,
    pub(super) from_app: String,
    pub(super) target_snapshot: String,
    pub(super) template: ImageTemplate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageTemplate {
    #[serde(rename = "MD5")]
    pub(super) md5: String,
    #[serde(rename = "SHA1")]
    pub(super) sha1: String,
    #[serde(rename = "SHA256")]
    pub(super) sha256: String,
    #[serde(rename = "SHA512")]
    pub(super) sha512: String,
    #[serde(rename = "CHECKSUM_URL")]
    pub(super) checksum_url: String,
    #[serde(rename = "SIGNATURE_URL")]
    pub(super) signature_url: String,
    #[serde(rename = "FROM_APP")]
    pub(super) from_app: String,
    #[serde(rename = "FROM_APP_MD5")]
    pub(super) from_app_md5: String,
    #[serde(rename = "FORMAT")]
    pub(super) format: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Datastore {
    pub(super) id: String,
    pub(super) ds_mad: String,
    pub(super) tm_mad: String,
    pub(super) base_path: String,
    pub(super) r#type: String,
    pub(super) template: DatastoreTemplate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct DatastoreTemplate {
    pub(super) restricted_dirs: String,
    pub(super) safe_dirs: String,
    pub(super) driver: String,
    pub(super) convert: String,
    pub(super) no_decompress: String,
    pub(super) limit_transfer_bw: String,
    pub(super) sparse: String,
    pub(super) tls_verify: String,
    pub(super) progress: String,
    pub(super) trash: String,
    pub(super) datastore_capacity_check: String,
    pub(super) bridge_list: String,
    pub(super) staging_dir: String,
    pub(super) download_on_bridge: String,
    pub(super) keyring: String,
    pub(super) require_digest: String,
    pub(super) require_signature: String,
    pub(super) pool_name: String,
    pub(super) ec_pool_name: String,
    pub(super) ceph_user: String,
    pub(super) ceph_key: String,
    pub(super) ceph_conf: String,
    pub(super) ceph_trash: String,
    pub(super) rbd_format: String,
    pub(super) nfs_auto_enable: String,
    pub(super) nfs_auto_host: String,
    pub(super) nfs_auto_path: String,
    pub(super) nfs_auto_opts: String,
}
