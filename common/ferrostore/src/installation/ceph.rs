//! What a Ceph cluster, and the machines that reach it, need.

use super::{DsMad, FrontEnd, found};
use std::fmt::Write as _;

/// The text that tells what Ceph datastores need, where `mads` serve any.
#[must_use]
pub fn ceph_lines(front_end: &FrontEnd, mads: &[DsMad]) -> Option<String> {
    let mad = mads.iter().find(|mad| mad.kind == "ceph")?;
    let mut text = "\nCeph needs a user with these capabilities (for each pool: profile rbd pool=POOL); sudo needs \
                    nothing:\n\nceph auth get-or-create client.one mon 'profile rbd' osd 'profile rbd pool=one'\n"
        .to_owned();
    if found("rbd").is_none() {
        text += "rbd and ceph are missing on this machine; they are needed where no BRIDGE_LIST names other hosts: \
                 apt-get install ceph-common, or dnf install ceph-common\n";
    }
    if mad.replaces_stock() {
        for file in [front_end.datastores().join("ceph/ceph_utils.sh"), front_end.conf(mad)] {
            if !file.exists() {
                let file = file.display();
                let _ = writeln!(
                    text,
                    "{file} is missing, which OpenNebula's transfer drivers read: reinstall OpenNebula's package"
                );
            }
        }
    }
    Some(text)
}
