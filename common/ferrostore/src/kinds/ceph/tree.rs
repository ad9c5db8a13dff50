//! An image with all its volumes and snapshots, and what descends from them.

use super::names::{ImageName, snapshot_id};
use runtime::command::cluster::ClusterError;
use runtime::command::rbd::{Child, Pool, Snapshot};

/// One volume of an image.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) snapshots: Vec<Snapshot>,
    children: Vec<Child>,
    /// Whether it may have clones that the user may not see.
    hidden: bool,
}

/// Clones whose names are not known.
pub(super) const HIDDEN: &str = "images in a pool that CEPH_USER may not see";

impl Member {
    fn load(pool: &Pool, name: &str) -> Result<Self, ClusterError> {
        let snapshots = pool.snapshots(name)?;
        let children = if snapshots.is_empty() { Ok(Vec::new()) } else { pool.children(name) };
        let (children, hidden) = match children {
            // One of them is in a pool that is not the user's.
            Err(error) if error.is_forbidden() => (Vec::new(), true),
            children => (children?, false),
        };
        Ok(Self { name: name.to_owned(), snapshots, children, hidden })
    }

    /// Removes all its snapshots. No clone of them may be left but of format 2.
    pub(super) fn purge(&self, pool: &Pool) -> Result<(), ClusterError> {
        purge(pool, &self.name, &self.snapshots)
    }
}

/// Removes `snapshots` of a volume.
pub(super) fn purge(pool: &Pool, name: &str, snapshots: &[Snapshot]) -> Result<(), ClusterError> {
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.user) {
        let gone = |result: Result<(), ClusterError>| match result {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        };
        if snapshot.protected {
            gone(pool.unprotect(name, &snapshot.name).map(drop))?;
        }
        gone(pool.remove_snapshot(name, &snapshot.name))?;
    }
    Ok(())
}

/// All volumes of an image.
#[derive(Debug)]
pub(super) struct Tree {
    image: ImageName,
    pool: String,
    pub(super) members: Vec<Member>,
}

impl Tree {
    /// The volumes of `image` among `names`.
    pub(super) fn load(
        pool: &Pool,
        image: ImageName,
        names: &[String],
    ) -> Result<Self, ClusterError> {
        let own = names.iter().filter(|name| image.owns(name));
        let members = own.map(|name| Member::load(pool, name)).collect::<Result<_, _>>()?;
        Ok(Self { image, pool: pool.name.clone(), members })
    }

    /// What descends from the image and is no part of it, by its full name.
    pub(super) fn dependents(&self) -> Vec<String> {
        let all = self.members.iter().flat_map(|member| &member.children);
        let others = all.filter(|child| !self.is_own(child));
        let mut names: Vec<String> = others.map(called).collect();
        names.sort();
        names.dedup();
        if self.members.iter().any(|member| member.hidden) {
            names.push(HIDDEN.to_owned());
        }
        names
    }

    fn is_own(&self, child: &Child) -> bool {
        let plain = child.pool == self.pool && !child.trash;
        plain && (self.image.owns(&child.image) || child.image == self.image.temporary())
    }

    /// Indices of the members, each before those that it descends from.
    fn leaf_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        let position = |name: &str| self.members.iter().position(|member| member.name == name);
        while order.len() < self.members.len() {
            let free = |index: &usize| {
                !order.contains(index)
                    && self.members[*index]
                        .children
                        .iter()
                        .filter_map(|child| position(&child.image))
                        .all(|child| order.contains(&child) || child == *index)
            };
            // There are no circles; if there were, RBD itself would refuse.
            let next = (0..self.members.len()).find(free);
            let rest = (0..self.members.len()).find(|index| !order.contains(index));
            order.extend(next.or(rest));
        }
        order
    }

    /// Removes all of it, what descends from others first.
    pub(super) fn remove(&self, pool: &Pool) -> Result<(), ClusterError> {
        for index in self.leaf_first() {
            let member = &self.members[index];
            member.purge(pool)?;
            remove(pool, &member.name)?;
        }
        Ok(())
    }

    /// The members but the one with this name.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.members.retain(|member| member.name != name);
        self
    }

    /// The member with this name.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Numbers of all snapshots of OpenNebula's that there are, and the volumes that carry them.
    pub(super) fn numbered(&self) -> Vec<(u32, &str)> {
        let of = |member: &'_ Member| -> Vec<u32> {
            let user = member.snapshots.iter().filter(|snapshot| snapshot.user);
            user.filter_map(|snapshot| snapshot_id(&snapshot.name)).collect()
        };
        let mut all: Vec<(u32, &str)> = Vec::new();
        for member in &self.members {
            all.extend(of(member).into_iter().map(|id| (id, member.name.as_str())));
        }
        all.sort_unstable();
        all
    }
}

/// A clone by its full name.
pub(super) fn called(child: &Child) -> String {
    let trash = if child.trash { " (in the trash)" } else { "" };
    format!("{}/{}{trash}", child.pool, child.image)
}

/// Removes a listed image, if it is there.
pub(super) fn remove(pool: &Pool, name: &str) -> Result<(), ClusterError> {
    let owner = ImageName::owner_of_unfinished(name);
    let is_temporary = owner.is_some_and(|image| image.temporary() == name);
    match pool.remove(name, super::LARGE) {
        Err(error) if error.is_missing() => Ok(()),
        // A backup that was restored in part still has the snapshots between its increments.
        Err(error) if error.has_snapshots() && is_temporary => {
            purge(pool, name, &pool.snapshots(name)?)?;
            pool.remove(name, super::LARGE)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, children: &[&str]) -> Member {
        let child =
            |image: &&str| Child { pool: "one".into(), image: (*image).into(), trash: false };
        Member {
            name: name.into(),
            snapshots: Vec::new(),
            children: children.iter().map(child).collect(),
            hidden: false,
        }
    }

    fn tree(members: Vec<Member>) -> Tree {
        Tree { image: ImageName { id: 5 }, pool: "one".into(), members }
    }

    #[test]
    fn what_descends_from_a_volume_goes_before_it() {
        let tree = tree(vec![
            member("one-5-0:1", &["one-5-2", "one-5-3"]),
            member("one-5", &[]),
            member("one-5-2", &["one-5"]),
            member("one-5-3", &[]),
        ]);
        let order = tree.leaf_first();
        let names: Vec<_> = order.iter().map(|&index| tree.members[index].name.as_str()).collect();
        assert_eq!(names, ["one-5", "one-5-2", "one-5-3", "one-5-0:1"]);
    }

    #[test]
    fn volumes_of_a_circle_come_all_the_same() {
        let tree = tree(vec![member("one-5-0", &["one-5"]), member("one-5", &["one-5-0"])]);
        assert_eq!(tree.leaf_first().len(), 2);
    }

    #[test]
    fn disks_of_virtual_machines_other_images_and_what_is_in_the_trash_are_dependents() {
        let mut tree =
            tree(vec![member("one-5", &["one-5-7-0", "one-51", "one-5-2", "one-5.ferrostore"])]);
        let child = |pool: &str, trash| Child { pool: pool.into(), image: "one-5-1".into(), trash };
        tree.members[0].children.extend([child("other", false), child("one", true)]);
        let expected =
            ["one/one-5-1 (in the trash)", "one/one-5-7-0", "one/one-51", "other/one-5-1"];
        assert_eq!(tree.dependents(), expected);
    }
}
