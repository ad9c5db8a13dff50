//! `snap_flatten`: makes an image of one of its snapshots.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "snap_flatten",
        about: "Make an image what one of its snapshots holds, and drop all snapshots.",
        reads: "IMAGE/SOURCE FORMAT TYPE TARGET_SNAPSHOT; DATASTORE/BASE_PATH",
        replies: "nothing",
    },
    bridge: BridgeMode::Whole,
    long: Action::LONG,
};

fn main() -> ExitCode {
    call::run(&ACTION, snap_flatten)
}

fn snap_flatten(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    datastore.snap_flatten(image)?;
    Ok(Reply::nothing())
}
