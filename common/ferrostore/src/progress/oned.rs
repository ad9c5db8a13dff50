//! oned and the driver about an image that takes long: how far it is, and whether it is still wanted.
//!
//! `one.image.update` sets the attribute PROGRESS of the image, where users look for it. The same answer tells that the
//! image no longer exists: then the driver stops as if by a signal, and leaves nothing. Any other answer, and none, changes
//! nothing. What was verified of an image is told in its attribute VERIFIED.

use super::{Now, now, wait, words};
use crate::record::{self, Ending};
use one_protocol::settings::Settings;
use one_protocol::xml_rpc::{Client, XmlRpcError};
use runtime::{hooks, process};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The name of the attribute.
const ATTRIBUTE: &str = "PROGRESS";
/// The name of the attribute that tells what was verified.
const VERIFIED: &str = "VERIFIED";
/// Nothing is said of what takes less.
const FIRST: Duration = Duration::from_secs(10);
/// Between two values.
const INTERVAL: Duration = Duration::from_secs(15);
/// What takes less is committed without a question.
const WORTH_A_QUESTION: Duration = Duration::from_secs(2);

/// The image of this process, until its action has ended.
static FOLLOWED: Mutex<Option<Followed>> = Mutex::new(None);
static ENDED: AtomicBool = AtomicBool::new(false);

struct Followed {
    image: Image,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Image {
    action: &'static str,
    id: u64,
    client: Client,
    /// Whether PROGRESS is wanted.
    tell: bool,
}

/// Follows the action on image `id` from now on; with `tell` its PROGRESS is set. Without credentials for oned nothing is.
pub fn follow(action: &'static str, id: u64, settings: &Settings, tell: bool) {
    let Ok(client) = Client::new(settings) else { return };
    let image = Image { action, id, client, tell };
    hooks::set_commit_check(unwanted);
    let followed = image.clone();
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || run(&followed));
    let followed = Followed { image, thread: thread.ok() };
    *FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner) = Some(followed);
}

/// Ends that, sets the last value where there was one before, and tells what was verified. Call it once the reply is given.
pub fn end(ending: Ending) {
    ENDED.store(true, Ordering::Relaxed);
    let followed = FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Followed { image, thread: Some(thread) }) = followed else { return };
    thread.thread().unpark();
    let _ = thread.join();
    if !image.tell {
        return;
    }
    let elapsed = record::elapsed();
    if elapsed >= FIRST {
        let _ = image.set(&last_words(ending, &now(), elapsed));
    }
    let verified = record::facts().verified;
    if ending == Ending::Success && !verified.is_empty() {
        let _ = image.client.append_to_image(image.id, VERIFIED, &verified);
    }
}

fn last_words(ending: Ending, now: &Now, elapsed: Duration) -> String {
    let time = words::time(elapsed);
    // Other programs, such as mkfs, don't tell.
    let size = if now.done > 0 { format!(", {}", words::size(now.done)) } else { String::new() };
    match ending {
        Ending::Success => format!("done in {time}{size}"),
        _ => format!("failed after {time}{size}"),
    }
}

impl Image {
    /// Sets PROGRESS.
    fn set(&self, text: &str) -> Result<(), XmlRpcError> {
        self.client.append_to_image(self.id, ATTRIBUTE, &format!("{} {text}", self.action))
    }

    /// Why the action is to be stopped, where oned has just answered like this.
    fn unwanted(&self, answer: &Result<(), XmlRpcError>) -> Option<String> {
        let gone = matches!(answer, Err(error) if error.is_no_such_object());
        gone.then(|| {
            record::note_cancelled();
            format!(
                "stopped, because image {} no longer exists in OpenNebula: it was deleted meanwhile; nothing was changed",
                self.id
            )
        })
    }
}

fn run(image: &Image) {
    let mut last = now();
    let mut pause = FIRST.saturating_sub(record::elapsed());
    while wait(pause, &ENDED) {
        let now = now();
        let rate = rate_since(&last, &now);
        last = now;
        let answer = if image.tell {
            image.set(&words::status_at(&now, record::elapsed(), rate))
        } else {
            image.client.image(image.id)
        };
        if let Some(reason) = image.unwanted(&answer) {
            process::stop(&reason);
        }
        pause = INTERVAL;
    }
}

/// Bytes a second since `last`, or in the whole phase where that began after it.
fn rate_since(last: &Now, now: &Now) -> u64 {
    match (now.done.checked_sub(last.done), now.time.checked_sub(last.time)) {
        (Some(done), Some(time)) if now.total == last.total && !time.is_zero() => {
            (done as f64 / time.as_secs_f64()) as u64
        }
        _ => words::rate(now),
    }
}

/// Why the action must not be committed: the check of [`hooks::set_commit_check`].
fn unwanted() -> Option<String> {
    if record::elapsed() < WORTH_A_QUESTION {
        return None;
    }
    let followed = FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    let image = followed.as_ref()?.image.clone();
    drop(followed);
    image.unwanted(&image.client.image(image.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_interval_within_a_phase() {
        let at = |done, total, seconds| Now { done, total, time: Duration::from_secs(seconds) };
        assert_eq!(rate_since(&at(100, 1000, 10), &at(400, 1000, 25)), 20);
        assert_eq!(rate_since(&at(900, 1000, 10), &at(50, 2000, 5)), 10);
        assert_eq!(rate_since(&at(0, 0, 0), &at(50, 2000, 5)), 10);
    }

    #[test]
    fn the_last_value_tells_duration_and_bytes() {
        let now = Now { done: 12 << 30, total: 12 << 30, time: Duration::from_secs(60) };
        let say = |ending| last_words(ending, &now, Duration::from_secs(65));
        assert_eq!(say(Ending::Success), "done in 1 min 5 s, 12.0 GiB");
        assert_eq!(say(Ending::Failure), "failed after 1 min 5 s, 12.0 GiB");
        let nothing = last_words(Ending::Success, &Now { done: 0, ..now }, Duration::from_secs(65));
        assert_eq!(nothing, "done in 1 min 5 s");
    }
}
