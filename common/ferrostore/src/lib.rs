//! The library of the drivers. Each executable in `drivers/` parses its call, opens the datastore, runs one action
//! and replies.
//!
//! Below this crate are `one-protocol` (what OpenNebula's daemon says), `disk-image` (what an image is) and `runtime`
//! (what the system does).

pub mod admin;
pub mod bridge;
pub mod call;
pub mod doctor;
pub mod fsck;
pub mod image_source;
pub mod installation;
pub mod json;
pub mod kinds;
pub mod policy;
pub mod progress;
pub mod record;
pub mod snapshots;
pub mod transfer;
pub mod trash;
pub mod verify;
