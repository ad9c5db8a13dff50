//! `rm`: deletes an image.

use ferrostore::call::{self, Action, Call, Outcome, Reply, Sharing};
use ferrostore::datastore;
use std::process::ExitCode;

const ACTION: Action = Action {
    name: "rm",
    about: "Delete an image with its snapshots; one that is gone already is no error.",
    reads: "IMAGE/SOURCE; DATASTORE/BASE_PATH",
    replies: "nothing",
    sharing: Sharing::Whole,
};

fn main() -> ExitCode {
    call::run(&ACTION, rm)
}

fn rm(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = datastore::open(&call.message, &call.settings)?;
    datastore.rm(image)?;
    Ok(Reply::nothing())
}
