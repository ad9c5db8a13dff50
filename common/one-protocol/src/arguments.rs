//! The command line: what oned passes, and what a person may.

use crate::input::MessageSource;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, value_parser};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What `--help` says of an action.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// The name of the executable, as oned calls it.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// Attributes of the message that it reads.
    pub reads: &'static str,
    /// What it prints on success.
    pub replies: &'static str,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    /// The action.
    Action(Request),
    /// The call comes from a driver on another machine.
    Bridged,
    /// Only this text.
    Help(String),
}

/// How an action is asked for.
#[derive(Debug)]
pub struct Request {
    /// Where its message is.
    pub message: MessageSource,
    /// Whether only a person calls it like this.
    pub by_hand: bool,
    /// How progress is to be shown.
    pub progress: Form,
}

/// How progress is shown on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A bar, at a terminal and for what takes over half a second.
    Bar,
    /// One JSON object a line on standard error, each second and at the end.
    Json,
    /// Not at all.
    None,
}

/// The command line of an action.
#[must_use]
pub fn command(action: &'static Usage) -> Command {
    let name = action.name;
    Command::new(name)
        .version(concat!("(ferrostore) ", env!("CARGO_PKG_VERSION")))
        .about(action.about)
        .override_usage(format!(
            "{name} <ID> < MESSAGE          as oned 6.x and 7.x call it\n       \
             {name} <MESSAGE> <ID>          as oned 5.x calls it\n       \
             {name} --message <FILE>"
        ))
        .after_help(format!(
            "MESSAGE is DS_DRIVER_ACTION_DATA, in base64 as oned sends it or as plain XML.\n\n\
             Reads:   {}\nReplies: {}\nFails:   exit code 1 and one line on standard error; nothing is changed.\n\n\
             Examples:\n  {name} --message tests/canned/{name}.xml\n  \
             base64 -w0 tests/canned/{name}.xml | {name} 7",
            action.reads, action.replies
        ))
        .arg(
            Arg::new("call")
                .value_name("ID or MESSAGE")
                .help("Image or datastore id; or the message, with the id after it")
                .num_args(0..)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString)),
        )
        // How a driver calls itself on a bridge host; nothing for a person.
        .arg(Arg::new("bridged").long("bridged").hide(true).action(ArgAction::SetTrue))
        // How the kernel starts a driver as the interpreter of a script that stands in its place for a moment.
        .arg(Arg::new("script").long("script").hide(true).value_parser(value_parser!(OsString)))
        .arg(
            Arg::new("message")
                .long("message")
                .value_name("FILE")
                .help("Read the message from FILE ('-': standard input)")
                .action(ArgAction::Set)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("progress")
                .long("progress")
                .value_name("FORM")
                .help("bar (at a terminal), json (one object a line on standard error), or none")
                .action(ArgAction::Set)
                .value_parser(value_parser!(OsString)),
        )
}

/// Finds out where the message of this call is.
///
/// # Errors
/// One line that says what is wrong with the command line.
pub fn parse(
    action: &'static Usage,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, String> {
    let matches = match command(action).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return Ok(Parsed::Help(error.to_string()));
        }
        Err(error) => return Err(why(&error)),
    };
    if matches.get_flag("bridged") {
        return Ok(Parsed::Bridged);
    }
    let form: Option<&OsString> = matches.get_one("progress");
    let progress = match form.map(|form| form.as_bytes()) {
        None | Some(b"bar") => Form::Bar,
        Some(b"json") => Form::Json,
        Some(b"none") => Form::None,
        Some(_) => return Err("--progress must be bar, json or none".to_owned()),
    };
    let file: Option<&PathBuf> = matches.get_one("message");
    let first: Option<&OsString> = matches.get_one("call");
    let message = match (file, first) {
        (Some(path), _) if path.as_os_str() == "-" => MessageSource::StandardInput,
        (Some(path), _) => MessageSource::File(path.clone()),
        // The old convention puts the message first; an id is all digits, which no message is.
        (None, Some(text)) if !is_id(text) => MessageSource::Argument(text.as_bytes().to_vec()),
        (None, _) => MessageSource::StandardInput,
    };
    let by_hand = file.is_some() || form.is_some();
    Ok(Parsed::Action(Request { message, by_hand, progress }))
}

/// What is wrong with a command line, in one line.
#[must_use]
pub fn why(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    format!("{} (--help shows the usage)", first.trim_start_matches("error: "))
}

fn is_id(text: &OsString) -> bool {
    let text = text.as_bytes();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
