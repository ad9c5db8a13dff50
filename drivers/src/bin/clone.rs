//! `clone`: copies an image of a datastore.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::image_source::Purpose;
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "clone",
        about: "Copy an image of this or another datastore into the datastore, converted if need be.",
        reads: "IMAGE/PATH FORMAT TYPE; DATASTORE/BASE_PATH TYPE TEMPLATE/{DRIVER,CONVERT,SPARSE}",
        replies: "<path> <format>",
    },
    bridge: BridgeMode::CLONE,
    long: Action::LONG,
};

fn main() -> ExitCode {
    kinds::ceph::serve_librbd();
    call::run(&ACTION, clone)
}

fn clone(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    let new = datastore.store(image, call.source(&datastore, Purpose::Clone)?)?;
    Ok(Reply::line(&format!("{} {}", new.source, new.format)))
}
