//! The terminal as a file: its attributes, which it has however it was opened, and what vfs asks about it.

use libipc::linux::errno::*;
use libipc::linux::{Stat, mode};
use libipc::proto::fs::{Answer, Found, From, Operation, Request};
use libipc::server::{Message, files};
use serde::{Deserialize, Serialize};

use super::Tty;
use super::open::OpenFile;

/// Owner and permissions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Attributes {
    permissions: u32,
    uid: u32,
    gid: u32,
    /// When the terminal came to be, ns of the Epoch: its times do not change.
    pub born_ns: i64,
}

impl Attributes {
    /// Those of a terminal that nobody has logged in on.
    pub fn new(born_ns: i64) -> Attributes {
        Attributes { permissions: 0o620, uid: 0, gid: 0, born_ns }
    }
}

impl Tty {
    /// What stat(2) tells of an open terminal.
    pub(super) fn stat(&self, open: &OpenFile) -> Stat {
        let Attributes { permissions, uid, gid, born_ns } = self.attributes;
        Stat {
            dev: open.node.0,
            ino: open.node.1,
            nlink: 1,
            mode: mode::S_IFCHR | permissions,
            uid,
            gid,
            rdev: open.device,
            blksize: 1024,
            atime_ns: born_ns,
            mtime_ns: born_ns,
            ctime_ns: born_ns,
            ..Stat::default()
        }
    }

    /// chmod(2) by a user.
    pub(super) fn set_mode(&mut self, permissions: u32, by: u32) -> Result<(), i32> {
        if by != 0 && by != self.attributes.uid {
            return Err(EPERM);
        }
        self.attributes.permissions = permissions & 0o7777;
        Ok(())
    }

    /// chown(2) by a user; only the superuser gives a terminal away.
    pub(super) fn set_owner(&mut self, [uid, gid]: [Option<u32>; 2], by: u32) -> Result<(), i32> {
        if by != 0 {
            return Err(EPERM);
        }
        self.attributes.uid = uid.unwrap_or(self.attributes.uid);
        self.attributes.gid = gid.unwrap_or(self.attributes.gid);
        Ok(())
    }

    /// What vfs asks about an open terminal.
    pub(super) fn request(&mut self, message: &Message) -> Message {
        let Ok(request) = Request::from_message(message) else { return Message::label(EINVAL as u32) };
        let answer = self.found(&request);
        Message::typed(0, &answer.map_or_else(Answer::Failed, Answer::Found))
    }

    fn found(&mut self, request: &Request) -> Result<Found, i32> {
        let From::Session(badge) = request.from else { return Err(EINVAL) };
        let stat = self.stat(&self.open_file(badge.0)?);
        if !request.path.is_empty() {
            return Err(ENOTDIR);
        }
        let who = &request.credentials;
        let check =
            |wanted| files::permits(stat.mode, stat.uid, stat.gid, who, wanted).then_some(()).ok_or(EACCES);
        match request.operation {
            Operation::Stat => return Ok(Found::Stat(stat)),
            Operation::Access(wanted) => check(wanted)?,
            // Another open of the same device, as of any node that stands for it.
            Operation::Open { flags, .. } => {
                check(files::wanted_by_open(flags))?;
                return Ok(Found::Device { stat });
            }
            Operation::SetMode(permissions) => self.set_mode(permissions, who.uid)?,
            Operation::SetOwner(uid, gid) => self.set_owner([uid, gid], who.uid)?,
            Operation::SetTimes(..) | Operation::Touch(_) => {}
            Operation::Truncate(_) | Operation::ReadLink => return Err(EINVAL),
            _ => return Err(ENOTDIR),
        }
        Ok(Found::Done)
    }
}
