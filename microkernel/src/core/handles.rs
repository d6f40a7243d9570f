//! Handle tables: slots in chunks, the lowest free one found through bitmaps. A program's table holds its
//! descriptors, a server's its capabilities; the mechanism is one. Sessions count the slots that hold them.

use libipc::abi::{Handle, KernelError, Rights, TaskWord};

use super::arena::{Arena, Blank, Id};
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

fn place(slot: u32) -> (usize, usize, usize) {
    let chunk = slot / CHUNK_SLOTS;
    ((chunk / 32) as usize, (chunk % 32) as usize, (slot % CHUNK_SLOTS) as usize)
}

impl<M: Machine> Kernel<M> {
    /// The chunk of a slot, if there is one.
    #[inline]
    fn chunk(&self, table: TableId, slot: u32) -> Option<&Chunk> {
        let table = self.tables.get(table)?;
        if slot < CHUNK_SLOTS {
            return Some(&table.first);
        }
        let (row, column, _) = place(slot);
        let row = (*table.rows.get(row)?)?;
        self.chunks.get(self.rows.get(row)?[column]?)
    }

    #[inline]
    fn chunk_mut(&mut self, table: TableId, slot: u32) -> Option<&mut Chunk> {
        let table = self.tables.get_mut(table)?;
        if slot < CHUNK_SLOTS {
            return Some(&mut table.first);
        }
        let (row, column, _) = place(slot);
        let row = (*table.rows.get(row)?)?;
        self.chunks.get_mut(self.rows.get(row)?[column]?)
    }

    /// A table with no slot in use and one user.
    pub(crate) fn new_table(&mut self) -> Result<TableId, KernelError> {
        let (id, table) = self.tables.renew().map_err(|_| KernelError::Exhausted)?;
        // Its slots are empty: whoever discarded a table has closed them all.
        table.first.taken = 0;
        (table.users, table.lowest_free, table.bound) = (1, 0, 0);
        table.rows = [None; 32];
        Ok(id)
    }

    /// What is in a slot; `Object::None` for a free or reserved one.
    #[inline]
    pub(crate) fn slot(&self, table: TableId, slot: u32) -> HandleSlot {
        self.chunk(table, slot).map_or(HandleSlot::EMPTY, |chunk| chunk.slots[place(slot).2])
    }

    /// The session that a slot holds, most often one of the first.
    #[inline(always)]
    pub(crate) fn session_in(&self, table: TableId, slot: u32) -> Option<SessionId> {
        let object = match self.tables.get(table)?.first.slots.get(slot as usize) {
            Some(slot) => slot.object,
            None => self.slot(table, slot).object,
        };
        if let Object::Session(id) = object { Some(id) } else { None }
    }

    fn is_taken(&self, table: TableId, slot: u32) -> bool {
        self.chunk(table, slot).is_some_and(|chunk| chunk.taken & 1 << place(slot).2 != 0)
    }

    /// Makes the chunk for a slot when it is not there.
    fn make_chunk(&mut self, table: TableId, slot: u32) -> Result<(), KernelError> {
        if self.chunk(table, slot).is_some() {
            return Ok(());
        }
        let (row, column, _) = place(slot);
        let state = self.tables.get_mut(table).ok_or(KernelError::BadHandle)?;
        let entry = state.rows.get_mut(row).ok_or(KernelError::BadArgument)?;
        let row = match *entry {
            Some(row) => row,
            None => {
                let row = self.rows.insert([None; 32]).map_err(|_| KernelError::Exhausted)?;
                *entry = Some(row);
                row
            }
        };
        let chunk = self.chunks.insert(Chunk::BLANK).map_err(|_| KernelError::Exhausted)?;
        if let Some(row) = self.rows.get_mut(row) {
            row[column] = Some(chunk);
        }
        Ok(())
    }

    /// Reserves a slot that is free, so that nothing else takes it.
    pub(crate) fn reserve(&mut self, table: TableId, slot: u32) -> Result<(), KernelError> {
        self.make_chunk(table, slot)?;
        let chunk = self.chunk_mut(table, slot).ok_or(KernelError::BadHandle)?;
        let bit = 1 << place(slot).2;
        if chunk.taken & bit != 0 {
            return Err(KernelError::SlotInUse);
        }
        chunk.taken |= bit;
        let state = self.tables.get_mut(table).ok_or(KernelError::BadHandle)?;
        state.bound = state.bound.max(slot + 1);
        Ok(())
    }

    /// Gives a reservation back, or empties a slot whose object has been seen to.
    pub(crate) fn release(&mut self, table: TableId, slot: u32) {
        let Some(chunk) = self.chunk_mut(table, slot) else { return };
        chunk.taken &= !(1 << place(slot).2);
        chunk.slots[place(slot).2] = HandleSlot::EMPTY;
        if let Some(state) = self.tables.get_mut(table) {
            state.lowest_free = state.lowest_free.min(slot);
        }
    }

    /// The lowest free slot from `from` on and below `limit`.
    pub(crate) fn lowest_free(&mut self, table: TableId, from: u32, limit: u32) -> Option<u32> {
        let hint = self.tables.get(table)?.lowest_free;
        let mut slot = from.max(hint);
        while slot < limit {
            let Some(chunk) = self.chunk(table, slot) else { break };
            let offset = slot % CHUNK_SLOTS;
            let free = !chunk.taken >> offset;
            if free != 0 {
                slot += free.trailing_zeros();
                break;
            }
            slot += CHUNK_SLOTS - offset;
        }
        if slot >= limit {
            return None;
        }
        if from <= hint
            && let Some(state) = self.tables.get_mut(table)
        {
            state.lowest_free = slot;
        }
        Some(slot)
    }

    /// Fills a reserved slot. Sessions are counted here.
    pub(crate) fn fill(&mut self, table: TableId, slot: u32, value: HandleSlot) {
        if let Object::Session(session) = value.object
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.holders += 1;
        }
        if let Some(chunk) = self.chunk_mut(table, slot) {
            chunk.slots[place(slot).2] = value;
        }
    }

    /// Sets a slot's close-on-exec flag.
    pub(crate) fn set_close_on_exec(&mut self, table: TableId, slot: u32, close: bool) {
        if let Some(chunk) = self.chunk_mut(table, slot) {
            chunk.slots[place(slot).2].close_on_exec = close;
        }
    }

    /// Empties a slot and lets go of what it named.
    pub(crate) fn empty(&mut self, table: TableId, slot: u32) -> Option<Object> {
        let object = self.slot(table, slot).object;
        if object == Object::None {
            return None;
        }
        self.release(table, slot);
        self.let_go(object);
        Some(object)
    }

    /// One counted holder less.
    pub(crate) fn let_go(&mut self, object: Object) {
        match object {
            Object::Session(session) => self.session_released(session),
            Object::OwnSession(session) => self.session_disowned(session),
            _ => {}
        }
    }

    /// A copy of a table, every session counted once more. Close-on-exec flags go along.
    pub(crate) fn copy_table(&mut self, from: TableId) -> Result<TableId, KernelError> {
        let (bound, lowest_free) = self
            .tables
            .get(from)
            .map(|table| (table.bound, table.lowest_free))
            .ok_or(KernelError::BadHandle)?;
        let copy = self.new_table()?;
        if let Some(copy) = self.tables.get_mut(copy) {
            copy.lowest_free = lowest_free;
        }
        for first in (0..bound).step_by(CHUNK_SLOTS as usize) {
            if let Err(error) = self.copy_chunk(from, copy, first) {
                self.drop_table(copy);
                return Err(error);
            }
        }
        Ok(copy)
    }

    fn copy_chunk(&mut self, from: TableId, copy: TableId, first: u32) -> Result<(), KernelError> {
        let mut taken = self.chunk(from, first).map_or(0, |chunk| chunk.taken);
        while taken != 0 {
            let slot = first + taken.trailing_zeros();
            taken &= taken - 1;
            let value = self.slot(from, slot);
            if value.object != Object::None {
                self.reserve(copy, slot)?;
                self.fill(copy, slot, value);
            } else if let Some(state) = self.tables.get_mut(copy) {
                // Reserved by a call under way in the original: free in the copy.
                state.lowest_free = state.lowest_free.min(slot);
            }
        }
        Ok(())
    }

    /// One user of a table less; the last one closes everything in it.
    pub(crate) fn drop_table(&mut self, table: TableId) {
        let Some(state) = self.tables.get_mut(table) else { return };
        state.users -= 1;
        if state.users > 0 {
            return;
        }
        self.close_where(table, |_| true);
        let rows = self.tables.get(table).map_or([None; 32], |state| state.rows);
        self.tables.discard(table);
        for row in rows.into_iter().flatten() {
            self.drop_row(row);
        }
    }

    fn drop_row(&mut self, row: Id<ChunkRow>) {
        for chunk in self.rows.remove(row).into_iter().flatten().flatten() {
            self.chunks.remove(chunk);
        }
    }

    /// Closes every descriptor that the test picks.
    pub(crate) fn close_where(&mut self, table: TableId, pick: impl Fn(&HandleSlot) -> bool) {
        let bound = self.tables.get(table).map_or(0, |state| state.bound);
        for slot in 0..bound {
            let value = self.slot(table, slot);
            if value.object != Object::None && pick(&value) {
                self.empty(table, slot);
            }
        }
    }

    // What follows is the capability space of servers.

    pub(crate) fn table_of(&self, task: TaskId) -> Result<TableId, KernelError> {
        self.tasks.get(task).map(|task| task.table).ok_or(KernelError::BadHandle)
    }

    /// What a handle of a task names, if it may be used so.
    pub(crate) fn named(&self, task: TaskId, handle: u64, rights: Rights) -> Result<Object, KernelError> {
        let slot = u32::try_from(handle).map_err(|_| KernelError::BadHandle)?;
        let value = self.slot(self.table_of(task)?, slot);
        match value.object {
            Object::None => Err(KernelError::BadHandle),
            _ if !value.rights.contains(rights) => Err(KernelError::NoRight),
            object => Ok(object),
        }
    }

    /// Whether a slot chosen for a new handle can be used.
    pub(crate) fn check_free(&mut self, task: TaskId, slot: u64) -> Result<(), KernelError> {
        let slot = u32::try_from(slot).map_err(|_| KernelError::BadArgument)?;
        if slot >= CHUNK_SLOTS * TABLE_CHUNKS {
            return Err(self.refuse_slot(task, KernelError::BadArgument));
        }
        let table = self.table_of(task)?;
        self.make_chunk(table, slot)?;
        if self.is_taken(table, slot) { Err(self.refuse_slot(task, KernelError::SlotInUse)) } else { Ok(()) }
    }

    /// A slot chosen for a new handle cannot be used. A sound server knows which are free; one that does not, and would
    /// choose the same again, is to look.
    #[cold]
    pub(crate) fn refuse_slot(&mut self, task: TaskId, error: KernelError) -> KernelError {
        if let Some(server) = self.server_of(task) {
            self.raise_epoch(server);
        }
        error
    }

    /// Puts a new handle into a slot of a task's choice.
    pub(crate) fn put(
        &mut self,
        task: TaskId,
        slot: u64,
        object: Object,
        rights: Rights,
    ) -> Result<(), KernelError> {
        self.check_free(task, slot)?;
        let table = self.table_of(task)?;
        self.reserve(table, slot as u32)?;
        self.fill(table, slot as u32, HandleSlot { object, rights, close_on_exec: false });
        Ok(())
    }

    pub(crate) fn close_handles(&mut self, task: TaskId, [first, rest @ ..]: [u64; 6]) -> Outcome {
        let (first, more) = (first as u32, (first >> 32) as usize);
        if more > 2 * rest.len() {
            return Err(KernelError::BadArgument);
        }
        let rest = rest.into_iter().flat_map(|pair| [pair as u32, (pair >> 32) as u32]);
        let slots = core::iter::once(first).chain(rest.take(more));
        let table = self.table_of(task)?;
        if slots.clone().any(|slot| self.slot(table, slot).object == Object::None) {
            return Err(KernelError::BadHandle);
        }
        // One that was named twice is gone the second time.
        for slot in slots {
            let _ = self.empty(table, slot);
        }
        Ok([0; 5])
    }

    pub(crate) fn duplicate_handle(&mut self, task: TaskId, [handle, into, rights, ..]: [u64; 6]) -> Outcome {
        let rights = u8::try_from(rights).ok().and_then(Rights::from_bits).ok_or(KernelError::BadArgument)?;
        let object = match self.named(task, handle, rights)? {
            Object::OwnSession(session) => Object::Session(session),
            object => object,
        };
        self.put(task, into, object, rights)?;
        Ok([0; 5])
    }

    /// What goes to a receiver when a handle is sent: a server's own session becomes a counted one.
    pub(crate) fn sendable(&self, task: TaskId, handle: Handle) -> Result<Object, KernelError> {
        match self.named(task, u64::from(handle.0), Rights::TRANSFER)? {
            Object::OwnSession(session) => Ok(Object::Session(session)),
            object => Ok(object),
        }
    }

    /// The highest descriptor a task may have, plus one.
    pub(crate) fn descriptor_limit(&self, task: TaskId) -> u32 {
        let limit = self.tasks.get(task).map_or(0, |task| task.words[TaskWord::DescriptorLimit as usize]);
        limit.min(CHUNK_SLOTS * TABLE_CHUNKS)
    }
}

/// Counts every object of an arena that a test picks; for statistics and tests.
pub(crate) fn count_in<T: Blank>(arena: &Arena<T>, pick: impl Fn(&T) -> bool) -> u64 {
    (0..arena.bound()).filter_map(|index| arena.get(arena.at(index)?)).filter(|object| pick(object)).count()
        as u64
}
