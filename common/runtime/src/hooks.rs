//! What a program does where this crate ends its process, or asks before it commits. Each is set once.

use std::sync::OnceLock;

static AT_STOP: OnceLock<fn(&str)> = OnceLock::new();
static STATUS: OnceLock<fn()> = OnceLock::new();
static COMMIT_CHECK: OnceLock<fn() -> Option<String>> = OnceLock::new();

/// Has `act` called with the reason right before the process is stopped. It must call nothing of `process`.
pub fn at_stop(act: fn(&str)) {
    let _ = AT_STOP.set(act);
}

/// Has `status` called where SIGUSR1 asks how far the action is. Without one the signal has no effect.
pub fn on_status_request(status: fn()) {
    let _ = STATUS.set(status);
}

/// Has `check` asked before the action is committed: a reason not to commit it stops the process.
pub fn set_commit_check(check: fn() -> Option<String>) {
    let _ = COMMIT_CHECK.set(check);
}

pub(crate) fn stopping(reason: &str) {
    if let Some(act) = AT_STOP.get() {
        act(reason);
    }
}

pub(crate) fn tell_status() {
    if let Some(status) = STATUS.get() {
        status();
    }
}

pub(crate) fn reason_not_to_commit() -> Option<String> {
    COMMIT_CHECK.get().and_then(|check| check())
}
