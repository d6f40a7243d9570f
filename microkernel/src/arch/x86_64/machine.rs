//! The PC as the core sees it.

use libipc::abi::{Frame, Protection};

use super::super::x86::acpi::Madt;
use super::super::x86::clock::Clock;
use super::super::x86::{apic, pci, port, serial};
use super::cpu;
use super::paging::{self, DIRECT_MAP};
use crate::core::machine::{Machine, Mapping};
use crate::core::object::{FrameRange, Thread, ThreadId};
use crate::window::Window;

/// FPU and SSE state as FXSAVE stores it.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct FpuImage(pub [u8; 512]);

impl FpuImage {
    /// As after FNINIT, with SSE exceptions masked.
    pub const FRESH: FpuImage = {
        let mut image = [0; 512];
        image[0] = 0x7f;
        image[1] = 0x03;
        image[24] = 0x80;
        image[25] = 0x1f;
        FpuImage(image)
    };
}

/// Bits of MXCSR that may be set on every CPU.
const MXCSR_MASK: u16 = 0xffbf;

/// The machine.
pub struct Pc {
    /// Physical memory the core may reach: not the kernel's own.
    pub memory: core::ops::Range<u64>,
    /// The clock.
    pub clock: Clock,
    /// Interrupt routing.
    pub madt: Madt,
    /// FPU state by thread index.
    pub fpu: &'static mut [FpuImage],
    /// Whose state is in the FPU.
    pub fpu_owner: Option<ThreadId>,
    /// The top table in force.
    pub top: Frame,
}

impl Pc {
    /// A pointer to physical memory, if all of it is the core's to reach.
    #[inline(always)]
    fn pointer(&self, start: u64, length: u64) -> Option<*mut u8> {
        let end = start.checked_add(length)?;
        (start >= self.memory.start && end <= self.memory.end).then_some((DIRECT_MAP + start) as *mut u8)
    }

    fn table(&mut self, table: Frame) -> Option<&mut [u64; 512]> {
        let pointer = self.pointer(u64::from(table.0) * 4096, 4096)?;
        // SAFETY: a whole frame of memory that is not the kernel's own; the borrow of `self` keeps it the only
        // reference.
        Some(unsafe { &mut *pointer.cast() })
    }

    /// Puts a thread's state into the FPU, keeping that of the thread before.
    fn load_fpu(&mut self, thread: ThreadId) {
        if self.fpu_owner == Some(thread) {
            return;
        }
        self.store_fpu();
        if let Some(image) = self.fpu.get(thread.index() as usize) {
            // SAFETY: the image is 512 bytes, aligned, and was checked or written by FXSAVE.
            unsafe {
                core::arch::asm!("fxrstor64 [{}]", in(reg) image.0.as_ptr(), options(nostack, readonly))
            };
        }
        self.fpu_owner = Some(thread);
    }

    /// Brings the FPU's state into memory.
    fn store_fpu(&mut self) {
        let Some(owner) = self.fpu_owner else { return };
        if let Some(image) = self.fpu.get_mut(owner.index() as usize) {
            // SAFETY: the image is 512 bytes and aligned.
            unsafe { core::arch::asm!("fxsave64 [{}]", in(reg) image.0.as_mut_ptr(), options(nostack)) };
        }
    }
}

fn encode(mapping: Mapping, memory: &core::ops::Range<u64>) -> u64 {
    match mapping {
        Mapping::Absent => 0,
        Mapping::Table(frame) => {
            u64::from(frame.0) * 4096 | paging::PRESENT | paging::WRITABLE | paging::USER | paging::TABLE_MARK
        }
        Mapping::Page(frame, protection) => {
            let physical = u64::from(frame.0) * 4096;
            let write = if protection.contains(Protection::WRITE) { paging::WRITABLE } else { 0 };
            let fetch = if protection.contains(Protection::EXECUTE) { 0 } else { paging::NO_EXECUTE };
            let cache = if memory.contains(&physical) { 0 } else { paging::UNCACHED };
            physical | paging::PRESENT | paging::USER | write | fetch | cache
        }
    }
}

fn decode(entry: u64) -> Mapping {
    let frame = Frame(((entry & paging::ADDRESS_MASK) / 4096) as u32);
    if entry & paging::PRESENT == 0 {
        return Mapping::Absent;
    }
    if entry & paging::TABLE_MARK != 0 {
        return Mapping::Table(frame);
    }
    // Without branches: copies for calls come by here.
    let (write, execute) = (entry & paging::WRITABLE != 0, entry & paging::NO_EXECUTE == 0);
    let bits = Protection::READ.bits()
        | Protection::WRITE.bits() * u8::from(write)
        | Protection::EXECUTE.bits() * u8::from(execute);
    Mapping::Page(frame, Protection::from_bits_truncate(bits))
}

/// Copies, ascending: most often few words or few bytes.
///
/// # Safety
/// Both are of that length and nobody refers to them meanwhile.
#[inline(always)]
unsafe fn copy_bytes(from: *const u8, to: *mut u8, length: u64) {
    // SAFETY: the caller's promise; the direction flag is clear in the kernel.
    unsafe {
        core::arch::asm!(
            "rep movsq",
            "mov ecx, {rest:e}",
            "rep movsb",
            rest = in(reg) length & 7,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

impl Machine for Pc {
    const LEVELS: u32 = 4;
    const LEVEL_BITS: u32 = 9;
    const USER_END: u64 = 0x7fff_ffff_f000;

    fn bytes(&mut self, range: FrameRange, offset: u64, length: u64) -> &mut [u8] {
        let inside = offset.checked_add(length).is_some_and(|end| end <= range.bytes());
        match self.pointer(range.physical() + offset, length).filter(|_| inside) {
            // SAFETY: memory that is not the kernel's own, in bounds; the borrow of `self` keeps it the only
            // reference.
            Some(pointer) => unsafe { core::slice::from_raw_parts_mut(pointer, length as usize) },
            None => &mut [],
        }
    }

    fn window(&mut self, range: FrameRange) -> Window {
        match self.pointer(range.physical(), range.bytes()) {
            // SAFETY: memory that is not the kernel's own stays that.
            Some(pointer) if range.count > 0 => unsafe { Window::new(pointer as u64, range.bytes()) },
            _ => Window::NONE,
        }
    }

    #[inline(always)]
    fn view(&mut self, window: Window, offset: u64, length: u64) -> &mut [u8] {
        match window.place(offset, length) {
            // SAFETY: the window is of memory that is not the kernel's own; the borrow of `self` keeps it the only
            // reference.
            Some(place) => unsafe { core::slice::from_raw_parts_mut(place as *mut u8, length as usize) },
            None => &mut [],
        }
    }

    #[inline(always)]
    fn copy_windows(&mut self, (from, at): (Window, u64), (to, place): (Window, u64), length: u64) {
        if let (Some(from), Some(to)) = (from.place(at, length), to.place(place, length)) {
            // SAFETY: both windows are of memory that is not the kernel's own.
            unsafe { copy_bytes(from as *const u8, to as *mut u8, length) };
        }
    }

    #[inline(always)]
    fn copy(&mut self, from: u64, to: u64, length: u64) {
        let (Some(from), Some(to)) = (self.pointer(from, length), self.pointer(to, length)) else { return };
        // SAFETY: both are memory that is not the kernel's own, in bounds.
        unsafe { copy_bytes(from, to, length) };
    }

    fn entry(&mut self, table: Frame, index: u32) -> Mapping {
        self.table(table).map_or(Mapping::Absent, |table| decode(table[index as usize & 511]))
    }

    fn set_entry(&mut self, table: Frame, index: u32, mapping: Mapping) {
        let entry = encode(mapping, &self.memory);
        if let Some(table) = self.table(table) {
            table[index as usize & 511] = entry;
        }
    }

    fn take_dirty(&mut self, table: Frame, index: u32) -> bool {
        let Some(table) = self.table(table) else { return false };
        let entry = &mut table[index as usize & 511];
        let dirty = *entry & paging::DIRTY != 0;
        *entry &= !paging::DIRTY;
        dirty
    }

    fn prepare_root(&mut self, table: Frame) {
        if let Some(table) = self.table(table) {
            for (index, entry) in paging::kernel_half() {
                table[index] = entry;
            }
        }
    }

    fn flush(&mut self, root: Frame, address: u64) {
        if root != self.top {
            return;
        }
        match address {
            u64::MAX => paging::activate(u64::from(root.0) * 4096),
            // SAFETY: forgetting a translation is always safe.
            _ => unsafe { x86::tlb::flush(address as usize) },
        }
    }

    fn now(&mut self) -> u64 {
        self.clock.now()
    }

    fn set_timer(&mut self, deadline_ns: u64) {
        self.clock.set_timer(deadline_ns);
    }

    fn enter(&mut self, id: ThreadId, thread: &Thread) {
        if thread.top != self.top {
            self.top = thread.top;
            paging::activate(u64::from(thread.top.0) * 4096);
        }
        if thread.server.is_none() {
            self.set_bases(thread.registers.fs_base, thread.registers.gs_base);
            self.load_fpu(id);
        }
        cpu::set_registers(&raw const thread.registers as u64);
    }

    fn set_bases(&mut self, fs: u64, gs: u64) {
        cpu::set_fs_base(fs);
        cpu::set_user_gs_base(gs);
    }

    fn copy_fpu(&mut self, from: Option<ThreadId>, to: ThreadId) {
        if self.fpu_owner == Some(to) {
            self.fpu_owner = None;
        }
        let place = to.index() as usize;
        if place >= self.fpu.len() {
            return;
        }
        match from.map(|from| (from, from.index() as usize)) {
            Some((from, source)) if source < self.fpu.len() => {
                if self.fpu_owner == Some(from) {
                    self.store_fpu();
                }
                self.fpu.copy_within(source..source + 1, place);
            }
            _ => self.fpu[place] = FpuImage::FRESH,
        }
    }

    fn read_fpu(&mut self, thread: ThreadId, image: &mut [u8; 512]) {
        if self.fpu_owner == Some(thread) {
            self.store_fpu();
        }
        if let Some(own) = self.fpu.get(thread.index() as usize) {
            *image = own.0;
        }
    }

    fn write_fpu(&mut self, thread: ThreadId, image: &[u8; 512]) {
        if self.fpu_owner == Some(thread) {
            self.fpu_owner = None;
        }
        let mut image = *image;
        let mxcsr = u16::from_le_bytes([image[24], image[25]]) & MXCSR_MASK;
        image[24..28].copy_from_slice(&u32::from(mxcsr).to_le_bytes());
        if let Some(place) = self.fpu.get_mut(thread.index() as usize) {
            place.0 = image;
        }
    }

    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        port::read(port, width)
    }

    fn port_out(&mut self, port: u16, width: u8, value: u32) {
        port::write(port, width, value);
    }

    fn enable_interrupt(&mut self, line: u8, enabled: bool) {
        apic::enable_line(&self.madt, line, enabled);
    }

    fn set_bus_master(&mut self, function: u16, on: bool) {
        pci::set_bus_master(function, on);
    }

    fn log(&mut self, bytes: &[u8]) {
        serial::write(bytes);
    }
}
