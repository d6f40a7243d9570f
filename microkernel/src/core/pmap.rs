//! The pmap: page tables of address spaces. All memory is handed in before: a map never allocates and never stops
//! half-way. Translation for copies walks the same tables that the hardware walks.

use libipc::abi::foreign::Role;
use libipc::abi::{Badge, Frame, KernelError, Owned, PAGE_SIZE, Protection, Rights};

use libipc::abi::delivery::PAYLOAD_OFFSET;
use zerocopy::FromBytes;

use super::machine::{Machine, Mapping, physical};
use super::object::*;
use super::user_memory::Walks;
use super::{Kernel, Outcome};

/// Most pages in one map call.
const MAP_PAGES_MAX: u64 = 511;
/// Most pages that unmap and protect walk in one call: 1 GiB.
const RANGE_PAGES_MAX: u64 = 1 << 18;

pub(crate) fn index<M: Machine>(address: u64, level: u32) -> u32 {
    let shift = 12 + M::LEVEL_BITS * level;
    ((address >> shift) & ((1 << M::LEVEL_BITS) - 1)) as u32
}

/// A page is readable at least, and never writable and executable together.
fn check_protection(protection: Protection) -> Result<(), KernelError> {
    let both = protection.contains(Protection::WRITE | Protection::EXECUTE);
    if both || !protection.contains(Protection::READ) { Err(KernelError::BadArgument) } else { Ok(()) }
}

impl<M: Machine> Kernel<M> {
    fn space_of(&self, task: TaskId, handle: u64) -> Result<SpaceId, KernelError> {
        let Object::Space(space) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        self.spaces.get(space).map(|_| space).ok_or(KernelError::BadHandle)
    }

    /// Whether a server may use a frame for something new; see [`Kernel::vacate`].
    fn make_idle(&mut self, frame: Frame, task: TaskId) -> Result<(), KernelError> {
        match self.frames.idle_as_is(frame, task) {
            Err(KernelError::FrameInUse) => self.vacate(frame, task),
            idle => idle.map(|_| ()),
        }
    }

    pub(crate) fn space_create(&mut self, task: TaskId, [into, badge, frame, ..]: [u64; 6]) -> Outcome {
        let frame = Frame(u32::try_from(frame).map_err(|_| KernelError::NoRight)?);
        self.make_idle(frame, task)?;
        self.frames.idle(frame, task)?;
        self.check_free(task, into)?;
        let pager = self.server_of(task).ok_or(KernelError::WrongState)?;
        let space = Space::new(frame, pager, Badge(badge));
        self.charge(pager, Owned::Spaces)?;
        let Ok(space) = self.spaces.insert(space) else {
            self.credit(pager, Owned::Spaces);
            return Err(KernelError::Exhausted);
        };
        if let Err(error) = self.put(task, into, Object::Space(space), Rights::all()) {
            self.spaces.remove(space);
            self.credit(pager, Owned::Spaces);
            return Err(error);
        }
        self.machine.bytes(FrameRange::one(frame), 0, PAGE_SIZE).fill(0);
        self.machine.prepare_root(frame);
        self.frames.mark_table(frame, true);
        Ok([0; 5])
    }

    pub(crate) fn space_destroy(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let space = self.space_of(task, handle)?;
        self.clear_tables(space);
        if let Some(state) = self.spaces.get_mut(space) {
            state.destroyed = true;
        }
        self.free_space_if_unused(space);
        Ok([0; 5])
    }

    /// A space goes when its pager has given it up and no task uses it; its top table is the pager's again then.
    pub(crate) fn free_space_if_unused(&mut self, space: SpaceId) {
        if self.spaces.get(space).is_some_and(|state| state.destroyed && state.users == 0)
            && let Some(state) = self.spaces.remove(space)
        {
            self.frames.mark_table(state.root, false);
            self.credit(state.pager, Owned::Spaces);
        }
    }

    /// Unmaps everything and gives the tables below the top one back.
    fn clear_tables(&mut self, space: SpaceId) {
        let Some(root) = self.spaces.get(space).map(|space| space.root) else { return };
        self.clear_table(root, M::LEVELS - 1);
        self.walks = Walks::NONE;
        self.machine.flush(root, u64::MAX);
    }

    pub(crate) fn clear_table(&mut self, table: Frame, level: u32) {
        for entry in self.frames.entries(table) {
            let mapping = self.machine.entry(table, entry);
            match mapping {
                Mapping::Absent => continue,
                Mapping::Page(frame, _) => self.frames.count_mapping(frame, false),
                Mapping::Table(lower) if level > 0 => {
                    self.clear_table(lower, level - 1);
                    self.frames.unmark_empty_table(lower);
                }
                Mapping::Table(_) => {}
            }
            self.machine.set_entry(table, entry, Mapping::Absent);
        }
    }

    pub(crate) fn map(&mut self, task: TaskId, [handle, tables, pages, fills @ ..]: [u64; 6]) -> Outcome {
        let space = self.space_of(task, handle)?;
        if tables > 64 || pages > MAP_PAGES_MAX {
            return Err(KernelError::BadArgument);
        }
        let root = self.spaces.get(space).ok_or(KernelError::BadHandle)?.root;
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let pages_at = (tables * 4).next_multiple_of(8);
        for number in 0..tables {
            let frame = Frame(self.payload_u32(buffer, number * 4));
            self.make_idle(frame, task)?;
            if (0..number).any(|before| self.payload_u32(buffer, before * 4) == frame.0) {
                return Err(KernelError::FrameInUse);
            }
        }
        for number in 0..pages {
            let frame = self.check_page(task, buffer, pages_at + number * 16)?;
            if (0..tables).any(|table| self.payload_u32(buffer, table * 4) == frame.0) {
                return Err(KernelError::FrameInUse);
            }
        }
        if self.missing_tables(root, buffer, pages_at, pages) > tables {
            return Err(KernelError::NeedTable);
        }
        let fills = self.frame_pairs(task, fills)?;
        self.fill_frames(fills.into_iter().flatten());
        let (mut next_table, mut more) = (0, 0);
        // The lowest table of the page before, which most often is that of the next.
        let mut lowest = (u64::MAX, root);
        for number in 0..pages {
            let (address, frame, protection) = self.page_listed(buffer, pages_at + number * 16);
            let span = address / (PAGE_SIZE << M::LEVEL_BITS);
            if span == lowest.0 {
                more += self.set_page(root, lowest.1, address, Mapping::Page(frame, protection));
                continue;
            }
            let mut table = root;
            for level in (1..M::LEVELS).rev() {
                let entry = index::<M>(address, level);
                table = match self.machine.entry(table, entry) {
                    Mapping::Table(lower) => lower,
                    _ if next_table < tables => {
                        let lower = Frame(self.payload_u32(buffer, next_table * 4));
                        next_table += 1;
                        if !self.frames.idle_as_is(lower, task)?.zero {
                            self.machine.bytes(FrameRange::one(lower), 0, PAGE_SIZE).fill(0);
                        }
                        self.frames.mark_table(lower, true);
                        self.machine.set_entry(table, entry, Mapping::Table(lower));
                        self.frames.note_entry(table, entry);
                        lower
                    }
                    // They were counted before.
                    _ => return Err(KernelError::NeedTable),
                };
            }
            lowest = (span, table);
            more += self.set_page(root, table, address, Mapping::Page(frame, protection));
        }
        self.count_pages(space, more);
        Ok([next_table, 0, 0, 0, 0])
    }

    /// How many tables are missing for the pages of a list.
    fn missing_tables(&mut self, root: Frame, buffer: FrameRange, pages_at: u64, pages: u64) -> u64 {
        let (mut missing, mut last) = (0, u64::MAX);
        for number in 0..pages {
            let (address, ..) = self.page_listed(buffer, pages_at + number * 16);
            let span = address / (PAGE_SIZE << M::LEVEL_BITS);
            if core::mem::replace(&mut last, span) == span
                || self.user_memory().leaf_table(root, address).is_some()
            {
                continue;
            }
            for level in 0..self.lowest_table(root, address) {
                let shift = 12 + M::LEVEL_BITS * (level + 1);
                let own = |kernel: &mut Self, other: u64| {
                    kernel.page_listed(buffer, pages_at + other * 16).0 >> shift == address >> shift
                };
                // It most often is the page before that needs the same table.
                missing += u64::from(!(0..number).rev().any(|other| own(self, other)));
            }
        }
        missing
    }

    /// The level of the lowest table that there is for an address.
    fn lowest_table(&mut self, root: Frame, address: u64) -> u32 {
        let mut table = root;
        for level in (1..M::LEVELS).rev() {
            match self.machine.entry(table, index::<M>(address, level)) {
                Mapping::Table(lower) => table = lower,
                _ => return level,
            }
        }
        0
    }

    /// A page of the list in the payload, as it stands there.
    fn page_listed(&mut self, buffer: FrameRange, at: u64) -> (u64, Frame, Protection) {
        let bytes = self.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET) + at, 16);
        let Ok(words) = <[[u8; 4]; 4]>::ref_from_bytes(bytes) else {
            return (0, Frame(0), Protection::empty());
        };
        let [low, high, frame, bits] = words.map(u32::from_le_bytes);
        let protection = u8::try_from(bits).ok().and_then(Protection::from_bits);
        (u64::from(low) | u64::from(high) << 32, Frame(frame), protection.unwrap_or_default())
    }

    /// Checks a page of the list, address, frame and protection: its frame.
    fn check_page(&mut self, task: TaskId, buffer: FrameRange, at: u64) -> Result<Frame, KernelError> {
        let (address, frame, protection) = self.page_listed(buffer, at);
        if !address.is_multiple_of(PAGE_SIZE) || address >= M::USER_END || address == 0 {
            return Err(KernelError::BadAddress);
        }
        check_protection(protection)?;
        // Device registers are nobody's memory: root may map them for a driver.
        let device = !self.frames.contains(frame) && self.root == Some(task);
        if !device && !self.is_lent(frame, task) && self.frames.owned(frame, task)?.table {
            self.vacate(frame, task)?;
        }
        Ok(frame)
    }

    /// Whether a frame is of a server's arena and the task is the memory server: what is in an arena can be mapped
    /// where it lies.
    pub(crate) fn is_lent(&mut self, frame: Frame, task: TaskId) -> bool {
        let memory = self.roles[Role::Vm as usize];
        memory.is_some()
            && memory == self.server_of(task)
            && self.frames.owned(frame, task).is_err()
            && self.arenas_hold(frame)
    }

    fn arenas_hold(&self, frame: Frame) -> bool {
        let servers = (0..self.servers.bound()).filter_map(|index| self.servers.at(index));
        servers.filter_map(|id| self.servers.get(id)).any(|server| {
            let arena = server.arena;
            (arena.first.0..arena.first.0 + arena.count).contains(&frame.0)
        })
    }

    /// Replaces one page, counting frames in and out. How many pages more are mapped than before.
    fn set_page(&mut self, root: Frame, table: Frame, address: u64, mapping: Mapping) -> i32 {
        let entry = index::<M>(address, 0);
        let mut more = 0;
        if let Mapping::Page(frame, _) = mapping {
            self.frames.count_mapping(frame, true);
            more += 1;
        }
        if let Mapping::Page(frame, _) = self.machine.entry(table, entry) {
            self.frames.count_mapping(frame, false);
            more -= 1;
        }
        self.machine.set_entry(table, entry, mapping);
        self.frames.note_entry(table, entry);
        self.machine.flush(root, address);
        more
    }

    /// Keeps the counts of a space's pages.
    fn count_pages(&mut self, space: SpaceId, more: i32) {
        if let Some(state) = self.spaces.get_mut(space) {
            state.mapped_pages = state.mapped_pages.saturating_add_signed(more);
            state.peak_pages = state.peak_pages.max(state.mapped_pages);
        }
    }

    pub(crate) fn unmap(&mut self, task: TaskId, [handle, address, pages, ..]: [u64; 6]) -> Outcome {
        let space = self.space_of(task, handle)?;
        self.each_page(space, address, pages, |_| Mapping::Absent)
    }

    pub(crate) fn protect(&mut self, task: TaskId, [handle, address, pages, bits, ..]: [u64; 6]) -> Outcome {
        let space = self.space_of(task, handle)?;
        let protection =
            u8::try_from(bits).ok().and_then(Protection::from_bits).ok_or(KernelError::BadArgument)?;
        check_protection(protection)?;
        self.each_page(space, address, pages, |frame| Mapping::Page(frame, protection))
    }

    fn each_page(
        &mut self,
        space: SpaceId,
        address: u64,
        pages: u64,
        change: impl Fn(Frame) -> Mapping,
    ) -> Outcome {
        let bytes = pages.checked_mul(PAGE_SIZE).ok_or(KernelError::BadArgument)?;
        let end = address.checked_add(bytes).ok_or(KernelError::BadAddress)?;
        if !address.is_multiple_of(PAGE_SIZE) || end > M::USER_END {
            return Err(KernelError::BadAddress);
        }
        if pages > RANGE_PAGES_MAX {
            return Err(KernelError::BadArgument);
        }
        let root = self.spaces.get(space).ok_or(KernelError::BadHandle)?.root;
        let mut at = address;
        let (mut changed, mut more) = (0, 0);
        while at < end {
            let Some(table) = self.user_memory().leaf_table(root, at) else {
                // Skip to the next lowest-level table.
                at = (at | ((PAGE_SIZE << M::LEVEL_BITS) - 1)) + 1;
                continue;
            };
            if let Mapping::Page(frame, _) = self.machine.entry(table, index::<M>(at, 0)) {
                more += self.set_page(root, table, at, change(frame));
                changed += 1;
            }
            at += PAGE_SIZE;
        }
        self.count_pages(space, more);
        Ok([changed, 0, 0, 0, 0])
    }

    /// Fills a server's writable memory as it was before its first start: only pages that were written are touched.
    pub(crate) fn refill(&mut self, space: SpaceId, segment: Segment) {
        let Some(root) = self.spaces.get(space).map(|space| space.root) else { return };
        for page in 0..u64::from(segment.pages) {
            let address = segment.address + page * PAGE_SIZE;
            let Some(table) = self.user_memory().leaf_table(root, address) else { continue };
            let entry = index::<M>(address, 0);
            let Mapping::Page(frame, _) = self.machine.entry(table, entry) else { continue };
            if !self.machine.take_dirty(table, entry) {
                continue;
            }
            self.machine.flush(root, address);
            let pristine = u64::from(segment.bytes).saturating_sub(page * PAGE_SIZE).min(PAGE_SIZE);
            if pristine > 0 {
                let from = segment.pristine.physical() + page * PAGE_SIZE;
                self.machine.copy(from, physical(frame), pristine);
            }
            self.machine.bytes(FrameRange::one(frame), pristine, PAGE_SIZE - pristine).fill(0);
        }
    }
}
