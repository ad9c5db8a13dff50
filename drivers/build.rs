//! Leaves the tables for unwinding out of the release drivers, in which a panic ends the process (see
//! the profile in the workspace's `Cargo.toml`).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("PROFILE") == "release" && variable("CARGO_CFG_TARGET_ENV") == "gnu" {
        // From the workspace's root, where cargo links: a tree that was moved still builds.
        println!("cargo::rustc-link-arg-bins=-Wl,-T,drivers/without-unwinding.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}
