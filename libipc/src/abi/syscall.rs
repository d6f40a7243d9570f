//! The one table of native system calls: number, arguments, meaning and errors of each. The kernel's decoder, the
//! stubs, the names in traces and `docs/syscalls.md` all come from it.
//!
//! Registers (x86_64): number in rax, arguments in rdi, rsi, rdx, r10, r8, r9. On return rax is 0 or a
//! [`KernelError`](super::KernelError), and up to five values are in rdi, rsi, rdx, r10, r8. "Payload" is the payload
//! area of the calling thread's message buffer. With [`THEN_RECEIVE`] added to the number the call, if it succeeds,
//! goes on to wait for the next event: how a server ends one step and begins the next in one trap.

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The call.
    pub call: Syscall,
    /// Its name in traces and in the manual.
    pub name: &'static str,
    /// Its arguments in order.
    pub arguments: &'static [&'static str],
    /// What it does.
    pub meaning: &'static str,
    /// What it can answer besides `BadCall`.
    pub errors: &'static [super::KernelError],
}

macro_rules! syscalls {
    ($($number:literal $name:ident $text:literal ($($argument:ident),*) [$($error:ident),*] $meaning:literal;)*) => {
        /// A native system call.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
        #[repr(u16)]
        pub enum Syscall { $(#[doc = $meaning] $name = $number,)* }

        /// The table, in order of numbers, without gaps.
        pub const TABLE: &[Row] = &[$(Row {
            call: Syscall::$name,
            name: $text,
            arguments: &[$(stringify!($argument)),*],
            meaning: $meaning,
            errors: &[$(super::KernelError::$error),*],
        },)*];
    };
}

syscalls! {
    0 Null "null" () [] "Does nothing: the smallest system call. Value 0 is the ABI version.";
    1 Call "call" (handle, info, word0, word1, word2, word3)
        [BadHandle, WrongKind, NoRight, TooBig, PeerDead, Exhausted, Quota]
        "Calls the server behind a session and waits for its answer: info of the answer, then its four words.";
    2 Send "send" (handle, info, word0, word1, word2, word3)
        [BadHandle, WrongKind, NoRight, TooBig, PeerDead, Exhausted, Quota]
        "Calls without waiting: the answer arrives as an event that carries the tag from the message buffer.";
    3 Receive "receive" () [WrongState] "Waits for the next event and leaves it in the message buffer.";
    4 Reply "reply" (token, info, word0, word1, word2, word3) [NoSuchCall, TooBig, BadHandle]
        "Answers a native call, a fault or an attention call.";
    5 JournalSum "journal_sum" (task, section, offset, length, start)
        [BadHandle, WrongKind, NoRight, BadArgument, TooBig]
        "Value 0: the checksum of a part of a server's history, continued from another (start). Sections: 0 boot block, 1 snapshot, 2 journal; in the high half the number of a reproducer, or 0.";
    6 ReplyForeign "reply_foreign" (token, flags, result, position, install, session)
        [NoSuchCall, TooBig, BadHandle, BadArgument]
        "Answers a foreign call: result register, new position, descriptors to install, bytes for the caller's memory; and, before it, sets the readiness of one's own session, or the status of the caller's.";
    7 Forward "forward" (token, handle, info, word0, word1, word2)
        [NoSuchCall, BadHandle, WrongKind, NoRight, TooBig]
        "Hands a caller on to another server, whose reply goes straight to the caller.";
    8 Notify "notify" (handle, bits) [BadHandle, WrongKind, NoRight] "Posts notification bits to a server.";
    9 TimerSet "timer_set" (deadline_ns) []
        "Sets this task's one timer: notification bit 63 at that time since boot; u64::MAX stops it.";
    10 Close "close" (handle, more, more, more, more, more) [BadHandle, BadArgument]
        "Gives a handle back. The high half of the first argument says how many others it gives back too: two in each of the others.";
    11 Duplicate "duplicate" (handle, into, rights) [BadHandle, NoRight, SlotInUse, BadArgument]
        "A second handle of the same object, with the same rights or fewer.";
    12 SessionCreate "session_create" (into, badge, object, state, position)
        [SlotInUse, Quota, Exhausted, BadArgument]
        "Makes a session of the calling server. state: status flags, readiness in the high half.";
    13 SessionReady "session_ready" (handle, readiness) [BadHandle, WrongKind, NoRight]
        "Sets the readiness word of one's own session and wakes those who watch it.";
    14 SessionStatus "session_status" (handle, status) [BadHandle, WrongKind, NoRight]
        "Sets the status flags of one's own session.";
    15 Watch "watch" (token, descriptor, readiness) [NoSuchCall, BadHandle, Quota, Exhausted]
        "Watches a descriptor of the caller for a call being served. Value 0 is its readiness now.";
    16 LeaseRead "lease_read" (token, address, length) [NoSuchCall, NotResident, BadAddress, TooBig]
        "Copies bytes of the caller's memory into the payload.";
    17 LeaseWrite "lease_write" (token, address, source, length) [NoSuchCall, NotResident, BadAddress, TooBig]
        "Copies bytes of one's own memory (at source) into the caller's.";
    18 LeaseToArena "lease_to_arena" (token, address, offset, length)
        [NoSuchCall, NotResident, BadAddress, TooBig, BadArgument]
        "Copies the caller's bytes into the calling server's arena.";
    19 LeaseFromArena "lease_from_arena" (token, address, offset, length)
        [NoSuchCall, NotResident, BadAddress, TooBig, BadArgument]
        "Copies bytes of the arena into the caller's memory.";
    20 ArenaZero "arena_zero" (offset, length) [BadArgument, TooBig] "Zeroes a part of the arena.";
    21 ArenaCopy "arena_copy" (from, to, length) [BadArgument, TooBig] "Copies within the arena.";
    22 ArenaRead "arena_read" (offset, length)
        [BadArgument, TooBig]
        "Copies bytes of the arena into the payload.";
    23 ArenaWrite "arena_write" (offset, length) [BadArgument, TooBig] "Copies the payload into the arena.";
    24 SpaceCreate "space_create" (into, badge, frame) [SlotInUse, Quota, Exhausted, FrameInUse, NoRight]
        "Makes an empty address space whose top table is the frame; its faults come to the caller with the badge.";
    25 SpaceDestroy "space_destroy" (handle) [BadHandle, WrongKind, NoRight]
        "Unmaps all of a space. Its table frames are the caller's again when its last task has gone.";
    26 Map "map" (space, tables, pages, fill, more, more)
        [BadHandle, WrongKind, NoRight, FrameInUse, NeedTable, BadArgument, BadAddress]
        "Maps pages, after filling up to three frames: each argument from fill on names in its low half the frame to copy and in its high half where it goes, the same twice to zero it; 0 ends the list. Payload: table frames (u32 each, padded to 8 bytes), then pages (address u64, frame u32, protection u32).";
    27 Unmap "unmap" (space, address, pages) [BadHandle, WrongKind, NoRight, BadArgument, BadAddress]
        "Unmaps pages; holes are fine.";
    28 Protect "protect" (space, address, pages, protection)
        [BadHandle, WrongKind, NoRight, BadArgument, BadAddress]
        "Changes the protection of the pages mapped in a range; holes are fine.";
    29 FrameZero "frame_zero" (frame, count)
        [NoRight, FrameInUse, TooBig]
        "Zeroes frames one owns: one, or as many as count says.";
    30 FrameCopy "frame_copy" (frames, more, more, more, more, more)
        [NoRight, FrameInUse]
        "Copies up to six whole frames: each argument names one in its low half and where it goes in its high half; 0 ends the list.";
    31 FrameRead "frame_read" (frame, offset, length)
        [NoRight, TooBig]
        "Copies bytes of a frame into the payload.";
    32 FrameWrite "frame_write" (frame, offset, length) [NoRight, TooBig] "Copies the payload into a frame.";
    33 FrameFromLease "frame_from_lease" (token, address, frame, offset, length)
        [NoSuchCall, NotResident, BadAddress, TooBig, NoRight]
        "Copies the caller's bytes into a frame.";
    34 TaskCreate "task_create" (into, space, parent, flags)
        [SlotInUse, BadHandle, WrongKind, NoRight, Quota, Exhausted]
        "Makes a task with a foreign personality. Flags: 1 shares the parent's descriptors, 2 copies them, 4 shares its directories, 8 copies them.";
    35 TaskWord "task_word" (task, word, value)
        [BadHandle, WrongKind, NoRight, BadArgument]
        "Sets a word of a task.";
    36 TaskExec "task_exec" (task, space) [BadHandle, WrongKind, NoRight]
        "Gives a task another address space, unshares its descriptors and closes those marked close-on-exec.";
    37 TaskKill "task_kill" (task) [BadHandle, WrongKind, NoRight]
        "Ends a task: its threads, calls and descriptors. Waits for nobody.";
    38 TaskInfo "task_info" (task, what)
        [BadHandle, WrongKind, NoRight, BadArgument]
        "Reads a figure about a task.";
    39 ThreadCreate "thread_create" (into, task, tid, source, stack, tls)
        [SlotInUse, BadHandle, WrongKind, NoRight, Quota, Exhausted, BadAddress]
        "Makes a thread that does not run yet: a fresh one, or a copy of another, registers and FPU state. To a copy the call that the other waits in returns 0; stack and tls, unless u64::MAX, are its stack pointer and fs base.";
    40 ThreadRegisters "thread_registers" (thread, what) [BadHandle, WrongKind, NoRight]
        "Reads registers, and unless what is 1 the 512 bytes of FXSAVE state behind them, into the payload. Value 0: restart kind of an interrupted call.";
    41 ThreadSetRegisters "thread_set_registers" (thread, what)
        [BadHandle, WrongKind, NoRight, BadAddress, WrongState]
        "Sets registers (what bit 0) and FXSAVE state (bit 1) from the payload.";
    42 ThreadStart "thread_start" (thread)
        [BadHandle, WrongKind, NoRight, WrongState]
        "Lets a new or stopped thread run.";
    43 ThreadStop "thread_stop" (thread) [BadHandle, WrongKind, NoRight]
        "Stops a thread before its next instruction; a call in progress goes on, its result waits.";
    44 ThreadInterrupt "thread_interrupt" (thread, when) [BadHandle, WrongKind, NoRight, BadArgument]
        "Makes the thread come to its process server: when 0, before it next runs, taking it out of a call it waits in; 1, when its present call is over; 2, before and after each call from now on; 3, no more so.";
    45 ThreadEnd "thread_end" (thread) [BadHandle, WrongKind, NoRight] "Ends one thread.";
    46 PortIn "port_in" (port, width) [NoRight, BadArgument] "Reads an I/O port of 1, 2 or 4 bytes.";
    47 PortOut "port_out" (port, width, value) [NoRight, BadArgument] "Writes an I/O port.";
    48 IrqBind "irq_bind" (irq, bit)
        [NoRight, BadArgument]
        "Makes an interrupt post that notification bit here.";
    49 IrqAck "irq_ack" (irq) [NoRight, BadArgument] "Lets the interrupt come again.";
    50 Log "log" (length, last) [TooBig]
        "Prints the payload on the console log. With last 1 they are the last words of a server that dies of what a repetition may not meet, and are not recorded.";
    51 PowerOff "power_off" (status, how) [NoRight] "Ends the machine: how 0 off, 1 reboot.";
    52 SnapshotWrite "snapshot_write" (length, behind) [TooBig, Exhausted, WrongState]
        "Appends the payload to the snapshot being made: a new one (0), or an addition behind the last (1). The time that it takes counts from the first such call, which may append nothing.";
    53 SnapshotCommit "snapshot_commit" (digest, behind) [WrongState, BadArgument]
        "Makes the snapshot just written the one to restart from, or the addition a part of it, and lets go of the journal before it. The digest is the FNV-1a checksum of all of it; what was written and has another is refused and forgotten.";
    54 SnapshotRead "snapshot_read" (offset) [BadArgument]
        "Reads a part of the snapshot this incarnation starts from into the payload. Value 0: bytes read; value 1: bytes in all.";
    55 Crash "crash" (task, count, what) [BadHandle, WrongKind, NoRight, BadArgument]
        "Makes a server fail: now (count 0), after so many more system calls of its own, or (what bit 8) nanoseconds of its own on the CPU. It is killed (what 0) or made to run into a fault: 1 an undefined instruction, 2 a load from nowhere, 3 no end of stack, 4 an endless loop, 5 no end of heap, 6 a division by zero.";
    56 Clock "clock" () [] "Value 0: nanoseconds since boot. Value 1: seconds of the Epoch at boot.";
    57 ServerCreate "server_create" (into, space, number, class)
        [SlotInUse, BadHandle, WrongKind, NoRight, Quota, Exhausted]
        "Makes a native task with an inbox: a server. Class 0 is reissued, 1 journaled.";
    58 ServerMemory "server_memory" (task, what, frame, count)
        [BadHandle, WrongKind, NoRight, BadArgument, FrameInUse]
        "Gives a new server memory: what 0 message buffer, 1 arena, 2 journal, 3 snapshot, 4 frames of its own, 5 (of no server in particular) reproducers.";
    59 ServerSegment "server_segment" (task, address, pages, source, bytes)
        [BadHandle, WrongKind, NoRight, BadArgument, Exhausted]
        "Names writable memory that a restart fills again: from that frame on, then zeroes. With 0 pages: what is at that address is not filled any more.";
    60 ServerGrant "server_grant" (task, into, handle, rights)
        [BadHandle, WrongKind, NoRight, SlotInUse, BadArgument]
        "Puts a handle of the caller into a new server's capability space.";
    61 ServerDevice "server_device" (task, what, first, count)
        [BadHandle, WrongKind, NoRight, BadArgument, Exhausted]
        "Gives a server I/O ports (what 0), an interrupt (what 1) or a PCI function that writes memory while it lives (what 2).";
    62 ServerStart "server_start" (task, entry, stack, priority, patience_ns, image)
        [BadHandle, WrongKind, NoRight, BadAddress, BadArgument]
        "Starts a server for the first time. It dies when it uses so much CPU for one event. image: schema, pages in the high half.";
    63 ServerRestart "server_restart" (task, entry) [BadHandle, WrongKind, NoRight, WrongState, BadAddress]
        "Starts the next incarnation of a dead server, or of one that was given up: at that entry point, unless it is 0.";
    64 Personality "personality" (index, task) [BadHandle, WrongKind, NoRight, BadArgument]
        "Names the server that foreign calls routed to this index go to.";
    65 Statistics "statistics" (what, index) [BadArgument] "Reads a counter of the kernel into the values.";
    66 DescriptorSet "descriptor_set" (task, slot, handle, flags)
        [BadHandle, WrongKind, NoRight, BadArgument, Quota, Exhausted]
        "Puts a session into a task's descriptor table, or makes it its directory. Flags: 1 close-on-exec.";
    67 ServerAbandon "server_abandon" (task) [BadHandle, WrongKind, NoRight, WrongState]
        "Gives a dead server up: the calls it has, and those still to come, fail at once.";
    68 DescriptorTake "descriptor_take" (token, descriptor, into)
        [NoSuchCall, BadHandle, SlotInUse, BadArgument, Exhausted]
        "Takes a holder of the session behind a descriptor of the caller. Values: server, badge and object of it, status and close-on-exec << 32, position.";
    69 DescriptorGive "descriptor_give" (token, handle, flags)
        [NoSuchCall, BadHandle, WrongKind, NoRight, SlotInUse, Exhausted]
        "Puts a session into the caller's lowest free descriptor, which is value 0. Flags: 1 close-on-exec.";
    70 WatchKeep "watch_keep" (token, descriptor, cookie, readiness)
        [NoSuchCall, BadHandle, WrongKind, Quota, Exhausted]
        "Watches the session behind a descriptor of the caller until it goes. Values: its readiness now, the watch.";
    71 WatchChange "watch_change" (watch, readiness) [BadHandle]
        "Changes what a kept watch waits for. Value 0: the session's readiness now.";
    72 WatchEnd "watch_end" (watch) [BadHandle] "Ends a kept watch.";
    73 DescriptorInfo "descriptor_info" (task, slot) [BadHandle, WrongKind, NoRight, BadArgument]
        "Describes a directory of a task, or its first descriptor from that slot on: slot and server << 32, badge, object, status and close-on-exec << 32, position.";
    74 SessionMove "session_move" (handle, position) [BadHandle, WrongKind, NoRight]
        "Sets the position word of a session one holds.";
    75 LeaseFromJournal "lease_from_journal" (token, address, task, section, offset, length)
        [NoSuchCall, NotResident, BadAddress, BadHandle, WrongKind, NoRight, BadArgument, TooBig]
        "Copies a part of a server's history into the caller's memory.";
    76 DigestAsk "digest_ask" (task) [BadHandle, WrongKind, NoRight]
        "Asks a journaled server, by notification bit 62, to tell the digest of its state.";
    77 Digest "digest" (digest) []
        "Tells the digest of one's state. A replay that comes to another digest has diverged.";
    78 TaskFork "task_fork" (into, from, numbers, flags, stack, tls)
        [SlotInUse, BadHandle, WrongKind, NoRight, Quota, Exhausted, BadAddress]
        "Makes a task like another, and in it a copy of one of its threads, as task_create and thread_create do. Low and high half: the new task and thread (into), the new task's space and the thread to copy (from), the new task's number, which is its thread's too, and its parent's (numbers).";
    79 ReplyOpen "reply_open" (token, flags, badge, object, state, position)
        [NoSuchCall, WrongState, SlotInUse, Quota, Exhausted, BadArgument]
        "Answers a foreign call with a new session of the calling server, as the descriptor reserved for it, which is the result. Flags: bit 3 close-on-exec, bit 6 tell the last close although there is no handle, the server's own handle in the high half (all ones for none). state: status flags, readiness in the high half.";
    80 LeaseProbe "lease_probe" (token, address, length) [NoSuchCall, NotResident, BadAddress, TooBig]
        "Value 0: how many bytes of the caller's memory can be read from there on, without a gap; never none.";
    81 ServerDispose "server_dispose" (task, recourse)
        [BadHandle, WrongKind, NoRight, BadArgument, WrongState, Exhausted]
        "Recourse 0 disposes of the event that a server has died of; 1 takes the server back to the snapshot before its last; 2 lets it pass over its journal where that is not what it does, and raises its epoch. Values: what was done, the kind of the event.";
    82 TraceSet "trace_set" (task, on) [BadHandle, WrongKind, NoRight, BadArgument, WrongState]
        "Switches tracing on (1) or off (0), with the filter in the payload. task: any server that one may inspect.";
    83 LeaseFromTrace "lease_from_trace" (token, address, task, position, length)
        [NoSuchCall, NotResident, BadAddress, BadHandle, WrongKind, NoRight, TooBig]
        "Copies a part of the trace into the caller's memory. What has been overwritten meanwhile reads as nothing (pads).";
    84 Upgrade "upgrade" (task, offset, length)
        [BadHandle, WrongKind, NoRight, BadArgument, WrongState]
        "Hands in a new image for a server, which lies in the caller's arena; without a length, the one it booted from. Notification bit 60 tells the caller that the upgrade is over. There is one at a time.";
    85 UpgradeImage "upgrade_image" (offset, frame, count) [NoRight, BadArgument, FrameInUse]
        "Copies pages of the image handed in to frames one owns.";
    86 UpgradeStep "upgrade_step" (step, verdict, image) [NoRight, BadArgument, WrongState]
        "Goes on with an upgrade: 0 the server saves its state and stops, 1 its next start is a trial, 2 the upgrade is over. Value 0: how far it has come.";
    87 ServerQuota "server_quota" (task, kind, thousandths) [BadHandle, WrongKind, NoRight, BadArgument]
        "Says how many objects of a kind a server may own at a time, of a thousand that the machine has: 0 tasks, 1 threads of these, 2 spaces, 3 sessions, 4 kept watches, 5 calls sent and not answered. Value 0: how many they are.";
    88 Keep "keep" (token) [NoSuchCall]
        "Says that one has a call still whose caller wants it back, and will answer it as if the caller did not.";
    89 Sweep "sweep" () [WrongState]
        "After an inexact recovery: lists the next of what the calling server has. Values: what it is (0 handles, 1 calls it holds, 2 tags of calls it has sent, 3 frames in use, 4 badges of its spaces that nobody else has), how many, the server's epoch, of which places (index of a call, number of all else): from, to; payload: their names (u64 each). While there is more, notification bit 59 comes again.";
    90 Discard "discard" (what, name) [BadHandle, NoRight, NoSuchCall, BadArgument]
        "Puts an end to what is nobody's: what a handle names, with the handle; a call, by an error; the answers to a tag; or all mappings of a frame.";
}

/// Added to a call's number: if it succeeds, receive, as one trap. Its values are lost.
pub const THEN_RECEIVE: u64 = 1 << 31;

/// The tag of a message sent whose answer is not delivered.
pub const NO_ANSWER: super::Tag = super::Tag(u64::MAX);

/// Slots of `descriptor_set` that are no descriptors.
pub mod descriptor_slot {
    /// The working directory.
    pub const CWD: u32 = 0x8000_0000;
    /// The root directory.
    pub const ROOT: u32 = 0x8000_0001;
    /// The lowest descriptor that is free; value 0 tells which it is, and [`super::KernelError::Exhausted`] that the
    /// task may not have one more.
    pub const LOWEST: u32 = 0x8000_0002;
}

impl Syscall {
    /// The call with this number.
    pub fn from_number(number: u64) -> Option<Syscall> {
        TABLE.get(usize::try_from(number).ok()?).map(|row| row.call)
    }

    /// Its row in the table.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

/// The word that says what a message carries: label, payload length, handle count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// The protocol's number for this message; in answers 0 or the protocol's error.
    pub label: u32,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Handles to send along.
    pub handles: u32,
}

impl Info {
    /// As a register word: label in the low half, then 24 bits of length and 8 of handle count.
    pub const fn pack(self) -> u64 {
        self.label as u64 | ((self.payload_len & 0xff_ffff) as u64) << 32 | (self.handles as u64) << 56
    }

    /// From a register word.
    pub const fn unpack(word: u64) -> Info {
        Info {
            label: word as u32,
            payload_len: (word >> 32) as u32 & 0xff_ffff,
            handles: (word >> 56) as u32,
        }
    }
}

/// Bits of the `flags` argument of `reply_foreign`; the count of outputs is in bits 8..16, payload length from 32.
pub mod reply_flags {
    /// The position word changes.
    pub const POSITION: u64 = 1;
    /// A descriptor is installed in the first reserved slot.
    pub const INSTALL_FIRST: u64 = 2;
    /// A descriptor is installed in the second reserved slot.
    pub const INSTALL_SECOND: u64 = 4;
    /// The installed descriptors are close-on-exec.
    pub const CLOSE_ON_EXEC: u64 = 8;
    /// The installed handle becomes the caller's working directory.
    pub const SET_CWD: u64 = 16;
    /// The installed handle becomes the caller's root directory.
    pub const SET_ROOT: u64 = 32;
    /// `session` is a handle of one's own, and in its high half the readiness of that session.
    pub const READY: u64 = 64;
    /// `session` is the status flags of the caller's session.
    pub const STATUS: u64 = 128;
    /// Of `reply_open`: the last close is told although the server has no handle of the session.
    pub const TELL_CLOSE: u64 = 64;
    /// Interrupted: two bits of [`super::Restart`].
    pub const RESTART_SHIFT: u32 = 16;
    /// Where the count of outputs begins.
    pub const OUTPUTS_SHIFT: u32 = 8;
    /// Where the payload length begins.
    pub const PAYLOAD_SHIFT: u32 = 32;
}

/// When a thread comes to its process server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum When {
    /// Before it next runs; it is taken out of a call it waits in.
    Now = 0,
    /// When its present call is over, however that ends.
    AfterCall = 1,
    /// Before and after each of its calls from now on.
    EachCall = 2,
    /// No more before calls.
    NoCall = 3,
}

impl When {
    /// The one with this number.
    pub fn from_number(number: u64) -> Option<When> {
        [When::Now, When::AfterCall, When::EachCall, When::NoCall]
            .into_iter()
            .find(|when| *when as u64 == number)
    }
}

/// How an interrupted call goes on after the signal handler; the names of Linux's internal codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Restart {
    /// It does not: the result stands.
    #[default]
    Never = 0,
    /// Again if the handler has SA_RESTART or there is none (ERESTARTSYS).
    IfAsked = 1,
    /// Again only if no handler ran (ERESTARTNOHAND).
    IfNoHandler = 2,
    /// Again always (ERESTARTNOINTR).
    Always = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_numbers() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.call as usize, index, "{}", row.name);
            assert!(row.arguments.len() <= 6, "{}", row.name);
        }
    }

    #[test]
    fn info_survives_its_register() {
        let info = Info { label: 0xdead_beef, payload_len: 8192, handles: 4 };
        assert_eq!(Info::unpack(info.pack()), info);
    }
}
