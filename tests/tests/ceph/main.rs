//! Ceph datastores, on a cluster of one machine that all tests here share, each in a pool of its own.

mod backups;
mod bridge;
mod checks;
mod deletion;
mod diff;
mod images;
mod intake;
mod layouts;
mod librbd;
mod oned;
mod refusals;
mod snapshots;
mod stock_faults;
mod trouble;
