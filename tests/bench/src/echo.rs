//! The other side: it sends back what it gets.

use libipc::abi::Handle;
use libipc::abi::journal::{SUM_START, sum};
use libipc::abi::syscall::Syscall;
use libipc::sys::Traps;

use crate::native::{Native, Received};

/// How full a journal may be, in thousandths, before a snapshot takes its place.
const SNAPSHOT_AT: u32 = 500;

/// Answers calls with their own words and payload, and notifications with one.
pub fn serve<T: Traps>(mut native: Native<T>, client: Handle) -> ! {
    let mut event = native.receive();
    loop {
        if native.fill > SNAPSHOT_AT {
            let state = [1];
            native.payload(&state);
            native.must(Syscall::SnapshotWrite, [1, 0, 0, 0, 0, 0]);
            native.must(Syscall::SnapshotCommit, [sum(SUM_START, &state), 0, 0, 0, 0, 0]);
            native.fill = 0;
        }
        event = match event {
            Received::Call { token, payload, words } => native.reply_receive(token, payload, words),
            Received::Fault { .. } | Received::Other(_) => native.notify_receive(client),
        };
    }
}
