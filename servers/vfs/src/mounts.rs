//! The mounts: which directories are covered, by what, and what lies above the root of a volume.

use alloc::{string::String, vec::Vec};

use libipc::proto::proc_tree::{MountInfo, Mounts};
use libipc::server::files::device_number;
use serde::{Deserialize, Serialize};

use crate::who::Place;

/// Most mounts at a time: their covers travel with each request, and their numbers fit `st_dev`.
pub const MOUNTS_MAX: usize = 64;

/// A directory that something is mounted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Covered {
    /// Its server.
    pub server: u32,
    /// Its node there.
    pub node: u64,
    /// The volume it is on.
    pub volume: u32,
}

/// One mounted volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// The mount point's absolute path when it was mounted.
    pub at: Vec<u8>,
    /// What is mounted, as mount(8) shows it.
    pub source: Vec<u8>,
    /// The file system's type.
    pub kind: String,
    /// Nothing on it can be changed.
    pub read_only: bool,
    /// Who serves it.
    pub server: u32,
    /// Which of the server's volumes it is.
    pub volume: u32,
    /// The volume's root directory.
    pub root: u64,
    /// The mount point; none for the root of the namespace.
    pub covered: Option<Covered>,
}

impl Mount {
    /// Where walks enter it.
    pub fn place(&self) -> Place {
        Place::volume(self.server, self.volume)
    }
}

/// All mounts, the oldest first; the first is the root of the namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MountTable {
    list: Vec<Mount>,
}

impl MountTable {
    /// The root of the namespace, once it is mounted.
    pub fn namespace(&self) -> Option<&Mount> {
        self.list.first()
    }

    /// Adds a mount.
    pub fn add(&mut self, mount: Mount) {
        self.list.push(mount);
    }

    /// Whether one more would be too many.
    pub fn is_full(&self) -> bool {
        self.list.len() >= MOUNTS_MAX
    }

    /// Takes a volume out of the namespace.
    pub fn remove(&mut self, server: u32, volume: u32) {
        self.list.retain(|mount| (mount.server, mount.volume) != (server, volume));
    }

    /// The nodes of a server at which its walks stop.
    pub fn covers(&self, server: u32) -> Vec<u64> {
        let covered = self.list.iter().filter_map(|mount| mount.covered);
        covered.filter(|covered| covered.server == server).map(|covered| covered.node).collect()
    }

    /// What covers a node, topmost: a volume's root may be covered in its turn.
    pub fn on(&self, server: u32, node: u64) -> Option<&Mount> {
        let covers = |mount: &&Mount, server, node| {
            mount.covered.is_some_and(|covered| (covered.server, covered.node) == (server, node))
        };
        let mut top = self.list.iter().find(|mount| covers(mount, server, node))?;
        // Each round climbs to another mount, since a mount covers a node that was there before it.
        for _ in &self.list {
            match self.list.iter().find(|mount| covers(mount, top.server, top.root)) {
                Some(higher) => top = higher,
                None => break,
            }
        }
        Some(top)
    }

    /// The mount of a volume.
    pub fn of_volume(&self, server: u32, volume: u32) -> Option<&Mount> {
        self.list.iter().find(|mount| (mount.server, mount.volume) == (server, volume))
    }

    /// The mount whose root directory is this node, if it is not covered itself.
    pub fn by_root(&self, server: u32, node: u64) -> Option<&Mount> {
        self.list.iter().find(|mount| (mount.server, mount.root) == (server, node))
    }

    /// Whether something is mounted on a directory of the volume.
    pub fn is_base(&self, server: u32, volume: u32) -> bool {
        let mut covered = self.list.iter().filter_map(|mount| mount.covered);
        covered.any(|covered| (covered.server, covered.volume) == (server, volume))
    }

    /// The lowest volume number of a server that is not mounted.
    pub fn free_volume(&self, server: u32) -> u32 {
        let taken = |volume: &u32| self.of_volume(server, *volume).is_some();
        (0..).find(|volume| !taken(volume)).unwrap_or(u32::MAX)
    }

    /// As procfs shows them.
    pub fn show(&self) -> Mounts {
        let info = |mount: &Mount| MountInfo {
            source: mount.source.clone(),
            at: mount.at.clone(),
            kind: mount.kind.clone().into_bytes(),
            read_only: mount.read_only,
            device: device_number(mount.server, mount.volume),
        };
        self.list.iter().map(info).collect()
    }
}
