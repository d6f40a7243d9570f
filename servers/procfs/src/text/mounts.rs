//! Files about mounts.

use alloc::{format, vec::Vec};

use libipc::proto::proc_tree::MountInfo;

/// `/proc/mounts`, as `/etc/fstab` (getmntent(3)).
pub(super) fn mounts(mounts: &[MountInfo]) -> Vec<u8> {
    let row = |mount: &MountInfo| {
        let (source, at) = (escaped(&mount.source), escaped(&mount.at));
        [&source[..], b" ", &at, b" ", &mount.kind, b" ", access(mount), b" 0 0\n"].concat()
    };
    mounts.iter().flat_map(row).collect()
}

/// `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): every mount's parent is the one with the longest path above it.
pub(super) fn mount_info(mounts: &[MountInfo]) -> Vec<u8> {
    const FIRST_ID: usize = 1;
    let parent = |index: usize, at: &[u8]| {
        let above = mounts.iter().take(index).enumerate().filter(|(_, other)| lies_below(at, &other.at));
        above.max_by_key(|(_, other)| other.at.len()).map_or(0, |(parent, _)| parent + FIRST_ID)
    };
    let row = |(index, mount): (usize, &MountInfo)| {
        let (major, minor) =
            (mount.device >> 8 & 0xfff, mount.device & 0xff | mount.device >> 12 & 0xffff_ff00);
        let head = format!("{} {} {major}:{minor} / ", index + FIRST_ID, parent(index, &mount.at));
        let (source, at) = (escaped(&mount.source), escaped(&mount.at));
        let access = access(mount);
        [head.as_bytes(), &at, b" ", access, b" - ", &mount.kind, b" ", &source, b" ", access, b"\n"].concat()
    };
    mounts.iter().enumerate().flat_map(row).collect()
}

fn access(mount: &MountInfo) -> &'static [u8] {
    if mount.read_only { b"ro" } else { b"rw" }
}

fn lies_below(path: &[u8], above: &[u8]) -> bool {
    above == b"/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Blanks and backslashes as octal, so that fields stay apart.
fn escaped(text: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        plain => [*plain].to_vec(),
    };
    text.iter().flat_map(escape).collect()
}
