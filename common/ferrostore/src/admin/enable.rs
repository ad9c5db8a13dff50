//! `ferrostore enable` and `ferrostore disable`: the drivers in the place of OpenNebula's stock ones, and back.

use super::{Done, Subcommand, print};
use crate::doctor::{self, NEWEST_TESTED};
use crate::installation::{self, DsMad, FrontEnd, InstallError, OnedConf};
use crate::kinds::KINDS;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use runtime::process;
use runtime::sys::write_error_line;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// `ferrostore enable`.
pub const ENABLE: Subcommand = Subcommand { command: enable_command, run: enable };
/// `ferrostore disable`.
pub const DISABLE: Subcommand = Subcommand { command: disable_command, run: disable };

fn enable_command() -> Command {
    let about = "Put the drivers of a kind of datastore in the place of OpenNebula's own ones.";
    common("enable", about).after_help(
        "oned finds the drivers at its next call: where they replace stock drivers, no restart is needed.\n\
         The stock scripts are kept in $REMOTES/datastore/KIND.stock. What is enabled stands in\n\
         /etc/ferrostore/enabled; after an upgrade of OpenNebula the package puts it in place again.\n\
         $REMOTES is /var/lib/one/remotes, or $ONE_LOCATION/var/remotes where ONE_LOCATION is set.\n\n\
         Exit code: 0  all is in place; 1  one line on standard error says why not, and nothing is changed\n\n\
         Examples:\n  ferrostore enable fs\n  ferrostore enable --name ferro fs    a DS_MAD of its own beside the stock one",
    )
}

fn disable_command() -> Command {
    let about = "Take the drivers of a kind of datastore out, and put OpenNebula's own ones back.";
    common("disable", about)
        .arg(
            Arg::new("keep-listed")
                .long("keep-listed")
                .help("Leave /etc/ferrostore/enabled as it is: `enable --all` puts the drivers in place again")
                .action(ArgAction::SetTrue),
        )
        .after_help(
            "Exit code: 0  the stock drivers are back, or were there; 1  one line on standard error says why not\n\n\
             Examples:\n  ferrostore disable fs\n  ferrostore disable --name ferro",
        )
}

fn common(name: &'static str, about: &'static str) -> Command {
    let directory = |name: &'static str, help: &'static str| {
        let parser = value_parser!(PathBuf);
        Arg::new(name).long(name).value_name("DIR").help(help).value_parser(parser)
    };
    Command::new(name)
        .about(about)
        .arg_required_else_help(true)
        .arg(
            Arg::new("kind")
                .value_name("KIND")
                .help(format!("Kinds of datastores: {}", KINDS.join(", ")))
                .num_args(0..)
                .value_delimiter(',')
                .conflicts_with("all"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("A DS_MAD of its own instead of the place of the stock drivers [KIND: fs, unless NAME is one]")
                .conflicts_with("all"),
        )
        .arg(
            Arg::new("all")
                .long("all")
                .help("All that /etc/ferrostore/enabled lists")
                .action(ArgAction::SetTrue),
        )
        .arg(directory("drivers", "Where the drivers are [default: /usr/lib/ferrostore]; not listed as enabled").conflicts_with("all"))
        .arg(directory("root", "Work below DIR instead of /, for packaging: missing directories are created"))
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .help("Say what would be done and change nothing")
                .action(ArgAction::SetTrue),
        )
}

/// What a command line asks for.
struct Request {
    front_end: FrontEnd,
    mads: Vec<DsMad>,
    all: bool,
    dry_run: bool,
}

impl Request {
    fn new(matches: &ArgMatches) -> Result<Self, Box<dyn Error>> {
        let directory = |name: &str| -> io::Result<Option<PathBuf>> {
            matches.get_one::<PathBuf>(name).map(std::path::absolute).transpose()
        };
        let front_end = FrontEnd::new(directory("root")?, directory("drivers")?);
        let all = matches.get_flag("all");
        let mads = match &front_end.enabled {
            Some(enabled) if all => enabled.read()?,
            _ => named(matches)?,
        };
        Ok(Self { front_end, mads, all, dry_run: matches.get_flag("dry-run") })
    }
}

/// Kinds and name of a command line.
fn named(matches: &ArgMatches) -> Result<Vec<DsMad>, InstallError> {
    let kinds = matches.get_many::<String>("kind").into_iter().flatten();
    let mut kinds: Vec<&str> = kinds.map(String::as_str).collect();
    let name = matches.get_one::<String>("name").map(String::as_str);
    match name {
        Some(_) if kinds.len() > 1 => return Err(InstallError::NameOfSeveral(kinds.len())),
        Some(name) if kinds.is_empty() => {
            kinds.push(if KINDS.contains(&name) { name } else { "fs" });
        }
        _ => {}
    }
    kinds.into_iter().map(|kind| DsMad::new(kind, name)).collect()
}

fn enable(matches: &ArgMatches) -> Done {
    process::watch("ferrostore enable");
    let request = Request::new(matches)?;
    if request.all && !request.front_end.datastores().is_dir() {
        let place = request.front_end.datastores();
        say(format!("nothing to do: no OpenNebula here, {} does not exist", place.display()));
        return Ok(ExitCode::SUCCESS);
    }
    warn_of_version(&request.front_end);
    each(&request, |mad| {
        if request.all && installation::is_gone(&request.front_end, mad) {
            let place = request.front_end.directory(mad);
            say(format!(
                "skipped {mad}: OpenNebula's drivers are no longer in {}",
                place.display()
            ));
            return Ok(());
        }
        installation::enable(&request.front_end, mad, request.dry_run, &mut say)
    })?;
    if !request.all {
        tell_what_else_is_needed(&request)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn disable(matches: &ArgMatches) -> Done {
    process::watch("ferrostore disable");
    let request = Request::new(matches)?;
    let unlist = !matches.get_flag("keep-listed");
    each(&request, |mad| {
        installation::disable(&request.front_end, mad, unlist, request.dry_run, &mut say)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Does something with each: what one of them can't have doesn't take away what another has.
fn each(
    request: &Request,
    mut work: impl FnMut(&DsMad) -> Result<(), InstallError>,
) -> Result<(), InstallError> {
    let mut failed: Option<InstallError> = None;
    for mad in &request.mads {
        if let Err(error) = work(mad)
            && let Some(before) = failed.replace(error)
        {
            write_error_line(&format!("ferrostore: {before}"));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A line of the report. Where it can't be written, no one reads it, and the work goes on.
fn say(line: String) {
    let _ = print(&(line + "\n"));
}

fn tell_what_else_is_needed(request: &Request) -> io::Result<()> {
    let front_end = &request.front_end;
    let conf = OnedConf::read(&front_end.oned_conf);
    if let Some(text) = conf.missing(&front_end.oned_conf, &request.mads) {
        print(&text)?;
    }
    if let Some(line) = installation::missing_line(request.mads.iter().map(|mad| mad.kind)) {
        print(&format!(
            "\nsudo must let oneadmin run these as root, unless it does already (/etc/sudoers.d/ferrostore):\n\n{line}\n"
        ))?;
    }
    if let Some(text) = installation::ceph_lines(front_end, &request.mads) {
        print(&text)?;
    }
    Ok(())
}

/// Warns of an OpenNebula that the drivers were not tested with.
fn warn_of_version(front_end: &FrontEnd) {
    let Some(version) = front_end.version() else { return };
    if doctor::numbers(&version) > NEWEST_TESTED {
        let (major, minor) = NEWEST_TESTED;
        say(format!(
            "warning: OpenNebula {version} is newer than {major}.{minor}, the newest that these drivers were tested with; \
             try them under a name of their own first (--name)"
        ));
    }
}
