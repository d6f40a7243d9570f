//! An emulated machine for the host: memory is a vector, time stands still unless it is told to go on, devices are
//! silent unless some are plugged in. The core runs over it under unit tests and in the simulator.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use libipc::abi::{Frame, Protection};

use crate::core::Kernel;
use crate::core::arena::Slot;
use crate::core::boot::{Memory, Sizes};
use crate::core::frames::FrameInfo;
use crate::core::machine::{Machine, Mapping};
use crate::core::object::{FrameRange, Thread, ThreadId};
use crate::core::trace::{OWN_BYTES, RingMemory};
use crate::window::Window;

const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const TABLE: u64 = 2;
const PROTECTION_SHIFT: u32 = 2;
const DIRTY: u64 = 1 << 8;

/// Devices behind I/O ports and interrupt lines.
pub trait Devices: std::fmt::Debug {
    /// A port is read.
    fn port_in(&mut self, port: u16, width: u8) -> u32;

    /// A port is written.
    fn port_out(&mut self, port: u16, width: u8, value: u32);

    /// An interrupt line is opened or closed.
    fn enable_interrupt(&mut self, line: u8, enabled: bool);
}

/// Memory of a machine that is switched off, to be used again: most of what a machine has it never touches.
#[derive(Debug, Default)]
pub struct Blank {
    memory: Vec<u8>,
    touched: Vec<bool>,
}

/// The machine.
#[derive(Debug)]
pub struct Emulated {
    memory: Vec<u8>,
    /// Which pages of it may have been written.
    touched: Vec<bool>,
    /// Physical address of the first byte of `memory`.
    base: u64,
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// What the timer is set to.
    pub timer_ns: u64,
    /// What was printed on the console log.
    pub log: Vec<u8>,
    /// What ports were written, in order.
    pub port_writes: Vec<(u16, u32)>,
    /// The PCI functions that were told whether they may write memory.
    pub bus_masters: BTreeMap<u16, bool>,
    /// What is plugged in.
    pub devices: Option<Box<dyn Devices>>,
    fpu: BTreeMap<u32, [u8; 512]>,
}

impl Emulated {
    fn place(&self, physical: u64, length: u64) -> Option<std::ops::Range<usize>> {
        let start = physical.checked_sub(self.base)?;
        let end = start.checked_add(length)?;
        (end <= self.memory.len() as u64).then_some(start as usize..end as usize)
    }

    fn touch(&mut self, place: &std::ops::Range<usize>) {
        let pages = place.start / PAGE as usize..place.end.div_ceil(PAGE as usize);
        self.touched[pages].fill(true);
    }

    /// The memory, as it is when a machine is switched on.
    pub fn into_blank(self) -> Blank {
        let Emulated { mut memory, mut touched, .. } = self;
        for (page, touched) in memory.chunks_mut(PAGE as usize).zip(&mut touched) {
            if std::mem::take(touched) {
                page.fill(0);
            }
        }
        Blank { memory, touched }
    }

    fn entry_place(&self, table: Frame, index: u32) -> Option<std::ops::Range<usize>> {
        self.place(u64::from(table.0) * PAGE + u64::from(index) * 8, 8)
    }

    fn entry_word(&self, table: Frame, index: u32) -> u64 {
        let place = self.entry_place(table, index);
        let bytes = place.and_then(|place| <[u8; 8]>::try_from(&self.memory[place]).ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    fn set_entry_word(&mut self, table: Frame, index: u32, word: u64) {
        if let Some(place) = self.entry_place(table, index) {
            self.touch(&place);
            self.memory[place].copy_from_slice(&word.to_le_bytes());
        }
    }
}

impl Machine for Emulated {
    const LEVELS: u32 = 4;
    const LEVEL_BITS: u32 = 9;
    const USER_END: u64 = 0x7fff_ffff_f000;

    fn bytes(&mut self, range: FrameRange, offset: u64, length: u64) -> &mut [u8] {
        match self.place(range.physical() + offset, length) {
            Some(place) if offset + length <= range.bytes() => {
                self.touch(&place);
                &mut self.memory[place]
            }
            _ => &mut [],
        }
    }

    fn window(&mut self, range: FrameRange) -> Window {
        match self.place(range.physical(), range.bytes()) {
            // SAFETY: what is done with it is checked again.
            Some(place) => unsafe { Window::new(place.start as u64, range.bytes()) },
            None => Window::NONE,
        }
    }

    fn view(&mut self, window: Window, offset: u64, length: u64) -> &mut [u8] {
        let Some(place) = window.place(offset, length) else { return &mut [] };
        let place = place as usize..(place + length) as usize;
        self.touch(&place);
        &mut self.memory[place]
    }

    fn copy_windows(&mut self, (from, at): (Window, u64), (to, place): (Window, u64), length: u64) {
        let (Some(from), Some(to)) = (from.place(at, length), to.place(place, length)) else { return };
        self.touch(&(to as usize..(to + length) as usize));
        self.memory.copy_within(from as usize..(from + length) as usize, to as usize);
    }

    fn copy(&mut self, from: u64, to: u64, length: u64) {
        if let (Some(from), Some(to)) = (self.place(from, length), self.place(to, length)) {
            self.touch(&to);
            self.memory.copy_within(from, to.start);
        }
    }

    fn entry(&mut self, table: Frame, index: u32) -> Mapping {
        let word = self.entry_word(table, index);
        let frame = Frame((word >> 12) as u32);
        if word & PRESENT == 0 {
            Mapping::Absent
        } else if word & TABLE != 0 {
            Mapping::Table(frame)
        } else {
            Mapping::Page(frame, Protection::from_bits_truncate((word >> PROTECTION_SHIFT) as u8))
        }
    }

    fn set_entry(&mut self, table: Frame, index: u32, mapping: Mapping) {
        let word = match mapping {
            Mapping::Absent => 0,
            Mapping::Table(frame) => u64::from(frame.0) << 12 | TABLE | PRESENT,
            Mapping::Page(frame, protection) => {
                // No store is seen here, so every writable page counts as written.
                let dirty = if protection.contains(Protection::WRITE) { DIRTY } else { 0 };
                u64::from(frame.0) << 12 | u64::from(protection.bits()) << PROTECTION_SHIFT | PRESENT | dirty
            }
        };
        self.set_entry_word(table, index, word);
    }

    fn take_dirty(&mut self, table: Frame, index: u32) -> bool {
        self.entry_word(table, index) & DIRTY != 0
    }

    fn prepare_root(&mut self, _: Frame) {}

    fn flush(&mut self, _: Frame, _: u64) {}

    fn now(&mut self) -> u64 {
        self.time_ns
    }

    fn set_timer(&mut self, deadline_ns: u64) {
        self.timer_ns = deadline_ns;
    }

    fn enter(&mut self, _id: ThreadId, _thread: &Thread) {}

    fn set_bases(&mut self, _fs: u64, _gs: u64) {}

    fn copy_fpu(&mut self, from: Option<ThreadId>, to: ThreadId) {
        let image = from.and_then(|from| self.fpu.get(&from.index()).copied()).unwrap_or([0; 512]);
        self.fpu.insert(to.index(), image);
    }

    fn read_fpu(&mut self, thread: ThreadId, image: &mut [u8; 512]) {
        *image = self.fpu.get(&thread.index()).copied().unwrap_or([0; 512]);
    }

    fn write_fpu(&mut self, thread: ThreadId, image: &[u8; 512]) {
        self.fpu.insert(thread.index(), *image);
    }

    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        self.devices.as_mut().map_or(u32::MAX, |devices| devices.port_in(port, width))
    }

    fn port_out(&mut self, port: u16, width: u8, value: u32) {
        match &mut self.devices {
            Some(devices) => devices.port_out(port, width, value),
            None => self.port_writes.push((port, value)),
        }
    }

    fn enable_interrupt(&mut self, line: u8, enabled: bool) {
        if let Some(devices) = &mut self.devices {
            devices.enable_interrupt(line, enabled);
        }
    }

    fn set_bus_master(&mut self, function: u16, on: bool) {
        self.bus_masters.insert(function, on);
    }

    fn log(&mut self, bytes: &[u8]) {
        self.log.extend_from_slice(bytes);
    }
}

fn leak<T>(count: u32, value: impl Fn() -> T) -> &'static mut [T] {
    Box::leak((0..count).map(|_| value()).collect::<Vec<T>>().into_boxed_slice())
}

/// The first frame of the emulated memory.
const FIRST: u32 = 0x1000;

/// Memory for the objects of a kernel over so many frames. It is leaked; what runs many kernels gets it back from
/// [`Kernel::into_memory`] for the next one.
pub fn memory(frames: u32) -> Memory {
    let sizes = Sizes { buffers: 16, ..Sizes::for_frames(frames) };
    Memory {
        tasks: leak(sizes.tasks, || Slot::EMPTY),
        threads: leak(sizes.threads, || Slot::EMPTY),
        spaces: leak(sizes.spaces, || Slot::EMPTY),
        tables: leak(sizes.tables, || Slot::EMPTY),
        directories: leak(sizes.tables, || Slot::EMPTY),
        rows: leak(sizes.tables, || Slot::EMPTY),
        chunks: leak(sizes.chunks, || Slot::EMPTY),
        sessions: leak(sizes.sessions, || Slot::EMPTY),
        calls: leak(sizes.calls, || Slot::EMPTY),
        watchers: leak(sizes.watchers, || Slot::EMPTY),
        servers: leak(sizes.servers, || Slot::EMPTY),
        buffers: leak(sizes.buffers, || 0),
        enosys: Box::leak(Box::new([0; libipc::abi::foreign::LINUX_CALLS as usize])),
        frames: leak(frames - sizes.buffers * 2, || FrameInfo::UNUSED),
        ring: RingMemory {
            page: Box::leak(Box::default()),
            words: leak((OWN_BYTES / 8) as u32, || AtomicU64::new(0)),
            is_read_along: false,
        },
    }
}

/// A kernel over memory from [`memory`], and the frames that are free.
pub fn kernel_over(memory: Memory, blank: Blank) -> (Kernel<Emulated>, FrameRange) {
    let kept_frames = memory.buffers.len() as u32 * 2;
    let free = memory.frames.len() as u32;
    let pages = (kept_frames + free) as usize;
    let Blank { memory: mut bytes, mut touched } = blank;
    if touched.len() != pages {
        (bytes, touched) = (vec![0; pages * PAGE as usize], vec![false; pages]);
    }
    let machine = Emulated {
        memory: bytes,
        touched,
        base: u64::from(FIRST) * PAGE,
        time_ns: 0,
        timer_ns: u64::MAX,
        log: Vec::new(),
        port_writes: Vec::new(),
        bus_masters: BTreeMap::new(),
        devices: None,
        fpu: BTreeMap::new(),
    };
    let kept = FrameRange { first: Frame(FIRST), count: kept_frames };
    let first = Frame(FIRST + kept_frames);
    (Kernel::new(machine, memory, first, kept), FrameRange { first, count: free })
}

/// A kernel over so many frames of emulated memory, and the frames that are free. Its arenas are leaked: a test's
/// process is short.
pub fn kernel(frames: u32) -> (Kernel<Emulated>, FrameRange) {
    kernel_over(memory(frames), Blank::default())
}
