//! DS_DRIVER_ACTION_DATA as it stands on the wire: every value still text.
//!
//! Only the elements that a driver reads are listed; serde passes over the others.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Message {
    pub image: Option<Image>,
    pub datastore: Option<Datastore>,
    pub source_bridge_list: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Image {
    pub id: String,
    pub name: String,
    pub r#type: String,
    pub disk_type: String,
    pub persistent: String,
    pub source: String,
    pub path: String,
    pub format: String,
    pub fs: String,
    pub size: String,
    pub from_app: String,
    pub target_snapshot: String,
    pub template: ImageTemplate,
    pub snapshots: Snapshots,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ImageTemplate {
    #[serde(rename = "MD5")]
    pub md5: String,
    #[serde(rename = "SHA1")]
    pub sha1: String,
    #[serde(rename = "SHA256")]
    pub sha256: String,
    #[serde(rename = "SHA512")]
    pub sha512: String,
    #[serde(rename = "FROM_APP")]
    pub from_app: String,
    #[serde(rename = "FORMAT")]
    pub format: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Snapshots {
    pub snapshot: Vec<Snapshot>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Snapshot {
    pub id: String,
    pub parent: String,
    pub active: String,
    pub children: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Datastore {
    pub id: String,
    pub name: String,
    pub ds_mad: String,
    pub tm_mad: String,
    pub base_path: String,
    pub r#type: String,
    pub template: DatastoreTemplate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct DatastoreTemplate {
    pub restricted_dirs: String,
    pub safe_dirs: String,
    pub driver: String,
    pub convert: String,
    pub no_decompress: String,
    pub limit_transfer_bw: String,
    pub sparse: String,
    pub tls_verify: String,
    pub datastore_capacity_check: String,
    pub bridge_list: String,
    pub staging_dir: String,
    pub download_on_bridge: String,
    pub pool_name: String,
    pub ec_pool_name: String,
    pub ceph_user: String,
    pub ceph_key: String,
    pub ceph_conf: String,
    pub ceph_trash: String,
    pub rbd_format: String,
    pub nfs_auto_enable: String,
    pub nfs_auto_host: String,
    pub nfs_auto_path: String,
    pub nfs_auto_opts: String,
}
