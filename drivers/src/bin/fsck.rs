//! `fsck`: checks a file datastore. Run by hand, not by oned; `ferrostore fsck` is the same.

use ferrostore::admin::fsck;
use ferrostore::call::by_hand;
use std::process::ExitCode;

fn main() -> ExitCode {
    by_hand::run(fsck::examine)
}
