//! What the core needs of a machine: physical memory, page-table entries, time, devices, a console log.

use libipc::abi::{Frame, PAGE_SIZE, Protection};

use super::object::{FrameRange, Thread, ThreadId};
use crate::window::Window;

/// A page-table entry, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Nothing there.
    Absent,
    /// A lower table.
    Table(Frame),
    /// A page.
    Page(Frame, Protection),
}

/// A machine. Frames given to the methods are always ones that [`super::frames::Frames`] knows; the memory of the
/// kernel's own objects is not among them, so none of these can reach it.
pub trait Machine {
    /// Levels of page tables.
    const LEVELS: u32;
    /// Bits of address that each level decodes, and entries per table.
    const LEVEL_BITS: u32;
    /// One past the highest user address.
    const USER_END: u64;

    /// A range of physical memory in one piece, from an offset on.
    fn bytes(&mut self, range: FrameRange, offset: u64, length: u64) -> &mut [u8];

    /// A range that will be reached into often; one that is not all there is of nothing.
    fn window(&mut self, range: FrameRange) -> Window;

    /// So many bytes of a window, from an offset on.
    fn view(&mut self, window: Window, offset: u64, length: u64) -> &mut [u8];

    /// Copies from one window to another, each from an offset on.
    fn copy_windows(&mut self, from: (Window, u64), to: (Window, u64), length: u64);

    /// Copies from one place of physical memory to another, which may overlap it only if it begins before it.
    fn copy(&mut self, from: u64, to: u64, length: u64);

    /// One entry of a page table.
    fn entry(&mut self, table: Frame, index: u32) -> Mapping;

    /// Sets one entry of a page table.
    fn set_entry(&mut self, table: Frame, index: u32, mapping: Mapping);

    /// Whether the page of this entry was written since it was mapped; clears the mark.
    fn take_dirty(&mut self, table: Frame, index: u32) -> bool;

    /// Fills the kernel's part of a new top table.
    fn prepare_root(&mut self, table: Frame);

    /// Forgets a translation in the address space with this top table.
    fn flush(&mut self, root: Frame, address: u64);

    /// Nanoseconds since boot.
    fn now(&mut self) -> u64;

    /// Sets the timer to a time since boot; `u64::MAX` stops it.
    fn set_timer(&mut self, deadline_ns: u64);

    /// Readies the processor for a thread that is about to run: its address space, its FPU state, and where its
    /// registers are kept.
    fn enter(&mut self, id: ThreadId, thread: &Thread);

    /// Brings the fs and gs bases of the running thread into force.
    fn set_bases(&mut self, fs: u64, gs: u64);

    /// Copies FPU and SSE state, or makes it fresh when there is no source.
    fn copy_fpu(&mut self, from: Option<ThreadId>, to: ThreadId);

    /// The FXSAVE image of a thread, to be read.
    fn read_fpu(&mut self, thread: ThreadId, image: &mut [u8; 512]);

    /// Sets the FXSAVE image of a thread, making it harmless first.
    fn write_fpu(&mut self, thread: ThreadId, image: &[u8; 512]);

    /// Reads an I/O port.
    fn port_in(&mut self, port: u16, width: u8) -> u32;

    /// Writes an I/O port.
    fn port_out(&mut self, port: u16, width: u8, value: u32);

    /// Opens or closes an interrupt line.
    fn enable_interrupt(&mut self, line: u8, enabled: bool);

    /// Whether a PCI function (bus << 8 | device << 3 | function) may write memory from now on.
    fn set_bus_master(&mut self, function: u16, on: bool);

    /// Prints on the console log.
    fn log(&mut self, bytes: &[u8]);
}

/// The physical address of a frame.
pub fn physical(frame: Frame) -> u64 {
    u64::from(frame.0) * PAGE_SIZE
}

impl FrameRange {
    /// One frame.
    pub fn one(frame: Frame) -> FrameRange {
        FrameRange { first: frame, count: 1 }
    }

    /// The physical address of its first byte.
    pub fn physical(self) -> u64 {
        physical(self.first)
    }
}
