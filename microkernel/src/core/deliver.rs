//! Writes events into a server's message buffer.

use libipc::abi::delivery::{
    DELIVERY_OFFSET, Delivery, INPUT_NULL, Kind, MessageBuffer, Named, PAYLOAD_MAX, PAYLOAD_OFFSET,
};
use libipc::abi::foreign::{self, Input, LINUX_CALLS, Output, Row};
use libipc::abi::{Rights, TaskWord};
use libipc::linux::errno;
use zerocopy::FromBytes;

use super::Kernel;
use super::inbox::Delivered;
use super::machine::Machine;
use super::object::*;

/// The row of a foreign call.
pub(crate) fn row(number: u32) -> Option<&'static Row> {
    if number < LINUX_CALLS { Some(&foreign::LINUX[number as usize]) } else { None }
}

impl<M: Machine> Kernel<M> {
    /// The delivery in a server's message buffer.
    pub(crate) fn delivery(machine: &mut M, buffer: FrameRange) -> Option<&mut Delivery> {
        let bytes = machine.bytes(buffer, u64::from(DELIVERY_OFFSET), size_of::<Delivery>() as u64);
        Delivery::mut_from_bytes(bytes).ok()
    }

    /// The outgoing header in a server's message buffer.
    pub(crate) fn header(machine: &mut M, buffer: FrameRange) -> Option<&mut MessageBuffer> {
        let bytes = machine.bytes(buffer, 0, size_of::<MessageBuffer>() as u64);
        MessageBuffer::mut_from_bytes(bytes).ok()
    }

    /// Payload bytes in a message buffer.
    pub(crate) fn payload(machine: &mut M, buffer: FrameRange, length: u64) -> &mut [u8] {
        machine.bytes(buffer, u64::from(PAYLOAD_OFFSET), length.min(u64::from(PAYLOAD_MAX)))
    }

    /// A u32 at an offset of the payload.
    pub(crate) fn payload_u32(&mut self, buffer: FrameRange, at: u64) -> u32 {
        if at + 4 > u64::from(PAYLOAD_MAX) {
            return 0;
        }
        let bytes = self.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET) + at, 4);
        <[u8; 4]>::try_from(&*bytes).map_or(0, u32::from_le_bytes)
    }

    pub(crate) fn deliver_bits(&mut self, task: TaskId, bits: u64) {
        let now = self.machine.now();
        let Some(buffer) = self.payload_of(task) else { return };
        let fill = self.journal_fill(task);
        let Some(delivery) = Self::delivery(&mut self.machine, buffer) else { return };
        *delivery = Delivery { kind: Kind::Notify as u32, now, reserved: fill, ..Delivery::default() };
        delivery.words[0] = bits;
    }

    pub(crate) fn deliver_close(&mut self, task: TaskId, id: SessionId) -> Delivered {
        let now = self.machine.now();
        let Some(buffer) = self.payload_of(task) else { return Delivered::No };
        let fill = self.journal_fill(task);
        let Some(session) = self.sessions.get(id) else { return Delivered::No };
        if session.holders > 0 {
            return Delivered::No;
        }
        let owner = session.owned;
        let badge = session.badge.0;
        let Some(delivery) = Self::delivery(&mut self.machine, buffer) else { return Delivered::No };
        *delivery =
            Delivery { kind: Kind::LastClose as u32, badge, now, reserved: fill, ..Delivery::default() };
        delivery.owner = owner.map_or(u32::MAX, |owner| owner.0);
        if owner.is_none() {
            self.sessions.remove(id);
        }
        Delivered::Yes
    }

    /// Something about a call that is under way: its answer, or what its holder is to be told.
    pub(crate) fn deliver_event(&mut self, task: TaskId, id: CallRef) -> Delivered {
        let now = self.machine.now();
        let Some(buffer) = self.payload_of(task) else { return Delivered::No };
        let fill = self.journal_fill(task);
        let Some(call) = self.calls.get_mut(id) else { return Delivered::No };
        if call.phase == Phase::Answered {
            return self.deliver_answer(task, id, buffer);
        }
        let (kind, word, bit) = if call.signals & signal::FAILED != 0 {
            (Kind::Ready, 1, signal::FAILED)
        } else if call.signals & signal::READY != 0 {
            (Kind::Ready, 0, signal::READY)
        } else if call.signals & signal::WATCH != 0 {
            (Kind::Watch, 0, signal::WATCH)
        } else if call.signals & signal::CANCEL != 0 {
            (Kind::Cancel, 0, signal::CANCEL)
        } else {
            return Delivered::No;
        };
        call.signals &= !bit;
        let more = call.signals != 0;
        let Some(delivery) = Self::delivery(&mut self.machine, buffer) else { return Delivered::No };
        *delivery =
            Delivery { kind: kind as u32, token: id.to_word(), now, reserved: fill, ..Delivery::default() };
        delivery.words[0] = word;
        if more
            && let Some(server) = self.tasks.get(task).and_then(|task| task.server)
            && let Some(server) = self.servers.get_mut(server)
        {
            server.events.push_back(&mut self.calls, id);
        }
        Delivered::Yes
    }

    fn deliver_answer(&mut self, task: TaskId, id: CallRef, buffer: FrameRange) -> Delivered {
        let now = self.machine.now();
        let fill = self.journal_fill(task);
        let Some(call) = self.calls.remove(id) else { return Delivered::No };
        let handles = self.hand_over(task, buffer, &call.handles, call.handle_count);
        if let Some(kept) = call.buffer {
            self.copy_kept(kept, buffer, call.payload_len);
            self.free_buffer(kept);
        }
        let Some(delivery) = Self::delivery(&mut self.machine, buffer) else { return Delivered::No };
        *delivery = Delivery {
            kind: Kind::Answer as u32,
            payload_len: call.payload_len,
            token: call.tag,
            label: call.label,
            handle_count: u32::from(call.handle_count),
            handles,
            now,
            reserved: fill,
            ..Delivery::default()
        };
        delivery.words[..4].copy_from_slice(&call.words);
        Delivered::Yes
    }

    /// Puts handles that came with a message into the slots the receiver offers. The counted holders under way become
    /// slots.
    pub(crate) fn hand_over(
        &mut self,
        task: TaskId,
        buffer: FrameRange,
        objects: &[Object; 4],
        count: u8,
    ) -> [u32; 4] {
        let mut given = [u32::MAX; 4];
        if count == 0 {
            return given;
        }
        let offer = Self::header(&mut self.machine, buffer).map_or([u32::MAX; 4], |header| header.offer);
        for (index, object) in objects.iter().enumerate().take(usize::from(count)) {
            if self.put(task, u64::from(offer[index]), *object, Rights::all()).is_ok() {
                given[index] = offer[index];
            }
            self.let_go(*object);
        }
        given
    }

    /// A new call. `No` when it waits for a page of its caller, or has been answered here.
    pub(crate) fn deliver_call(&mut self, task: TaskId, id: CallRef) -> Delivered {
        let Some(buffer) = self.payload_of(task) else { return Delivered::No };
        let Some(call) = self.calls.get(id) else { return Delivered::No };
        let foreign = call.kind == CallKind::Foreign && !call.rewritten;
        let mut inputs = [INPUT_NULL; 2];
        let mut length = call.payload_len;
        let mut passed = Passed::NOTHING;
        if foreign {
            let row = row(call.label);
            let Some(thread) = call.thread else {
                self.end_call(id);
                return Delivered::No;
            };
            match self.gather(id, thread, row, buffer) {
                Gathered::All(lengths, total) => (inputs, length) = (lengths, total),
                Gathered::Later => return Delivered::No,
                Gathered::Failed(errno) => {
                    self.finish_foreign(id, -i64::from(errno));
                    return Delivered::No;
                }
            }
            passed = self.pass_descriptor(task, thread, row, buffer);
        } else {
            self.copy_message(id, buffer);
        }
        let fill = self.journal_fill(task);
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(call) = self.calls.get_mut(id) else { return Delivered::No };
        call.phase = Phase::Held;
        call.sequence = sequence;
        let (handles, count) = (call.handles, call.handle_count);
        let given = self.hand_over(task, buffer, &handles, count);
        if let Some(call) = self.calls.get_mut(id) {
            call.handle_count = 0;
        }
        self.write_call(id, buffer, foreign);
        let Some(delivery) = Self::delivery(&mut self.machine, buffer) else { return Delivered::No };
        delivery.reserved = fill;
        delivery.payload_len = length;
        delivery.inputs = inputs;
        delivery.handle_count = u32::from(count);
        delivery.handles = given;
        if passed.count > 0 {
            (delivery.handles[0], delivery.handle_count) = (passed.slot, passed.count);
            delivery.status = passed.status;
        }
        let pending = self.calls.get(id).is_some_and(|call| call.signals != 0);
        if pending
            && let Some(server) = self.tasks.get(task).and_then(|task| task.server)
            && let Some(server) = self.servers.get_mut(server)
        {
            server.events.push_back(&mut self.calls, id);
        }
        Delivered::Yes
    }

    /// The fields of a delivery that speak of the call and its caller.
    fn write_call(&mut self, id: CallRef, buffer: FrameRange, foreign: bool) {
        let now = self.machine.now();
        let Some(call) = self.calls.get(id) else { return };
        let kind = match call.kind {
            CallKind::Foreign if foreign => Kind::Foreign,
            CallKind::Fault if !call.rewritten => Kind::Fault,
            CallKind::Attention if !call.rewritten => Kind::Attention,
            _ => Kind::Call,
        };
        let Some(delivery) = Self::delivery(&mut self.machine, buffer) else { return };
        delivery.kind = kind as u32;
        delivery.token = id.to_word();
        delivery.label = call.label;
        delivery.now = now;
        delivery.words[..4].copy_from_slice(&call.words);
        (delivery.badge, delivery.position, delivery.status) = (0, 0, 0);
        // A call forwarded to another server does not come through that server's session.
        let session = call.session.and_then(|session| self.sessions.get(session));
        if let Some(session) = session.filter(|session| session.server == call.server) {
            (delivery.badge, delivery.position, delivery.status) =
                (session.badge.0, session.position, session.status);
        }
        let thread = call.thread.and_then(|thread| self.threads.get(thread));
        let Some(task) = self.tasks.get(call.task) else { return };
        let word = |word: TaskWord| task.words[word as usize];
        delivery.pid = word(TaskWord::Pid);
        delivery.tid = thread.map_or(0, |thread| thread.tid);
        delivery.uid = word(TaskWord::EffectiveUid);
        delivery.gid = word(TaskWord::EffectiveGid);
        delivery.pgid = word(TaskWord::Pgid);
        delivery.sid = word(TaskWord::Sid);
        delivery.space = self.spaces.get(task.space).map_or(0, |space| space.badge.0);
        delivery.umask = 0;
        if let Some(directories) = task.directories.and_then(|id| self.directories.get(id)) {
            delivery.umask = directories.umask;
        }
        if !foreign {
            return;
        }
        delivery.slots = call.reserved.map(|slot| slot.unwrap_or(u32::MAX));
        if let Some(thread) = thread {
            let registers = &thread.registers;
            delivery.words =
                [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        }
        self.write_names(id, buffer);
    }

    /// The descriptors and directories a foreign call's row wants named.
    fn write_names(&mut self, id: CallRef, buffer: FrameRange) {
        let Some(call) = self.calls.get(id) else { return };
        let (task, Some(row)) = (call.task, row(call.label)) else { return };
        // A file server may hand a call with a path in it on to where paths are resolved.
        let wants_directories = self.roles[foreign::Role::Vfs as usize] == Some(call.server);
        let Some(task) = self.tasks.get(task) else { return };
        let (table, directories) = (task.table, task.directories);
        if !wants_directories && row.named == [255, 255] {
            return;
        }
        let words = Self::delivery(&mut self.machine, buffer).map_or([0; 6], |delivery| delivery.words);
        let named = row.named.map(|argument| match words.get(usize::from(argument)) {
            Some(word) => self.name_of(self.slot(table, *word as u32).object),
            None => Named::default(),
        });
        let sessions =
            directories.and_then(|id| self.directories.get(id)).map_or([None; 2], |both| both.sessions);
        let directories =
            sessions.map(|session| session.map_or(Named::default(), |id| self.name_of(Object::Session(id))));
        if let Some(delivery) = Self::delivery(&mut self.machine, buffer) {
            (delivery.named, delivery.directories) = (named, directories);
        }
    }

    pub(crate) fn name_of(&self, object: Object) -> Named {
        let Object::Session(session) = object else { return Named::default() };
        let Some(session) = self.sessions.get(session) else { return Named::default() };
        let server = self.server(session.server).map_or(0, |server| u64::from(server.number));
        Named { server, badge: session.badge.0, object: session.object }
    }

    /// The descriptor that a row passes along as a handle.
    fn pass_descriptor(
        &mut self,
        task: TaskId,
        thread: ThreadId,
        row: Option<&'static Row>,
        buffer: FrameRange,
    ) -> Passed {
        let Some(row) = row else { return Passed::NOTHING };
        let Some(state) = self.threads.get(thread) else { return Passed::NOTHING };
        let registers = &state.registers;
        let arguments =
            [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let Some(descriptor) = arguments.get(usize::from(row.passes)) else { return Passed::NOTHING };
        let Some(table) = self.tasks.get(state.task).map(|task| task.table) else { return Passed::NOTHING };
        let object = self.slot(table, *descriptor as u32).object;
        let Object::Session(session) = object else { return Passed::NOTHING };
        let status = self.sessions.get(session).map_or(0, |session| session.status);
        let slot = Self::header(&mut self.machine, buffer).map_or(u32::MAX, |header| header.offer[0]);
        match self.put(task, u64::from(slot), object, Rights::all()) {
            Ok(()) => Passed { slot, count: 1, status },
            Err(_) => Passed::NOTHING,
        }
    }

    /// Brings a foreign call's inputs into the server's payload, and checks that its output can be written.
    fn gather(
        &mut self,
        id: CallRef,
        thread: ThreadId,
        row: Option<&'static Row>,
        buffer: FrameRange,
    ) -> Gathered {
        let Some(row) = row else { return Gathered::All([INPUT_NULL; 2], 0) };
        let Some(state) = self.threads.get(thread) else { return Gathered::Failed(errno::EFAULT) };
        let registers = &state.registers;
        let arguments =
            [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let limit = self.descriptor_limit(state.task);
        let argument = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
        let output = match row.output {
            Output::None => (0, 0),
            Output::Bytes(at, length) => (argument(at), u64::from(length)),
            Output::Buffer(at, length) => (argument(at), argument(length).min(1 << 16)),
        };
        if output.0 != 0 && output.1 != 0 && !self.check_output(id, output.0, output.1) {
            return Gathered::Later;
        }
        let mut lengths = [INPUT_NULL; 2];
        let mut total = 0;
        for (input, length) in row.inputs.iter().zip(&mut lengths) {
            let (address, wanted) = match *input {
                Input::None => continue,
                Input::Text(at) => (argument(at), None),
                Input::Bytes(at, length) => (argument(at), Some(u64::from(length))),
                Input::PerDescriptor(_, count, _) if argument(count) as u32 > limit => {
                    return Gathered::Failed(errno::EINVAL);
                }
                Input::Array(at, count, size) | Input::PerDescriptor(at, count, size) => {
                    let bytes = argument(count).saturating_mul(u64::from(size));
                    // The server reads on where the payload ends, if so many make sense to it.
                    (argument(at), Some(bytes.min(u64::from(PAYLOAD_MAX - total))))
                }
            };
            if address == 0 {
                continue;
            }
            let space = u64::from(PAYLOAD_MAX - total);
            let copied = match wanted {
                Some(bytes) if bytes <= space => self.gather_bytes(id, address, bytes, buffer, total),
                Some(_) => return Gathered::Failed(errno::EINVAL),
                None => self.gather_text(id, address, buffer, total),
            };
            match copied {
                Ok(Some(copied)) => {
                    *length = copied;
                    total += copied;
                }
                Ok(None) => return Gathered::Later,
                Err(errno) => return Gathered::Failed(errno),
            }
        }
        Gathered::All(lengths, total)
    }
}

/// A descriptor that went along with a call: the receiver's slot for it, and its status flags.
struct Passed {
    slot: u32,
    count: u32,
    status: u32,
}

impl Passed {
    const NOTHING: Passed = Passed { slot: u32::MAX, count: 0, status: 0 };
}

/// What came of gathering a call's inputs.
enum Gathered {
    /// Their lengths, and the sum.
    All([u32; 2], u32),
    /// A page is missing; the call is on its way to the pager.
    Later,
    /// errno.
    Failed(i32),
}
