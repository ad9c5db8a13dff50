//! `cp`: registers an image.

use ferrostore::call::{self, Action, BridgeMode, Call, Outcome, Reply, Usage};
use ferrostore::image_source::Purpose;
use ferrostore::kinds;
use std::process::ExitCode;

pub(crate) const ACTION: Action = Action {
    usage: Usage {
        name: "cp",
        about: "Register an image: copy it into the datastore, verified, decompressed and converted.",
        reads: "IMAGE/PATH TYPE SIZE TEMPLATE/{MD5,SHA1,SHA256,SHA512,CHECKSUM_URL,SIGNATURE_URL}; DATASTORE/BASE_PATH TYPE TEMPLATE/{DRIVER,CONVERT,NO_DECOMPRESS,SPARSE,SAFE_DIRS,RESTRICTED_DIRS,KEYRING,REQUIRE_SIGNATURE,REQUIRE_DIGEST}",
        replies: "<path> <format>",
    },
    bridge: BridgeMode::CP,
    long: Action::LONG,
};

fn main() -> ExitCode {
    kinds::ceph::serve_librbd();
    call::run(&ACTION, cp)
}

fn cp(call: &Call) -> Outcome {
    let image = call.message.image()?;
    let datastore = kinds::open(&call.message, &call.settings)?;
    let new = datastore.store(image, call.source(&datastore, Purpose::Register)?)?;
    Ok(Reply::line(&format!("{} {}", new.source, new.format)))
}
