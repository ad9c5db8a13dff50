//! How OpenNebula's daemon talks to a datastore driver: the message `DS_DRIVER_ACTION_DATA`, the settings of the
//! installation, the command line, the reply, log lines, and the daemon's XML-RPC interface.
//!
//! The crate does not know what an action does.

pub mod arguments;
mod elements;
pub mod host_pool;
pub mod input;
pub mod logger;
pub mod message;
pub mod reply;
mod seen;
pub mod settings;
pub mod values;
mod verification;
pub mod xml_rpc;
