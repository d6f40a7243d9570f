//! The requests of one disk: which wait, which the device has, and what each caller is answered.
//!
//! Requests start in the order in which they came. A device finishes them in any order, so one that touches sectors
//! which a started one is changing (or changes what a started one touches) waits for it. The sectors therefore always
//! hold what the requests, taken one after the other, would have left there; a restart, which repeats the unanswered
//! ones in the same order, keeps it so.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use libipc::abi::CallId;
use libipc::server::Message;

use crate::disk::{Command, Disk, Extent, Properties};

/// A disk with its requests.
pub struct Queue<D> {
    disk: D,
    waiting: VecDeque<Waiting>,
    /// By the disk's number for the command.
    started: BTreeMap<u32, Started>,
}

struct Waiting {
    call: CallId,
    command: Command,
}

/// What is remembered of a command that the device has.
struct Started {
    call: CallId,
    reach: Reach,
}

/// What a command touches. A flush touches nothing: it is about writes that have been answered.
#[derive(Clone, Copy)]
struct Reach {
    extent: Extent,
    changes: bool,
}

impl Reach {
    fn of(command: &Command) -> Reach {
        match command {
            Command::Read(extent) => Reach { extent: *extent, changes: false },
            Command::Write(extent, _) => Reach { extent: *extent, changes: true },
            Command::Flush => Reach { extent: Extent::default(), changes: false },
        }
    }

    fn conflicts(self, other: Reach) -> bool {
        (self.changes || other.changes) && self.extent.overlaps(other.extent)
    }
}

impl<D: Disk> Queue<D> {
    /// A disk without requests.
    pub fn new(disk: D) -> Queue<D> {
        Queue { disk, waiting: VecDeque::new(), started: BTreeMap::new() }
    }

    /// What the disk is.
    pub fn properties(&self) -> Properties {
        self.disk.properties()
    }

    /// Adds a request, and starts it if nothing is in its way.
    pub fn push(&mut self, call: CallId, command: Command) {
        self.waiting.push_back(Waiting { call, command });
        self.start_waiting();
    }

    /// After an interrupt: the answers to what is finished. What waited for it starts.
    ///
    /// # Panics
    /// When the device claims to have finished what it was not given: nothing it says can be relied on then, and the
    /// next incarnation resets it.
    pub fn take_finished(&mut self) -> Vec<(CallId, Message)> {
        self.disk.acknowledge();
        let mut answers = Vec::new();
        while let Some(finished) = self.disk.finished() {
            let started = self.started.remove(&finished.number).expect("a device finishes what it was given");
            let answer = match finished.outcome {
                Ok(payload) => Message { payload, ..Message::default() },
                Err(error) => Message::label(error as u32),
            };
            answers.push((started.call, answer));
        }
        self.start_waiting();
        answers
    }

    fn start_waiting(&mut self) {
        while let Some(Waiting { call, command }) = self.waiting.front() {
            let reach = Reach::of(command);
            if self.started.values().any(|started| started.reach.conflicts(reach)) {
                return;
            }
            let Some(number) = self.disk.submit(command) else { return };
            self.started.insert(number, Started { call: *call, reach });
            self.waiting.pop_front();
        }
    }

    /// The disk itself, for tests to play the device.
    #[cfg(test)]
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }
}
