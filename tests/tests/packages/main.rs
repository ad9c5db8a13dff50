//! Packages of ferrostore on real package managers, each in a root of its own.

mod deb;
mod manual;
mod release;
mod root;
mod rpm;
