//! The drivers in the place of OpenNebula's stock ones: how they get there, and how the stock ones come back.
//!
//! A kind is enabled by copies of the packaged drivers in `$REMOTES/datastore/<name>`. The stock scripts that they
//! replace are kept beside them, as `<name>.stock`. One line in `/etc/ferrostore/enabled` says that a kind is
//! enabled: after an upgrade of OpenNebula or of these drivers, [`enable`] puts all of them in place again.

mod ceph;
mod driver;
mod enabled;
mod error;
mod front_end;
mod oned_conf;
mod owner;
mod placement;
mod removal;
mod rollback;
mod self_test;
mod standing;
mod stock;
mod sudo;
mod trampoline;

pub use ceph::ceph_lines;
pub use driver::{ACTIONS, DsMad};
pub use enabled::Enabled;
pub use error::InstallError;
pub use front_end::FrontEnd;
pub use oned_conf::OnedConf;
pub use placement::{enable, is_gone};
pub use removal::disable;
pub use standing::Standing;
pub use stock::is_ours;
pub use sudo::{found, missing_line, root_programs};
