//! `ferrostore doctor`: one look at an installation.

use super::{Done, Subcommand, print};
use crate::call::by_hand;
use crate::doctor;
use crate::installation::FrontEnd;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// The subcommand.
pub const DOCTOR: Subcommand = Subcommand { command, run };

const AFTER: &str = "\
It checks: OpenNebula's version; what is enabled, and whether the packaged drivers stand in their places; oned.conf;
datastore.conf; sudo, groups and programs; oned itself; the directories of datastores; the drivers of other front-ends
and of bridge hosts, and their glibc. It changes nothing. Run it as oneadmin, who can ask oned and the other machines;
only root and oneadmin can ask what sudo allows.

Exit code: 0  all is good; 1  nothing could be checked; 2  warnings only; 3  there are problems

Examples:
  sudo -u oneadmin ferrostore doctor
  ferrostore doctor --json --no-ssh";

fn command() -> Command {
    Command::new("doctor")
        .about(
            "Check the installation, and tell the command or the line that repairs what is wrong.",
        )
        .override_usage("ferrostore doctor [--json] [--no-ssh] [--drivers DIR]")
        .after_help(AFTER)
        .arg(flag(
            "json",
            "One JSON object a line: verdict (ok, warning, problem), topic, text, remedy",
        ))
        .arg(flag("no-ssh", "Ask no other machine"))
        .arg(
            Arg::new("drivers")
                .long("drivers")
                .value_name("DIR")
                .help("Compare with the drivers in DIR [default: /usr/lib/ferrostore]")
                .value_parser(value_parser!(PathBuf)),
        )
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn run(matches: &ArgMatches) -> Done {
    let mut front_end = FrontEnd::new(None, None);
    if let Some(directory) = matches.get_one::<PathBuf>("drivers") {
        front_end.drivers = std::path::absolute(directory)?;
    }
    let findings = doctor::examine(&front_end, !matches.get_flag("no-ssh"));
    for finding in &findings.0 {
        let line = if matches.get_flag("json") { finding.json() } else { finding.line() };
        print(&(line + "\n"))?;
    }
    Ok(by_hand::exit_code(findings.worst()))
}
