//! mount(2) and umount2(2), and the same steps for the manifest's mounts at start.

use alloc::{boxed::Box, string::ToString, vec::Vec};

use libipc::linux::errno::*;
use libipc::linux::{Stat, mode};
use libipc::proto::fs::{self, Found, Operation};
use libipc::proto::proc_tree;
use libipc::server::files::volume_of_device;
use libipc::server::{Effects, Env, LeaseError, Message};

use crate::calls::{Args, PLAIN, SECOND};
use crate::mounts::{Covered, Mount};
use crate::row::{Expects, MountStage, Mounting, Outcome, Purpose, Row, Target, Wanted};
use crate::settle::value;
use crate::walk::{Aim, Walk};
use crate::who::Place;
use crate::{KINDS, Vfs};

const MS_RDONLY: u64 = 1;
/// Flags that change nothing here: MS_NOATIME, MS_NODIRATIME, MS_SILENT, MS_RELATIME, MS_STRICTATIME.
const MS_HARMLESS: u64 = 0x400 | 0x800 | 0x8000 | 1 << 21 | 1 << 24;
/// A magic number that old programs put into the high half of the flags.
const MS_MAGIC: u64 = 0xc0ed_0000;
const MNT_DETACH: u64 = 2;
const UMOUNT_NOFOLLOW: u64 = 8;
/// Longest name of a file system's type that is read.
const KIND_BYTES: u32 = 16;

impl Vfs {
    /// mount(2): a new tmpfs, a disk's ufs, or proc.
    pub(crate) fn mount(&mut self, args: &Args<'_>, env: &mut dyn Env) -> Result<Effects, i32> {
        if args.who.caller.uid != 0 {
            return Err(EPERM);
        }
        let flags = args.word(3);
        let flags = if flags & 0xffff_0000 == MS_MAGIC { flags & 0xffff } else { flags };
        if flags & !(MS_RDONLY | MS_HARMLESS) != 0 {
            return Err(EINVAL);
        }
        let kind = match read_name(args, env) {
            Ok(kind) => kind,
            Err(LeaseError::NotResident) => return Ok(Effects::again()),
            Err(LeaseError::BadAddress | LeaseError::Gone) => return Err(EFAULT),
        };
        let target = args.target(SECOND)?;
        let source = args.input(0).unwrap_or_default();
        let kind = core::str::from_utf8(&kind).map_err(|_| ENODEV)?;
        let mounting = self.mounting(kind, source, target, flags & MS_RDONLY != 0)?;
        let row = args.row(&mounting.target, true, Operation::Stat, Purpose::Nothing);
        Ok(self.mount_begin(row, mounting))
    }

    /// A mount from what it is to be made of.
    ///
    /// # Errors
    /// `ENODEV` for an unknown type, `ENOTBLK` for a source that is no disk, `EBUSY` for a volume that is mounted.
    pub(crate) fn mounting(
        &self,
        kind: &str,
        source: &[u8],
        target: Target,
        read_only: bool,
    ) -> Result<Mounting, i32> {
        let (kind, server) = KINDS.iter().find(|(name, _)| *name == kind).ok_or(ENODEV)?;
        let number = self.numbers.get(*server).copied().ok_or(ENODEV)?;
        let volume = match *kind {
            "tmpfs" => self.mounts.free_volume(number),
            "ufs" => disk_number(source).ok_or(ENOTBLK)?,
            _ => 0,
        };
        if self.mounts.of_volume(number, volume).is_some() || self.mounts.is_full() {
            return Err(EBUSY);
        }
        Ok(Mounting {
            stage: MountStage::Root,
            source: if source.is_empty() { kind.as_bytes().to_vec() } else { source.to_vec() },
            kind: kind.to_string(),
            read_only,
            volume: (number, volume),
            root: 0,
            covered: None,
            target,
            at: None,
        })
    }

    /// The first question of a mount: to the volume.
    pub(crate) fn mount_begin(&mut self, mut row: Row, mut mounting: Mounting) -> Effects {
        let (server, volume) = mounting.volume;
        if !mounting.read_only {
            return self.ask_root(row, mounting);
        }
        let Some(handle) = self.servers.get(&server).copied() else { return self.fail(row, ENODEV) };
        mounting.stage = MountStage::Prepare;
        row.expects = Expects::Label;
        row.purpose = Purpose::Mount(Box::new(mounting));
        self.send(row, handle, Message::words(fs::MOUNT, [u64::from(volume), 1, 0, 0]))
    }

    fn ask_root(&mut self, mut row: Row, mut mounting: Mounting) -> Effects {
        let (server, volume) = mounting.volume;
        mounting.stage = MountStage::Root;
        row.walk = Walk::new(Place::volume(server, volume), b"", false, Aim::Do(Operation::Stat));
        row.purpose = Purpose::Mount(Box::new(mounting));
        self.advance(row)
    }

    fn ask_point(
        &mut self,
        mut row: Row,
        mut mounting: Mounting,
        stage: MountStage,
        operation: Operation,
    ) -> Effects {
        mounting.stage = stage;
        row.walk = Walk::new(mounting.target.at, &mounting.target.path, true, Aim::Do(operation));
        row.purpose = Purpose::Mount(Box::new(mounting));
        self.advance(row)
    }

    /// Goes on with a mount.
    pub(crate) fn mount_step(
        &mut self,
        row: Row,
        mut mounting: Mounting,
        outcome: Result<Outcome, i32>,
    ) -> Effects {
        match (mounting.stage, outcome) {
            (MountStage::Prepare, Ok(_)) => self.ask_root(row, mounting),
            (MountStage::Root, Ok(Outcome::Found(Found::Stat(stat)))) => {
                mounting.root = stat.ino;
                if self.mounts.namespace().is_none() {
                    return self.mount_done(row, mounting);
                }
                self.ask_point(row, mounting, MountStage::Point, Operation::Stat)
            }
            (MountStage::Point | MountStage::Made, Ok(Outcome::Found(Found::Stat(stat)))) => {
                self.point_found(row, mounting, &stat)
            }
            // At start a mount point that is missing is made.
            (MountStage::Point, Err(ENOENT)) if row.call.is_none() => {
                self.ask_point(row, mounting, MountStage::Make, Operation::MakeDirectory { mode: 0o755 })
            }
            (MountStage::Make, Ok(_)) => self.ask_point(row, mounting, MountStage::Made, Operation::Stat),
            (_, Ok(_)) => self.fail(row, EIO),
            (_, Err(errno)) => self.fail(row, errno),
        }
    }

    fn point_found(&mut self, row: Row, mut mounting: Mounting, stat: &Stat) -> Effects {
        if !stat.is(mode::S_IFDIR) {
            return self.fail(row, ENOTDIR);
        }
        let server = row.walk.at.server;
        let volume = volume_of_device(stat.dev, server).unwrap_or(0);
        mounting.covered = Some(Covered { server, node: stat.ino, volume });
        if mounting.at.is_some() {
            return self.mount_done(row, mounting);
        }
        let mut row = row;
        row.walk.at = Place::node(server, stat.ino);
        self.locate(row, Wanted::Mount(Box::new(mounting)))
    }

    /// The mount point's path is known.
    pub(crate) fn mount_at(&mut self, row: Row, mut mounting: Mounting, path: Vec<u8>) -> Effects {
        mounting.at = Some(path);
        self.mount_done(row, mounting)
    }

    fn mount_done(&mut self, mut row: Row, mounting: Mounting) -> Effects {
        let (server, volume) = mounting.volume;
        row.purpose = Purpose::Nothing;
        // Somebody else may have mounted it while this call was under way.
        if self.mounts.of_volume(server, volume).is_some() || self.mounts.is_full() {
            return self.fail(row, EBUSY);
        }
        self.mounts.add(Mount {
            at: mounting.at.unwrap_or_else(|| b"/".to_vec()),
            source: mounting.source,
            kind: mounting.kind,
            read_only: mounting.read_only,
            server,
            volume,
            root: mounting.root,
            covered: mounting.covered,
        });
        match row.call {
            Some(call) => {
                let mut effects = self.tell_mounts();
                effects.append(value(call, 0));
                effects
            }
            None => self.next_at_start(),
        }
    }

    /// Tells procfs what is mounted. Its answer says nothing.
    pub(crate) fn tell_mounts(&mut self) -> Effects {
        let mut effects = Effects::none();
        let Some(procfs) = self.server("procfs") else { return effects };
        let mut mounts = self.mounts.show();
        let mut message = Message::typed(proc_tree::SET_MOUNTS, &mounts);
        while message.payload.len() as u64 > u64::from(libipc::abi::PAYLOAD_MAX) {
            mounts.pop();
            message = Message::typed(proc_tree::SET_MOUNTS, &mounts);
        }
        effects.tell(procfs, message);
        effects
    }

    /// umount2(2).
    pub(crate) fn unmount(&mut self, args: &Args<'_>) -> Result<Effects, i32> {
        if args.who.caller.uid != 0 {
            return Err(EPERM);
        }
        let flags = args.word(1);
        if flags & !(MNT_DETACH | UMOUNT_NOFOLLOW) != 0 {
            return Err(EINVAL);
        }
        let follow = flags & UMOUNT_NOFOLLOW == 0;
        let row = args.walk(PLAIN, follow, Operation::Stat, Purpose::Unmount(None))?;
        Ok(self.advance(row))
    }

    /// The mount point was walked to, or its volume is let go.
    pub(crate) fn unmount_step(
        &mut self,
        mut row: Row,
        volume: Option<(u32, u32)>,
        outcome: &Outcome,
    ) -> Effects {
        if let (Some((server, volume)), Some(call)) = (volume, row.call) {
            self.mounts.remove(server, volume);
            let mut effects = self.tell_mounts();
            effects.append(value(call, 0));
            return effects;
        }
        let Outcome::Found(Found::Stat(stat)) = outcome else { return self.fail(row, EIO) };
        let Some(mount) = self.mounts.by_root(row.walk.at.server, stat.ino) else {
            return self.fail(row, EINVAL);
        };
        let (server, volume) = (mount.server, mount.volume);
        if mount.covered.is_none() || self.mounts.is_base(server, volume) {
            return self.fail(row, EBUSY);
        }
        let Some(handle) = self.servers.get(&server).copied() else { return self.fail(row, EIO) };
        row.expects = Expects::Label;
        row.purpose = Purpose::Unmount(Some((server, volume)));
        self.send(row, handle, Message::words(fs::UNMOUNT, [u64::from(volume), 0, 0, 0]))
    }
}

/// The volume of `diskN` or `/dev/diskN`.
fn disk_number(source: &[u8]) -> Option<u32> {
    let name = source.strip_prefix(b"/dev/").unwrap_or(source);
    core::str::from_utf8(name.strip_prefix(b"disk")?).ok()?.parse().ok().filter(|number| *number < 256)
}

/// The name of the file system's type: a string at the third argument, which is not gathered. It may end at a page
/// that is not there, so it is read byte by byte.
fn read_name(args: &Args<'_>, env: &mut dyn Env) -> Result<Vec<u8>, LeaseError> {
    let mut name = Vec::new();
    for offset in 0..u64::from(KIND_BYTES) {
        match env.read_user(args.call.id, args.word(2).wrapping_add(offset), 1)?.first() {
            None | Some(0) => break,
            Some(byte) => name.push(*byte),
        }
    }
    Ok(name)
}
