//! `stat`: measures an image before it is registered.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "stat",
        about: "Tell the size that an image will have once it is registered.",
        reads: "IMAGE/PATH; DATASTORE/TYPE TEMPLATE/{NO_DECOMPRESS,SAFE_DIRS,RESTRICTED_DIRS}",
        replies: "<size in MiB, rounded up>",
    },
    bridge: BridgeMode::ReadOnly,
    long: None,
};

fn main() -> ExitCode {
    call::run(&ACTION, stat)
}

fn stat(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    Ok(Reply::line(&datastore.stat(image)?.to_string()))
}
