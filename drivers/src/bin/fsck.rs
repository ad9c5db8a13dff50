//! `fsck`: checks a file datastore. Run by hand, not by oned.

use ferrostore::call::by_hand::{self, Finding, Request};
use ferrostore::fsck::{self, CheckError, Form, Known, Report};
use std::io::{self, BufWriter};
use std::process::ExitCode;

fn main() -> ExitCode {
    by_hand::run(fsck)
}

fn fsck(request: &Request) -> Finding {
    let directory = &request.directory;
    let known = match &request.images {
        Some(list) => Some(Known::read(list, directory, request.datastore)?),
        None => None,
    };
    let form = if request.json { Form::Json } else { Form::Text };
    let output = BufWriter::new(io::stdout().lock());
    let mut report =
        Report::begin(output, form, &directory.to_string_lossy()).map_err(CheckError::Output)?;
    let verdict = fsck::examine(directory, known.as_ref(), &mut |entry| report.entry(entry))?;
    report.end(&verdict).map_err(CheckError::Output)?;
    Ok(verdict.worst)
}
