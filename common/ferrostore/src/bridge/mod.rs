//! Bridge hosts: the same action, done by the same executable on the host that has the storage.
//!
//! Where the message names bridge hosts, the driver on the front-end picks one, reaches it
//! by one ssh connection, and has this very executable run there (`--bridged`), sent along where it is
//! missing. Message, settings and the bytes of images travel through that connection as frames; the
//! reply, log lines and errors come back. Nothing of a message is ever part of a command line.
//!
//! The other side does its work as if called there. Its standard input ending is for it what a signal
//! is for a local driver: what is staged goes, and the old state stays. An image that it has made stays
//! only where the front-end has said that it knows of it (`Tag::Keep`).

mod connection;
mod frame;
mod front_end;
mod image;
mod lock_serving;
mod out;
mod relay;
mod report;
mod route;
mod self_executable;
mod server;

use crate::image_source::{ImageSource, Purpose};
use crate::kinds::{self, DatastoreError};
use crate::transfer::digest::DigestError;
use disk_image::ImageError;
use one_protocol::message::{Message, MessageError};
use one_protocol::settings::{Settings, SettingsError};
pub use relay::work;
use runtime::command::CommandError;
use runtime::text::shown;
pub use server::{BridgeServer, accept};
use std::error::Error;
use std::io::{self, Write};

/// An image that is open and goes to another machine. Behind a pointer, so that a driver that sends none
/// holds no code for it.
pub trait Sending {
    /// Sends it.
    ///
    /// # Errors
    /// Where it can't be read, is not as it should be, or the connection is gone.
    fn send(self: Box<Self>, out: &mut dyn Write) -> Result<(), BridgeError>;
}

impl Sending for ImageSource {
    fn send(self: Box<Self>, out: &mut dyn Write) -> Result<(), BridgeError> {
        image::send(*self, out)
    }
}

/// Opens the image that an action brings in, where it is.
pub type SourceOpener = fn(&Message, &Settings) -> Result<Box<dyn Sending>, Box<dyn Error>>;

/// How an action is shared between front-end and bridge host.
#[derive(Debug, Clone, Copy)]
pub enum BridgeMode {
    /// All of it is done where the storage is.
    Whole,
    /// It only reads `IMAGE/PATH`, which needs no storage.
    ReadOnly,
    /// `IMAGE/PATH` is brought in from outside: by the front-end, or the host that can reach it.
    Register(SourceOpener),
    /// `IMAGE/PATH` is in a datastore that may be on other hosts.
    Clone(SourceOpener),
}

impl BridgeMode {
    /// [`Self::Register`], with the file at `IMAGE/PATH`.
    pub const CP: Self =
        Self::Register(|message, settings| open(message, settings, Purpose::Register));
    /// [`Self::Clone`], with the image at `IMAGE/PATH`.
    pub const CLONE: Self =
        Self::Clone(|message, settings| open(message, settings, Purpose::Clone));
}

fn open(
    message: &Message,
    settings: &Settings,
    purpose: Purpose,
) -> Result<Box<dyn Sending>, Box<dyn Error>> {
    Ok(Box::new(kinds::open(message, settings)?.source(message.image()?, purpose)?))
}

/// What the other side shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// The whole action.
    Act = b'a',
    /// The action, with the image that the front-end sends.
    Take = b't',
    /// Only send the image.
    Give = b'g',
}

impl Role {
    fn of(payload: &[u8]) -> Option<Self> {
        [Self::Act, Self::Take, Self::Give].into_iter().find(|&role| payload == [role as u8])
    }
}

/// Why an action can't be done by a bridge host.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The message is at fault.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A configuration file is at fault.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The datastore is at fault.
    #[error(transparent)]
    Datastore(#[from] DatastoreError),
    /// A digest is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// An image can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An attribute that says how to reach a host is at fault.
    #[error("{attribute} {} {rule}", shown(value))]
    Value {
        /// Path of the attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
        /// The rule that it breaks, and what to do.
        rule: &'static str,
    },
    /// No host is left.
    #[error(
        "{attribute} {} names no host that can be used: {}; enable one of them, or see why `ssh <host> true` fails for the user that runs OpenNebula",
        shown(hosts),
        reasons.join("; ")
    )]
    NoHost {
        /// Path of the attribute.
        attribute: &'static str,
        /// Its value.
        hosts: String,
        /// Each host and why.
        reasons: Vec<String>,
    },
    /// ssh can't be started here.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// This executable can't be read, so it can't be compared or sent.
    #[error("the driver's own executable can't be read: {0}")]
    SelfExecutable(io::Error),
    /// A lock under which a host has to work can't be had.
    #[error("{0}")]
    Lock(String),
    /// There is no thread, or no descriptor.
    #[error("the connection can't be served: {0}")]
    System(io::Error),
    /// The driver can't run on a host.
    #[error("{host}: {reason}")]
    Unusable {
        /// The host.
        host: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The driver on a host failed.
    #[error("{host}: {reason}")]
    Failed {
        /// The host.
        host: String,
        /// Its words.
        reason: String,
    },
    /// The connection to the front-end is gone, on the other side.
    #[error("the connection to the front-end ended before the reply had arrived there")]
    Lost,
    /// Something else than the front-end's driver is talking, on the other side.
    #[error(
        "--bridged is how a driver calls itself on a bridge host; it is not for use by hand: {0}"
    )]
    NoFrames(io::Error),
}

/// What is left to do here: see [`work`].
#[derive(Debug)]
pub enum Work {
    /// The action, with this image where one came from elsewhere.
    Here(Option<ImageSource>),
    /// The action, which needs no storage; that is elsewhere.
    ReadOnly,
    /// Nothing: this is the reply.
    Done(Vec<u8>),
}
