//! `ferrostore list`: which kinds are enabled, and what stands in their places.

use super::{Done, Subcommand, print};
use crate::installation::{DsMad, FrontEnd, Standing};
use crate::kinds::KINDS;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// The subcommand.
pub const LIST: Subcommand = Subcommand { command, run };

fn command() -> Command {
    Command::new("list")
        .about("List the kinds of datastores, which of them are enabled, and what stands in their places.")
        .override_usage("ferrostore list [--json] [--root DIR]")
        .arg(
            Arg::new("json")
                .long("json")
                .help("One JSON object a line: ds_mad, kind, enabled, state, files that are not as in the package")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .help("Look below DIR instead of /")
                .value_parser(value_parser!(PathBuf)),
        )
        .after_help(
            "State: in place (the packaged drivers), incomplete (some are not), stock (none of them is there), absent.\n\
             Exit code: 0, or 1 where the list can't be read. `ferrostore doctor` judges.",
        )
}

fn run(matches: &ArgMatches) -> Done {
    let root = matches.get_one::<PathBuf>("root").map(std::path::absolute).transpose()?;
    let front_end = FrontEnd::new(root, None);
    let enabled = match &front_end.enabled {
        Some(enabled) => enabled.read()?,
        None => Vec::new(),
    };
    let mut mads = Vec::new();
    for kind in KINDS {
        mads.push(DsMad::new(kind, None)?);
    }
    mads.extend(enabled.iter().filter(|mad| !mad.replaces_stock()).cloned());
    for mad in &mads {
        let standing = Standing::of(&front_end, mad)?;
        let line = line(mad, enabled.contains(mad), &standing, matches.get_flag("json"));
        print(&(line + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(mad: &DsMad, enabled: bool, standing: &Standing, as_json: bool) -> String {
    let state = if standing.is_whole() {
        "in place"
    } else if !standing.is_stock() {
        "incomplete"
    } else if standing.foreign.is_empty() {
        "absent"
    } else {
        "stock"
    };
    if as_json {
        return json!({
            "ds_mad": mad.name, "kind": mad.kind, "enabled": enabled, "state": state,
            "foreign": standing.foreign, "other": standing.other, "missing": standing.missing,
        })
        .to_string();
    }
    let listed = if enabled { "enabled" } else { "not enabled" };
    let advice = match (enabled, standing.is_whole(), standing.is_stock()) {
        (true, false, _) => format!("  {}: run `ferrostore enable --all`", standing.faults()),
        (false, _, false) => format!(
            "  put there by another installation: run `ferrostore enable {}` so that it survives upgrades",
            mad.kind
        ),
        _ => String::new(),
    };
    format!("{:<16} {:<14} {listed:<12} {state}{advice}", mad.name, mad.kind)
}
