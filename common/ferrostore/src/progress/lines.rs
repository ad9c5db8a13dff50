//! Progress for scripts: one JSON object a line.

use super::words::{left, rate};
use super::{ENDED, Now, now, wait};
use crate::json::Object;
use crate::record;
use runtime::sys::write_error_line;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

/// Writes a line each second, and one at the end.
pub(super) fn show() {
    while wait(INTERVAL, &ENDED) {
        write_error_line(&line(&now(), false));
    }
    write_error_line(&line(&now(), true));
}

fn line(now: &Now, ended: bool) -> String {
    let mut object = Object::default();
    object.text("action", record::action(), 32);
    object.seconds("seconds", record::elapsed());
    object.number("done", now.done);
    if now.total > 0 {
        object.number("total", now.total);
    }
    object.number("bytes_per_second", rate(now));
    if let Some(left) = left(now, rate(now)) {
        object.number("seconds_left", left.as_secs());
    }
    object.flag("ended", ended);
    object.into_line().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_known() {
        let now = Now { done: 50, total: 100, time: Duration::from_secs(5) };
        let line = line(&now, false);
        for part in ["\"done\":50,\"total\":100", "\"bytes_per_second\":10,\"seconds_left\":5"] {
            assert!(line.contains(part), "{line}");
        }
        let unknown = super::line(&Now { total: 0, ..now }, true);
        assert!(!unknown.contains("total") && !unknown.contains("left"), "{unknown}");
        assert!(unknown.ends_with("\"ended\":true}"), "{unknown}");
    }
}
