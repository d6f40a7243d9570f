//! Who owns each frame, and what it is used for. A frame is a page table or mapped, never both; it returns to its
//! owner's free hands only when its last mapping is gone.

use libipc::abi::{Frame, KernelError};

use super::object::{FrameRange, TaskId};

/// What is known of one frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameInfo {
    /// Index of the task that may use it; `NOBODY` for the kernel's own.
    pub owner: u16,
    /// Mappings of it.
    pub mapped: u32,
    /// It is a page table.
    pub table: bool,
    /// It is known to contain nothing but zeroes: it was a page table, and nobody has been let near it since.
    pub zero: bool,
    /// Of a page table: among which entries those are that were ever set.
    pub used: (u16, u16),
}

/// Not for any task.
pub const NOBODY: u16 = u16::MAX;

impl FrameInfo {
    /// Not handed out yet.
    pub const UNUSED: FrameInfo =
        FrameInfo { owner: NOBODY, mapped: 0, table: false, zero: false, used: (0, 0) };
}

/// The frames that are not the kernel's own objects: one range of physical memory, with holes that nobody owns.
pub struct Frames {
    info: &'static mut [FrameInfo],
    first: u32,
}

impl Frames {
    /// Frames from `first` on, one for each entry.
    pub fn new(first: Frame, info: &'static mut [FrameInfo]) -> Frames {
        Frames { info, first: first.0 }
    }

    /// Takes the list apart: its places, not handed out.
    pub fn into_info(self) -> &'static mut [FrameInfo] {
        self.info.fill(FrameInfo::UNUSED);
        self.info
    }

    /// How many are mapped, and how many are page tables.
    pub fn used(&self) -> (u32, u32) {
        let count =
            |what: fn(&FrameInfo) -> bool| self.info.iter().filter(|frame| what(frame)).count() as u32;
        (count(|frame| frame.mapped > 0), count(|frame| frame.table))
    }

    /// Forgets the frames past a count: memory that turned out to be needed for something else.
    pub fn shrink(&mut self, count: u32) {
        let info = core::mem::take(&mut self.info);
        self.info = info.get_mut(..count as usize).unwrap_or_default();
    }

    /// Whether a frame is one of these: ordinary memory that is not the kernel's own.
    pub fn contains(&self, frame: Frame) -> bool {
        (frame.0.wrapping_sub(self.first) as usize) < self.info.len()
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.info.len() as u32
    }

    /// The first.
    pub fn first(&self) -> Frame {
        Frame(self.first)
    }

    fn get(&mut self, frame: Frame) -> Option<&mut FrameInfo> {
        self.info.get_mut(frame.0.wrapping_sub(self.first) as usize)
    }

    /// Whether the task may use the frame. It counts as written from now on.
    pub fn owned(&mut self, frame: Frame, task: TaskId) -> Result<&mut FrameInfo, KernelError> {
        let info = self.owned_as_is(frame, task)?;
        info.zero = false;
        Ok(info)
    }

    /// The same, for those who do not write it.
    pub fn owned_as_is(&mut self, frame: Frame, task: TaskId) -> Result<&mut FrameInfo, KernelError> {
        match self.get(frame) {
            Some(info) if u32::from(info.owner) == task.index() => Ok(info),
            _ => Err(KernelError::NoRight),
        }
    }

    /// Whether the task may use the frame for something new: it is neither mapped nor a table.
    pub fn idle(&mut self, frame: Frame, task: TaskId) -> Result<&mut FrameInfo, KernelError> {
        self.idle_as_is(frame, task)?;
        self.owned(frame, task)
    }

    /// The same, for those who do not write it.
    pub fn idle_as_is(&mut self, frame: Frame, task: TaskId) -> Result<&mut FrameInfo, KernelError> {
        let info = self.owned_as_is(frame, task)?;
        if info.table || info.mapped != 0 { Err(KernelError::FrameInUse) } else { Ok(info) }
    }

    /// Gives a range to a task, from another or from nobody. The caller has checked that it may.
    pub fn give(&mut self, range: FrameRange, owner: u16) {
        for frame in range.first.0..range.first.0.saturating_add(range.count) {
            if let Some(info) = self.get(Frame(frame)) {
                info.owner = owner;
            }
        }
    }

    /// Whether every frame of a range is the task's and idle.
    pub fn all_idle(&mut self, range: FrameRange, task: TaskId) -> Result<(), KernelError> {
        let end = range.first.0.checked_add(range.count).ok_or(KernelError::BadArgument)?;
        (range.first.0..end).try_for_each(|frame| self.idle(Frame(frame), task).map(|_| ()))
    }

    /// Counts a mapping in or out.
    pub fn count_mapping(&mut self, frame: Frame, more: bool) {
        if let Some(info) = self.get(frame) {
            info.mapped = if more { info.mapped.saturating_add(1) } else { info.mapped.saturating_sub(1) };
        }
    }

    /// Makes a frame a table, or an ordinary frame again.
    pub fn mark_table(&mut self, frame: Frame, table: bool) {
        if let Some(info) = self.get(frame) {
            (info.table, info.zero, info.used) = (table, false, (0, 0));
        }
    }

    /// A page table whose entries are all empty is an ordinary frame again.
    pub fn unmark_empty_table(&mut self, frame: Frame) {
        self.mark_table(frame, false);
        if let Some(info) = self.get(frame) {
            info.zero = true;
        }
    }

    /// Remembers that an entry of a page table is set.
    pub fn note_entry(&mut self, table: Frame, entry: u32) {
        if let Some(FrameInfo { used, .. }) = self.get(table) {
            let entry = entry as u16;
            *used = if used.1 == 0 { (entry, entry + 1) } else { (used.0.min(entry), used.1.max(entry + 1)) };
        }
    }

    /// Among which entries of a page table those are that may be set.
    pub fn entries(&mut self, table: Frame) -> core::ops::Range<u32> {
        let (first, end) = self.get(table).map_or((0, 0), |info| info.used);
        u32::from(first)..u32::from(end)
    }
}
