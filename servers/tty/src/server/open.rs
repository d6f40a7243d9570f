//! Open files: sessions made for vfs, what they are ready for, and what closing and hanging up does to them.

use libipc::abi::{Badge, CallId, Handle, KernelError, Readiness, Tag};
use libipc::linux::Stat;
use libipc::linux::errno::{EBADF, EIO, ENFILE, ENXIO};
use libipc::linux::open::{O_ACCMODE, O_NOCTTY, O_PATH, O_WRONLY};
use libipc::server::effect::Reason;
use libipc::server::{Message, Operation, files};
use serde::{Deserialize, Serialize};

use super::Tty;
use super::control::{Facts, Process};
use super::turn::Turn;
use crate::jobs::Session;

/// /dev/tty: the caller's controlling terminal.
const TTY: u64 = 5 << 8;
/// /dev/console.
const CONSOLE: u64 = 5 << 8 | 1;
/// /dev/ttyS0, which is what the terminal is called wherever it is shown.
pub const SERIAL: u64 = 4 << 8 | 64;

/// An open file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OpenFile {
    /// This server's own handle of the session.
    owner: Handle,
    /// The device it was opened as.
    pub device: u64,
    /// The node it was opened by: device and number, which stat(2) tells of it.
    pub node: (u64, u64),
    /// How it was opened; what fcntl(2) changes later comes with each call.
    pub status: u32,
    /// The terminal was taken away from it.
    pub hung_up: bool,
    /// The readiness last told to the kernel.
    told: Readiness,
}

impl OpenFile {
    /// Whether it may be read at all.
    pub fn is_readable(&self) -> bool {
        files::check_readable(self.status).is_ok()
    }
}

/// A session being made for vfs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Opening {
    call: CallId,
    badge: u64,
    file: OpenFile,
    /// On whose behalf.
    process: Process,
    flags: u32,
}

impl Tty {
    /// vfs opens the terminal for a program, or for itself. Words: device, flags, the program's id, its session and
    /// group.
    pub(super) fn open_device(&mut self, call: CallId, message: &Message, turn: &mut Turn) {
        let [device, flags, pid, jobs] = message.words;
        let node = match message.decode::<Stat>() {
            Ok(Stat { dev, ino: ino @ 1.., .. }) => (dev, ino),
            _ => (files::device_number(self.number, 0), device),
        };
        let process = Process { pid: pid as u32, pgid: jobs as u32, sid: (jobs >> 32) as u32 };
        let exists = match device {
            TTY => self.controls(&process),
            CONSOLE | SERIAL => self.port.present,
            _ => false,
        };
        if !exists {
            turn.out.reply(call, Message::label(ENXIO as u32));
            return;
        }
        let status = files::status_of_open(flags as u32);
        let badge = self.next_badge;
        self.next_badge += 1;
        let owner = turn.env.new_handle();
        let told = self.readiness();
        let file = OpenFile { owner, device, node, status, hung_up: false, told };
        let tag = self.new_tag();
        self.opening.insert(tag, Opening { call, badge, file, process, flags: flags as u32 });
        turn.out.park(call, Reason::Server);
        let badge = Badge(badge);
        let create =
            Operation::SessionCreate { owner, badge, object: device, status, readiness: told, position: 0 };
        turn.out.attempt(tag, create);
    }

    /// The kernel has made a session, or had none to spare.
    pub(super) fn opened(&mut self, tag: Tag, result: Result<u64, KernelError>, turn: &mut Turn) {
        let Some(opening) = self.opening.remove(&tag) else { return };
        if result.is_err() {
            turn.out.reply(opening.call, Message::label(ENFILE as u32));
            return;
        }
        self.opens.insert(opening.badge, opening.file);
        self.control_by_open(&opening);
        turn.out.reply(opening.call, Message::default().with_handles(&[opening.file.owner]));
    }

    /// Opening the console, and opening /dev/tty, which the caller has already, gives nobody a terminal.
    fn control_by_open(&mut self, opening: &Opening) {
        let Opening { process, flags, file, .. } = opening;
        let no_control = flags & (O_NOCTTY | O_PATH) != 0 || file.device != SERIAL;
        let readable = flags & O_ACCMODE != O_WRONLY;
        let caller = self.job_caller(process, Facts::default());
        self.jobs.acquire_by_open(&caller, readable, no_control);
    }

    /// The last holder of a session is gone.
    pub(super) fn closed(&mut self, badge: Badge, owner: Handle, turn: &mut Turn) {
        if self.opens.remove(&badge.0).is_some() {
            turn.out.act(Operation::Close { handle: owner });
        }
    }

    /// A session is gone without its last close having been told.
    pub(super) fn lost(&mut self, owner: Handle, turn: &mut Turn) {
        let lost = self.opens.iter().find(|(_, open)| open.owner == owner).map(|(badge, _)| Badge(*badge));
        if let Some(badge) = lost {
            self.closed(badge, owner, turn);
        }
    }

    /// The open file of a call.
    pub(super) fn open_file(&self, badge: u64) -> Result<OpenFile, i32> {
        self.opens.get(&badge).copied().ok_or(EBADF)
    }

    /// What the terminal is ready for.
    fn readiness(&mut self) -> Readiness {
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, self.line.poll_readable());
        ready.set(Readiness::OUT, self.line.poll_writable(self.port.uart.transmit()));
        ready
    }

    /// Tells the kernel what the sessions are ready for, where that has changed.
    pub(super) fn tell_readiness(&mut self, turn: &mut Turn) {
        const HUNG_UP: Readiness =
            Readiness::IN.union(Readiness::OUT).union(Readiness::ERR).union(Readiness::HUP);
        let ready = self.readiness();
        for open in self.opens.values_mut() {
            let readiness = if open.hung_up { HUNG_UP } else { ready };
            if readiness != open.told {
                open.told = readiness;
                turn.out.act(Operation::SessionReady { session: open.owner, readiness });
            }
        }
    }

    /// Sets the status flags of a session.
    pub(super) fn set_status(&self, badge: u64, status: u32, turn: &mut Turn) {
        if let Some(open) = self.opens.get(&badge) {
            turn.out.act(Operation::SessionStatus { session: open.owner, status });
        }
    }

    /// Takes the terminal away from those who have it open by name, as Linux does when the session's leader ends:
    /// whoever is left of the session must not read what is typed to the next one. The console's own files stay,
    /// since programs of other sessions share them.
    fn hang_up_files(&mut self, turn: &mut Turn) {
        for open in self.opens.values_mut().filter(|open| open.device != CONSOLE) {
            open.hung_up = true;
        }
        let opens = &self.opens;
        let gone = |badge: u64| opens.get(&badge).is_some_and(|open| open.hung_up);
        self.readers.retain(|reader| {
            !gone(reader.badge) || {
                turn.out.result(reader.call, 0);
                false
            }
        });
        self.writers.retain(|writer| {
            !gone(writer.badge) || {
                turn.out.result(writer.call, -i64::from(EIO));
                false
            }
        });
        self.drains.retain(|drain| {
            !gone(drain.badge) || {
                turn.out.result(drain.call, -i64::from(EIO));
                false
            }
        });
    }

    /// The leader of a session has ended: the terminal is free, and the answer names the group that was in its
    /// foreground.
    pub(super) fn session_ended(&mut self, call: CallId, sid: u64, turn: &mut Turn) {
        let released = u32::try_from(sid).ok().and_then(|sid| self.jobs.leader_exited(Session(sid)));
        if released.is_some() {
            self.hang_up_files(turn);
        }
        let foreground = released.map_or(0, |group| u64::from(group.0));
        turn.out.reply(call, Message::words(0, [foreground, 0, 0, 0]));
    }
}
