//! The absolute path of a directory: the path its server knows, below its volume's mount point.

use alloc::{boxed::Box, format, vec::Vec};

use libipc::linux::errno::*;
use libipc::linux::major;
use libipc::proto::fs::{Found, Operation};
use libipc::server::Effects;
use libipc::server::files::volume_of_device;

use crate::Vfs;
use crate::calls::Args;
use crate::row::{Locate, Outcome, Purpose, Row, Target, Wanted};
use crate::settle::bytes;
use crate::walk::{Aim, join_absolute};
use crate::who::RootNode;

impl Vfs {
    /// getcwd(2).
    pub(crate) fn getcwd(&mut self, args: &Args<'_>) -> Result<Effects, i32> {
        let (address, size) = (args.word(0), args.word(1));
        if size == 0 {
            return Err(if address == 0 { ERANGE } else { EINVAL });
        }
        let target = Target { at: args.who.cwd, path: Vec::new() };
        let mut row = args.row(&target, false, Operation::Stat, Purpose::Nothing);
        let wanted = Wanted::Cwd { address, size, cwd: None };
        if row.who.root.node != RootNode::Unknown {
            return Ok(self.locate(row, wanted));
        }
        // Whether the caller's root is the namespace's decides how the path is shown.
        row.purpose = Purpose::Locate(Box::new(Locate { mount_point: None, wanted }));
        Ok(self.learn_root(row))
    }

    /// readlink(2) of a name for an open file, at whose session the walk stands: its path, or what stands for one.
    pub(crate) fn describe(&mut self, row: Row, address: u64, size: u64) -> Effects {
        let server = row.walk.at.server;
        let title: Option<&[u8]> = match () {
            () if server == self.own_number => Some(b"anon_inode:[eventpoll]"),
            () if self.numbers.get("proc") == Some(&server) => Some(b"anon_inode:[pidfd]"),
            () => None,
        };
        match title {
            Some(title) => self.show_link(row, address, size, title.to_vec()),
            None => self.locate(row, Wanted::ReadLink { address, size, inode: 0 }),
        }
    }

    fn show_link(&mut self, mut row: Row, address: u64, size: u64, mut text: Vec<u8>) -> Effects {
        row.purpose = Purpose::Nothing;
        let Some(call) = row.call else { return self.fail(row, EIO) };
        text.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let length = text.len() as i64;
        bytes(call, address, text, length)
    }

    /// Goes on with the search: the volume is known, or the path on it.
    pub(crate) fn located(
        &mut self,
        mut row: Row,
        mut locate: Locate,
        outcome: Result<Outcome, i32>,
    ) -> Effects {
        match (outcome, locate.mount_point) {
            (Ok(Outcome::Found(Found::Stat(stat))), None) => {
                let server = row.walk.at.server;
                if let Wanted::ReadLink { address, size, inode } = &mut locate.wanted {
                    if !self.file_servers.contains(&server) {
                        let (address, size) = (*address, *size);
                        return self.show_link(row, address, size, terminal_path(stat.rdev));
                    }
                    *inode = stat.ino;
                }
                let volume = volume_of_device(stat.dev, server).unwrap_or(0);
                locate.mount_point =
                    Some(self.mounts.of_volume(server, volume).map(|mount| mount.at.clone()));
                row.walk.aim = Aim::Do(Operation::PathOf);
                row.purpose = Purpose::Locate(Box::new(locate));
                self.advance(row)
            }
            (Ok(Outcome::Found(Found::Text(below))), Some(mount_point)) => {
                let path = match mount_point {
                    // What has no path has something else to show.
                    None if matches!(locate.wanted, Wanted::ReadLink { .. }) => below,
                    Some(at) => join_absolute(&at, &below),
                    None => [b"(unreachable)", &join_absolute(b"/", &below)[..]].concat(),
                };
                self.path_known(row, locate.wanted, Ok(path))
            }
            (Ok(_), _) => self.path_known(row, locate.wanted, Err(EIO)),
            (Err(errno), _) => self.path_known(row, locate.wanted, Err(errno)),
        }
    }

    fn path_known(&mut self, mut row: Row, wanted: Wanted, path: Result<Vec<u8>, i32>) -> Effects {
        match (wanted, path) {
            // The path is only to be shown: the program can be found without.
            (Wanted::Exec(program, target), path) => self.exec_from(row, program, &target, path.ok()),
            (Wanted::ReadLink { address, size, .. }, Ok(path)) => self.show_link(row, address, size, path),
            // It is known by its number alone: its name has been removed, or its server keeps none.
            (Wanted::ReadLink { address, size, inode }, Err(_)) => {
                self.show_link(row, address, size, format!("inode:[{inode}]").into_bytes())
            }
            (Wanted::Mount(mounting), Ok(path)) => self.mount_at(row, *mounting, path),
            (Wanted::Mount(_) | Wanted::Cwd { .. }, Err(errno)) => {
                row.purpose = Purpose::Nothing;
                self.fail(row, errno)
            }
            (Wanted::Cwd { address, size, cwd: None }, Ok(path))
                if row.who.root.node != RootNode::Namespace =>
            {
                row.walk.at = row.who.root.place;
                self.locate(row, Wanted::Cwd { address, size, cwd: Some(path) })
            }
            (Wanted::Cwd { address, size, cwd: None }, Ok(path)) => self.show_cwd(row, address, size, path),
            (Wanted::Cwd { address, size, cwd: Some(cwd) }, Ok(root)) => {
                let path = below(&root, &cwd).unwrap_or_else(|| [b"(unreachable)", &cwd[..]].concat());
                self.show_cwd(row, address, size, path)
            }
        }
    }

    fn show_cwd(&mut self, mut row: Row, address: u64, size: u64, mut path: Vec<u8>) -> Effects {
        row.purpose = Purpose::Nothing;
        path.push(0);
        let length = path.len() as u64;
        match row.call {
            Some(call) if length <= size => bytes(call, address, path, length as i64),
            _ => self.fail(row, ERANGE),
        }
    }
}

/// The path of a terminal.
fn terminal_path(device: u64) -> Vec<u8> {
    match (major(device), device & 0xff) {
        (5, 0) => b"/dev/tty".to_vec(),
        (5, 1) => b"/dev/console".to_vec(),
        (4, minor @ 64..) => format!("/dev/ttyS{}", minor - 64).into_bytes(),
        (4, minor) => format!("/dev/tty{minor}").into_bytes(),
        (_, minor) => format!("/dev/pts/{minor}").into_bytes(),
    }
}

/// An absolute path as seen from a root directory; `None` when it lies outside.
fn below(root: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(root)?;
    match rest {
        _ if root == b"/" => Some(path.to_vec()),
        [] => Some(b"/".to_vec()),
        [b'/', ..] => Some(rest.to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_from_the_root_directory_it_lies_below() {
        assert_eq!(below(b"/", b"/usr"), Some(b"/usr".to_vec()));
        assert_eq!(below(b"/usr", b"/usr/bin"), Some(b"/bin".to_vec()));
        assert_eq!(below(b"/usr", b"/usr"), Some(b"/".to_vec()));
        assert_eq!(below(b"/usr", b"/usrlocal"), None);
        assert_eq!(below(b"/usr", b"/etc"), None);
    }
}
