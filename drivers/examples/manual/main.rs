//! Writes the man pages and the completions of a package: `cargo run -p drivers --example manual -- DIR`.
//!
//! The pages of commands come from what `--help` shows, ferrostore(7) from docs/reference.md. The executables that
//! are shipped hold none of this.

mod page;
mod reference;

#[allow(dead_code)]
#[path = "../../src/bin/clone.rs"]
mod clone;
#[allow(dead_code)]
#[path = "../../src/bin/cp.rs"]
mod cp;
#[allow(dead_code)]
#[path = "../../src/bin/export.rs"]
mod export;
#[allow(dead_code)]
#[path = "../../src/bin/ferrostore.rs"]
mod ferrostore_command;
#[allow(dead_code)]
#[path = "../../src/bin/mkfs.rs"]
mod mkfs;
#[allow(dead_code)]
#[path = "../../src/bin/monitor.rs"]
mod monitor;
#[allow(dead_code)]
#[path = "../../src/bin/rm.rs"]
mod rm;
#[allow(dead_code)]
#[path = "../../src/bin/snap_delete.rs"]
mod snap_delete;
#[allow(dead_code)]
#[path = "../../src/bin/snap_flatten.rs"]
mod snap_flatten;
#[allow(dead_code)]
#[path = "../../src/bin/snap_revert.rs"]
mod snap_revert;
#[allow(dead_code)]
#[path = "../../src/bin/stat.rs"]
mod stat;

use clap::Command;
use clap_complete::{Shell, generate};
use ferrostore::admin;
use one_protocol::arguments;
use page::Page;
use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// Section of the commands of administrators.
const COMMANDS: &str = "8";
/// Section of conventions and overviews.
const OVERVIEW: &str = "7";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: manual DIR")?;
    let (pages, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    for action in [
        &clone::ACTION,
        &cp::ACTION,
        &export::ACTION,
        &mkfs::ACTION,
        &monitor::ACTION,
        &rm::ACTION,
        &snap_delete::ACTION,
        &snap_flatten::ACTION,
        &snap_revert::ACTION,
        &stat::ACTION,
    ] {
        let name = format!("ferrostore-{}", action.usage.name);
        write(
            &pages,
            &name,
            COMMANDS,
            &Page::of_command(&name, arguments::command(&action.usage)),
        )?;
    }
    let command = admin::command(ferrostore_command::SUBCOMMANDS);
    for subcommand in command.get_subcommands() {
        let name = format!("ferrostore-{}", subcommand.get_name());
        write(&pages, &name, COMMANDS, &Page::of_command(&name, subcommand.clone()))?;
    }
    write(&pages, "ferrostore", COMMANDS, &Page::of_command("ferrostore", command.clone()))?;
    write(&pages, "ferrostore", OVERVIEW, &reference::page()?)?;
    complete(&completions, command)?;
    Ok(())
}

fn write(directory: &Path, name: &str, section: &str, page: &Page) -> std::io::Result<()> {
    fs::write(directory.join(format!("{name}.{section}")), page.text(name, section))
}

/// Writes the completions of the command that administrators run; oned runs the drivers.
fn complete(directory: &Path, mut command: Command) -> std::io::Result<()> {
    for (shell, name) in
        [(Shell::Bash, "ferrostore"), (Shell::Zsh, "_ferrostore"), (Shell::Fish, "ferrostore.fish")]
    {
        let mut file = BufWriter::new(File::create(directory.join(name))?);
        generate(shell, &mut command, "ferrostore", &mut file);
    }
    Ok(())
}
