//! `snap_delete`: deletes a snapshot.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "snap_delete",
        about: "Delete a snapshot of an image; one that others still need is refused.",
        reads: "IMAGE/SOURCE FORMAT TYPE TARGET_SNAPSHOT; DATASTORE/BASE_PATH",
        replies: "nothing",
    },
    bridge: BridgeMode::Whole,
    long: None,
};

fn main() -> ExitCode {
    call::run(&ACTION, snap_delete)
}

fn snap_delete(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    datastore.snap_delete(image)?;
    Ok(Reply::nothing())
}
