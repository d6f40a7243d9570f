//! Job control: stopping, continuing, and orphaned groups (POSIX 2.4.3, 3.264; exit(3p)).
//!
//! A process is stopped when all its threads have come in and are held there. A thread is thereby taken out of the
//! call it waits in, so that a stopped program takes no input from the one that runs in its place.

use libipc::linux::signal::{CLD_CONTINUED, CLD_STOPPED, SIGCHLD, SIGCONT, SIGHUP};

use crate::Proc;
use crate::id::{INIT, Pgid, Pid, Tid};
use crate::process::{Life, News};
use crate::signal::action::{SA_NOCLDSTOP, SIG_IGN};
use crate::turn::Turn;

impl Proc {
    /// Moves a process along in its life, short of becoming a zombie.
    pub(crate) fn set_life(&mut self, pid: Pid, life: Life) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let stopped = |life: Life| u32::from(matches!(life, Life::Stopped { .. }));
        let (before, after) = (stopped(process.life), stopped(life));
        process.life = life;
        if let Some(group) = self.groups.get_mut(&process.pgid) {
            group.stopped = group.stopped + after - before;
        }
    }

    /// The last step of a stop: all threads are held, and the parent is told.
    pub(crate) fn check_stopped(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        let Life::Stopping { signal } = process.life else { return };
        if process.held < process.threads.len() as u32 {
            return;
        }
        let parent = process.parent;
        self.set_life(pid, Life::Stopped { signal });
        // A parent that traces it is told as its tracer.
        if self.tracer_of(Tid(pid.0)) == Some(parent) {
            return;
        }
        self.announce(pid, News::Stopped(signal), CLD_STOPPED, signal, turn);
    }

    /// SIGCONT was sent: a stop ends, whatever becomes of the signal itself.
    pub(crate) fn proceed(&mut self, pid: Pid, turn: &mut Turn) {
        let code = match self.processes.get(&pid).map(|process| process.life) {
            Some(Life::Stopped { .. }) => CLD_CONTINUED,
            // The stop never came to pass; as in Linux the parent gets its signal, and a wait is told of the end.
            Some(Life::Stopping { .. }) => CLD_STOPPED,
            _ => return,
        };
        self.set_life(pid, Life::Running);
        self.let_go(pid, turn);
        self.announce(pid, News::Continued, code, SIGCONT, turn);
    }

    /// Tells the parent that a process was stopped or continued: by SIGCHLD unless it does not want that, and by
    /// wait.
    fn announce(&mut self, pid: Pid, news: News, code: i32, status: u8, turn: &mut Turn) {
        self.update(pid, turn, |process| process.news = Some(news));
        let parent = self.processes.get(&pid).map(|process| process.parent).unwrap_or_default();
        let action = self.actions_of(parent).map(|actions| actions.get(SIGCHLD)).unwrap_or_default();
        if action.handler != SIG_IGN && action.flags & SA_NOCLDSTOP == 0 {
            self.send_about_child(SIGCHLD, pid, code, u32::from(status), turn);
        }
        self.offer(pid, turn);
    }

    /// Whether nobody is left who could continue a group's members: no living member has its parent in the same
    /// session and another group.
    pub(crate) fn is_orphaned(&self, pgid: Pgid) -> bool {
        let Some(group) = self.groups.get(&pgid) else { return true };
        let anchored = |pid: &Pid| {
            let Some(member) = self.processes.get(pid).filter(|member| !member.is_ending()) else {
                return false;
            };
            let parent = self.processes.get(&member.parent);
            member.parent != INIT
                && parent.is_some_and(|parent| parent.sid == member.sid && parent.pgid != member.pgid)
        };
        !group.members.iter().any(anchored)
    }

    /// A group may just have been orphaned: if it has, and a member is stopped, nobody would ever continue it.
    pub(crate) fn wake_if_orphaned(&mut self, pgid: Pgid, turn: &mut Turn) {
        if self.groups.get(&pgid).is_some_and(|group| group.stopped > 0) && self.is_orphaned(pgid) {
            self.signal_group(pgid, SIGHUP, turn);
            self.signal_group(pgid, SIGCONT, turn);
        }
    }
}
