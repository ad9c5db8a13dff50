//! Drivers for Ceph datastores, and programs that they run, that fail or are killed: at every boundary of programs, and at
//! random moments. A client that was killed counts as alive for half a minute, which these tests wait for.

mod crash;
mod programs;
mod random_kills;
