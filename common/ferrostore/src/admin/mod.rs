//! The parts of the `ferrostore` command, which an administrator runs by hand: one file for each subcommand.
//!
//! A part tells its command line and does its work: see [`Subcommand`]. The executable in `drivers/` lists those
//! that the command has.

mod calls;
pub mod doctor;
pub mod enable;
pub mod fsck;
pub mod list;
pub mod log;
pub mod metrics;
pub mod trash;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use one_protocol::{arguments, logger};
use runtime::text::{readable_line, shown};
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// What a subcommand comes to: the exit code, or why it failed.
pub type Done = Result<ExitCode, Box<dyn Error>>;

/// A subcommand.
#[derive(Debug, Clone, Copy)]
pub struct Subcommand {
    /// Its name, its help and its arguments.
    pub command: fn() -> Command,
    /// Does what the arguments ask for. What it says goes through [`print()`]; an error is one line, and exit code 1.
    pub run: fn(&ArgMatches) -> Done,
}

/// The command line with these subcommands.
#[must_use]
pub fn command(subcommands: &[Subcommand]) -> Command {
    Command::new("ferrostore")
        .version(concat!("(ferrostore) ", env!("CARGO_PKG_VERSION")))
        .about("Look after the datastores that the ferrostore drivers serve.")
        .after_help(
            "`ferrostore help SUBCOMMAND` explains one of them. oned never runs this command.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(subcommands.iter().map(|subcommand| (subcommand.command)()))
}

/// Runs the command as a whole process.
#[must_use]
pub fn run(subcommands: &[Subcommand]) -> ExitCode {
    logger::install();
    let matches = match command(subcommands).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    let Some((name, arguments)) = matches.subcommand() else { return ExitCode::FAILURE };
    let called = subcommands.iter().find(|known| (known.command)().get_name() == name);
    let Some(subcommand) = called else { return ExitCode::FAILURE };
    match (subcommand.run)(arguments) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrostore {name}: {}", readable_line(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// What is said of a command line that names no subcommand, or not as it should.
fn refused(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = print(&error.to_string());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{error}");
            ExitCode::FAILURE
        }
        ErrorKind::InvalidSubcommand => {
            let named = std::env::args_os().nth(1).unwrap_or_default();
            let named = shown(&named.to_string_lossy());
            eprintln!("ferrostore: there is no subcommand {named}; --help lists all of them");
            ExitCode::FAILURE
        }
        _ => {
            eprintln!("ferrostore: {}", arguments::why(error));
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of the output has had enough, as `head` has.
fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes `text` to standard output.
///
/// # Errors
/// As writing; [`run`] takes a reader that has gone for a success.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
