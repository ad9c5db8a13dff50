//! What a command-line tool needs of the system to change files safely: system calls, signals and clean-up,
//! child processes and typed external commands, file locks, the work directory, mounts.
//!
//! The crate knows no messages and no image formats.

pub mod block_device;
pub mod clock;
pub mod command;
pub mod file_lock;
pub mod found;
pub mod hooks;
pub mod lock_provider;
pub mod lock_wait;
pub mod mount;
pub mod process;
pub mod space;
pub mod staging;
pub mod sys;
pub mod text;
mod work_directory;
