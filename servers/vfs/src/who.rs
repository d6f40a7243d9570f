//! On whose behalf a walk is made, and where its paths begin. All of it comes with the call: nothing per process is
//! kept.

use alloc::vec::Vec;

use libipc::abi::Badge;
use libipc::abi::delivery::Named;
use libipc::proto::fs::{Credentials, From};
use libipc::server::Caller;
use serde::{Deserialize, Serialize};

/// Where a walk begins or goes on: a server, and a place it can name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The server's number.
    pub server: u32,
    /// The place by the server's own name for it.
    pub from: From,
}

impl Place {
    /// The root of a volume.
    pub fn volume(server: u32, volume: u32) -> Place {
        Place { server, from: From::Root(volume) }
    }

    /// A node that a server told of.
    pub fn node(server: u32, node: u64) -> Place {
        Place { server, from: From::Node(node) }
    }

    /// What is behind an open session; `None` when the name names nothing.
    pub fn session(named: &Named) -> Option<Place> {
        let server = u32::try_from(named.server).ok().filter(|server| *server != 0)?;
        Some(Place { server, from: From::Session(Badge(named.badge)) })
    }
}

/// What is known of the node behind a caller's root directory. It is asked for only when a walk meets `..`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RootNode {
    /// Nothing yet.
    Unknown,
    /// It is the root of the whole namespace, where no barrier is needed: `..` stops at the volume's root anyway.
    Namespace,
    /// It is this node of its server, the work of chroot(2).
    Node(u64),
}

/// A caller's root directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootDirectory {
    /// Where absolute paths begin.
    pub place: Place,
    /// What its server says is behind the session; equal for two opens of one directory.
    pub object: u64,
    /// Its node, as far as it is known.
    pub node: RootNode,
}

/// The caller as a walk sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Who {
    /// Ids and mask, attached by the kernel.
    pub caller: Caller,
    /// Supplementary groups, which the process server knows; of the superuser none are asked for.
    pub groups: Vec<u32>,
    /// The working directory.
    pub cwd: Place,
    /// The root directory.
    pub root: RootDirectory,
}

impl Who {
    /// vfs itself, in the root of the namespace.
    pub fn system(root: Place) -> Who {
        Who {
            caller: Caller { umask: 0o022, ..Caller::default() },
            groups: Vec::new(),
            cwd: root,
            root: RootDirectory { place: root, object: 0, node: RootNode::Namespace },
        }
    }

    /// A program, by its directories. One that has none yet stands in the root of the namespace.
    pub fn program(
        caller: Caller,
        directories: &[Named; 2],
        namespace: Place,
        known_root: Option<(u32, u64)>,
    ) -> Who {
        let [cwd, root] = directories;
        let root = match Place::session(root) {
            None => Who::system(namespace).root,
            Some(place) => {
                let known = known_root == Some((place.server, root.object));
                let node = if known { RootNode::Namespace } else { RootNode::Unknown };
                RootDirectory { place, object: root.object, node }
            }
        };
        Who { caller, groups: Vec::new(), cwd: Place::session(cwd).unwrap_or(root.place), root }
    }

    /// What file servers check and record.
    pub fn credentials(&self) -> Credentials {
        let Caller { uid, gid, umask, .. } = self.caller;
        Credentials { uid, gid, umask, groups: self.groups.clone() }
    }
}
