//! Accounts: what is done about a server that something has written over and that does not die of it. It may forget
//! somebody who waits, or answer a fault again and again and help nobody.
//!
//! Nobody can see from outside whether a server's memory is sound. But its journal, which it cannot write, tells what
//! it should remember. So a server that gives reason to doubt it is asked to account for itself: it ends as if it had
//! been killed, and its next incarnation makes its own way from the snapshot before the last through both journals.
//! One that was sound comes out as it was, so nobody notices. One that was not does something else than its journal
//! says, and is mended. A server without a journal gets its calls again.
//!
//! There are four reasons. A server has had a call for a minute, or is watched by one who has: that may well be right
//! (a shell waits for its user), so a server is asked again only if it has received something since, and after twice
//! the time of the last time. Or nobody has a call, and nobody runs: then the process server has forgotten all
//! programs, or the end of the last. A server sets its timer to what has passed again and again, and is told of
//! nothing but that. And an answer to a fault is *in vain* if its thread stands where it stood: the page is not
//! there, or the same instruction is to fail once more. When asking does not help, the fault cannot be borne: a copy
//! fails, and a thread's process ends. A machine in which nobody runs and nobody waits even then stops.
//!
//! An account that begins with what was written over already finds nothing. Then the calls are doubted
//! ([`super::recall`]).
//!
//! It never asks root, nor a server that is being upgraded or has not yet come back, and it believes no server that
//! all is well.

use libipc::abi::delivery::FaultKind;
use libipc::abi::foreign::Role;
use libipc::abi::{Doom, Injection, Moment, Protection};

use super::Kernel;
use super::death::Death;
use super::machine::Machine;
use super::object::*;
use super::server::{Line, SERVERS_MAX};

/// For so long a call may be held before its server is doubted.
pub(crate) const PATIENCE_NS: u64 = 60_000_000_000;
/// The longest time between two accounts.
const PAUSE_MAX_NS: u64 = 3_600_000_000_000;
/// After so many answers in vain to one thread the server that gave them is asked, after twice as many whoever has to
/// do with faults; after four times as many the fault cannot be borne, and after eight times the thread stands still.
const VAIN: u32 = 64;
/// After so many timers in a row that had passed when they were set a server is asked.
const LATE: u32 = 64;
/// The machine's status when nobody will ever do anything.
const ALL_LOST: u32 = 126;
/// Exceptions behind whose instruction a thread goes on: debug, breakpoint, overflow.
const TRAPS: [u64; 3] = [1, 3, 4];

/// When a server was asked to account for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// It is being asked: its next incarnation begins as far back as can be.
    pub asked: bool,
    /// It is not asked again before this time.
    not_before_ns: u64,
    /// How long that is after the last time.
    pause_ns: u64,
    /// Messages that it had received the last time.
    received: u64,
    /// How many timers in a row had passed when it set them.
    late: u32,
}

impl Account {
    /// Never.
    pub const NONE: Account = Account { asked: false, not_before_ns: 0, pause_ns: 0, received: 0, late: 0 };

    /// When it was asked the last time; 0 for never.
    pub(crate) fn asked_ns(&self) -> u64 {
        self.not_before_ns - self.pause_ns
    }
}

/// A thread's last fault, of its own or of a call of its.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faulted {
    /// The instruction or the call, the address or vector, and the access.
    at: [u64; 3],
    /// It was the same as the one before.
    again: bool,
    /// How many answers to it were in vain.
    vain: u32,
}

impl Faulted {
    /// None yet.
    pub const NONE: Faulted = Faulted { at: [0; 3], again: false, vain: 0 };

    /// As the words of a fault.
    pub(crate) fn words(&self) -> [u64; 4] {
        let [ip, what, access] = self.at;
        [what, access, ip, 0]
    }
}

/// What is to be done about an answer to a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answered {
    /// It is taken.
    Well,
    /// Nobody will ever help with this fault.
    Unbearable,
    /// Nor can the thread be ended.
    Lost,
}

impl<M: Machine> Kernel<M> {
    /// Notes a thread's fault.
    pub(crate) fn note_fault(&mut self, thread: ThreadId, at: [u64; 3]) {
        let Some(state) = self.threads.get_mut(thread) else { return };
        let again = state.faulted.at == at;
        let vain = if again { state.faulted.vain } else { 0 };
        state.faulted = Faulted { at, again, vain };
    }

    /// Whether a server's answer to a fault of a thread's own has helped, and what follows if not.
    #[inline]
    pub(crate) fn weigh_answer(&mut self, thread: ThreadId, server: ServerId, kind: u32) -> Answered {
        let Some(state) = self.threads.get(thread).filter(|state| state.faulted.again) else {
            return Answered::Well;
        };
        let [ip, what, _] = state.faulted.at;
        let stands = state.registers.rip == ip && state.attention.is_empty() && !state.stopped;
        let goes_on = match kind == FaultKind::Page as u32 {
            true => self.has_come(thread),
            false => TRAPS.contains(&what),
        };
        if !stands || goes_on { self.helped(thread) } else { self.in_vain(thread, server) }
    }

    /// The same for a page that a copy for a call has missed.
    pub(crate) fn weigh_page(&mut self, thread: ThreadId, server: ServerId) -> Answered {
        if self.threads.get(thread).is_none_or(|state| !state.faulted.again) {
            return Answered::Well;
        }
        if self.has_come(thread) { self.helped(thread) } else { self.in_vain(thread, server) }
    }

    /// Whether the page is there that a thread has missed.
    fn has_come(&mut self, thread: ThreadId) -> bool {
        let Some(state) = self.threads.get(thread) else { return true };
        let ([_, address, access], top) = (state.faulted.at, state.top);
        let access = Protection::from_bits_truncate(access as u8);
        self.translate(top, address, access).is_some()
    }

    fn helped(&mut self, thread: ThreadId) -> Answered {
        if let Some(state) = self.threads.get_mut(thread) {
            state.faulted.vain = 0;
        }
        Answered::Well
    }

    fn in_vain(&mut self, thread: ThreadId, server: ServerId) -> Answered {
        let Some(state) = self.threads.get_mut(thread) else { return Answered::Well };
        state.faulted.vain = state.faulted.vain.saturating_add(1);
        let (vain, task) = (state.faulted.vain, state.task);
        if vain == VAIN {
            self.ask(server);
        } else if vain == 2 * VAIN {
            let others = [self.pager_of(task), self.roles[Role::Proc as usize]];
            others.into_iter().flatten().for_each(|server| self.ask(server));
        }
        match vain {
            0..=255 => Answered::Well,
            256..=511 => Answered::Unbearable,
            _ => Answered::Lost,
        }
    }

    /// A server sets its timer.
    pub(crate) fn note_timer(&mut self, id: ServerId, deadline: u64) {
        let now = self.machine.now();
        let Some(server) = self.servers.get_mut(id) else { return };
        server.account.late = if deadline < now { server.account.late + 1 } else { 0 };
        if server.account.late == LATE {
            server.account.late = 0;
            self.ask(id);
        }
    }

    /// Whether a server can be asked to account for itself at all, and when at the earliest.
    fn may_be_asked(&self, id: ServerId) -> Option<u64> {
        let server = self.servers.get(id)?;
        let live = server.state == ServerState::Alive && !server.is_replayed();
        let may = live && self.root != Some(server.task) && self.upgrade.is_none();
        may.then_some(server.account.not_before_ns)
    }

    /// Asks a server to account for itself, unless it was asked too lately. Where the server is in the kernel, it ends
    /// when what it does there is done.
    fn ask(&mut self, id: ServerId) {
        let now = self.machine.now();
        if self.may_be_asked(id).is_none_or(|not_before_ns| not_before_ns > now) {
            return;
        }
        let Some(server) = self.servers.get_mut(id) else { return };
        let pause_ns = (server.account.pause_ns * 2).clamp(PATIENCE_NS, PAUSE_MAX_NS);
        let received = server.received;
        let not_before_ns = now + pause_ns;
        server.account = Account { asked: true, not_before_ns, pause_ns, received, late: 0 };
        let (number, thread) = (server.number, server.thread);
        let mut line = Line::new();
        let asked = format_args!("server {number} is asked to account for itself\n");
        let _ = core::fmt::write(&mut line, asked);
        self.machine.log(line.bytes());
        if thread.is_some() && self.current == thread {
            self.set_doom(id, Some(Doom { moment: Moment::Traps(1), fault: Injection::Kill }));
        } else {
            self.die(id, Death::Outside);
        }
    }

    /// Asks the servers that have had calls for long, recalls those calls where that did not help, and sees to when it
    /// is time to look again.
    pub(crate) fn look_at_calls(&mut self, now: u64) {
        let mut since = self.longest_held();
        let running = self.current.is_some();
        let nobody = !running && since.iter().all(|since| *since == u64::MAX);
        let proc = self.roles[Role::Proc as usize].filter(|_| nobody);
        if proc.is_some_and(|proc| self.is_over(proc, now)) {
            self.machine.log(b"nobody runs, and nobody waits: the machine stops\n");
            self.off = Some((ALL_LOST, false));
        }
        if let Some(since) = proc.and_then(|server| since.get_mut(server.index() as usize)) {
            *since = 0;
        }
        let recall = self.recall(now);
        self.next_account = if running || proc.is_some() { now + PATIENCE_NS } else { recall };
        for index in 0..self.servers.bound() {
            let Some(id) = self.servers.at(index) else { continue };
            let Some(server) = self.servers.get(id) else { continue };
            let since = since.get(index as usize).copied().unwrap_or(u64::MAX);
            if since == u64::MAX || server.received == server.account.received {
                continue;
            }
            let Some(not_before_ns) = self.may_be_asked(id) else { continue };
            let due = (since + PATIENCE_NS).max(not_before_ns);
            if due <= now {
                self.ask(id);
            } else {
                self.next_account = self.next_account.min(due);
            }
        }
    }

    /// Whether nobody will ever run again: the process server has accounted for itself since it heard from anybody, all
    /// servers are there, and none of them has anything to do.
    fn is_over(&self, proc: ServerId, now: u64) -> bool {
        let mut servers =
            (0..self.servers.bound()).filter_map(|index| self.servers.get(self.servers.at(index)?));
        let asked = self.servers.get(proc).is_some_and(|proc| {
            let (account, received) = (&proc.account, proc.received);
            account.pause_ns > 0 && account.received == received && account.asked_ns() + PATIENCE_NS <= now
        });
        asked
            && self.calls.used() == 0
            && servers.all(|server| server.state != ServerState::Dead && !server.is_replayed())
    }

    /// When the oldest call was made that each server has, or that waits for a session of its.
    fn longest_held(&self) -> [u64; SERVERS_MAX as usize] {
        let mut oldest = [u64::MAX; SERVERS_MAX as usize];
        let mut note = |server: ServerId, since: u64| {
            if let Some(place) = oldest.get_mut(server.index() as usize) {
                *place = since.min(*place);
            }
        };
        for index in 0..self.calls.bound() {
            let held = self.calls.at(index).and_then(|id| self.calls.get(id));
            let Some(call) = held.filter(|call| call.phase == Phase::Held) else { continue };
            note(call.server, call.since);
            let mut watch = call.watches;
            while let Some(watcher) = watch.and_then(|watch| self.watchers.get(watch)) {
                if let Some(session) = watcher.session.and_then(|session| self.sessions.get(session)) {
                    note(session.server, call.since);
                }
                watch = watcher.next;
            }
        }
        oldest
    }
}
