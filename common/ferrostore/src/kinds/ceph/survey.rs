//! What is in a pool: for `fsck`, which changes nothing.

use super::lock::NameLock;
use super::names::{ImageName, snapshot_id};
use super::place::Place;
use crate::kinds::DatastoreError;
use one_protocol::message::Message;
use one_protocol::settings::Settings;
use runtime::command::cluster::ClusterError;
use runtime::command::rbd::Pool;

/// What an RBD image of a pool is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// An image of OpenNebula.
    Image,
    /// A carrier of snapshots of the image with this name, and the numbers that it is named after.
    Carrier(String, Vec<u32>),
    /// What an action on the image with this name has not finished.
    Unfinished {
        /// The image.
        image: String,
        /// Whether a driver on this machine, or any client, is at work on it.
        live: bool,
    },
    /// Something else: a virtual machine's disk, for example.
    Other,
}

/// An RBD image.
#[derive(Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// Its size, bytes.
    pub size: u64,
    /// Numbers of its snapshots that OpenNebula has taken.
    pub snapshots: Vec<u32>,
}

/// The pool that a message is about.
///
/// # Errors
/// Where an attribute of the datastore is at fault.
pub fn pool_of(message: &Message, settings: &Settings) -> Result<Pool, DatastoreError> {
    Ok(Place::of(message.datastore()?, settings)?.pool)
}

/// Whether this can be the name of a pool.
#[must_use]
pub fn is_pool(name: &str) -> bool {
    super::names::is_pool(name)
}

/// Whether this can be the name of a user.
#[must_use]
pub fn is_user(name: &str) -> bool {
    super::names::is_plain(name)
}

/// All that is in a pool, by name.
///
/// # Errors
/// [`ClusterError`].
pub fn survey(pool: &Pool) -> Result<Vec<Volume>, ClusterError> {
    let mut volumes = Vec::new();
    for listed in pool.listing()? {
        let part = part_of(pool, &listed.name)?;
        let snapshots = listed.snapshots.iter().filter_map(|name| snapshot_id(name)).collect();
        volumes.push(Volume { name: listed.name, part, size: listed.size, snapshots });
    }
    volumes.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(volumes)
}

fn part_of(pool: &Pool, name: &str) -> Result<Part, ClusterError> {
    if ImageName::parse(name).is_some() {
        return Ok(Part::Image);
    }
    if let Some(image) = ImageName::owner_of_unfinished(name) {
        let live = NameLock::is_held(&pool.name, image) || !pool.watchers(name)?.is_empty();
        return Ok(Part::Unfinished { image: image.main(), live });
    }
    let carrier = name.rsplit_once('-').and_then(|(image, _)| {
        let image = ImageName::parse(image)?;
        Some(Part::Carrier(image.main(), image.carried(name)?))
    });
    Ok(carrier.unwrap_or(Part::Other))
}
