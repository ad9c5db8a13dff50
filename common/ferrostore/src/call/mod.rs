//! How oned, or a person, calls a driver, and how a driver answers.
//!
//! A driver's `main` is one call of [`run`]: it takes the command line and the message, runs the
//! action, and turns the outcome into what oned expects: one reply on standard output and exit code 0,
//! or nothing there, one plain line on standard error and exit code 1. Log lines (`INFO: ...`) go to
//! standard error through the `log` crate.

pub mod by_hand;
mod delivery;

pub use crate::bridge::BridgeMode;
use crate::bridge::{self, Work};
use crate::image_source::{ImageSource, Purpose};
use crate::kinds::AnyDatastore;
use crate::progress::{self, Form, oned};
use crate::record::{self, Ending};
use crate::transfer::location::without_password;
use one_protocol::arguments::Request;
pub use one_protocol::arguments::Usage;
use one_protocol::input::drain_standard_input;
use one_protocol::message::{self, Message};
pub use one_protocol::reply::Reply;
use one_protocol::settings::Settings;
use one_protocol::{arguments, logger};
use runtime::sys::write_error_line;
use runtime::{hooks, process, text};
use std::cell::RefCell;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// What a driver is.
#[derive(Debug)]
pub struct Action {
    /// Its name and its help.
    pub usage: Usage,
    /// What of it is done by a bridge host, where the datastore has any.
    pub bridge: BridgeMode,
    /// What follows it, where it may take long.
    pub long: Option<Long>,
}

/// What follows an action that may take long. Pointers, so that a driver of another action holds no code for it.
#[derive(Debug)]
pub struct Long {
    begin: fn(&'static str, bool, &Message, &Settings),
    end: fn(Ending),
}

impl Action {
    /// [`Action::long`] of an action that may take long.
    pub const LONG: Option<Long> = Some(Long { begin: follow, end: oned::end });
}

/// A call: the message and the settings of this machine.
#[derive(Debug)]
pub struct Call {
    /// The message that came with it.
    pub message: Message,
    /// The OpenNebula installation that the driver belongs to.
    pub settings: Settings,
    /// What is at `IMAGE/PATH`, where another machine sends it.
    pub incoming: RefCell<Option<ImageSource>>,
}

impl Call {
    /// The image that an action brings in: what another machine sends, else what is at `IMAGE/PATH`.
    ///
    /// # Errors
    /// As [`AnyDatastore::source`].
    pub fn source(
        &self,
        datastore: &AnyDatastore,
        purpose: Purpose,
    ) -> Result<ImageSource, Box<dyn Error>> {
        match self.incoming.take() {
            Some(source) => Ok(source),
            None => Ok(datastore.source(self.message.image()?, purpose)?),
        }
    }
}

/// What an action comes to.
pub type Outcome = Result<Reply, Box<dyn Error>>;

/// How the message can't be had.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Arguments(String),
    #[error("the reply can't be written to standard output: {0}")]
    Output(io::Error),
    #[error("the new image can't be kept, although its reply was given: {0}")]
    Confirmation(io::Error),
}

/// Runs one action as a whole process.
#[must_use]
pub fn run(action: &'static Action, body: fn(&Call) -> Outcome) -> ExitCode {
    record::begin(action.usage.name);
    logger::install();
    hooks::at_stop(|reason| record::finish(Ending::Stopped, reason));
    process::watch(action.usage.name);
    std::panic::set_hook(Box::new(|panic| {
        process::clean_up_after_panic();
        let text = text::one_line(&panic.to_string());
        write_error_line(&format!("an error in the driver itself, please report it: {text}"));
        record::finish(Ending::Failure, &text);
    }));
    let parsed = arguments::parse(&action.usage, std::env::args_os());
    let bridged = matches!(parsed, Ok(arguments::Parsed::Bridged));
    let outcome = match parsed {
        Ok(arguments::Parsed::Action(request)) => answer(action, request, body),
        Ok(arguments::Parsed::Bridged) => answer_bridged(action, body),
        Ok(arguments::Parsed::Help(text)) => {
            let _ = write!(io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        // oned would get EPIPE for a message that is not read.
        Err(text) => {
            drain_standard_input().map_err(Into::into).and(Err(CallError::Arguments(text).into()))
        }
    };
    let (ending, error, code) = match outcome {
        Ok(()) => (Ending::Success, String::new(), ExitCode::SUCCESS),
        Err(error) => {
            process::roll_back_new_image();
            progress::end();
            let text = text::readable_line(&error.to_string());
            write_error_line(&format!("{}: {text}", action.usage.name));
            let stopped = process::stopped_by().is_some();
            let ending = if stopped { Ending::Stopped } else { Ending::Failure };
            (ending, text, ExitCode::FAILURE)
        }
    };
    if !bridged {
        // What has been said can't be taken back by a signal.
        process::mark_committed();
    }
    if let Some(long) = &action.long {
        (long.end)(ending);
    }
    record::finish(ending, &error);
    if !bridged {
        delivery::hand_over();
    }
    code
}

/// Follows a long action: who asks how far it is gets an answer, and so does oned, unless a person called it.
fn follow(action: &'static str, by_hand: bool, message: &Message, settings: &Settings) {
    hooks::on_status_request(progress::tell_status);
    let image = message.image().ok().and_then(|image| image.id);
    let (Some(image), Ok(datastore)) = (image, message.datastore()) else { return };
    if !by_hand && !io::stderr().is_terminal() {
        oned::follow(action, image, settings, datastore.progress && settings.tells_progress());
    }
}

fn answer(
    action: &'static Action,
    request: Request,
    body: fn(&Call) -> Outcome,
) -> Result<(), Box<dyn Error>> {
    progress::install(request.progress);
    let message = message::parse(request.message.read()?)?;
    let settings = Settings::from_environment();
    record::note_message(&message, &settings, without_password);
    if let Some(long) = &action.long {
        (long.begin)(action.usage.name, request.by_hand, &message, &settings);
    }
    let run = |message, settings, incoming| -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(body(&Call { message, settings, incoming: RefCell::new(incoming) })?.into_bytes())
    };
    let reply = match bridge::work(action.usage.name, action.bridge, &message, &settings)? {
        Work::Here(incoming) => run(message, settings, incoming)?,
        Work::ReadOnly => run(message, settings.without_storage(), None)?,
        Work::Done(reply) => reply,
    };
    progress::end();
    record::note_reply(&reply);
    let mut stdout = io::stdout().lock();
    stdout.write_all(&reply).and_then(|()| stdout.flush()).map_err(CallError::Output)?;
    process::confirm().map_err(CallError::Confirmation)?;
    Ok(())
}

/// The call of a driver on another machine.
fn answer_bridged(
    action: &'static Action,
    body: fn(&Call) -> Outcome,
) -> Result<(), Box<dyn Error>> {
    record::leave_to_front_end();
    progress::install(Form::None);
    let mut server = bridge::accept()?;
    let message = message::parse(&server.message)?;
    let settings = server.settings.clone();
    match action.bridge {
        BridgeMode::Register(open) | BridgeMode::Clone(open) if server.only_gives() => {
            server.give(open(&message, &settings.without_storage())?)?;
        }
        _ => {
            if action.long.is_some() {
                server.ask_before_commit();
            }
            let incoming = RefCell::new(server.incoming.take());
            server.reply(&body(&Call { message, settings, incoming })?.into_bytes())?;
            process::confirm().map_err(CallError::Confirmation)?;
        }
    }
    Ok(())
}
