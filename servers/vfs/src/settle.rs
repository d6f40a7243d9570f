//! What becomes of an answer: the reply to the program, or the next question.

use alloc::{boxed::Box, vec, vec::Vec};

use libipc::abi::{CallId, Handle};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::linux::{Stat, major, mode};
use libipc::proto::fs::{self, Found};
use libipc::server::files::{X_OK, permits};
use libipc::server::{Effect, Effects, ForeignReply, Message, Operation, Output};

use crate::row::{Expects, Outcome, Purpose, Row, Second};
use crate::walk::{Aim, Walk};
use crate::{Vfs, close_all};

/// Most bytes that can go with a reply; more are copied beforehand.
const OUTPUTS_MAX: u64 = 512;
/// The majors of devices, and the servers that have them. The log server is not in every system.
const DEVICES: [(u32, &str); 5] = [(1, "tmpfs"), (4, "tty"), (5, "tty"), (136, "tty"), (240, "logfile")];

impl Vfs {
    /// Ends a row with an error.
    pub(crate) fn fail(&mut self, row: Row, errno: i32) -> Effects {
        let mut effects = Effects::none();
        close_all(&mut effects, &row.handles());
        match row.call {
            Some(call) => {
                effects.result(call, -i64::from(errno));
            }
            None => {
                effects.append(self.start_failed(&row, errno));
            }
        }
        effects
    }

    /// Goes on with a row whose walk or question has come to its end. A handle that came along is used or given back.
    pub(crate) fn settle(
        &mut self,
        row: Row,
        outcome: Result<Outcome, i32>,
        handle: Option<Handle>,
    ) -> Effects {
        let mut effects = Effects::none();
        let wants_handle = matches!(
            row.purpose,
            Purpose::Open { .. } | Purpose::Directory(_) | Purpose::Exec(_) | Purpose::Spawn(_)
        );
        if !wants_handle || outcome.is_err() {
            close_all(&mut effects, handle.as_slice());
        }
        effects.append(match (row.purpose.clone(), outcome, handle) {
            (Purpose::Mount(mounting), outcome, _) => self.mount_step(row, *mounting, outcome),
            (Purpose::Locate(locate), outcome, _) => self.located(row, *locate, outcome),
            (Purpose::Sync(left), ..) => self.sync_next(row, left),
            // A name that is taken is an address in use.
            (Purpose::Socket(_), Err(EEXIST), _) => self.fail(row, EADDRINUSE),
            // The first program's directory is open, and its console has been looked for.
            (Purpose::Spawn(_), outcome, None) if row.expects == Expects::Found => match outcome {
                Ok(Outcome::Found(Found::Stat(stat))) => self.spawn_terminal(row, Some(stat)),
                _ => self.spawn_terminal(row, None),
            },
            (_, Err(errno), _) => self.fail(row, errno),
            (Purpose::Socket(named), Ok(Outcome::Found(Found::Stat(stat))), _) => {
                self.socket_found(row, *named, &stat)
            }
            (Purpose::Open { flags, slot }, Ok(outcome), handle) => {
                self.opened(row, (flags, slot), &outcome, handle)
            }
            (Purpose::Directory(which), Ok(outcome), Some(handle)) => {
                self.directory_opened(row, which, &outcome, handle)
            }
            (Purpose::Exec(program), Ok(outcome), handle) => self.exec_step(row, *program, outcome, handle),
            (Purpose::Spawn(spawn), Ok(_), Some(handle)) => self.spawn_step(row, *spawn, handle),
            (Purpose::Unmount(volume), Ok(outcome), _) => self.unmount_step(row, volume, &outcome),
            (Purpose::Spawned, Ok(outcome), _) => self.spawned(row, &outcome),
            (Purpose::Source(second), Ok(outcome), _) => self.second_walk(row, second, outcome),
            (_, Ok(outcome), _) => self.report(row, outcome),
        });
        effects
    }

    /// Calls whose answer is what was found.
    fn report(&mut self, row: Row, outcome: Outcome) -> Effects {
        let Some(call) = row.call else { return Effects::none() };
        match (&row.purpose, outcome) {
            // The walk ended on another server than the first one.
            (Purpose::Destination, Outcome::Found(Found::Parent { .. })) => self.fail(row, EXDEV),
            (Purpose::Nothing | Purpose::Destination, _) => value(call, 0),
            (Purpose::Unsupported, _) => value(call, -i64::from(EOPNOTSUPP)),
            (Purpose::Stat(address), Outcome::Found(Found::Stat(stat))) => {
                bytes(call, *address, stat.to_bytes().to_vec(), 0)
            }
            (Purpose::StatX(address), Outcome::Found(Found::Stat(stat))) => {
                bytes(call, *address, stat.to_statx_bytes().to_vec(), 0)
            }
            (Purpose::StatFs(address), Outcome::Found(Found::StatFs(statfs))) => {
                bytes(call, *address, statfs.to_bytes().to_vec(), 0)
            }
            (Purpose::ReadLink { address, size }, Outcome::Found(Found::Text(mut text))) => {
                text.truncate(usize::try_from(*size).unwrap_or(usize::MAX));
                let length = text.len() as i64;
                bytes(call, *address, text, length)
            }
            _ => self.fail(row, EIO),
        }
    }

    fn opened(
        &mut self,
        row: Row,
        (flags, slot): (u32, u32),
        outcome: &Outcome,
        handle: Option<Handle>,
    ) -> Effects {
        let Some(call) = row.call else { return Effects::none() };
        match (outcome, handle) {
            (Outcome::Found(Found::Opened { stat, .. }), Some(handle))
                if stat.is(mode::S_IFLNK) && flags & O_PATH == 0 =>
            {
                let mut effects = self.fail(row, ELOOP);
                close_all(&mut effects, &[handle]);
                effects
            }
            (Outcome::Found(Found::Opened { .. }) | Outcome::Done, Some(handle)) => {
                let close_on_exec = flags & O_CLOEXEC != 0;
                let reply =
                    ForeignReply { result: i64::from(slot), close_on_exec, ..ForeignReply::default() };
                install(call, handle, reply)
            }
            (Outcome::Found(Found::Device { stat }), None) => self.open_device(row, stat, (flags, slot)),
            (_, handle) => {
                let mut effects = self.fail(row, EIO);
                close_all(&mut effects, handle.as_slice());
                effects
            }
        }
    }

    /// Opens what a device node stands for at the server that has the device.
    fn open_device(&mut self, mut row: Row, stat: &Stat, (flags, slot): (u32, u32)) -> Effects {
        if stat.is(mode::S_IFIFO) {
            let (Some(call), Some(to)) = (row.call, self.servers.get(&row.walk.at.server)) else {
                return self.fail(row, EIO);
            };
            let message = Message::words(fs::OPEN_FIFO, [stat.ino, u64::from(flags), u64::from(slot), 0]);
            return Effects::one(Effect::Forward { call, to: *to, message });
        }
        let device = DEVICES.iter().find(|(number, _)| *number == major(stat.rdev));
        let server = device.filter(|_| stat.is(mode::S_IFCHR)).and_then(|(_, server)| self.server(server));
        let Some(server) = server else { return self.fail(row, ENXIO) };
        row.expects = Expects::Session;
        let caller = row.who.caller;
        self.send(row, server, open_device_message(stat, flags, &caller))
    }

    /// The server of this name, if the manifest lets vfs call it.
    pub(crate) fn server(&self, name: &str) -> Option<Handle> {
        self.servers.get(self.numbers.get(name)?).copied()
    }

    fn directory_opened(&mut self, row: Row, which: u8, outcome: &Outcome, handle: Handle) -> Effects {
        let errno = match outcome {
            Outcome::Found(Found::Opened { stat, .. }) => {
                let searchable = permits(stat.mode, stat.uid, stat.gid, &row.who.credentials(), X_OK);
                match (stat.is(mode::S_IFDIR), searchable) {
                    (false, _) => Some(ENOTDIR),
                    (true, false) => Some(EACCES),
                    (true, true) => None,
                }
            }
            _ => Some(EIO),
        };
        match (errno, row.call) {
            (None, Some(call)) => {
                install(call, handle, ForeignReply { directory: which, ..ForeignReply::default() })
            }
            (errno, _) => {
                let mut effects = self.fail(row, errno.unwrap_or(EIO));
                close_all(&mut effects, &[handle]);
                effects
            }
        }
    }

    /// link(2) and rename(2): the first path is resolved; the second decides whether both are on one server.
    fn second_walk(&mut self, mut row: Row, second: Second, outcome: Outcome) -> Effects {
        let operation = match (outcome, second.rename) {
            (Outcome::Found(Found::Stat(stat)), None) if stat.is(mode::S_IFDIR) => {
                return self.fail(row, EPERM);
            }
            (Outcome::Found(Found::Stat(stat)), None) => fs::Operation::Link { node: stat.ino },
            (Outcome::Found(Found::Parent { directory, name }), Some(flags)) => {
                fs::Operation::Rename { directory, name, flags }
            }
            _ => return self.fail(row, EIO),
        };
        let aim = Aim::Only(row.walk.at.server, operation);
        row.walk = Walk::new(second.to.at, &second.to.path, false, aim);
        row.purpose = Purpose::Destination;
        self.advance(row)
    }

    /// sync(2): asks one file server after the other, and is done when all have answered, whatever they said.
    pub(crate) fn sync_next(&mut self, mut row: Row, mut left: Vec<Handle>) -> Effects {
        match (left.pop(), row.call) {
            (Some(server), _) => {
                row.expects = Expects::Label;
                row.purpose = Purpose::Sync(left);
                self.send(row, server, Message::label(fs::SYNC))
            }
            (None, Some(call)) => value(call, 0),
            (None, None) => Effects::none(),
        }
    }

    /// Begins the search for the absolute path of where a row's walk stands.
    pub(crate) fn locate(&mut self, mut row: Row, wanted: crate::row::Wanted) -> Effects {
        row.walk.path.clear();
        row.walk.aim = Aim::Do(fs::Operation::Stat);
        row.purpose = Purpose::Locate(Box::new(crate::row::Locate { mount_point: None, wanted }));
        self.advance(row)
    }
}

/// The message that opens a device for a caller.
pub(crate) fn open_device_message(node: &Stat, flags: u32, caller: &libipc::server::Caller) -> Message {
    let jobs = u64::from(caller.sid) << 32 | u64::from(caller.pgid);
    let words = [node.rdev, u64::from(flags), u64::from(caller.pid), jobs];
    Message { words, ..Message::typed(fs::OPEN_DEVICE, node) }
}

/// A plain result.
pub(crate) fn value(call: CallId, result: i64) -> Effects {
    let mut effects = Effects::none();
    effects.result(call, result);
    effects
}

/// A result with bytes for the caller's memory.
pub(crate) fn bytes(call: CallId, address: u64, bytes: Vec<u8>, result: i64) -> Effects {
    let mut effects = Effects::none();
    let mut outputs = Vec::new();
    if bytes.len() as u64 > OUTPUTS_MAX {
        effects.push(Effect::CopyOut { call, address, bytes });
    } else {
        outputs = vec![Output { address, bytes }];
    }
    effects.foreign(call, ForeignReply { result, outputs, ..ForeignReply::default() });
    effects
}

/// A reply that gives the caller a session; vfs keeps none of it.
fn install(call: CallId, handle: Handle, reply: ForeignReply) -> Effects {
    let mut effects = Effects::none();
    effects.foreign(call, ForeignReply { install: vec![handle], ..reply });
    effects.act(Operation::Close { handle });
    effects
}
