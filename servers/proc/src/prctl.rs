//! prctl(2) and personality(2): small settings of a process or a thread.

use libipc::linux::errno::{EFAULT, EINVAL};
use libipc::linux::signal::NSIG;

use crate::Proc;
use crate::exec::NAME_MAX;
use crate::memory::UserMemory;
use crate::process::Settings;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

const PR_SET_PDEATHSIG: i32 = 1;
const PR_GET_PDEATHSIG: i32 = 2;
const PR_GET_DUMPABLE: i32 = 3;
const PR_SET_DUMPABLE: i32 = 4;
const PR_GET_KEEPCAPS: i32 = 7;
const PR_SET_KEEPCAPS: i32 = 8;
const PR_SET_NAME: i32 = 15;
const PR_GET_NAME: i32 = 16;
const PR_CAPBSET_READ: i32 = 23;
const PR_SET_TIMERSLACK: i32 = 29;
const PR_GET_TIMERSLACK: i32 = 30;
const PR_SET_CHILD_SUBREAPER: i32 = 36;
const PR_GET_CHILD_SUBREAPER: i32 = 37;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const PR_GET_NO_NEW_PRIVS: i32 = 39;
/// One more than the highest capability.
const CAPABILITIES: u64 = 41;
/// "Only ask" in personality(2).
const PERSONALITY_QUERY: u32 = u32::MAX;

impl Proc {
    fn settings(&mut self, asked: &Asked) -> Result<&mut Settings, Refusal> {
        self.processes.get_mut(&asked.pid).map(|process| &mut process.settings).ok_or(Refusal::Errno(EFAULT))
    }

    pub(crate) fn prctl(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let argument = asked.word(1);
        match asked.int(0) {
            PR_SET_NAME => self.set_name(asked, turn),
            PR_GET_NAME => {
                let mut name = self.caller(asked)?.name.clone();
                name.resize(NAME_MAX + 1, 0);
                Reply::bytes(argument, name)
            }
            PR_GET_PDEATHSIG => {
                let signal = i32::from(self.settings(asked)?.parent_death_signal);
                Reply::bytes(argument, signal.to_le_bytes().to_vec())
            }
            PR_GET_CHILD_SUBREAPER => {
                let flag = i32::from(self.settings(asked)?.subreaper);
                Reply::bytes(argument, flag.to_le_bytes().to_vec())
            }
            PR_CAPBSET_READ if argument < CAPABILITIES => Ok(Reply::Value(1)),
            PR_GET_DUMPABLE => Ok(Reply::Value(i64::from(self.settings(asked)?.dumpable))),
            PR_GET_KEEPCAPS => Ok(Reply::Value(i64::from(self.settings(asked)?.keep_capabilities))),
            PR_GET_TIMERSLACK => Ok(Reply::Value(self.settings(asked)?.timer_slack_ns as i64)),
            PR_GET_NO_NEW_PRIVS => Ok(Reply::Value(i64::from(self.settings(asked)?.no_new_privileges))),
            option => self.set_option(asked, option, argument),
        }
    }

    fn set_option(&mut self, asked: &Asked, option: i32, argument: u64) -> Outcome {
        let settings = self.settings(asked)?;
        match (option, argument) {
            (PR_SET_PDEATHSIG, signal) if signal <= u64::from(NSIG) => {
                settings.parent_death_signal = signal as u8;
            }
            (PR_SET_DUMPABLE, 0 | 1) => settings.dumpable = argument as u8,
            (PR_SET_KEEPCAPS, 0 | 1) => settings.keep_capabilities = argument == 1,
            (PR_SET_TIMERSLACK, 0) => settings.timer_slack_ns = Settings::default().timer_slack_ns,
            (PR_SET_TIMERSLACK, slack_ns) => settings.timer_slack_ns = slack_ns,
            (PR_SET_CHILD_SUBREAPER, flag) => settings.subreaper = flag != 0,
            (PR_SET_NO_NEW_PRIVS, 1) => settings.no_new_privileges = true,
            _ => return errno(EINVAL),
        }
        Reply::DONE
    }

    fn set_name(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let mut memory = UserMemory::new(asked.id);
        let mut name = memory.text(turn.env, asked.word(1), NAME_MAX as u64)?;
        name.pop_if(|last| *last == 0);
        if let Some(thread) = self.threads.get_mut(&asked.tid) {
            thread.name = name;
        }
        Reply::DONE
    }

    pub(crate) fn personality(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let settings = self.settings(asked)?;
        let old = settings.personality;
        if asked.unsigned(0) != PERSONALITY_QUERY {
            settings.personality = asked.unsigned(0);
        }
        Ok(Reply::Value(i64::from(old)))
    }
}
