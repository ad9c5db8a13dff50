//! `ferrostore trash`: what was deleted, back or gone for good.

mod files;
mod volumes;
mod words;

use super::{Done, Subcommand, print};
use crate::kinds::lvm::VolumeTrash;
use crate::progress::words::size;
use crate::trash::Record;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use files::Files;
use runtime::text::{counted, shown};
use std::error::Error;
use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use volumes::Volumes;

/// The subcommand.
pub const TRASH: Subcommand = Subcommand { command, run };

/// Why something in a trash can't be had.
#[derive(Debug, thiserror::Error)]
enum TrashError {
    #[error("the trash of {} can't be read: {source}; give the directory of a file datastore, or the volume group of an LVM datastore (vg-one-<number>)", datastore.display())]
    Unreadable { datastore: PathBuf, source: io::Error },
    #[error(
        "{} is not in the trash of {datastore}: `ferrostore trash list` shows what is",
        shown(wanted)
    )]
    Unknown { wanted: String, datastore: String },
    #[error(
        "{} means more than one image in the trash: give one of these instead: {names}",
        shown(wanted)
    )]
    Ambiguous { wanted: String, names: String },
    #[error("{}: {why}", shown(image))]
    Refused { image: String, why: String },
    #[error("nothing was deleted: name the images, or give --all")]
    NothingNamed,
    #[error("nothing was deleted: there is no terminal to ask at; give --yes")]
    NotAsked,
    #[error("nothing was deleted: the answer was not yes")]
    No,
}

/// An image in a trash.
#[derive(Debug)]
struct Item {
    /// Its file or volume.
    name: String,
    /// What no other item has.
    key: String,
    /// When it was deleted, and when its time is over, since 1970.
    deleted: Duration,
    expires: Duration,
    /// Bytes that it takes.
    bytes: u64,
    record: Record,
}

/// The trash of a datastore.
trait Trash: Debug {
    /// What it is told by.
    fn datastore(&self) -> String;

    /// The images in it, oldest first.
    fn items(&self) -> &[Item];

    /// Puts an image back; its SOURCE.
    fn restore(&self, item: &Item) -> Result<String, Box<dyn Error>>;

    /// Deletes an image for good.
    fn purge(&self, item: &Item) -> Result<(), Box<dyn Error>>;

    /// Has it on disk that images were deleted.
    fn finish(&self);
}

/// The trash of the datastore that the command line names.
fn open(datastore: PathBuf) -> Result<Box<dyn Trash>, Box<dyn Error>> {
    let group = datastore.to_str().and_then(VolumeTrash::of);
    Ok(match group {
        Some(group) => Box::new(Volumes::open(group, datastore)?),
        None => Box::new(Files::open(datastore)?),
    })
}

fn refused(item: &Item, why: impl std::fmt::Display) -> TrashError {
    TrashError::Refused { image: item.name.clone(), why: why.to_string() }
}

const AFTER: &str = "\
IMAGE is the number that the image had in oned, or the name of its file, as `list` shows them.

restore puts the files back and prints the command that registers the image again: run it as oneadmin.

Examples:
  ferrostore trash list /var/lib/one/datastores/1
  ferrostore trash restore /var/lib/one/datastores/1 413
  ferrostore trash purge /var/lib/one/datastores/1 --all --yes
  ferrostore trash list vg-one-104";

fn command() -> Command {
    let datastore = || {
        Arg::new("datastore")
            .value_name("DATASTORE")
            .help(
                "Directory of the datastore (its BASE_PATH), or its volume group (vg-one-<number>)",
            )
            .required(true)
            .value_parser(value_parser!(PathBuf))
    };
    let images = || Arg::new("image").value_name("IMAGE").help("Number or name of an image");
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    Command::new("trash")
        .about("List, restore or delete for good the images in a datastore's trash.")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("list")
                .about("List the images, oldest first")
                .arg(datastore())
                .arg(flag("json", "Print one JSON object a line")),
        )
        .subcommand(
            Command::new("restore")
                .about("Put images back under their names")
                .arg(datastore())
                .arg(images().num_args(1..).required(true)),
        )
        .subcommand(
            Command::new("purge")
                .about("Delete images for good; asks first")
                .arg(datastore())
                .arg(images().num_args(0..).conflicts_with("all"))
                .arg(flag("all", "All images in the trash"))
                .arg(flag("yes", "Don't ask")),
        )
}

fn run(matches: &ArgMatches) -> Done {
    let Some((action, matches)) = matches.subcommand() else { return Ok(ExitCode::FAILURE) };
    let datastore = matches.get_one::<PathBuf>("datastore").cloned().unwrap_or_default();
    let trash = open(datastore)?;
    match action {
        "restore" => restore(trash.as_ref(), matches),
        "purge" => purge(trash.as_ref(), matches),
        _ => list(trash.as_ref(), matches),
    }
}

fn list(trash: &dyn Trash, matches: &ArgMatches) -> Done {
    let form = if matches.get_flag("json") { words::object } else { words::line };
    let text: String = trash.items().iter().map(form).collect();
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn restore(trash: &dyn Trash, matches: &ArgMatches) -> Done {
    for item in chosen(trash, matches)? {
        let source = trash.restore(item)?;
        print(&words::registration(item, &source))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn purge(trash: &dyn Trash, matches: &ArgMatches) -> Done {
    let all = matches.get_flag("all");
    let items = if all { trash.items().iter().collect() } else { chosen(trash, matches)? };
    if items.is_empty() && !all {
        return Err(TrashError::NothingNamed.into());
    }
    let bytes = items.iter().map(|item| item.bytes).fold(0, u64::saturating_add);
    let what = format!("{} ({})", counted(items.len() as u64, "image"), size(bytes));
    if !items.is_empty() && !matches.get_flag("yes") {
        confirm(&what)?;
    }
    for item in items {
        trash.purge(item)?;
    }
    trash.finish();
    print(&format!("deleted {what}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn confirm(what: &str) -> Result<(), Box<dyn Error>> {
    if !io::stdin().is_terminal() {
        return Err(TrashError::NotAsked.into());
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "Delete {what} for good? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(TrashError::No.into()),
    }
}

/// The images that the command line names, each once.
fn chosen<'t>(trash: &'t dyn Trash, matches: &ArgMatches) -> Result<Vec<&'t Item>, TrashError> {
    let mut chosen: Vec<&Item> = Vec::new();
    for wanted in matches.get_many::<String>("image").into_iter().flatten() {
        let number = wanted.parse::<u64>().ok();
        let is_meant = |item: &&Item| {
            item.key == *wanted
                || item.name == *wanted
                || (number.is_some() && item.record.image == number)
        };
        let found: Vec<&Item> = trash.items().iter().filter(is_meant).collect();
        match found.as_slice() {
            [] => {
                let datastore = trash.datastore();
                return Err(TrashError::Unknown { wanted: wanted.clone(), datastore });
            }
            [item] => {
                if !chosen.iter().any(|other| other.key == item.key) {
                    chosen.push(item);
                }
            }
            several => {
                let names: Vec<&str> = several.iter().map(|item| item.key.as_str()).collect();
                return Err(TrashError::Ambiguous {
                    wanted: wanted.clone(),
                    names: names.join(", "),
                });
            }
        }
    }
    Ok(chosen)
}
