//! `mkfs`: makes an empty image.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "mkfs",
        about: "Make a new empty image, with a file system if wanted.",
        reads: "IMAGE/SIZE FORMAT FS TYPE; DATASTORE/BASE_PATH TYPE TEMPLATE/SPARSE; datastore.conf: SUPPORTED_FS, FS_OPTS_<fs>",
        replies: "<path>",
    },
    bridge: BridgeMode::Whole,
    long: Action::LONG,
};

fn main() -> ExitCode {
    kinds::ceph::serve_librbd();
    call::run(&ACTION, mkfs)
}

fn mkfs(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    Ok(Reply::line(&datastore.mkfs(image)?))
}
