//! The numbers a process can ask for and move between: groups and sessions.

use libipc::linux::errno::{EACCES, EINVAL, EPERM, ESRCH};

use crate::Proc;
use crate::id::{Pgid, Pid, Sid, Tid};
use crate::process::Process;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

impl Proc {
    /// The process that an argument names; 0 names the caller's.
    fn process_named(&self, asked: &Asked, pid: i32) -> Result<&Process, Refusal> {
        let number = u32::try_from(pid).map_err(|_| Refusal::Errno(ESRCH))?;
        let pid = if number == 0 {
            asked.pid
        } else {
            self.threads.get(&Tid(number)).map_or(Pid(number), |thread| thread.pid)
        };
        let process = self.processes.get(&pid).filter(|process| process.is_visible());
        process.ok_or(Refusal::Errno(ESRCH))
    }

    pub(crate) fn getpgid(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(self.process_named(asked, asked.int(0))?.pgid.0)))
    }

    pub(crate) fn getsid(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(self.process_named(asked, asked.int(0))?.sid.0)))
    }

    pub(crate) fn setpgid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let pid = u32::try_from(asked.int(0)).map_err(|_| Refusal::Errno(ESRCH))?;
        let pid = if pid == 0 { asked.pid } else { Pid(pid) };
        let pgid = u32::try_from(asked.int(1)).map_err(|_| Refusal::Errno(EINVAL))?;
        let pgid = if pgid == 0 { Pgid(pid.0) } else { Pgid(pgid) };
        let Some(target) = self.processes.get(&pid).filter(|process| process.is_visible()) else {
            let thread = self.threads.contains_key(&Tid(pid.0));
            return errno(if thread { EINVAL } else { ESRCH });
        };
        let caller = self.processes.get(&asked.pid).ok_or(Refusal::Errno(ESRCH))?;
        if target.parent == asked.pid && pid != asked.pid {
            if target.sid != caller.sid {
                return errno(EPERM);
            }
            if target.executed {
                return errno(EACCES);
            }
        } else if pid != asked.pid {
            return errno(ESRCH);
        }
        if target.leads_session() {
            return errno(EPERM);
        }
        let sid = target.sid;
        let exists = self.groups.get(&pgid).is_some_and(|group| group.sid == sid);
        if pgid.0 != pid.0 && !exists {
            return errno(EPERM);
        }
        if target.pgid != pgid {
            self.move_to_group(pid, pgid, sid, turn);
        }
        Reply::DONE
    }

    pub(crate) fn setsid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let own = asked.pid.0;
        let leads = self.processes.get(&asked.pid).is_some_and(|process| process.leads_session());
        if leads || self.groups.contains_key(&Pgid(own)) {
            return errno(EPERM);
        }
        self.move_to_group(asked.pid, Pgid(own), Sid(own), turn);
        Ok(Reply::Value(i64::from(own)))
    }
}
