//! What can be wrong with a message.

use runtime::text::shown;

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Nothing was sent.
    #[error("the message is empty: send DS_DRIVER_ACTION_DATA, as XML or in base64")]
    Empty,
    /// Neither XML nor base64.
    #[error(
        "the message is neither XML nor base64 ({0}): send DS_DRIVER_ACTION_DATA as oned does, or as plain XML"
    )]
    Base64(String),
    /// Not well-formed, or an element where none may be.
    #[error("the message is not well-formed DS_DRIVER_ACTION_DATA XML: {0}")]
    Xml(String),
    /// An attribute that the action needs is not there, or empty.
    #[error("{attribute} is missing or empty in the message: {remedy}")]
    Missing {
        /// Path of the attribute, such as `IMAGE/PATH`.
        attribute: &'static str,
        /// What it should hold.
        remedy: &'static str,
    },
    /// An attribute whose value can't be what it should be.
    #[error("{attribute} {} is not valid: it must be {rule}", shown(value))]
    Invalid {
        /// Path of the attribute, such as `IMAGE/SIZE`.
        attribute: &'static str,
        /// The value as it came.
        value: String,
        /// What a valid value looks like.
        rule: &'static str,
    },
}
