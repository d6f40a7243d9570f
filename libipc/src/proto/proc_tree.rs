//! What vfs tells procfs: the mounts, which only vfs knows and only procfs shows.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Label that replaces the list of mounts: payload: [`Mounts`].
pub const SET_MOUNTS: u32 = 0x600;

/// One mount as `/proc/mounts` and `/proc/PID/mountinfo` show it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MountInfo {
    /// What is mounted: a disk's name, or the type's own name.
    pub source: Vec<u8>,
    /// The mount point's absolute path.
    pub at: Vec<u8>,
    /// The file system's type.
    pub kind: Vec<u8>,
    /// Nothing on it can be changed.
    pub read_only: bool,
    /// Its `st_dev`.
    pub device: u64,
}

/// All mounts, in the order in which they were made.
pub type Mounts = Vec<MountInfo>;
