//! Servers: how root makes them, and what they may do that others may not: speak to the console log, end the machine.

use libipc::abi::upgrade::ImageFigures;
use libipc::abi::{Frame, KernelError, PAGE_SIZE, Rights};

use super::arena::Blank;
use super::journal::Journal;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// Most servers: one notification bit of root's for each death.
pub(crate) const SERVERS_MAX: u64 = 48;
const HIGHEST_PRIORITY: u64 = 31;

impl<M: Machine> Kernel<M> {
    pub(crate) fn is_root(&self, task: TaskId) -> Result<(), KernelError> {
        if self.root == Some(task) { Ok(()) } else { Err(KernelError::NoRight) }
    }

    pub(crate) fn server_named(
        &self,
        task: TaskId,
        handle: u64,
        rights: Rights,
    ) -> Result<ServerId, KernelError> {
        let Object::Task(id) = self.named(task, handle, rights)? else { return Err(KernelError::WrongKind) };
        self.tasks.get(id).and_then(|task| task.server).ok_or(KernelError::WrongKind)
    }

    /// A server that root makes, or makes anew.
    pub(crate) fn embryo(&mut self, task: TaskId, handle: u64) -> Result<&mut Server, KernelError> {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        self.servers.get_mut(id).ok_or(KernelError::BadHandle)
    }

    pub(crate) fn server_create(
        &mut self,
        task: TaskId,
        [into, space, number, class, ..]: [u64; 6],
    ) -> Outcome {
        self.is_root(task)?;
        self.check_free(task, into)?;
        let Object::Space(space) = self.named(task, space, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        if number >= SERVERS_MAX {
            return Err(KernelError::BadArgument);
        }
        let id = self.new_server(space, number as u32, class == 1)?;
        self.put(task, into, Object::Task(id), Rights::all())?;
        Ok([0; 5])
    }

    /// A native task with an inbox.
    pub(crate) fn new_server(
        &mut self,
        space: SpaceId,
        number: u32,
        journaled: bool,
    ) -> Result<TaskId, KernelError> {
        let table = self.new_table()?;
        let task = Task { space, table, ..Task::BLANK };
        let task = self.tasks.insert(task).map_err(|_| KernelError::Exhausted)?;
        let journal = journaled.then(Journal::default);
        let server = Server { task, table, number, journal, ..Server::BLANK };
        let server = self.servers.insert(server).map_err(|_| KernelError::Exhausted)?;
        if let Some(state) = self.tasks.get_mut(task) {
            state.server = Some(server);
        }
        if let Some(space) = self.spaces.get_mut(space) {
            space.users += 1;
        }
        Ok(task)
    }

    pub(crate) fn server_memory(
        &mut self,
        task: TaskId,
        [handle, what, first, count, ..]: [u64; 6],
    ) -> Outcome {
        self.embryo(task, handle)?;
        let (Ok(first), Ok(count)) = (u32::try_from(first), u32::try_from(count)) else {
            return Err(KernelError::BadArgument);
        };
        let range = FrameRange { first: Frame(first), count };
        let owner = match what {
            0 => {
                (first..first.saturating_add(count))
                    .try_for_each(|frame| self.frames.owned(Frame(frame), task).map(|_| ()))?;
                None
            }
            1..=3 | 5 => {
                self.frames.all_idle(range, task)?;
                Some(super::frames::NOBODY)
            }
            4 => {
                self.frames.all_idle(range, task)?;
                let Object::Task(server) = self.named(task, handle, Rights::CONTROL)? else {
                    return Err(KernelError::WrongKind);
                };
                Some(server.index() as u16)
            }
            _ => return Err(KernelError::BadArgument),
        };
        if what == 5 {
            self.reproducers.memory = self.remains.take(range);
        }
        let window = self.machine.window(range);
        let server = self.embryo(task, handle)?;
        match (what, &mut server.journal) {
            (0, _) => (server.buffer, server.message) = (range, window),
            (1, _) => server.arena = range,
            (2, Some(journal)) => journal.set_memory(range, window),
            (3, Some(journal)) => journal.snapshots = range,
            (2 | 3, None) => return Err(KernelError::BadArgument),
            _ => {}
        }
        if let Some(owner) = owner {
            self.frames.give(range, owner);
        }
        if what == 1 {
            self.machine.bytes(range, 0, range.bytes()).fill(0);
        }
        Ok([0; 5])
    }

    pub(crate) fn server_segment(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [handle, address, pages, source, bytes, _] = arguments;
        let (Ok(pages), Ok(source), Ok(bytes)) =
            (u32::try_from(pages), u32::try_from(source), u32::try_from(bytes))
        else {
            return Err(KernelError::BadArgument);
        };
        if !address.is_multiple_of(PAGE_SIZE) || u64::from(bytes) > u64::from(pages) * PAGE_SIZE {
            return Err(KernelError::BadArgument);
        }
        let pristine = FrameRange { first: Frame(source), count: bytes.div_ceil(PAGE_SIZE as u32) };
        for frame in pristine.first.0..pristine.first.0.saturating_add(pristine.count) {
            self.frames.owned(Frame(frame), task)?;
        }
        let server = self.embryo(task, handle)?;
        if pages == 0 {
            server.segments.iter_mut().filter(|segment| segment.address == address).for_each(|segment| {
                *segment = Segment::EMPTY;
            });
            return Ok([0; 5]);
        }
        let free =
            server.segments.iter_mut().find(|segment| segment.pages == 0).ok_or(KernelError::Exhausted)?;
        *free = Segment { address, pages, pristine, bytes };
        Ok([0; 5])
    }

    pub(crate) fn server_grant(
        &mut self,
        task: TaskId,
        [handle, into, given, rights, ..]: [u64; 6],
    ) -> Outcome {
        self.embryo(task, handle)?;
        let rights = u8::try_from(rights).ok().and_then(Rights::from_bits).ok_or(KernelError::BadArgument)?;
        let Object::Task(server) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        // Root's handle of a server's task is what its inbox is called through.
        let object = match self.named(task, given, rights)? {
            Object::Task(callee) if rights.contains(Rights::CALL) => {
                Object::Inbox(self.server_of(callee).ok_or(KernelError::WrongKind)?)
            }
            object => object,
        };
        self.put(server, into, object, rights)?;
        if let Some(state) = self.server_mut(server) {
            state.first_free = state.first_free.max(into as u32 + 1);
        }
        Ok([0; 5])
    }

    pub(crate) fn server_start(
        &mut self,
        task: TaskId,
        [handle, entry, stack, priority, patience_ns, image]: [u64; 6],
    ) -> Outcome {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        if entry >= M::USER_END || stack >= M::USER_END {
            return Err(KernelError::BadAddress);
        }
        if priority > HIGHEST_PRIORITY {
            return Err(KernelError::BadArgument);
        }
        self.first_start(id, entry, stack, priority as u8, patience_ns)?;
        self.set_bus_masters(id, true);
        if let Some(server) = self.servers.get_mut(id) {
            server.image = ImageFigures::from_word(image);
        }
        Ok([0; 5])
    }

    /// Starts a server's first incarnation.
    pub(crate) fn first_start(
        &mut self,
        id: ServerId,
        entry: u64,
        stack: u64,
        priority: u8,
        patience_ns: u64,
    ) -> Result<(), KernelError> {
        let task = self.servers.get(id).map(|server| server.task).ok_or(KernelError::BadHandle)?;
        let thread = self.new_thread(task, 0, priority)?;
        if let Some(server) = self.servers.get_mut(id) {
            (server.entry, server.stack, server.thread) = (entry, stack, Some(thread));
            server.patience_ns = patience_ns;
        }
        self.begin_incarnation(id);
        Ok(())
    }

    pub(crate) fn personality(&mut self, task: TaskId, [index, handle, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let Object::Task(server) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        let server = self.server_of(server).ok_or(KernelError::WrongKind)?;
        *self.roles.get_mut(index as usize).ok_or(KernelError::BadArgument)? = Some(server);
        Ok([0; 5])
    }

    pub(crate) fn log(&mut self, task: TaskId, [length, ..]: [u64; 6]) -> Outcome {
        if length > u64::from(libipc::abi::PAYLOAD_MAX) {
            return Err(KernelError::TooBig);
        }
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let mut line = Line::new();
        for byte in Self::payload(&mut self.machine, buffer, length).iter() {
            line.push(*byte);
        }
        self.machine.log(line.bytes());
        Ok([0; 5])
    }

    pub(crate) fn power_off(&mut self, task: TaskId, [status, how, ..]: [u64; 6]) -> Outcome {
        let own = self.server_of(task);
        let trusted = own.is_some() && self.roles.contains(&own) || self.root == Some(task);
        if !trusted {
            return Err(KernelError::NoRight);
        }
        self.off = Some((status as u32, how == 1));
        Ok([0; 5])
    }
}

impl Server {
    /// Memory that is its own, so that its restart asks nobody for any: what it writes, journal, snapshots, arena.
    pub(crate) fn bytes_set_aside(&self) -> u64 {
        let journal = self.journal.unwrap_or_default();
        let ranges = [self.buffer, self.arena, journal.snapshots];
        let written: u64 = self.segments.iter().map(|segment| u64::from(segment.pages) * PAGE_SIZE).sum();
        ranges.iter().map(|range| range.bytes()).sum::<u64>() + journal.record_bytes() + written
    }
}

/// A line of text being put together without memory of its own.
pub(crate) struct Line {
    text: [u8; 512],
    length: usize,
}

impl Line {
    pub(crate) fn new() -> Line {
        Line { text: [0; 512], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}
