//! Process groups and sessions, and the numbers that all of them share with processes and threads.

use libipc::abi::{Handle, TaskWord};
use libipc::server::effect::Operation;

use crate::Proc;
use crate::id::{PID_AGAIN, PID_MAX, Pgid, Pid, Sid, Tid};
use crate::process::Life;
use crate::turn::Turn;

impl Proc {
    /// Whether a number names nothing: no process or thread, zombies included, no group, no session.
    fn is_vacant(&self, number: u32) -> bool {
        !self.processes.contains_key(&Pid(number))
            && !self.threads.contains_key(&Tid(number))
            && !self.departed.contains_key(&Tid(number))
            && !self.groups.contains_key(&Pgid(number))
            && !self.sessions.contains_key(&Sid(number))
    }

    /// The next number that names nothing; `None` when all are in use.
    pub(crate) fn take_number(&mut self) -> Option<u32> {
        let after = self.last_pid + 1..PID_MAX;
        let number = after.chain(PID_AGAIN..PID_MAX).find(|number| self.is_vacant(*number))?;
        self.last_pid = number;
        Some(number)
    }

    /// Makes a process, whose row is in the table, a member of the group its row names.
    pub(crate) fn enter_group(&mut self, pid: Pid) {
        let Some(process) = self.processes.get(&pid) else { return };
        let group = self.groups.entry(process.pgid).or_default();
        group.sid = process.sid;
        group.members.insert(pid);
        group.stopped += u32::from(matches!(process.life, Life::Stopped { .. }));
        self.sessions.entry(process.sid).or_default().insert(process.pgid);
    }

    /// Takes a process out of a group; the group, and its session, go with their last member.
    pub(crate) fn leave_group(&mut self, pid: Pid, pgid: Pgid, life: Life) {
        let Some(group) = self.groups.get_mut(&pgid) else { return };
        let sid = group.sid;
        group.members.remove(&pid);
        group.stopped -= u32::from(matches!(life, Life::Stopped { .. }));
        if !group.members.is_empty() {
            return;
        }
        self.groups.remove(&pgid);
        if let Some(groups) = self.sessions.get_mut(&sid) {
            groups.remove(&pgid);
            if groups.is_empty() {
                self.sessions.remove(&sid);
            }
        }
    }

    /// Moves a process to another group, and maybe with it to another session.
    pub(crate) fn move_to_group(&mut self, pid: Pid, pgid: Pgid, sid: Sid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (task, left, life) = (process.task, process.pgid, process.life);
        self.leave_group(pid, left, life);
        let offer = self.update(pid, turn, |process| (process.pgid, process.sid) = (pgid, sid));
        self.enter_group(pid);
        if task != Handle::NONE {
            for (word, value) in [(TaskWord::Pgid, pgid.0), (TaskWord::Sid, sid.0)] {
                turn.act(Operation::TaskWord { task, word, value: u64::from(value) });
            }
        }
        if offer {
            self.offer(pid, turn);
        }
    }
}
