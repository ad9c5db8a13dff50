//! `ferrostore fsck`: checks a file datastore. It is also an executable of its own, `fsck`.

use super::{Done, Subcommand};
use crate::call::by_hand::{self, Finding, Request};
use crate::fsck::{self, CheckError, Form, Known, Report};
use crate::kinds::ceph;
use crate::progress;
use clap::ArgMatches;
use runtime::command::rbd::Pool;
use std::io::{self, BufWriter, Write};

/// The subcommand.
pub const FSCK: Subcommand = Subcommand { command: || by_hand::command("ferrostore fsck"), run };

fn run(matches: &ArgMatches) -> Done {
    let finding = by_hand::request(matches).and_then(|request| examine(&request));
    Ok(by_hand::exit_code(finding?))
}

/// Standard output, on a screen with a progress bar perhaps.
struct BesideBar<W>(W);

impl<W: Write> Write for BesideBar<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::beside_bar(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        progress::beside_bar(|| self.0.flush())
    }
}

/// Checks a datastore, and prints a report of it.
///
/// # Errors
/// Where nothing can be checked or the report can't be written.
pub fn examine(request: &Request) -> Finding {
    if let Some(pool) = &request.pool {
        return examine_pool(request, pool);
    }
    let directory = &request.directory;
    let known = match &request.images {
        Some(list) => Some(Known::read(list, directory, request.datastore)?),
        None => None,
    };
    let form = if request.json { Form::Json } else { Form::Text };
    let output = BufWriter::new(BesideBar(io::stdout().lock()));
    let mut report =
        Report::begin(output, form, &directory.to_string_lossy()).map_err(CheckError::Output)?;
    let verdict = fsck::examine(directory, known.as_ref(), &mut |entry| report.entry(entry));
    progress::end();
    let verdict = verdict?;
    report.end(&verdict).map_err(CheckError::Output)?;
    Ok(verdict.worst)
}

/// Checks a pool of a Ceph cluster, and prints a report of it.
fn examine_pool(request: &Request, pool: &Pool) -> Finding {
    let known = match &request.images {
        Some(list) => Some(Known::read(list, &request.directory, request.datastore)?),
        None => None,
    };
    let volumes = ceph::survey(pool)?;
    let form = if request.json { Form::Json } else { Form::Text };
    let output = BufWriter::new(io::stdout().lock());
    let mut report = Report::begin(output, form, &pool.name).map_err(CheckError::Output)?;
    let verdict = fsck::pool::examine(&volumes, known.as_ref(), &mut |entry| report.entry(entry))
        .map_err(CheckError::Output)?;
    report.end(&verdict).map_err(CheckError::Output)?;
    Ok(verdict.worst)
}
