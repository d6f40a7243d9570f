//! What processes use of the machine, and how it adds up along the family: only a reap moves a child's figures to its
//! parent.

use alloc::{vec, vec::Vec};

use libipc::abi::{Handle, PAGE_SIZE};
use libipc::server::env::TaskFigure;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::Pid;
use crate::memory::words;
use crate::turn::{Asked, Outcome, Reply, Turn, errno};

use libipc::linux::errno::EINVAL;

/// Nanoseconds in a clock tick as programs see it (USER_HZ 100).
pub const TICK_NS: u64 = 10_000_000;

/// CPU time used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// In the program, ns.
    pub user_ns: u64,
    /// In servers on its behalf, ns.
    pub system_ns: u64,
    /// Most pages that were mapped at a time; of several processes that of the largest.
    pub peak_pages: u64,
}

impl Usage {
    /// Both together.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user_ns: self.user_ns.saturating_add(other.user_ns),
            system_ns: self.system_ns.saturating_add(other.system_ns),
            peak_pages: self.peak_pages.max(other.peak_pages),
        }
    }

    /// `struct rusage`: two times, the largest size in KiB, and thirteen figures of which the kernel keeps none.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut fields = vec![0; 18];
        let times = [self.user_ns, self.system_ns];
        let parts = times.iter().flat_map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000 / 1_000]);
        for (field, part) in fields.iter_mut().zip(parts) {
            *field = part;
        }
        fields[4] = self.peak_pages * (PAGE_SIZE / 1024);
        words(&fields)
    }
}

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;

impl Proc {
    /// What a process has used up to now.
    pub(crate) fn usage_of(&self, pid: Pid, turn: &mut Turn) -> Usage {
        let Some(process) = self.processes.get(&pid) else { return Usage::default() };
        if process.task == Handle::NONE {
            return process.usage;
        }
        let figures = turn.env.task_info(process.task, TaskFigure::CpuTime).unwrap_or_default();
        Usage { user_ns: figures[0], system_ns: figures[1], peak_pages: figures[2] }
    }

    pub(crate) fn getrusage(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let usage = match asked.int(0) {
            // The kernel counts per task, so a thread is shown its process's figures.
            RUSAGE_SELF | RUSAGE_THREAD => self.usage_of(asked.pid, turn),
            RUSAGE_CHILDREN => self.processes.get(&asked.pid).map(|it| it.children_usage).unwrap_or_default(),
            _ => return errno(EINVAL),
        };
        Reply::bytes(asked.word(1), usage.to_bytes())
    }

    pub(crate) fn times(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let own = self.usage_of(asked.pid, turn);
        let children = self.processes.get(&asked.pid).map(|it| it.children_usage).unwrap_or_default();
        let times = [own.user_ns, own.system_ns, children.user_ns, children.system_ns];
        let ticks = (turn.env.now() / TICK_NS) as i64;
        let bytes = words(&times.map(|ns| ns / TICK_NS));
        Ok(Reply::Pieces(ticks, crate::turn::piece(asked.word(0), bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rusage_begins_with_user_and_system_time_as_timevals_and_the_size_in_kib() {
        let bytes = Usage { user_ns: 3_000_004_000, system_ns: 5_999, peak_pages: 3 }.to_bytes();
        assert_eq!(bytes.len(), 144);
        let fields = [0, 8, 16, 24, 32, 40].map(|at| crate::memory::word_at(&bytes, at));
        assert_eq!(fields, [3, 4, 0, 5, 12, 0]);
    }
}
