//! Sending signals to others: kill(2) and its relatives, and who may.

use alloc::vec::Vec;

use libipc::linux::errno::{EAGAIN, EINVAL, EPERM, ESRCH};
use libipc::linux::signal::{NSIG, SI_TKILL, SI_USER, SIGCONT};

use super::queue::REALTIME;
use super::{Aim, Detail, SIGINFO_BYTES, SigInfo};
use crate::Proc;
use crate::id::{INIT, Pgid, Pid, Tid};
use crate::limits::Resource;
use crate::memory::half_at;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

/// A signal number as a program gave it; 0 only asks whether the signal could be sent.
fn number(signal: i32) -> Result<u8, Refusal> {
    u8::try_from(signal).ok().filter(|signal| *signal <= NSIG).ok_or(Refusal::Errno(EINVAL))
}

impl Proc {
    /// Whether a process may signal another: the same user, the superuser, or SIGCONT within a session.
    fn may_signal(&self, from: Pid, to: Pid, signal: u8) -> bool {
        let (Some(sender), Some(target)) = (self.processes.get(&from), self.processes.get(&to)) else {
            return false;
        };
        let (own, other) = (&sender.credentials, &target.credentials);
        let same = [own.euid, own.uid].iter().any(|uid| [other.uid, other.suid].contains(uid));
        own.euid == 0 || from == to || same || (signal == SIGCONT && sender.sid == target.sid)
    }

    /// Sends to one process; signal 0 only checks.
    fn kill_one(&mut self, from: Pid, to: Pid, info: &SigInfo, turn: &mut Turn) -> Result<(), Refusal> {
        if !self.may_signal(from, to, info.signal) {
            return errno(EPERM);
        }
        if info.signal != 0 {
            self.send(Aim::Process(to), info.clone(), turn);
        }
        Ok(())
    }

    /// Sends to several: done if one may be sent to, else refused for want of permission or of anybody.
    fn kill_many(&mut self, from: Pid, targets: Vec<Pid>, info: &SigInfo, turn: &mut Turn) -> Outcome {
        let mut answer = errno(ESRCH);
        for to in targets {
            match self.kill_one(from, to, info, turn) {
                Ok(()) => answer = Reply::DONE,
                Err(refusal) if answer.is_err() => answer = Err(refusal),
                Err(_) => {}
            }
        }
        answer
    }

    /// The members of a group that a signal reaches: those still being forked too, so that nobody escapes it.
    pub(crate) fn members(&self, pgid: Pgid) -> Vec<Pid> {
        self.groups.get(&pgid).map(|group| group.members.iter().copied().collect()).unwrap_or_default()
    }

    /// The process that a positive pid names: kill(2) takes a thread's number for its process.
    fn named_process(&self, pid: u32) -> Result<Pid, Refusal> {
        let process = self.processes.get(&Pid(pid)).filter(|process| process.is_visible());
        let thread = self.threads.get(&Tid(pid)).map(|thread| thread.pid);
        process.map(|process| process.pid).or(thread).ok_or(Refusal::Errno(ESRCH))
    }

    pub(crate) fn kill(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let signal = number(asked.int(1))?;
        let uid = self.processes.get(&asked.pid).map_or(0, |process| process.credentials.uid);
        let info = SigInfo::user(signal, SI_USER, asked.pid.0, uid);
        match asked.int(0) {
            i32::MIN => errno(ESRCH),
            0 => {
                let own = self.processes.get(&asked.pid).map(|process| process.pgid).unwrap_or_default();
                self.kill_many(asked.pid, self.members(own), &info, turn)
            }
            -1 => {
                let others = self.processes.keys().copied().filter(|pid| *pid != INIT && *pid != asked.pid);
                self.kill_many(asked.pid, others.collect(), &info, turn)
            }
            pid if pid < 0 => {
                let members = self.members(Pgid(pid.unsigned_abs()));
                self.kill_many(asked.pid, members, &info, turn)
            }
            pid => {
                let target = self.named_process(pid.unsigned_abs())?;
                self.kill_one(asked.pid, target, &info, turn)?;
                Reply::DONE
            }
        }
    }

    pub(crate) fn tkill(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        self.kill_thread(asked, None, asked.int(0), asked.int(1), turn)
    }

    pub(crate) fn tgkill(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        if asked.int(0) <= 0 {
            return errno(EINVAL);
        }
        self.kill_thread(asked, Some(asked.unsigned(0)), asked.int(1), asked.int(2), turn)
    }

    fn kill_thread(
        &mut self,
        asked: &Asked,
        tgid: Option<u32>,
        tid: i32,
        signal: i32,
        turn: &mut Turn,
    ) -> Outcome {
        let tid = u32::try_from(tid).ok().filter(|tid| *tid != 0).ok_or(Refusal::Errno(EINVAL))?;
        let uid = self.processes.get(&asked.pid).map_or(0, |process| process.credentials.uid);
        let info = SigInfo::user(number(signal)?, SI_TKILL, asked.pid.0, uid);
        self.send_to_thread(asked.pid, tgid, tid, info, turn)
    }

    fn send_to_thread(
        &mut self,
        from: Pid,
        tgid: Option<u32>,
        tid: u32,
        info: SigInfo,
        turn: &mut Turn,
    ) -> Outcome {
        // A first thread that has ended still has its number, its process's; it takes nothing any more.
        let owner = self.threads.get(&Tid(tid)).map(|thread| thread.pid);
        let owner = owner.or_else(|| self.named_process(tid).ok()).ok_or(Refusal::Errno(ESRCH))?;
        if tgid.is_some_and(|tgid| tgid != owner.0) {
            return errno(ESRCH);
        }
        if !self.may_signal(from, owner, info.signal) {
            return errno(EPERM);
        }
        if info.signal != 0 {
            self.send(Aim::Thread(Tid(tid)), info, turn);
        }
        Reply::DONE
    }

    /// A signal as its sender made it. Only to itself may a process send what looks like the kernel's or kill's.
    fn composed(&self, asked: &Asked, input: usize, signal: i32, to: Pid) -> Result<SigInfo, Refusal> {
        let bytes = asked.needed(input)?;
        let code = half_at(bytes, 8) as i32;
        if (code >= 0 || code == SI_TKILL) && to != asked.pid {
            return errno(EPERM);
        }
        let rest = bytes.get(12..SIGINFO_BYTES.min(bytes.len())).unwrap_or_default().to_vec();
        let errno = half_at(bytes, 4) as i32;
        Ok(SigInfo { signal: number(signal)?, errno, code, detail: Detail::Raw(rest) })
    }

    /// Whether one more signal may be queued for a process.
    fn has_room(&self, pid: Pid, signal: u8) -> Result<(), Refusal> {
        let Some(process) = self.processes.get(&pid) else { return errno(ESRCH) };
        let full = process.pending.len() >= process.limits.get(Resource::PendingSignals).0;
        if signal >= REALTIME && full { errno(EAGAIN) } else { Ok(()) }
    }

    pub(crate) fn rt_sigqueueinfo(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let pid = u32::try_from(asked.int(0)).map_err(|_| Refusal::Errno(ESRCH))?;
        let target = self.named_process(pid)?;
        let info = self.composed(asked, 0, asked.int(1), target)?;
        self.has_room(target, info.signal)?;
        self.kill_one(asked.pid, target, &info, turn)?;
        Reply::DONE
    }

    pub(crate) fn rt_tgsigqueueinfo(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        if asked.int(0) <= 0 || asked.int(1) <= 0 {
            return errno(EINVAL);
        }
        let target = self.named_process(asked.unsigned(0))?;
        let info = self.composed(asked, 0, asked.int(2), target)?;
        self.has_room(target, info.signal)?;
        self.send_to_thread(asked.pid, Some(asked.unsigned(0)), asked.unsigned(1), info, turn)
    }

    /// Sends a signal of the system itself to every member of a group.
    pub(crate) fn signal_group(&mut self, pgid: Pgid, signal: u8, turn: &mut Turn) {
        for pid in self.members(pgid) {
            self.send(Aim::Process(pid), SigInfo::kernel(signal), turn);
        }
    }

    /// pidfd_send_signal(2), once the descriptor's process is known.
    pub(crate) fn send_by_descriptor(&mut self, asked: &Asked, target: Pid, turn: &mut Turn) -> Outcome {
        let signal = number(asked.int(1))?;
        let info = match asked.input(0) {
            Some(bytes) if half_at(bytes, 0) != u32::from(signal) => return errno(EINVAL),
            Some(_) => self.composed(asked, 0, asked.int(1), target)?,
            None => {
                let uid = self.processes.get(&asked.pid).map_or(0, |process| process.credentials.uid);
                SigInfo::user(signal, SI_USER, asked.pid.0, uid)
            }
        };
        self.has_room(target, info.signal)?;
        self.kill_one(asked.pid, target, &info, turn)?;
        Reply::DONE
    }
}
