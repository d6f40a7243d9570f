//! Questions to other servers that are not answered yet, by the tags their answers will bear.

use alloc::collections::BTreeMap;

use libipc::abi::{CallId, Tag};

use super::fetch::Part;

/// What an answer will be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// Something of a disk.
    Blk(Part),
    /// A page for the fault that this call is.
    Vm(CallId),
    /// The session that this call opens.
    Session(CallId),
}

/// The questions, and the tag of the next one.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<Tag, Asked>,
    next: u64,
}

impl Questions {
    /// Tags follow the clock, so that none is ever that of an earlier incarnation's question, whose answer may still
    /// come.
    pub fn set_clock(&mut self, now_ns: u64) {
        self.next = self.next.max(now_ns);
    }

    /// Notes a question.
    pub fn ask(&mut self, asked: Asked) -> Tag {
        let tag = Tag(self.next);
        self.next += 1;
        self.open.insert(tag, asked);
        tag
    }

    /// The question that an answer is for; nothing if it is an earlier incarnation's.
    pub fn answered(&mut self, tag: Tag) -> Option<Asked> {
        self.open.remove(&tag)
    }
}
