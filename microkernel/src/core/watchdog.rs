//! The watchdog: a server that uses much CPU without coming to its next event, or getting on in its replay or its
//! snapshot, is taken to loop for ever, and dies.
//!
//! Nothing is counted on the way of a message. Now and then, while anybody runs, the timer goes off for it, and it
//! compares what it finds with what it found the last time.

use libipc::abi::crash::Fault;

use super::Kernel;
use super::account::PATIENCE_NS;
use super::command_line::value;
use super::machine::Machine;
use super::object::*;

/// How often it looks.
pub(crate) const PERIOD_NS: u64 = 500_000_000;

/// How far a server had come, and how much CPU it had used then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watched {
    /// Incarnation, messages received, records replayed, bytes of a snapshot written.
    mark: [u64; 4],
    cpu_ns: u64,
}

impl Watched {
    /// Nothing yet.
    pub const NONE: Watched = Watched { mark: [0; 4], cpu_ns: 0 };
}

impl Server {
    fn mark(&self) -> [u64; 4] {
        let journal = self.journal.unwrap_or_default();
        let replayed = journal.cursor.unwrap_or_default();
        [self.incarnation.into(), self.received, replayed, journal.writing_bytes]
    }
}

/// When the kernel is to fail, so that its epitaph can be tested: `panic=SECONDS` on its command line. Without it, or
/// with anything but a number behind it, never.
pub fn fails_at(command_line: &[u8]) -> u64 {
    let seconds = value(command_line, b"panic=").and_then(|seconds| seconds.parse().ok());
    seconds.map_or(u64::MAX, |seconds: u32| u64::from(seconds) * 1_000_000_000)
}

impl<M: Machine> Kernel<M> {
    /// Looks at whoever runs.
    ///
    /// # Panics
    /// When the command line has asked for it.
    pub(crate) fn watch_current(&mut self, now: u64) {
        assert!(now < self.fails_at, "the command line has asked for a panic");
        let Some(thread) = self.current.and_then(|thread| self.threads.get(thread)) else { return };
        let (cpu_ns, task) = (thread.cpu_ns + now.saturating_sub(self.since), thread.task);
        let Some(server) = thread.server.and_then(|id| self.servers.get_mut(id)) else { return };
        let mark = server.mark();
        if server.watched_at.mark != mark {
            server.watched_at = Watched { mark, cpu_ns };
        } else if cpu_ns.saturating_sub(server.watched_at.cpu_ns) >= server.patience_ns {
            self.server_fault(task, Fault::Watchdog, 0);
        }
    }

    /// When the machine begins to run something, the timer is set for the next look, and for one at what it leaves.
    pub(crate) fn begin_watch(&mut self, now: u64) {
        if self.next_watch == u64::MAX {
            self.next_watch = now + PERIOD_NS;
            self.next_deadline = self.next_deadline.min(self.next_watch);
        }
        if self.next_account == u64::MAX {
            self.next_account = now + PATIENCE_NS;
            self.next_deadline = self.next_deadline.min(self.next_account);
        }
    }
}
