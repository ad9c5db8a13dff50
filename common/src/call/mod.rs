//! How oned, or a person, calls a driver, and how a driver answers.
//!
//! A driver's `main` is one call of [`run`]: it takes the command line and the message, runs the
//! action, and turns the outcome into what oned expects: one reply on standard output and exit code 0,
//! or nothing there, one plain line on standard error and exit code 1. Log lines (`INFO: ...`) go to
//! standard error through the `log` crate.

mod arguments;
pub mod by_hand;
mod logger;

pub use crate::bridge::Sharing;
use crate::bridge::{self, Work, cloned, registered};
use crate::message::{self, Message};
use crate::progress;
use crate::settings::Settings;
use crate::source::given::Given;
use crate::staging::interrupt;
use crate::sys::write_error_line;
use std::cell::RefCell;
use std::error::Error;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// What a driver is: its name and its help.
#[derive(Debug)]
pub struct Action {
    /// The name of the executable, as oned calls it.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// Attributes of the message that it reads.
    pub reads: &'static str,
    /// What it prints on success.
    pub replies: &'static str,
    /// What of it is done by a bridge host, where the datastore has any.
    pub sharing: Sharing,
}

impl Sharing {
    /// [`Sharing::Registering`], with the file at `IMAGE/PATH`.
    pub const CP: Self = Self::Registering(registered);
    /// [`Sharing::Cloning`], with the image at `IMAGE/PATH`.
    pub const CLONE: Self = Self::Cloning(cloned);
}

/// A call: the message and the settings of this machine.
#[derive(Debug)]
pub struct Call {
    /// The message that came with it.
    pub message: Message,
    /// The OpenNebula installation that the driver belongs to.
    pub settings: Settings,
    /// What is at `IMAGE/PATH`, where another machine sends it.
    pub given: RefCell<Option<Given>>,
}

/// What goes to standard output on success; each line without its line break.
#[derive(Debug, Default)]
pub struct Reply(Vec<Vec<u8>>);

impl Reply {
    /// An empty reply.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// One line. Bytes that were no UTF-8 in the message are these bytes again.
    #[must_use]
    pub fn line(text: &str) -> Self {
        Self::default().and_line(text)
    }

    /// Adds a line.
    #[must_use]
    pub fn and_line(mut self, text: &str) -> Self {
        self.0.push(message::text::original_bytes(text));
        self
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.0.join(&b'\n');
        if !bytes.is_empty() {
            bytes.push(b'\n');
        }
        bytes
    }
}

/// What an action comes to.
pub type Outcome = Result<Reply, Box<dyn Error>>;

/// How the message can't be had.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Arguments(String),
    #[error("the message can't be read from {place}: {source}")]
    Input { place: String, source: io::Error },
    #[error(
        "no message: give it on standard input, as an argument or with --message FILE (--help shows examples)"
    )]
    Terminal,
    #[error("the reply can't be written to standard output: {0}")]
    Output(io::Error),
    #[error("the new image can't be kept, although its reply was given: {0}")]
    Confirmation(io::Error),
}

/// Where the message of a call is.
enum MessageFrom {
    StandardInput,
    File(PathBuf),
    Argument(Vec<u8>),
}

/// Runs one action as a whole process.
#[must_use]
pub fn run(action: &'static Action, body: fn(&Call) -> Outcome) -> ExitCode {
    logger::install();
    interrupt::watch(action.name);
    std::panic::set_hook(Box::new(|panic| {
        interrupt::clean_up_after_panic();
        let text = message::text::one_line(&panic.to_string());
        write_error_line(&format!("an error in the driver itself, please report it: {text}"));
    }));
    let outcome = match arguments::parse(action, std::env::args_os()) {
        Ok(arguments::Parsed::Message(from)) => answer(action, from, body),
        Ok(arguments::Parsed::Bridged) => answer_bridged(action, body),
        Ok(arguments::Parsed::Help(text)) => {
            let _ = write!(io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        // oned would get EPIPE for a message that nobody reads.
        Err(text) => drain_standard_input().and(Err(CallError::Arguments(text).into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            interrupt::withdraw();
            progress::end();
            let text = message::text::readable_line(&error.to_string());
            write_error_line(&format!("{}: {text}", action.name));
            ExitCode::FAILURE
        }
    }
}

fn answer(
    action: &'static Action,
    from: MessageFrom,
    body: fn(&Call) -> Outcome,
) -> Result<(), Box<dyn Error>> {
    let message = message::parse(&read_message(from)?)?;
    let settings = Settings::from_environment();
    let run = |message, settings, given| -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(body(&Call { message, settings, given: RefCell::new(given) })?.into_bytes())
    };
    let reply = match bridge::work(action.name, action.sharing, &message, &settings)? {
        Work::Here(given) => run(message, settings, given)?,
        Work::Looking => run(message, settings.without_storage(), None)?,
        Work::Done(reply) => reply,
    };
    progress::end();
    let mut stdout = io::stdout().lock();
    stdout.write_all(&reply).and_then(|()| stdout.flush()).map_err(CallError::Output)?;
    interrupt::confirm().map_err(CallError::Confirmation)?;
    Ok(())
}

/// The call of a driver on another machine.
fn answer_bridged(
    action: &'static Action,
    body: fn(&Call) -> Outcome,
) -> Result<(), Box<dyn Error>> {
    let mut far = bridge::arrive()?;
    let message = message::parse(&far.message)?;
    let settings = far.settings.clone();
    match action.sharing {
        Sharing::Registering(open) | Sharing::Cloning(open) if far.only_gives() => {
            far.give(open(&message, &settings.without_storage())?)?;
        }
        _ => {
            let given = RefCell::new(far.given.take());
            far.reply(&body(&Call { message, settings, given })?.into_bytes())?;
            interrupt::confirm().map_err(CallError::Confirmation)?;
        }
    }
    Ok(())
}

fn read_message(from: MessageFrom) -> Result<Vec<u8>, CallError> {
    match from {
        MessageFrom::Argument(bytes) => Ok(bytes),
        MessageFrom::File(path) => std::fs::read(&path)
            .map_err(|source| CallError::Input { place: path.display().to_string(), source }),
        MessageFrom::StandardInput if io::stdin().is_terminal() => Err(CallError::Terminal),
        MessageFrom::StandardInput => {
            let mut bytes = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|source| CallError::Input { place: "standard input".into(), source })?;
            Ok(bytes)
        }
    }
}

fn drain_standard_input() -> Result<(), Box<dyn Error>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        io::copy(&mut stdin.lock(), &mut io::sink())?;
    }
    Ok(())
}
