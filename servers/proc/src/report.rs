//! What /proc shows of the table.

use alloc::vec::Vec;

use libipc::abi::Handle;
use libipc::abi::syscall::descriptor_slot::CWD;
use libipc::linux::errno::ESRCH;
use libipc::proto::process::{Answer, DESCRIPTORS_MAX, GROUPS, LIMITS, PIDS_MAX, ProcessInfo};
use libipc::proto::terminal::QUERY;
use libipc::server::Message;
use libipc::server::env::{Descriptor, Statistic, TaskFigure};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::process::{Life, Process};
use crate::turn::Turn;

/// Most threads shown of a process.
const THREADS_MAX: usize = 400;
/// The load averages are sampled as if every five seconds.
const SAMPLE_NS: u64 = 5_000_000_000;
/// One as a fixed-point load.
const ONE: u64 = 1 << 11;
/// What a sample leaves of the 1, 5 and 15 minute averages before it: e^(-5/60), e^(-5/300), e^(-5/900).
const DECAY: [u64; 3] = [1884, 2014, 2037];
/// After so many samples nothing is left of what was before.
const SAMPLES_MAX: u64 = 2000;

/// Load averages: of the processors' busy time, brought up to date when somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    averages: [u64; 3],
    idle_ns: u64,
    at_ns: u64,
}

impl Load {
    /// Brings the averages to a time at which the processors had been idle for so long.
    fn advance(&mut self, now: u64, idle_ns: u64) {
        let samples = (now.saturating_sub(self.at_ns) / SAMPLE_NS).min(SAMPLES_MAX);
        if samples == 0 {
            return;
        }
        let passed = now - self.at_ns;
        let idle = idle_ns.saturating_sub(self.idle_ns).min(passed);
        let busy =
            u64::try_from(u128::from(passed - idle) * u128::from(ONE) / u128::from(passed)).unwrap_or(ONE);
        for _ in 0..samples {
            for (average, decay) in self.averages.iter_mut().zip(DECAY) {
                *average = (*average * decay + busy * (ONE - decay) + ONE / 2) / ONE;
            }
        }
        (self.at_ns, self.idle_ns) = (now, idle_ns);
    }
}

impl Proc {
    /// The load averages, with eleven bits after the point.
    pub(crate) fn load_averages(&mut self, turn: &mut Turn) -> [u64; 3] {
        let [idle_ns, ..] = turn.env.statistic(Statistic::Cpu, 0);
        self.load.advance(turn.env.now(), idle_ns);
        self.load.averages
    }

    /// [`libipc::proto::process::Request::Load`].
    pub(crate) fn report_load(&mut self, turn: &mut Turn) -> Answer {
        let averages = self.load_averages(turn).map(|average| average * 100 / ONE);
        let threads = self.threads.len() as u32;
        let waiting = self.calls.len() as u32;
        Answer::Load {
            averages,
            running: threads.saturating_sub(waiting).min(1),
            threads,
            last_pid: self.last_pid,
        }
    }

    /// One thing about a process, by label: words begin with its id.
    pub(crate) fn report_part(&self, label: u32, words: [u64; 4], turn: &mut Turn) -> Message {
        let pid = u32::try_from(words[0]).ok().map(Pid);
        let process = pid.and_then(|pid| self.processes.get(&pid)).filter(|process| process.is_visible());
        let Some(process) = process else { return Message::label(ESRCH as u32) };
        let payload = match label {
            LIMITS => process.limits.to_bytes(),
            GROUPS => process.credentials.groups.iter().flat_map(|group| group.to_le_bytes()).collect(),
            _ => {
                let mut slot = words[1] as u32;
                let mut descriptors: Vec<Descriptor> = Vec::new();
                while descriptors.len() < DESCRIPTORS_MAX
                    && let Ok(descriptor) = turn.env.descriptor(process.task, slot)
                {
                    descriptors.push(descriptor);
                    match descriptor.slot.checked_add(1) {
                        Some(next) if slot < CWD => slot = next,
                        _ => break,
                    }
                }
                return Message::typed(0, &descriptors);
            }
        };
        Message { payload, ..Message::default() }
    }

    /// Process ids above one, as many as an answer holds.
    pub(crate) fn report_pids(&self, after: u32) -> Answer {
        let above = self.processes.from(Pid(after.saturating_add(1)));
        let visible = above.filter(|(_, process)| process.is_visible()).map(|(pid, _)| pid.0);
        Answer::Pids { pids: visible.take(PIDS_MAX).collect() }
    }

    /// Everything about one process.
    pub(crate) fn report_process(&self, pid: u32, turn: &mut Turn) -> Answer {
        let Some(process) = self.processes.get(&Pid(pid)).filter(|process| process.is_visible()) else {
            return Answer::Failed(ESRCH);
        };
        let usage = self.usage_of(process.pid, turn);
        let children = process.children_usage;
        let own = &process.credentials;
        let first = self.first_thread(process.pid).and_then(|tid| self.threads.get(&tid));
        let program = self.programs.get(process.program);
        let (ignored, caught) =
            self.actions_of(process.pid).map(|actions| actions.sets()).unwrap_or_default();
        let thread_pending = first.map(|thread| thread.pending.set()).unwrap_or_default();
        let (tty, foreground) = self.terminal_of(process, turn);
        let path = program.map(|program| program.path.clone()).unwrap_or_default();
        Answer::Process(ProcessInfo {
            pid,
            parent: if process.parent == process.pid { 0 } else { process.parent.0 },
            pgid: process.pgid.0,
            sid: process.sid.0,
            state: self.state_letter(process, turn),
            name: self.name_of_process(process),
            exe: path,
            threads: process.threads.iter().map(|tid| tid.0).take(THREADS_MAX).collect(),
            uids: [own.uid, own.euid, own.suid],
            gids: [own.gid, own.egid, own.sgid],
            space: process.space,
            times: [usage.user_ns, usage.system_ns, children.user_ns, children.system_ns],
            start_ns: process.start_ns,
            nice: process.settings.nice,
            tty,
            foreground,
            signals: [
                process.pending.set().or(thread_pending).0,
                first.map_or(0, |thread| thread.blocked.0),
                ignored.0,
                caught.0,
            ],
            command_line: program.map(|program| program.command_line.clone()).unwrap_or_default(),
            environment: program.map(|program| program.environment.clone()).unwrap_or_default(),
        })
    }

    fn name_of_process(&self, process: &Process) -> Vec<u8> {
        let first = self
            .threads
            .get(&Tid(process.pid.0))
            .or_else(|| self.first_thread(process.pid).and_then(|tid| self.threads.get(&tid)));
        match first {
            Some(thread) => thread.name.clone(),
            None => {
                let path = self.programs.get(process.program).map(|program| program.path.as_slice());
                crate::exec::name_of(path.unwrap_or(b"init"))
            }
        }
    }

    /// `S` when every thread waits in a call, `R` when one may be running; `Z` also when only the first thread has
    /// ended, whose state this is.
    fn state_letter(&self, process: &Process, turn: &mut Turn) -> u8 {
        match process.life {
            Life::Zombie { .. } => b'Z',
            Life::Dying { .. } => b'X',
            Life::Stopped { .. } => b'T',
            _ if !process.threads.is_empty() && !self.threads.contains_key(&Tid(process.pid.0)) => b'Z',
            _ if process.task == Handle::NONE => b'S',
            _ => {
                let [_, _, calls, _] =
                    turn.env.task_info(process.task, TaskFigure::Holdings).unwrap_or_default();
                if calls >= process.threads.len() as u64 { b'S' } else { b'R' }
            }
        }
    }

    /// The controlling terminal's device number and its foreground group.
    fn terminal_of(&self, process: &Process, turn: &mut Turn) -> (u32, i32) {
        let question = Message::words(QUERY, [u64::from(process.sid.0), 0, 0, 0]);
        match turn.env.ask(self.tty, &question) {
            Ok(answer) if answer.label == 0 && answer.words[0] != 0 => {
                (answer.words[0] as u32, if answer.words[1] == 0 { -1 } else { answer.words[1] as i32 })
            }
            _ => (0, -1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_minute_brings_the_first_average_to_two_thirds_and_rest_lets_it_fall() {
        let mut load = Load::default();
        load.advance(60_000_000_000, 0);
        let [one, five, fifteen] = load.averages.map(|average| average * 100 / ONE);
        assert!((62..=65).contains(&one) && (17..=20).contains(&five) && (5..=8).contains(&fifteen));
        load.advance(360_000_000_000, 300_000_000_000);
        assert!(load.averages[0] < ONE / 100);
    }
}
