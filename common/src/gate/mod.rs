//! What may enter a datastore: files by where they lie ([`path`]), images by what they hold ([`image`]).
//! What the gate does not know is refused.

pub mod found;
pub mod image;
pub mod path;
