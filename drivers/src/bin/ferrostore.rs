//! `ferrostore`: what an administrator runs by hand. oned never does.

use ferrostore::admin::{self, Subcommand, fsck, log, metrics, trash};
use std::process::ExitCode;

/// The subcommands, in the order of the help.
const SUBCOMMANDS: &[Subcommand] = &[log::LOG, metrics::METRICS, fsck::FSCK, trash::TRASH];

fn main() -> ExitCode {
    admin::run(SUBCOMMANDS)
}
