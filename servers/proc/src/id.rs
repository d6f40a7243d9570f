//! The numbers of the process table as types, so that a thread is never taken for a process, nor a group for a
//! session.

use libipc::server::Number;
use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($name:ident $text:literal;)*) => { $(
        #[doc = $text]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl Number for $name {
            fn number(self) -> u64 {
                self.0.into()
            }
        }
    )* };
}

ids! {
    Pid "A process.";
    Tid "A thread. A process's first thread has its number.";
    Pgid "A process group: the number of the process that founded it.";
    Sid "A session: the number of the process that founded it.";
}

/// The process that the process server itself is: it has no thread, and it reaps what nobody else will.
pub const INIT: Pid = Pid(1);

/// The thread that init's children count as made by.
pub const INIT_THREAD: Tid = Tid(1);

/// One more than the highest number given out, as Linux has it by default.
pub const PID_MAX: u32 = 32768;

/// Where numbers start again after the highest: below are the daemons of an early boot, which live long.
pub const PID_AGAIN: u32 = 300;
