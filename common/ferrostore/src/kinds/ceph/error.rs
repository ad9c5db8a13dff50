//! What an administrator can do about a cluster that fails.

use super::CephDatastore;
use crate::kinds::DatastoreError;
use disk_image::ImageError;
use runtime::command::cluster::{ClusterError, Obstacle};

const POOL_NAME: &str = "DATASTORE/TEMPLATE/POOL_NAME";
const EC_POOL_NAME: &str = "DATASTORE/TEMPLATE/EC_POOL_NAME";
const CEPH_CONF: &str = "DATASTORE/TEMPLATE/CEPH_CONF";
const CEPH_USER: &str = "DATASTORE/TEMPLATE/CEPH_USER";
const CEPH_KEY: &str = "DATASTORE/TEMPLATE/CEPH_KEY";

impl CephDatastore {
    /// Says of errors of the cluster which attribute leads there, what is wrong, and what to do.
    pub(super) fn remedied(&self, error: DatastoreError) -> DatastoreError {
        match error {
            DatastoreError::Cluster(error) => self.remedied_by_attribute(&error),
            DatastoreError::Image(error @ ImageError::Write { .. }) => {
                self.about_pool(format_args!("can't take the image: {error}"))
            }
            other => other,
        }
    }

    fn about_pool(&self, reason: impl std::fmt::Display) -> DatastoreError {
        DatastoreError::value(POOL_NAME, &self.pool().name, reason)
    }

    fn remedied_by_attribute(&self, error: &ClusterError) -> DatastoreError {
        let pool = self.pool();
        let cluster = &pool.cluster;
        let path = |path: &Option<std::path::PathBuf>, otherwise: &str| {
            path.as_ref().map_or_else(|| otherwise.to_owned(), |path| path.display().to_string())
        };
        let user = cluster.user.clone().unwrap_or_else(|| "admin".to_owned());
        match error.obstacle() {
            Obstacle::Monitors => DatastoreError::value(
                CEPH_CONF,
                path(&cluster.conf, "/etc/ceph/ceph.conf"),
                format_args!("names monitors that don't answer: check that they run and that this machine reaches them (`ceph -s`): {error}"),
            ),
            Obstacle::Credentials => match &cluster.key {
                Some(key) => DatastoreError::value(
                    CEPH_KEY,
                    key.display().to_string(),
                    format_args!("does not let client.{user} (CEPH_USER) into the cluster: it must be a file that OpenNebula's user can read, with the key that `ceph auth get-key client.{user}` prints: {error}"),
                ),
                None => DatastoreError::value(
                    CEPH_USER,
                    &user,
                    format_args!("can't log in to the cluster: let CEPH_KEY or a keyring of the configuration hold the key of client.{user}: {error}"),
                ),
            },
            Obstacle::Permission => DatastoreError::value(
                CEPH_USER,
                &user,
                format_args!("may not do this: give it `ceph auth caps client.{user} mon 'profile rbd' osd 'profile rbd pool={}'`: {error}", pool.name),
            ),
            Obstacle::Pool => self.about_pool(format_args!("is no pool of the cluster: make it with `ceph osd pool create` and `rbd pool init`: {error}")),
            Obstacle::DataPool => DatastoreError::value(
                EC_POOL_NAME,
                pool.data_pool.as_deref().unwrap_or_default(),
                format_args!("is no pool of the cluster: make it with `ceph osd pool create ... erasure`, and set allow_ec_overwrites: {error}"),
            ),
            Obstacle::Space | Obstacle::Objects => self.full(error),
            Obstacle::Other => self.about_pool(format_args!("can't do this: {error}")),
        }
    }

    /// An operation came to no end: the pool is full, has reached its quota, or its OSDs are gone.
    fn full(&self, error: &ClusterError) -> DatastoreError {
        let pool = self.pool();
        let own = pool.name.split('/').next().unwrap_or_default();
        let pools = [(POOL_NAME, Some(own)), (EC_POOL_NAME, pool.data_pool.as_deref())];
        for (attribute, name) in pools {
            let Some(name) = name else { continue };
            let Ok(Some(space)) = pool.space(name) else { continue };
            if space.quota > 0 && space.stored >= space.quota {
                return DatastoreError::value(
                    attribute,
                    name,
                    format_args!(
                        "has reached its quota of {} MiB: remove images, or raise it with `ceph osd pool set-quota {name} max_bytes`: {error}",
                        space.quota >> 20
                    ),
                );
            }
            if space.object_quota > 0 && space.objects >= space.object_quota {
                return DatastoreError::value(
                    attribute,
                    name,
                    format_args!(
                        "has reached its quota of {} objects: remove images, or raise it with `ceph osd pool set-quota {name} max_objects`: {error}",
                        space.object_quota
                    ),
                );
            }
            if space.available == 0 {
                return DatastoreError::value(
                    attribute,
                    name,
                    format_args!("is full: remove images, or add OSDs: {error}"),
                );
            }
        }
        self.about_pool(format_args!("is not served: its OSDs don't answer, or are full (`ceph health detail` tells which): {error}"))
    }
}
