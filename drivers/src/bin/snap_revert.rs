//! `snap_revert`: takes an image back to a snapshot.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "snap_revert",
        about: "Take an image back to what a snapshot holds.",
        reads: "IMAGE/SOURCE FORMAT TYPE TARGET_SNAPSHOT; DATASTORE/BASE_PATH",
        replies: "nothing",
    },
    bridge: BridgeMode::Whole,
    long: None,
};

fn main() -> ExitCode {
    call::run(&ACTION, snap_revert)
}

fn snap_revert(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    datastore.snap_revert(image)?;
    Ok(Reply::nothing())
}
