//! Leaves the tables for unwinding out of the release drivers, in which a panic ends the process (see
//! the profile in the workspace's `Cargo.toml`).

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("PROFILE") == "release" && variable("CARGO_CFG_TARGET_ENV") == "gnu" {
        let folder = variable("CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/without-unwinding.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
    }
}
