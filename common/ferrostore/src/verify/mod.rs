//! What a publisher says of an image: checksum lists, their signatures, and the keys that count.
//!
//! Everything here works on bytes that have been fetched already; where they are from is the business of the intake.

mod error;
pub mod keys;
pub mod list;
pub mod signature;
mod status;
