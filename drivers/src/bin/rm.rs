//! `rm`: deletes an image.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "rm",
        about: "Delete an image with its snapshots; one that is gone already is no error.",
        reads: "IMAGE/SOURCE; DATASTORE/BASE_PATH",
        replies: "nothing",
    },
    bridge: BridgeMode::Whole,
    long: None,
};

fn main() -> ExitCode {
    call::run(&ACTION, rm)
}

fn rm(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    datastore.rm(image)?;
    Ok(Reply::nothing())
}
