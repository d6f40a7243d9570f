//! From effects to traps.

use zerocopy::IntoBytes;

use super::effect::{Change, CopyStart, Effect, ForeignReply, Inherit, NewSession, Operation, PageMap};
use super::handles::HandleSlots;
use super::message::Message;
use super::receive;
use crate::abi::delivery::PAYLOAD_OFFSET;
use crate::abi::syscall::{Info, Restart, Syscall, reply_flags as flag};
use crate::abi::{CallId, Frame, Handle, KernelError, PAYLOAD_MAX};
use crate::sys::{BUFFER_BYTES, Trapped, Traps};

/// Most bytes of output that go with an answer itself.
const OUTPUT_MAX: usize = 512;
/// Most pieces of output in an answer.
const OUTPUTS_MAX: usize = 4;
/// Most pages in one map trap.
const PAGES_MAX: usize = 256;
/// Most handles that one trap gives back.
pub(super) const CLOSES_MAX: usize = 11;
/// Most frames that one trap copies.
pub(super) const COPIES_MAX: usize = 6;
/// Most frames that a map trap fills.
pub(super) const FILLS_MAX: usize = 3;
/// Most bytes in one copy.
const WINDOW_MAX: usize = 1 << 16;

/// The call whose caller's memory an effect needs, or whose answer it is.
pub(super) fn call_of(effect: &Effect) -> Option<CallId> {
    match effect {
        Effect::Reply { call, .. }
        | Effect::ReplyForeign { call, .. }
        | Effect::ReplyOpen { call, .. }
        | Effect::Forward { call, .. }
        | Effect::ForwardForeign { call, .. }
        | Effect::CopyOut { call, .. }
        | Effect::ToArena { call, .. }
        | Effect::FromArena { call, .. }
        | Effect::FromJournal { call, .. }
        | Effect::FromTrace { call, .. }
        | Effect::ToFrame { call, .. } => Some(*call),
        Effect::Park { .. } | Effect::Send { .. } | Effect::Do(_) | Effect::Try { .. } => None,
    }
}

fn put_payload<T: Traps>(traps: &mut T, bytes: &[u8]) -> Result<(), KernelError> {
    put_at(traps, 0, bytes)
}

fn put_at<T: Traps>(traps: &mut T, at: usize, bytes: &[u8]) -> Result<(), KernelError> {
    if at + bytes.len() > PAYLOAD_MAX as usize {
        return Err(KernelError::TooBig);
    }
    let from = PAYLOAD_OFFSET as usize + at;
    traps.buffer()[from..from + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// Writes a message into the buffer; its info word.
fn put_message<T: Traps>(traps: &mut T, message: &Message, tag: u64) -> Result<u64, KernelError> {
    put_payload(traps, &message.payload)?;
    receive::write_header(traps.buffer(), &message.handles, tag);
    let info = Info {
        label: message.label,
        payload_len: message.payload.len() as u32,
        handles: message.handles.len() as u32,
    };
    Ok(info.pack())
}

/// Whether an effect is one trap whose values nobody wants, so that a receive can be joined to it.
pub(super) fn is_joinable(effect: &Effect) -> bool {
    match effect {
        Effect::Reply { .. }
        | Effect::ReplyOpen { .. }
        | Effect::Forward { .. }
        | Effect::ForwardForeign { .. }
        | Effect::Send { .. } => true,
        Effect::ReplyForeign { reply, .. } => goes_with_reply(reply),
        Effect::Do(operation) => matches!(
            operation,
            Operation::SessionReady { .. }
                | Operation::Close { .. }
                | Operation::Notify { .. }
                | Operation::TimerSet { .. }
                | Operation::TaskWord { .. }
                | Operation::ThreadStart { .. }
                | Operation::ThreadInterrupt { .. }
                | Operation::IrqAck { .. }
                | Operation::PortOut { .. }
        ),
        _ => false,
    }
}

/// Whether an answer's outputs are few enough to be written with it.
fn goes_with_reply(reply: &ForeignReply) -> bool {
    let total: usize = reply.outputs.iter().map(|output| output.bytes.len()).sum();
    total <= OUTPUT_MAX && reply.outputs.len() <= OUTPUTS_MAX
}

/// The way into the kernel that receives behind its one trap.
pub(super) struct Joined<'a, T>(pub &'a mut T);

impl<T: Traps> Traps for Joined<'_, T> {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        self.0.trap_then_receive(call, arguments)
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        self.0.buffer()
    }
}

fn done(trapped: Trapped) -> Result<(), KernelError> {
    trapped.map(|_| ())
}

/// Carries one effect out.
pub(super) fn carry<T: Traps>(
    traps: &mut T,
    slots: &mut HandleSlots,
    effect: &Effect,
) -> Result<(), KernelError> {
    match effect {
        Effect::Reply { call, message } => {
            let info = put_message(traps, message, 0)?;
            let [word0, word1, word2, word3] = message.words;
            done(traps.trap(Syscall::Reply, [call.0, info, word0, word1, word2, word3]))
        }
        Effect::ReplyForeign { call, reply } => reply_foreign(traps, *call, reply),
        Effect::ReplyOpen { call, session } => reply_open(traps, *call, session),
        Effect::Forward { call, to, message } => {
            let info = put_message(traps, message, 0)?;
            let [word0, word1, word2, _] = message.words;
            done(traps.trap(Syscall::Forward, [call.0, u64::from(to.0), info, word0, word1, word2]))
        }
        Effect::ForwardForeign { call, to } => {
            done(traps.trap(Syscall::Forward, [call.0, u64::from(to.0), u64::MAX, 0, 0, 0]))
        }
        Effect::Park { .. } => Ok(()),
        Effect::Send { to, tag, message } => {
            let info = put_message(traps, message, tag.0)?;
            let [word0, word1, word2, word3] = message.words;
            done(traps.trap(Syscall::Send, [u64::from(to.0), info, word0, word1, word2, word3]))
        }
        Effect::CopyOut { call, address, bytes } => copy_out(traps, *call, *address, bytes),
        Effect::ToArena { call, address, offset, length } => {
            done(traps.trap(Syscall::LeaseToArena, [call.0, *address, *offset, *length, 0, 0]))
        }
        Effect::FromArena { call, address, offset, length } => {
            done(traps.trap(Syscall::LeaseFromArena, [call.0, *address, *offset, *length, 0, 0]))
        }
        Effect::FromJournal { call, address, task, source, offset, length } => {
            let arguments = [call.0, *address, u64::from(task.0), source.to_word(), *offset, *length];
            done(traps.trap(Syscall::LeaseFromJournal, arguments))
        }
        Effect::FromTrace { call, address, task, position, length } => {
            let arguments = [call.0, *address, u64::from(task.0), *position, *length, 0];
            done(traps.trap(Syscall::LeaseFromTrace, arguments))
        }
        Effect::ToFrame { call, address, frame, offset, length } => {
            let arguments = [call.0, *address, u64::from(frame.0), u64::from(*offset), u64::from(*length), 0];
            done(traps.trap(Syscall::FrameFromLease, arguments))
        }
        Effect::Do(operation) | Effect::Try { operation, .. } => operate(traps, slots, operation).map(|_| ()),
    }
}

fn copy_out<T: Traps>(traps: &mut T, call: CallId, address: u64, bytes: &[u8]) -> Result<(), KernelError> {
    let mut at = address;
    for part in bytes.chunks(WINDOW_MAX) {
        let source = part.as_ptr() as u64;
        done(traps.trap(Syscall::LeaseWrite, [call.0, at, source, part.len() as u64, 0, 0]))?;
        at += part.len() as u64;
    }
    Ok(())
}

fn reply_foreign<T: Traps>(traps: &mut T, call: CallId, reply: &ForeignReply) -> Result<(), KernelError> {
    let mut flags = 0;
    if reply.outputs.is_empty() {
        // Most answers are a number alone.
    } else if goes_with_reply(reply) {
        let payload = &mut traps.buffer()[PAYLOAD_OFFSET as usize..];
        let mut at = 0;
        for (place, output) in payload.as_chunks_mut::<16>().0.iter_mut().zip(&reply.outputs) {
            let words = u128::from(output.address) | (output.bytes.len() as u128) << 64;
            *place = words.to_le_bytes();
            at += place.len();
        }
        for output in &reply.outputs {
            payload[at..at + output.bytes.len()].copy_from_slice(&output.bytes);
            at += output.bytes.len();
        }
        flags |= (reply.outputs.len() as u64) << flag::OUTPUTS_SHIFT | (at as u64) << flag::PAYLOAD_SHIFT;
    } else {
        for output in &reply.outputs {
            copy_out(traps, call, output.address, &output.bytes)?;
        }
    }
    let install = match reply.install[..] {
        [] => 0,
        [first] => {
            flags |= match reply.directory {
                0 => flag::INSTALL_FIRST,
                1 => flag::SET_CWD,
                _ => flag::SET_ROOT,
            };
            u64::from(first.0)
        }
        [first, second, ..] => {
            flags |= flag::INSTALL_FIRST | flag::INSTALL_SECOND;
            u64::from(first.0) | u64::from(second.0) << 32
        }
    };
    if reply.close_on_exec {
        flags |= flag::CLOSE_ON_EXEC;
    }
    flags |= (reply.restart as u64) << flag::RESTART_SHIFT;
    reply_with(traps, call, reply, flags, install)
}

/// Whether an answer is a number, and what changes of sessions, but nothing for the caller's memory or table. It holds
/// no memory of its own then.
#[inline(always)]
pub(super) fn is_number(reply: &ForeignReply) -> bool {
    reply.outputs.capacity() == 0 && reply.install.capacity() == 0 && reply.restart == Restart::Never
}

/// Gives an answer that is a number.
#[inline(always)]
pub(super) fn reply_number<T: Traps>(
    traps: &mut T,
    call: CallId,
    reply: &ForeignReply,
) -> Result<(), KernelError> {
    reply_with(traps, call, reply, 0, 0)
}

#[inline(always)]
fn reply_with<T: Traps>(
    traps: &mut T,
    call: CallId,
    reply: &ForeignReply,
    mut flags: u64,
    install: u64,
) -> Result<(), KernelError> {
    if reply.position.is_some() {
        flags |= flag::POSITION;
    }
    let session = match reply.change {
        Change::None => 0,
        Change::Ready(session, readiness) => {
            flags |= flag::READY;
            u64::from(session.0) | u64::from(readiness.bits()) << 32
        }
        Change::Status(status) => {
            flags |= flag::STATUS;
            u64::from(status)
        }
    };
    let position = reply.position.unwrap_or(0);
    done(traps.trap(Syscall::ReplyForeign, [call.0, flags, reply.result as u64, position, install, session]))
}

fn reply_open<T: Traps>(traps: &mut T, call: CallId, session: &NewSession) -> Result<(), KernelError> {
    let NewSession { owner, tells_close, badge, object, status, readiness, close_on_exec } = *session;
    let mut flags = u64::from(owner.0) << 32;
    flags |= if close_on_exec { flag::CLOSE_ON_EXEC } else { 0 };
    flags |= if tells_close { flag::TELL_CLOSE } else { 0 };
    let state = u64::from(status) | u64::from(readiness.bits()) << 32;
    done(traps.trap(Syscall::ReplyOpen, [call.0, flags, badge.0, object, state, 0]))
}

/// Maps pages, any number of them, with the frames of tables that may be missing.
pub fn map<T: Traps>(traps: &mut T, space: Handle, tables: &[Frame], pages: &[PageMap]) -> Trapped {
    fill_and_map(traps, &[], space, tables, pages)
}

/// Fills up to [`FILLS_MAX`] frames, by copies of others or with zeroes where both are the same, and maps pages.
pub(super) fn fill_and_map<T: Traps>(
    traps: &mut T,
    fills: &[(Frame, Frame)],
    space: Handle,
    tables: &[Frame],
    pages: &[PageMap],
) -> Trapped {
    let mut fill = pairs(fills);
    let mut tables = tables;
    let mut last = Ok([0; 5]);
    for part in pages.chunks(PAGES_MAX) {
        let pages_at = (tables.len() * 4).next_multiple_of(8);
        if pages_at + part.len() * 16 > PAYLOAD_MAX as usize {
            return Err(KernelError::TooBig);
        }
        let payload = &mut traps.buffer()[PAYLOAD_OFFSET as usize..];
        let (front, back) = payload.split_at_mut(pages_at);
        for (place, frame) in front.chunks_exact_mut(4).zip(tables) {
            place.copy_from_slice(&frame.0.to_le_bytes());
        }
        for (place, page) in back.chunks_exact_mut(16).zip(part) {
            let frame_and_rights = u64::from(page.frame.0) | u64::from(page.protection.bits()) << 32;
            place[..8].copy_from_slice(&page.address.to_le_bytes());
            place[8..].copy_from_slice(&frame_and_rights.to_le_bytes());
        }
        let [first, second, third] = core::mem::take(&mut fill);
        let arguments = [u64::from(space.0), tables.len() as u64, part.len() as u64, first, second, third];
        let used = traps.trap(Syscall::Map, arguments)?[0] as usize;
        tables = tables.get(used..).unwrap_or_default();
        last = Ok([0; 5]);
    }
    last
}

fn task_flags(inherit: Inherit) -> u64 {
    let descriptors = if inherit.share_descriptors { 1 } else { 2 };
    let directories = if inherit.share_directories { 4 } else { 8 };
    descriptors | directories
}

/// Carries one operation out; its first value.
pub(super) fn operate<T: Traps>(
    traps: &mut T,
    slots: &mut HandleSlots,
    operation: &Operation,
) -> Result<u64, KernelError> {
    if let Operation::Close { handle } = operation {
        close(traps, slots, &[*handle])?;
        return Ok(0);
    }
    let result = trap_of(traps, operation);
    if result.is_err() {
        made_handles(operation).into_iter().flatten().for_each(|handle| slots.give_back(handle));
    }
    result.map(|values| values[0])
}

/// The handles that an operation makes, which are free again when it is refused.
fn made_handles(operation: &Operation) -> [Option<Handle>; 2] {
    match operation {
        Operation::SessionCreate { owner: into, .. }
        | Operation::Duplicate { into, .. }
        | Operation::SpaceCreate { into, .. }
        | Operation::TaskCreate { into, .. }
        | Operation::ThreadCreate { into, .. } => [Some(*into), None],
        Operation::TaskFork { task, thread, .. } => [Some(*task), Some(*thread)],
        _ => [None; 2],
    }
}

/// Gives handles back: as many as fit go with one trap.
pub(super) fn close<T: Traps>(
    traps: &mut T,
    slots: &mut HandleSlots,
    handles: &[Handle],
) -> Result<(), KernelError> {
    for together in handles.chunks(CLOSES_MAX) {
        let more = (together.len() as u64 - 1) << 32;
        let mut arguments = [u64::from(together[0].0) | more, 0, 0, 0, 0, 0];
        for (index, handle) in together.iter().enumerate().skip(1) {
            arguments[index.div_ceil(2)] |= u64::from(handle.0) << (32 * ((index + 1) % 2));
        }
        done(traps.trap(Syscall::Close, arguments))?;
        together.iter().for_each(|handle| slots.give_back(*handle));
    }
    Ok(())
}

/// Copies frames: as many as fit go with one trap.
pub(super) fn copy_frames<T: Traps>(traps: &mut T, copies: &[(Frame, Frame)]) -> Trapped {
    for together in copies.chunks(COPIES_MAX) {
        traps.trap(Syscall::FrameCopy, pairs(together))?;
    }
    Ok([0; 5])
}

fn pairs<const COUNT: usize>(frames: &[(Frame, Frame)]) -> [u64; COUNT] {
    let mut words = [0; COUNT];
    for (word, (from, to)) in words.iter_mut().zip(frames) {
        *word = u64::from(from.0) | u64::from(to.0) << 32;
    }
    words
}

fn start_words(start: &CopyStart) -> [u64; 2] {
    [start.stack, start.tls].map(|word| word.unwrap_or(u64::MAX))
}

fn trap_of<T: Traps>(traps: &mut T, operation: &Operation) -> Trapped {
    let h = |handle: &Handle| u64::from(handle.0);
    let (call, arguments): (Syscall, [u64; 5]) = match operation {
        Operation::SessionCreate { owner, badge, object, status, readiness, position } => {
            let state = u64::from(*status) | u64::from(readiness.bits()) << 32;
            (Syscall::SessionCreate, [h(owner), badge.0, *object, state, *position])
        }
        Operation::SessionReady { session, readiness } => {
            (Syscall::SessionReady, [h(session), u64::from(readiness.bits()), 0, 0, 0])
        }
        Operation::SessionStatus { session, status } => {
            (Syscall::SessionStatus, [h(session), u64::from(*status), 0, 0, 0])
        }
        Operation::Duplicate { handle, into, rights } => {
            (Syscall::Duplicate, [h(handle), h(into), u64::from(rights.bits()), 0, 0])
        }
        Operation::Notify { handle, bits } => (Syscall::Notify, [h(handle), *bits, 0, 0, 0]),
        Operation::TimerSet { deadline_ns } => (Syscall::TimerSet, [*deadline_ns, 0, 0, 0, 0]),
        Operation::SessionMove { session, position } => {
            (Syscall::SessionMove, [h(session), *position, 0, 0, 0])
        }
        Operation::WatchEnd { watch } => (Syscall::WatchEnd, [*watch, 0, 0, 0, 0]),
        Operation::ArenaZero { offset, length } => (Syscall::ArenaZero, [*offset, *length, 0, 0, 0]),
        Operation::ArenaCopy { from, to, length } => (Syscall::ArenaCopy, [*from, *to, *length, 0, 0]),
        Operation::ArenaWrite { offset, bytes } => {
            put_payload(traps, bytes)?;
            (Syscall::ArenaWrite, [*offset, bytes.len() as u64, 0, 0, 0])
        }
        Operation::SpaceCreate { into, badge, frame } => {
            (Syscall::SpaceCreate, [h(into), badge.0, u64::from(frame.0), 0, 0])
        }
        Operation::SpaceDestroy { space } => (Syscall::SpaceDestroy, [h(space), 0, 0, 0, 0]),
        Operation::Map { space, tables, pages } => return map(traps, *space, tables, pages),
        Operation::Unmap { space, address, pages } => (Syscall::Unmap, [h(space), *address, *pages, 0, 0]),
        Operation::Protect { space, address, pages, protection } => {
            (Syscall::Protect, [h(space), *address, *pages, u64::from(protection.bits()), 0])
        }
        Operation::FrameZero { frame } => (Syscall::FrameZero, [u64::from(frame.0), 0, 0, 0, 0]),
        Operation::FrameCopy { from, to } => {
            return copy_frames(traps, &[(*from, *to)]);
        }
        Operation::FrameWrite { frame, offset, bytes } => {
            put_payload(traps, bytes)?;
            (Syscall::FrameWrite, [u64::from(frame.0), u64::from(*offset), bytes.len() as u64, 0, 0])
        }
        operation => return trap_of_process(traps, operation),
    };
    let [a0, a1, a2, a3, a4] = arguments;
    traps.trap(call, [a0, a1, a2, a3, a4, 0])
}

/// Operations on programs' tasks and threads, and on devices.
fn trap_of_process<T: Traps>(traps: &mut T, operation: &Operation) -> Trapped {
    let h = |handle: &Handle| u64::from(handle.0);
    let (call, arguments): (Syscall, [u64; 4]) = match operation {
        Operation::TaskCreate { into, space, parent, inherit } => {
            (Syscall::TaskCreate, [h(into), h(space), h(parent), task_flags(*inherit)])
        }
        Operation::TaskWord { task, word, value } => (Syscall::TaskWord, [h(task), *word as u64, *value, 0]),
        Operation::TaskExec { task, space } => (Syscall::TaskExec, [h(task), h(space), 0, 0]),
        Operation::TaskKill { task } => (Syscall::TaskKill, [h(task), 0, 0, 0]),
        Operation::DescriptorSet { task, slot, handle, close_on_exec } => {
            (Syscall::DescriptorSet, [h(task), u64::from(*slot), h(handle), u64::from(*close_on_exec)])
        }
        Operation::ThreadCreate { into, task, tid, source, start } => {
            let [stack, tls] = start_words(start);
            let arguments = [h(into), h(task), u64::from(*tid), h(source), stack, tls];
            return traps.trap(Syscall::ThreadCreate, arguments);
        }
        Operation::TaskFork { task, thread, space, source, inherit, number, parent, start } => {
            let [stack, tls] = start_words(start);
            let (into, from) = (h(task) | h(thread) << 32, h(space) | h(source) << 32);
            let numbers = u64::from(*number) | u64::from(*parent) << 32;
            let arguments = [into, from, numbers, task_flags(*inherit), stack, tls];
            return traps.trap(Syscall::TaskFork, arguments);
        }
        Operation::ThreadSetRegisters { thread, registers, fpu } => {
            let registers = registers.as_bytes();
            put_payload(traps, registers)?;
            if let Some(fpu) = fpu {
                put_at(traps, registers.len(), fpu)?;
            }
            let what = 1 | u64::from(fpu.is_some()) << 1;
            (Syscall::ThreadSetRegisters, [h(thread), what, 0, 0])
        }
        Operation::ThreadStart { thread } => (Syscall::ThreadStart, [h(thread), 0, 0, 0]),
        Operation::ThreadStop { thread } => (Syscall::ThreadStop, [h(thread), 0, 0, 0]),
        Operation::ThreadInterrupt { thread, when } => {
            (Syscall::ThreadInterrupt, [h(thread), *when as u64, 0, 0])
        }
        Operation::ThreadEnd { thread } => (Syscall::ThreadEnd, [h(thread), 0, 0, 0]),
        Operation::PortOut { port, width, value } => {
            (Syscall::PortOut, [u64::from(*port), u64::from(*width), u64::from(*value), 0])
        }
        Operation::IrqBind { irq, bit } => (Syscall::IrqBind, [u64::from(*irq), u64::from(*bit), 0, 0]),
        Operation::IrqAck { irq } => (Syscall::IrqAck, [u64::from(*irq), 0, 0, 0]),
        Operation::Log { text } => {
            let text = text.get(..PAYLOAD_MAX as usize).unwrap_or(text);
            put_payload(traps, text)?;
            (Syscall::Log, [text.len() as u64, 0, 0, 0])
        }
        Operation::PowerOff { status, reboot } => {
            (Syscall::PowerOff, [u64::from(*status), u64::from(*reboot), 0, 0])
        }
        Operation::Crash { task, doom } => {
            let [count, what] = doom.pack();
            (Syscall::Crash, [h(task), count, what, 0])
        }
        Operation::Upgrade { task, length } => (Syscall::Upgrade, [h(task), 0, *length, 0]),
        Operation::TraceSet { task, on, filter } => {
            put_payload(traps, filter.as_bytes())?;
            (Syscall::TraceSet, [h(task), u64::from(*on), 0, 0])
        }
        Operation::DigestAsk { task } => (Syscall::DigestAsk, [h(task), 0, 0, 0]),
        _ => return Err(KernelError::BadCall),
    };
    let [a0, a1, a2, a3] = arguments;
    traps.trap(call, [a0, a1, a2, a3, 0, 0])
}
