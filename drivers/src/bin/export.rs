//! `export`: tells a marketplace where to fetch an image.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "export",
        about: "Tell where and how a marketplace can fetch an image.",
        reads: "IMAGE/SOURCE FORMAT; DATASTORE/BASE_PATH",
        replies: "<IMPORT_INFO> with IMPORT_SOURCE, MD5, SIZE (MiB), FORMAT and DISPOSE, on one line",
    },
    bridge: BridgeMode::Whole,
    long: None,
};

fn main() -> ExitCode {
    call::run(&ACTION, export)
}

fn export(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    let info = datastore.export(image)?;
    Ok(Reply::line(&info.to_string()))
}
