//! What a datastore's template says of its Ceph pool. Every value may be empty: then the driver's configuration file, or
//! Ceph's own, has its word.

use super::wire;

/// Attributes of an RBD datastore, without blanks around them.
#[derive(Debug, Clone, Default)]
pub struct CephAttributes {
    /// `POOL_NAME`.
    pub pool_name: String,
    /// `EC_POOL_NAME`.
    pub ec_pool_name: String,
    /// `CEPH_USER`.
    pub user: String,
    /// `CEPH_KEY`, the path of a file.
    pub key: String,
    /// `CEPH_CONF`, the path of a file.
    pub conf: String,
    /// `CEPH_TRASH`.
    pub trash: String,
    /// `RBD_FORMAT`.
    pub rbd_format: String,
}

impl CephAttributes {
    pub(super) fn of(template: &wire::DatastoreTemplate) -> Self {
        let plain = |value: &str| value.trim().to_owned();
        Self {
            pool_name: plain(&template.pool_name),
            ec_pool_name: plain(&template.ec_pool_name),
            user: plain(&template.ceph_user),
            key: plain(&template.ceph_key),
            conf: plain(&template.ceph_conf),
            trash: plain(&template.ceph_trash),
            rbd_format: plain(&template.rbd_format),
        }
    }
}
