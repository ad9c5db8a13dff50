//! `monitor`: tells the space in a datastore.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "monitor",
        about: "Tell the space in the datastore; its directory is created if it is missing.",
        reads: "DATASTORE/BASE_PATH",
        replies: "USED_MB=<n>, TOTAL_MB=<n>, FREE_MB=<n>, a line each",
    },
    bridge: BridgeMode::Whole,
    long: None,
};

fn main() -> ExitCode {
    call::run(&ACTION, monitor)
}

fn monitor(call: &Call) -> Outcome {
    let usage = kinds::open(&call.message, &call.settings)?.monitor()?;
    Ok(Reply::line(&format!("USED_MB={}", usage.used))
        .and_line(&format!("TOTAL_MB={}", usage.total))
        .and_line(&format!("FREE_MB={}", usage.free)))
}
