//! Writes events into a server's message buffer.

use libipc::abi::delivery::{
    Caller, DELIVERY_OFFSET, Delivery, Extent, INPUT_NULL, Kind, MessageBuffer, Named, PAYLOAD_MAX,
    PAYLOAD_OFFSET,
};
use libipc::abi::foreign::{self, Input, LINUX_CALLS, Output, Row};
use libipc::abi::{Badge, Owned, Rights, TaskWord};
use libipc::linux::errno;
use zerocopy::FromBytes;

use super::Kernel;
use super::inbox::{Delivered, Inbox};
use super::machine::Machine;
use super::object::*;
use crate::window::Window;

/// Arguments of a system call.
const ARGUMENTS: usize = 6;

/// The row of a foreign call.
pub(crate) fn row(number: u32) -> Option<&'static Row> {
    if number < LINUX_CALLS { Some(&foreign::LINUX[number as usize]) } else { None }
}

/// The memory that a call's answer fills: address and length.
#[inline]
pub(crate) fn output(row: &Row, arguments: &[u64; ARGUMENTS]) -> (u64, u64) {
    let argument = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
    match row.output {
        Output::None => (0, 0),
        Output::Bytes(at, length) => (argument(at), u64::from(length)),
        Output::Buffer(at, length) => (argument(at), argument(length).min(1 << 16)),
    }
}

/// Who the calling program is.
#[inline]
pub(crate) fn introduced(task: &Task, tid: u32, umask: u32, space: Badge) -> Caller {
    let word = |word: TaskWord| task.words[word as usize];
    Caller {
        pid: word(TaskWord::Pid),
        tid,
        uid: word(TaskWord::EffectiveUid),
        gid: word(TaskWord::EffectiveGid),
        pgid: word(TaskWord::Pgid),
        sid: word(TaskWord::Sid),
        umask,
        reserved: 0,
        space: space.0,
        file_limit: u64::from(word(TaskWord::FileLimitLow)) | u64::from(word(TaskWord::FileLimitHigh)) << 32,
    }
}

impl<M: Machine> Kernel<M> {
    /// The delivery in a server's message buffer.
    pub(crate) fn delivery(machine: &mut M, buffer: FrameRange) -> Option<&mut Delivery> {
        let bytes = machine.bytes(buffer, u64::from(DELIVERY_OFFSET), size_of::<Delivery>() as u64);
        Delivery::mut_from_bytes(bytes).ok()
    }

    /// The delivery in a message buffer.
    #[inline(always)]
    pub(crate) fn delivery_in(machine: &mut M, message: Window) -> Option<&mut Delivery> {
        let bytes = machine.view(message, u64::from(DELIVERY_OFFSET), size_of::<Delivery>() as u64);
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

    pub(crate) fn deliver_bits(&mut self, inbox: &Inbox, bits: u64) {
        let now = self.machine.now();
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return };
        Self::head(delivery, Kind::Notify, inbox.fill, now);
        delivery.words[0] = bits;
    }

    /// The fields that every delivery has, and an empty message.
    #[inline]
    pub(crate) fn head(delivery: &mut Delivery, kind: Kind, fill: u32, now: u64) {
        delivery.kind = kind as u32;
        delivery.extent = Extent::Message as u32;
        delivery.payload_len = 0;
        delivery.handle_count = 0;
        delivery.handles = [u32::MAX; 4];
        delivery.now = now;
        delivery.fill = fill;
    }

    pub(crate) fn deliver_close(&mut self, inbox: &Inbox, id: SessionId) -> Delivered {
        let now = self.machine.now();
        let Some(session) = self.sessions.get(id) else { return Delivered::No };
        if session.holders > 0 {
            return Delivered::No;
        }
        let (owner, again) = (session.owned, session.closes_again);
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return Delivered::No };
        Self::head(delivery, Kind::LastClose, inbox.fill, now);
        delivery.badge = session.badge.0;
        delivery.owner = owner.map_or(u32::MAX, |owner| owner.0);
        delivery.words[0] = again.into();
        if owner.is_none() {
            self.remove_session(id);
        }
        Delivered::Yes
    }

    /// Something about a call that is under way: its answer, or what its holder is to be told.
    pub(crate) fn deliver_event(&mut self, inbox: &Inbox, id: CallRef) -> Delivered {
        let Some(call) = self.calls.get_mut(id) else { return Delivered::No };
        if call.phase == Phase::Answered {
            return self.deliver_answer(inbox, id);
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
        let now = self.machine.now();
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return Delivered::No };
        Self::head(delivery, kind, inbox.fill, now);
        delivery.token = id.to_word();
        delivery.words[0] = word;
        if more && let Some(server) = self.servers.get_mut(inbox.server) {
            server.events.push_back(&mut self.calls, id);
        }
        Delivered::Yes
    }

    fn deliver_answer(&mut self, inbox: &Inbox, id: CallRef) -> Delivered {
        let Some(call) = self.calls.get(id) else { return Delivered::No };
        let (kept, length) = (call.buffer, call.payload_len);
        let (handles, count) = (call.handles, call.handle_count);
        self.trace_returns(id);
        let given = self.hand_over(inbox.task, inbox.buffer, &handles, count);
        if let Some(kept) = kept {
            self.copy_kept(kept, inbox.buffer, length);
            self.free_buffer(kept);
        }
        let now = self.machine.now();
        let Some(call) = self.calls.get_mut(id) else { return Delivered::No };
        call.hold_nothing();
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return Delivered::No };
        Self::head(delivery, Kind::Answer, inbox.fill, now);
        delivery.payload_len = length;
        delivery.token = call.tag;
        delivery.label = call.label;
        delivery.words[..4].copy_from_slice(&call.words);
        delivery.handle_count = u32::from(count);
        delivery.handles = given;
        self.calls.discard(id);
        self.credit(inbox.server, Owned::Calls);
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
    pub(crate) fn deliver_call(&mut self, inbox: &Inbox, id: CallRef) -> Delivered {
        let Some(call) = self.calls.get(id) else { return Delivered::No };
        if self.tasks.get(call.task).is_none() {
            // Its process was ended while a server had it, which then handed it on.
            self.end_call(id);
            return Delivered::No;
        }
        let message = if call.kind == CallKind::Foreign && !call.rewritten {
            let Some(thread) = call.thread else {
                self.end_call(id);
                return Delivered::No;
            };
            let row = row(call.label);
            match self.gather(id, thread, row, inbox.buffer) {
                Gathered::All(inputs, length) => {
                    let passed = self.pass_descriptor(inbox.task, thread, row, inbox.buffer);
                    let extent = self.write_foreign(id, thread, row, inputs, inbox);
                    Incoming { length, extent, ..passed }
                }
                Gathered::Later => return Delivered::No,
                Gathered::Failed(errno) => {
                    self.finish_foreign(id, -i64::from(errno));
                    return Delivered::No;
                }
            }
        } else {
            let length = call.payload_len;
            let count = call.handle_count;
            let extent = match call.kind {
                CallKind::Native | CallKind::Sent => Extent::Message,
                CallKind::Foreign | CallKind::Fault | CallKind::Attention => Extent::Caller,
            };
            if length > 0 {
                self.copy_message(id, inbox.buffer);
            }
            let mut handles = [u32::MAX; 4];
            if count > 0
                && let Some(objects) = self.calls.get(id).map(|call| call.handles)
            {
                handles = self.hand_over(inbox.task, inbox.buffer, &objects, count);
            }
            Incoming { length, handles: (handles, u32::from(count)), status: None, extent }
        };
        self.write_call(id, inbox, &message);
        Delivered::Yes
    }

    /// The fields of a delivery that speak of a call and its caller. The server holds the call from here on.
    fn write_call(&mut self, id: CallRef, inbox: &Inbox, message: &Incoming) {
        let now = self.machine.now();
        self.sequence += 1;
        let Some(call) = self.calls.get_mut(id) else { return };
        call.phase = Phase::Held;
        call.sequence = self.sequence;
        call.handle_count = 0;
        if call.signals != 0
            && let Some(server) = self.servers.get_mut(inbox.server)
        {
            server.events.push_back(&mut self.calls, id);
        }
        let Some(call) = self.calls.get(id) else { return };
        let kind = match call.kind {
            _ if call.rewritten => Kind::Call,
            CallKind::Foreign => Kind::Foreign,
            CallKind::Fault => Kind::Fault,
            CallKind::Attention => Kind::Attention,
            CallKind::Native | CallKind::Sent => Kind::Call,
        };
        let Some(task) = self.tasks.get(call.task) else { return };
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return };
        Self::head(delivery, kind, inbox.fill, now);
        delivery.token = id.to_word();
        delivery.label = call.label;
        delivery.payload_len = message.length;
        (delivery.handles, delivery.handle_count) = message.handles;
        if kind != Kind::Foreign {
            delivery.words[..4].copy_from_slice(&call.words);
        }
        (delivery.badge, delivery.position, delivery.status) = (0, 0, 0);
        // A call forwarded to another server does not come through that server's session.
        let session = call.session.and_then(|session| self.sessions.get(session));
        if let Some(session) = session.filter(|session| session.server == call.server) {
            (delivery.badge, delivery.position, delivery.status) =
                (session.badge.0, session.position, session.status);
        }
        if let Some(status) = message.status {
            delivery.status = status;
        }
        delivery.extent = message.extent as u32;
        if message.extent == Extent::Message {
            return;
        }
        let tid = call.thread.and_then(|thread| self.threads.get(thread)).map_or(0, |thread| thread.tid);
        let directories = task.directories.and_then(|id| self.directories.get(id));
        let umask = directories.map_or(0, |directories| directories.umask);
        let space = self.spaces.get(task.space).map_or(Badge(0), |space| space.badge);
        delivery.caller = introduced(task, tid, umask, space);
    }

    /// The fields that only a foreign call has: its arguments, the inputs' lengths, the descriptors and directories
    /// that its row names.
    fn write_foreign(
        &mut self,
        id: CallRef,
        thread: ThreadId,
        row: Option<&'static Row>,
        inputs: [u32; 2],
        inbox: &Inbox,
    ) -> Extent {
        let Some(call) = self.calls.get(id) else { return Extent::Foreign };
        let Some(thread) = self.threads.get(thread) else { return Extent::Foreign };
        let Some(task) = self.tasks.get(call.task) else { return Extent::Foreign };
        let words = thread.arguments();
        let slots = call.reserved.map(|slot| slot.unwrap_or(u32::MAX));
        let resolves = self.roles[foreign::Role::Vfs as usize] == Some(call.server);
        let row = row.filter(|row| resolves || row.named.iter().any(|at| usize::from(*at) < ARGUMENTS));
        let Some(row) = row else {
            if let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) {
                (delivery.words, delivery.inputs, delivery.slots) = (words, inputs, slots);
            }
            return Extent::Foreign;
        };
        let mut named = [Named::default(); 2];
        for (named, argument) in named.iter_mut().zip(row.named) {
            if let Some(word) = words.get(usize::from(argument)) {
                *named = self.name_of(self.slot(task.table, *word as u32).object);
            }
        }
        let mut directories = [Named::default(); 2];
        // A file server may hand a call with a path in it on to where paths are resolved.
        if resolves && let Some(both) = task.directories.and_then(|id| self.directories.get(id)) {
            directories = both
                .sessions
                .map(|session| session.map_or(Named::default(), |id| self.name_of(Object::Session(id))));
        }
        if let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) {
            (delivery.words, delivery.inputs, delivery.slots) = (words, inputs, slots);
            (delivery.named, delivery.directories) = (named, directories);
        }
        Extent::Named
    }

    pub(crate) fn name_of(&self, object: Object) -> Named {
        let Object::Session(session) = object else { return Named::default() };
        let Some(session) = self.sessions.get(session) else { return Named::default() };
        Named { server: u64::from(session.server_number), badge: session.badge.0, object: session.object }
    }

    /// The descriptor that a row passes along as a handle.
    fn pass_descriptor(
        &mut self,
        task: TaskId,
        thread: ThreadId,
        row: Option<&'static Row>,
        buffer: FrameRange,
    ) -> Incoming {
        const NOTHING: Incoming =
            Incoming { length: 0, handles: ([u32::MAX; 4], 0), status: None, extent: Extent::Foreign };
        let Some(row) = row.filter(|row| usize::from(row.passes) < ARGUMENTS) else { return NOTHING };
        let Some(state) = self.threads.get(thread) else { return NOTHING };
        let descriptor = state.arguments()[usize::from(row.passes)];
        let Some(table) = self.tasks.get(state.task).map(|task| task.table) else { return NOTHING };
        let object = self.slot(table, descriptor as u32).object;
        let Object::Session(session) = object else { return NOTHING };
        let status = self.sessions.get(session).map(|session| session.status);
        let slot = Self::header(&mut self.machine, buffer).map_or(u32::MAX, |header| header.offer[0]);
        match self.put(task, u64::from(slot), object, Rights::all()) {
            Ok(()) => Incoming { handles: ([slot, u32::MAX, u32::MAX, u32::MAX], 1), status, ..NOTHING },
            Err(_) => NOTHING,
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
        let arguments = state.arguments();
        let limit = self.descriptor_limit(state.task);
        let argument = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
        let output = output(row, &arguments);
        if output.0 != 0 && output.1 != 0 && !self.check_output(id, output.0, output.1) {
            return Gathered::Later;
        }
        let mut lengths = [INPUT_NULL; 2];
        let mut total = 0;
        for (input, length) in row.inputs.iter().zip(&mut lengths) {
            let (address, wanted) = match *input {
                Input::None => continue,
                Input::Small(at, count) => {
                    let payload = buffer.physical() + u64::from(PAYLOAD_OFFSET);
                    let root = self.lessor(id).ok();
                    let there = root.and_then(|root| {
                        self.user_memory().gather_small(root, argument(at), argument(count), payload)
                    });
                    (*length, total) = there.map_or((INPUT_NULL, total), |bytes| (bytes, bytes));
                    continue;
                }
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

/// What came along with a call: bytes in the payload; handles by the receiver's slots, and how many; the status
/// flags of a descriptor that went along.
struct Incoming {
    length: u32,
    handles: ([u32; 4], u32),
    status: Option<u32>,
    /// How much of the delivery is filled in.
    extent: Extent,
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
