//! Messages between servers: call, send, reply, notify, and the payload the kernel keeps for calls under way.

use libipc::abi::delivery::{PAYLOAD_MAX, PAYLOAD_OFFSET};
use libipc::abi::syscall::{Info, NO_ANSWER, Syscall};
use libipc::abi::{Handle, KernelError, Owned, Rights};

use super::arena::Full;
use super::machine::{Machine, physical};
use super::object::*;
use super::{Buffers, Kernel, Outcome};

/// Frames of one kept payload.
const KEPT_FRAMES: u32 = PAYLOAD_MAX / 4096;

impl Buffers {
    fn physical(&self, index: u32) -> u64 {
        physical(self.memory.first) + u64::from(index * KEPT_FRAMES) * 4096
    }
}

/// A message as a trap's registers give it.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing {
    pub info: Info,
    pub words: [u64; 4],
}

impl Outgoing {
    pub(crate) fn new(info: u64, words: [u64; 4]) -> Result<Outgoing, KernelError> {
        let info = Info::unpack(info);
        if info.payload_len > PAYLOAD_MAX || info.handles > 4 {
            return Err(KernelError::TooBig);
        }
        Ok(Outgoing { info, words })
    }
}

impl Call {
    /// Puts a message in; its payload is seen to elsewhere.
    #[inline]
    fn put(&mut self, message: &Outgoing, handles: &[Object; 4]) {
        self.label = message.info.label;
        self.words = message.words;
        self.payload_len = message.info.payload_len;
        self.handle_count = message.info.handles as u8;
        if message.info.handles > 0 {
            self.handles = *handles;
        }
    }
}

/// Who made a native system call.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub thread: ThreadId,
    pub task: TaskId,
    pub server: ServerId,
}

impl<M: Machine> Kernel<M> {
    /// Makes a call that waits to be queued. `fill` sets what is particular about it.
    #[inline]
    pub(crate) fn new_call(
        &mut self,
        kind: CallKind,
        task: TaskId,
        server: ServerId,
        fill: impl FnOnce(&mut Call),
    ) -> Result<CallRef, Full> {
        let (id, call) = self.calls.renew()?;
        call.begin(kind, task, server);
        call.since = self.since;
        fill(call);
        Ok(id)
    }

    /// Whom a handle calls: the server, and the session if it goes through one.
    fn callee(&self, task: TaskId, handle: u64) -> Result<(ServerId, Option<SessionId>), KernelError> {
        let (server, session) = match self.named(task, handle, Rights::CALL)? {
            Object::Inbox(server) => (server, None),
            Object::Session(id) | Object::OwnSession(id) => {
                // Of one that was cut off it is nobody.
                (self.sessions.get(id).ok_or(KernelError::BadHandle)?.server, Some(id))
            }
            _ => return Err(KernelError::WrongKind),
        };
        Ok((server, session))
    }

    /// The handles a sender lists, checked.
    fn outgoing_handles(&mut self, task: TaskId, count: u32) -> Result<[Object; 4], KernelError> {
        let mut objects = [Object::None; 4];
        if count == 0 {
            return Ok(objects);
        }
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let send = Self::header(&mut self.machine, buffer).ok_or(KernelError::WrongState)?.send;
        for (object, handle) in objects.iter_mut().zip(send).take(count as usize) {
            *object = self.sendable(task, Handle(handle))?;
        }
        Ok(objects)
    }

    /// Sessions under way in a message are held by it.
    pub(crate) fn hold(&mut self, objects: &[Object; 4]) {
        for object in objects {
            if let Object::Session(session) = object
                && let Some(session) = self.sessions.get_mut(*session)
            {
                session.holders += 1;
            }
        }
    }

    fn take_buffer(&mut self) -> Result<u32, KernelError> {
        let last = self.buffers.count.checked_sub(1).ok_or(KernelError::Exhausted)?;
        self.buffers.count = last;
        Ok(self.buffers.free[last as usize])
    }

    pub(crate) fn free_buffer(&mut self, index: u32) {
        self.buffers.free[self.buffers.count as usize] = index;
        self.buffers.count += 1;
    }

    /// Keeps a task's outgoing payload in a buffer of the kernel's.
    fn keep(
        &mut self,
        from: FrameRange,
        length: u32,
        reuse: Option<u32>,
    ) -> Result<Option<u32>, KernelError> {
        if length == 0 {
            return Ok(reuse);
        }
        let index = match reuse {
            Some(index) => index,
            None => self.take_buffer()?,
        };
        let to = self.buffers.physical(index);
        self.machine.copy(from.physical() + u64::from(PAYLOAD_OFFSET), to, u64::from(length));
        Ok(Some(index))
    }

    /// Brings kept payload into a message buffer.
    pub(crate) fn copy_kept(&mut self, kept: u32, to: FrameRange, length: u32) {
        let from = self.buffers.physical(kept);
        self.machine.copy(from, to.physical() + u64::from(PAYLOAD_OFFSET), u64::from(length));
    }

    /// Brings a call's message payload into the buffer of the server that receives it.
    pub(crate) fn copy_message(&mut self, id: CallRef, to: FrameRange) {
        let Some(call) = self.calls.get(id) else { return };
        let length = call.payload_len;
        if length == 0 {
            return;
        }
        if let Some(kept) = call.buffer {
            self.copy_kept(kept, to, length);
        } else if call.kind == CallKind::Native {
            let task = call.task;
            if let Some(from) = self.payload_of(task) {
                let offset = u64::from(PAYLOAD_OFFSET);
                self.machine.copy(from.physical() + offset, to.physical() + offset, u64::from(length));
            }
        }
    }

    /// call and send: makes the call object and hands it to the server.
    pub(crate) fn send(&mut self, by: Caller, arguments: [u64; 6], wait: bool) -> Outcome {
        let [handle, info, word0, word1, word2, word3] = arguments;
        let message = Outgoing::new(info, [word0, word1, word2, word3])?;
        let (server, session) = self.callee(by.task, handle)?;
        let handles = self.outgoing_handles(by.task, message.info.handles)?;
        let (mut tag, mut kept) = (0, None);
        if !wait {
            let buffer = self.payload_of(by.task).ok_or(KernelError::WrongState)?;
            tag = Self::header(&mut self.machine, buffer).map_or(0, |header| header.tag);
            self.charge(by.server, Owned::Calls)?;
            let payload = self.keep(buffer, message.info.payload_len, None);
            kept = payload.inspect_err(|_| self.credit(by.server, Owned::Calls))?;
        }
        let kind = if wait { CallKind::Native } else { CallKind::Sent };
        let call = self.new_call(kind, by.task, server, |call| {
            call.thread = wait.then_some(by.thread);
            call.session = session;
            call.tag = tag;
            call.buffer = kept;
            call.put(&message, &handles);
        });
        let Ok(id) = call else {
            if let Some(kept) = kept {
                self.free_buffer(kept);
            }
            if !wait {
                self.credit(by.server, Owned::Calls);
            }
            return Err(KernelError::Exhausted);
        };
        if message.info.handles > 0 {
            self.hold(&handles);
        }
        if wait && let Some(state) = self.threads.get_mut(by.thread) {
            state.state = ThreadState::Calling(id);
        }
        self.trace_message(by, if wait { Syscall::Call } else { Syscall::Send }, &arguments, id);
        self.enqueue_call(id);
        Ok([0; 5])
    }

    /// Answers a native call, a sent one, a fault or an attention call.
    pub(crate) fn reply(&mut self, by: Caller, arguments: [u64; 6]) -> Outcome {
        let [token, info, word0, word1, word2, word3] = arguments;
        let message = Outgoing::new(info, [word0, word1, word2, word3])?;
        let id = self.call_held_by(by.server, token)?;
        let kind = self.calls.get(id).map(|call| call.kind).ok_or(KernelError::NoSuchCall)?;
        if kind != CallKind::Foreign {
            self.trace_answer(by, Syscall::Reply, &arguments);
        }
        match kind {
            CallKind::Foreign => return Err(KernelError::WrongState),
            CallKind::Native => self.reply_native(by.task, id, message)?,
            CallKind::Sent => self.reply_sent(by.task, id, message)?,
            CallKind::Fault => self.fault_answered(id, message.info.label == 0),
            CallKind::Attention => self.finish_attention(id, message.info.label),
        }
        Ok([0; 5])
    }

    fn reply_native(&mut self, task: TaskId, id: CallRef, message: Outgoing) -> Result<(), KernelError> {
        let handles = self.outgoing_handles(task, message.info.handles)?;
        let (caller, thread) =
            self.calls.get(id).map(|call| (call.task, call.thread)).ok_or(KernelError::NoSuchCall)?;
        self.end_call(id);
        let Some(thread) = thread else { return Ok(()) };
        if self.threads.get(thread).map(|thread| thread.state) != Some(ThreadState::Calling(id)) {
            return Ok(());
        }
        let length = message.info.payload_len;
        if length > 0 || message.info.handles > 0 {
            let from = self.payload_of(task).ok_or(KernelError::WrongState)?;
            let Some(to) = self.payload_of(caller) else { return Ok(()) };
            let offset = u64::from(PAYLOAD_OFFSET);
            self.machine.copy(from.physical() + offset, to.physical() + offset, u64::from(length));
            self.hold(&handles);
            let given = self.hand_over(caller, to, &handles, message.info.handles as u8);
            if let Some(header) = Self::header(&mut self.machine, to) {
                header.send = given;
            }
        }
        let [word0, word1, word2, word3] = message.words;
        let outcome = Ok([message.info.pack(), word0, word1, word2, word3]);
        self.complete_native(thread, outcome, length);
        self.make_ready(thread);
        Ok(())
    }

    fn reply_sent(&mut self, task: TaskId, id: CallRef, message: Outgoing) -> Result<(), KernelError> {
        let handles = self.outgoing_handles(task, message.info.handles)?;
        let from = self.payload_of(task).ok_or(KernelError::WrongState)?;
        if self.calls.get(id).is_some_and(|call| call.tag == NO_ANSWER.0) {
            self.end_call(id);
            return Ok(());
        }
        let reuse = self.calls.get(id).and_then(|call| call.buffer);
        let kept = self.keep(from, message.info.payload_len, reuse)?;
        self.hold(&handles);
        self.unlink(id);
        let Some(call) = self.calls.get_mut(id) else { return Ok(()) };
        call.phase = Phase::Answered;
        call.put(&message, &handles);
        call.buffer = kept;
        call.signals = 0;
        let sender = call.task;
        if let Some(sender) = self.server_of(sender) {
            self.post_event(sender, id);
        }
        Ok(())
    }

    /// Takes a call out of whatever list its server has it in.
    pub(crate) fn unlink(&mut self, id: CallRef) {
        let Some(call) = self.calls.get(id) else { return };
        if !call.link.is_listed() {
            return;
        }
        let phase = call.phase;
        let server = if phase == Phase::Answered { self.server_of(call.task) } else { Some(call.server) };
        let Some(server) = server.and_then(|server| self.servers.get_mut(server)) else { return };
        let list = if phase == Phase::Queued { &mut server.calls } else { &mut server.events };
        list.remove(&mut self.calls, id);
    }

    /// A call is over: everything it held is let go.
    pub(crate) fn end_call(&mut self, id: CallRef) {
        let Some(call) = self.calls.get(id) else { return };
        let sender = (call.kind == CallKind::Sent).then_some(call.task);
        if !call.holds_nothing() {
            self.let_go_of_call(id);
        }
        self.calls.discard(id);
        if let Some(sender) = sender {
            self.credit_sent(sender);
        }
    }

    fn let_go_of_call(&mut self, id: CallRef) {
        self.unlink(id);
        self.end_watches(id);
        let Some(call) = self.calls.get(id) else { return };
        let (task, kept, reserved) = (call.task, call.buffer, call.reserved);
        let (handles, count) = (call.handles, call.handle_count);
        if let Some(kept) = kept {
            self.free_buffer(kept);
        }
        handles.into_iter().take(usize::from(count)).for_each(|object| self.let_go(object));
        if let Some(table) = self.tasks.get(task).map(|task| task.table) {
            reserved.into_iter().flatten().for_each(|slot| self.release(table, slot));
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.hold_nothing();
        }
    }

    pub(crate) fn notify(&mut self, task: TaskId, [handle, bits, ..]: [u64; 6]) -> Outcome {
        let Object::Inbox(server) = self.named(task, handle, Rights::CALL)? else {
            return Err(KernelError::WrongKind);
        };
        self.trace_notify([handle, bits]);
        self.post_bits(server, bits);
        Ok([0; 5])
    }

    /// Hands a held call on to another server: as it is, or with a new message in its place.
    pub(crate) fn forward(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [token, handle, info, word0, word1, word2] = arguments;
        let id = self.held_call(task, token)?;
        let (server, session) = self.callee(task, handle)?;
        if info == u64::MAX {
            self.trace_forward(task, &arguments, server);
            self.redirect(id, server, session);
            self.enqueue_call(id);
            return Ok([0; 5]);
        }
        let message = Outgoing::new(info, [word0, word1, word2, 0])?;
        let handles = self.outgoing_handles(task, message.info.handles)?;
        let from = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let reuse = self.calls.get(id).and_then(|call| call.buffer);
        let kept = self.keep(from, message.info.payload_len, reuse)?;
        self.hold(&handles);
        self.trace_forward(task, &arguments, server);
        self.redirect(id, server, session);
        if let Some(call) = self.calls.get_mut(id) {
            call.rewritten = true;
            call.put(&message, &handles);
            call.buffer = kept;
        }
        self.enqueue_call(id);
        Ok([0; 5])
    }

    fn redirect(&mut self, id: CallRef, server: ServerId, session: Option<SessionId>) {
        self.unlink(id);
        self.end_watches(id);
        if let Some(call) = self.calls.get_mut(id) {
            call.server = server;
            call.session = session.or(call.session);
            call.signals &= signal::CANCEL;
        }
    }
}
