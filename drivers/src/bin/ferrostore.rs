//! `ferrostore`: what an administrator runs by hand. oned never does.

use ferrostore::admin::{self, Subcommand, doctor, enable, fsck, list, log, metrics, trash};
use std::process::ExitCode;

/// The subcommands, in the order of the help.
pub(crate) const SUBCOMMANDS: &[Subcommand] = &[
    log::LOG,
    metrics::METRICS,
    fsck::FSCK,
    trash::TRASH,
    enable::ENABLE,
    enable::DISABLE,
    list::LIST,
    doctor::DOCTOR,
];

fn main() -> ExitCode {
    admin::run(SUBCOMMANDS)
}
