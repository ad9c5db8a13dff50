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
use crate::progress;
pub use one_protocol::arguments::Usage;
use one_protocol::input::{MessageSource, drain_standard_input};
use one_protocol::message::{self, Message};
pub use one_protocol::reply::Reply;
use one_protocol::settings::Settings;
use one_protocol::{arguments, logger};
use runtime::sys::write_error_line;
use runtime::{process, text};
use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// What a driver is.
#[derive(Debug)]
pub struct Action {
    /// Its name and its help.
    pub usage: Usage,
    /// What of it is done by a bridge host, where the datastore has any.
    pub bridge: BridgeMode,
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
    logger::install();
    progress::install();
    process::watch(action.usage.name);
    std::panic::set_hook(Box::new(|panic| {
        process::clean_up_after_panic();
        let text = text::one_line(&panic.to_string());
        write_error_line(&format!("an error in the driver itself, please report it: {text}"));
    }));
    let parsed = arguments::parse(&action.usage, std::env::args_os());
    let bridged = matches!(parsed, Ok(arguments::Parsed::Bridged));
    let outcome = match parsed {
        Ok(arguments::Parsed::Message(from)) => answer(action, from, body),
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
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::roll_back_new_image();
            progress::end();
            let text = text::readable_line(&error.to_string());
            write_error_line(&format!("{}: {text}", action.usage.name));
            ExitCode::FAILURE
        }
    };
    if !bridged {
        // What has been said can't be taken back by a signal.
        process::mark_committed();
        delivery::hand_over();
    }
    code
}

fn answer(
    action: &'static Action,
    from: MessageSource,
    body: fn(&Call) -> Outcome,
) -> Result<(), Box<dyn Error>> {
    let message = message::parse(&from.read()?)?;
    let settings = Settings::from_environment();
    let run = |message, settings, incoming| -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(body(&Call { message, settings, incoming: RefCell::new(incoming) })?.into_bytes())
    };
    let reply = match bridge::work(action.usage.name, action.bridge, &message, &settings)? {
        Work::Here(incoming) => run(message, settings, incoming)?,
        Work::ReadOnly => run(message, settings.without_storage(), None)?,
        Work::Done(reply) => reply,
    };
    progress::end();
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
    let mut server = bridge::accept()?;
    let message = message::parse(&server.message)?;
    let settings = server.settings.clone();
    match action.bridge {
        BridgeMode::Register(open) | BridgeMode::Clone(open) if server.only_gives() => {
            server.give(open(&message, &settings.without_storage())?)?;
        }
        _ => {
            let incoming = RefCell::new(server.incoming.take());
            server.reply(&body(&Call { message, settings, incoming })?.into_bytes())?;
            process::confirm().map_err(CallError::Confirmation)?;
        }
    }
    Ok(())
}
