//! Leaves the tables for unwinding out of the release drivers, in which a panic ends the process (see the profile in
//! the workspace's `Cargo.toml`), and links what remains of the unwinder into each of them: the dynamic linker needs
//! 0.1 ms for a shared library such as libgcc_s, a tenth of the time that a quick call takes.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("PROFILE") == "release" && variable("CARGO_CFG_TARGET_ENV") == "gnu" {
        // From the workspace's root, where cargo links: a tree that was moved still builds.
        println!("cargo::rustc-link-arg-bins=-Wl,-T,drivers/without-unwinding.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
    // Another linker, such as that of packaging/compile, has its own way.
    let default_linker = env::var_os("RUSTC_LINKER").is_none();
    if default_linker && variable("HOST") == variable("TARGET") && has_static_unwinder() {
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// GCC prints the path of a library that it has, and the bare name of one that it lacks.
fn has_static_unwinder() -> bool {
    let output = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    output.is_ok_and(|output| {
        let path = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(path.trim()).is_absolute()
    })
}
