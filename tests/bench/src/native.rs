//! The kernel's calls that the bench makes, as thin as they can be.

use libipc::abi::delivery::{DELIVERY_OFFSET, Delivery, Kind, PAYLOAD_OFFSET};
use libipc::abi::syscall::{Info, Syscall};
use libipc::abi::{Handle, PAYLOAD_MAX};
use libipc::sys::{Trapped, Traps};
use zerocopy::FromBytes;

/// The way into the kernel, and the handles that are free.
pub struct Native<T> {
    pub traps: T,
    /// How full the journal was when something last came, in thousandths.
    pub fill: u32,
    next: u32,
}

/// What a receive brought, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A call, to be answered.
    Call { token: u64, payload: u32, words: [u64; 4] },
    /// A thread's fault at an address, to be answered.
    Fault { token: u64, address: u64 },
    /// Notification bits, or anything else: its kind.
    Other(u32),
}

impl<T: Traps> Native<T> {
    pub fn new(traps: T, first_free: u32) -> Native<T> {
        Native { traps, fill: 0, next: first_free }
    }

    /// A handle that is not in use.
    pub fn handle(&mut self) -> Handle {
        self.next += 1;
        Handle(self.next - 1)
    }

    /// Makes a call that must not fail.
    pub fn must(&mut self, call: Syscall, arguments: [u64; 6]) -> [u64; 5] {
        let trapped: Trapped = self.traps.trap(call, arguments);
        trapped.unwrap_or_else(|error| panic!("{error}: {call:?} {arguments:x?}"))
    }

    /// Nanoseconds since boot.
    pub fn now(&mut self) -> u64 {
        self.must(Syscall::Clock, [0; 6])[0]
    }

    /// Brings bytes into the payload.
    pub fn payload(&mut self, bytes: &[u8]) {
        let from = PAYLOAD_OFFSET as usize;
        self.traps.buffer()[from..from + bytes.len()].copy_from_slice(bytes);
    }

    /// Says a line on the console log.
    pub fn say(&mut self, line: &str) {
        let length = line.len().min(PAYLOAD_MAX as usize);
        self.payload(&line.as_bytes()[..length]);
        self.must(Syscall::Log, [length as u64, 0, 0, 0, 0, 0]);
    }

    /// Waits for an event.
    pub fn receive(&mut self) -> Received {
        self.must(Syscall::Receive, [0; 6]);
        self.received()
    }

    /// Answers and waits for the next event, in one trap.
    pub fn reply_receive(&mut self, token: u64, payload: u32, words: [u64; 4]) -> Received {
        let [word0, word1, word2, word3] = words;
        let info = Info { payload_len: payload, ..Info::default() };
        let arguments = [token, info.pack(), word0, word1, word2, word3];
        let trapped = self.traps.trap_then_receive(Syscall::Reply, arguments);
        assert!(trapped.is_ok(), "a reply that must not fail: {trapped:?}");
        self.received()
    }

    /// Posts a notification and waits for the next event, in one trap.
    pub fn notify_receive(&mut self, server: Handle) -> Received {
        let trapped = self.traps.trap_then_receive(Syscall::Notify, [u64::from(server.0), 1, 0, 0, 0, 0]);
        assert!(trapped.is_ok(), "a notification that must not fail: {trapped:?}");
        self.received()
    }

    fn received(&mut self) -> Received {
        let from = DELIVERY_OFFSET as usize;
        let Ok((delivery, _)) = Delivery::ref_from_prefix(&self.traps.buffer()[from..]) else {
            return Received::Other(0);
        };
        self.fill = delivery.fill;
        let words = [delivery.words[0], delivery.words[1], delivery.words[2], delivery.words[3]];
        if delivery.kind == Kind::Call as u32 {
            Received::Call { token: delivery.token, payload: delivery.payload_len, words }
        } else if delivery.kind == Kind::Fault as u32 {
            Received::Fault { token: delivery.token, address: words[0] }
        } else {
            Received::Other(delivery.kind)
        }
    }
}
