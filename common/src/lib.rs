//! The nouns that OpenNebula's datastore drivers speak of.
//!
//! Each executable in `drivers/` is the story of one action; what a call, a message, a datastore or an
//! image *is* lives here. The rooms, from the outside in: [`call`], [`bridge`], [`check`], [`datastore`],
//! [`snapshots`], [`source`], [`gate`], [`image`], [`mount`], [`command`], [`staging`], [`settings`], [`message`],
//! [`progress`].
//! Imports go down this list, never up.

pub mod bridge;
pub mod call;
pub mod check;
pub mod command;
pub mod datastore;
pub mod gate;
pub mod image;
pub mod message;
pub mod mount;
pub mod progress;
pub mod settings;
pub mod snapshots;
pub mod source;
pub mod staging;
mod sys;
