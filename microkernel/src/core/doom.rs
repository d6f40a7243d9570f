//! Ends that are set for servers on purpose, for tests of recovery: after some more system calls of a server's own, or
//! after some more time of its own on the CPU, which may be between any two instructions.
//!
//! A server is killed, or made to run into a fault: then it goes on at a place before its entry point, where its image
//! has what that fault needs ([`Injection`]). Nothing but its registers is ever touched, and its death counts as one
//! from outside.

use libipc::abi::{Doom, Injection, KernelError, Moment, Rights};

use super::death::Death;
use super::machine::Machine;
use super::object::*;
use super::server::Line;
use super::trace::DOOMED;
use super::{Kernel, Outcome};

impl<M: Machine> Kernel<M> {
    /// Sets an end for a server, in the place of one that was set before.
    pub(crate) fn crash(&mut self, task: TaskId, [handle, count, what, ..]: [u64; 6]) -> Outcome {
        let id = self.server_named(task, handle, Rights::CRASH)?;
        let doom = Doom::unpack([count, what]).ok_or(KernelError::BadArgument)?;
        self.set_doom(id, Some(doom));
        if doom.moment.is_now() {
            self.strike(id);
        }
        Ok([0; 5])
    }

    pub(crate) fn set_doom(&mut self, id: ServerId, doom: Option<Doom>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let before = core::mem::replace(&mut server.doom, doom);
        self.doomed = self.doomed + u32::from(doom.is_some()) - u32::from(before.is_some());
        self.unusual = self.unusual & !DOOMED | if self.doomed > 0 { DOOMED } else { 0 };
    }

    /// A server has made a trap: it may have been its last.
    #[inline]
    pub(crate) fn count_down(&mut self, id: ServerId) {
        if self.doomed == 0 {
            return;
        }
        let Some(server) = self.servers.get_mut(id) else { return };
        if let Some(Doom { moment: Moment::Traps(left), .. }) = &mut server.doom {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.strike(id);
            }
        }
    }

    /// The server that runs, if an end is set for it by time: how much more it may run.
    pub(crate) fn time_left(&mut self) -> Option<(ServerId, &mut u64)> {
        let id = self.threads.get(self.current?)?.server?;
        match &mut self.servers.get_mut(id)?.doom {
            Some(Doom { moment: Moment::CpuTime(left), .. }) => Some((id, left)),
            _ => None,
        }
    }

    /// The thread that runs has had so much time. Where a server's time ran out in the kernel, which nobody can be
    /// struck in, what went over is its time from now on: so ends come in the midst of its own code, too, when the
    /// kernel takes most of its time.
    pub(crate) fn age(&mut self, used_ns: u64) {
        if let Some((_, left)) = self.time_left() {
            *left = left.abs_diff(used_ns);
        }
    }

    /// The server that runs was interrupted after so much time: where its time is up, it is struck where it stands.
    pub(crate) fn strike_in_time(&mut self, used_ns: u64) {
        if let Some((id, left)) = self.time_left()
            && *left <= used_ns
        {
            self.strike(id);
        }
    }

    /// Brings a server's end about. One that is dead already is struck when it lives again, if it ever does.
    fn strike(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (Some(doom), Some(thread)) = (server.doom, server.thread) else { return };
        match server.state {
            ServerState::Alive => {}
            ServerState::Gone => return self.set_doom(id, None),
            ServerState::Dead | ServerState::Embryo => {
                server.doom = Some(Doom { moment: Moment::Traps(1), ..doom });
                return;
            }
        }
        let (number, incarnation, entry) = (server.number, server.incarnation, server.entry);
        self.set_doom(id, None);
        let Some(state) = self.threads.get_mut(thread) else { return };
        let at = state.registers.rip;
        match doom.fault {
            Injection::Kill => self.die(id, Death::Outside),
            fault => {
                state.registers.rip = entry.wrapping_sub(fault.bytes_before_entry());
                if let Some(server) = self.servers.get_mut(id) {
                    server.struck = true;
                }
            }
        }
        let mut line = Line::new();
        let _ = core::fmt::write(
            &mut line,
            format_args!(
                "server {number} (incarnation {incarnation}) is struck at {at:#x}: {}\n",
                doom.fault.name()
            ),
        );
        self.machine.log(line.bytes());
    }
}
