//! What the manifest and the first session mean to a single server: the types behind
//! [`Boot::config`](crate::server::Boot::config), in postcard form.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::manifest::{Mount, Session};

/// What vfs is told: where file systems stand, and the program to start once they do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VfsConfig {
    /// The manifest's mounts, in the order in which they are made; the first is `/`.
    pub mounts: Vec<Mount>,
    /// The first program.
    pub session: Session,
}
