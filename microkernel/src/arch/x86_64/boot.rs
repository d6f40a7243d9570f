//! From the boot loader to the first thread: memory is shared out, the core is built over it, and root is loaded.

use core::mem::{align_of, size_of};
use core::sync::atomic::AtomicU64;

use libipc::abi::foreign::LINUX_CALLS;
use libipc::abi::{Frame, PAGE_SIZE};
use libipc::archive::Archive;

use super::super::x86::acpi::Madt;
use super::super::x86::clock::{self, Clock};
use super::super::x86::pvh::{Range, StartInfo};
use super::super::x86::{apic, serial};
use super::machine::{FpuImage, Pc};
use super::paging::{self, DIRECT_MAP};
use super::{cpu, tables, trap};
use crate::core::Kernel;
use crate::core::arena::Slot;
use crate::core::boot::{Memory, Sizes};
use crate::core::frames::FrameInfo;
use crate::core::jitter::Jitter;
use crate::core::load::{Layout, load_root};
use crate::core::object::FrameRange;
use crate::core::trace::{self, RingMemory, RingPage};
use crate::core::watchdog;

/// The kernel's first function, on its stack, in the boot tables.
pub extern "C" fn start(info: u32) -> ! {
    serial::initialise();
    let info = StartInfo::read(u64::from(info), paging::read_physical).expect("no PVH start information");
    paging::initialise();
    cpu::initialise();
    tables::load();
    let madt = Madt::find(info.acpi_root, paging::read_physical).unwrap_or(Madt::STANDARD);
    apic::initialise(DIRECT_MAP + madt.local, DIRECT_MAP + madt.io);
    let clock = Clock::measure();
    let archive = info.archive.expect("no boot archive: pass one with -initrd");
    let (mut kernel, free) = build(&info, archive, clock, madt);
    kernel.epoch_s = clock::epoch_seconds();
    kernel.counter = clock.counter();
    kernel.seed = clock::entropy();
    if let Some(filter) = trace::wanted_filter(info.command_line) {
        kernel.set_trace(true, filter);
    }
    kernel.jitter = Jitter::from_command_line(info.command_line).expect("`seed=` needs a number behind it");
    kernel.fails_at = watchdog::fails_at(info.command_line);
    let bytes =
        paging::read_physical(archive.start, archive.end - archive.start).expect("archive out of reach");
    let archive = Archive::new(bytes).expect("the boot archive is damaged");
    load_root(&mut kernel, &archive, free).expect("root cannot be loaded");
    trap::install(kernel);
    // SAFETY: installed just now; nothing else has entered.
    let kernel = unsafe { trap::kernel() };
    let resume = kernel.resume(0);
    let block = trap::leave(kernel, resume);
    // SAFETY: the block is that of a thread the core has made ready.
    unsafe {
        core::arch::asm!("jmp {resume}", resume = sym super::entry::resume_thread, in("rax") block, options(noreturn))
    }
}

/// Memory being shared out from its low end.
struct Carver {
    next: u64,
    end: u64,
}

impl Carver {
    fn take<T>(&mut self, count: u32, value: impl Fn() -> T) -> &'static mut [T] {
        let start = self.next.next_multiple_of(align_of::<T>() as u64);
        let bytes = size_of::<T>() as u64 * u64::from(count);
        assert!(start + bytes <= self.end, "not enough memory for the kernel's objects");
        self.next = start + bytes;
        let first = (DIRECT_MAP + start) as *mut T;
        for index in 0..count as usize {
            // SAFETY: the carver hands each byte of this free memory out once; the direct map covers it.
            unsafe { first.add(index).write(value()) };
        }
        // SAFETY: every element was written just now, and nobody else has this memory.
        unsafe { core::slice::from_raw_parts_mut(first, count as usize) }
    }

    fn take_frames(&mut self, count: u32) -> FrameRange {
        let start = self.next.next_multiple_of(PAGE_SIZE);
        self.next = start + u64::from(count) * PAGE_SIZE;
        assert!(self.next <= self.end, "not enough memory for the kernel's buffers");
        FrameRange { first: Frame((start / PAGE_SIZE) as u32), count }
    }
}

/// The trace's ring, before all else, where a host looks for it: as large as the command line says (`trace=BYTES`) when
/// somebody reads along.
fn carve_ring(carver: &mut Carver, command_line: &[u8]) -> RingMemory {
    let wanted = trace::wanted(command_line).expect("`trace=` needs a power of two behind it");
    let page = carver.take(1, RingPage::new);
    let words = carver.take((wanted.unwrap_or(trace::OWN_BYTES) / 8) as u32, || AtomicU64::new(0));
    RingMemory { page: &page[0], words, is_read_along: wanted.is_some() }
}

/// Shares memory out and builds the core. Returns what is free for root, with the archive in it.
fn build(info: &StartInfo, archive: Range, clock: Clock, madt: Madt) -> (Kernel<Pc>, Layout) {
    let image_end = paging::image_end();
    let region = info.memory.iter().find(|range| (range.start..range.end).contains(&image_end));
    let region = region.expect("the kernel lies in no memory range");
    let end = region.end.min(paging::DIRECT_BYTES) & !(PAGE_SIZE - 1);
    // The archive lies at the top; a loader that puts it low moves the start up instead.
    let low = if archive.start < image_end + (8 << 20) { archive.end.max(image_end) } else { image_end };
    let mut carver = Carver {
        next: low.next_multiple_of(PAGE_SIZE),
        end: if low == image_end { archive.start } else { end },
    };
    let ring = carve_ring(&mut carver, info.command_line);
    let sizes = Sizes::for_frames(((end - carver.next) / PAGE_SIZE) as u32);
    let kept = carver.take_frames(sizes.buffers * 2);
    let fpu = carver.take(sizes.threads, || FpuImage::FRESH);
    let enosys = carver.take(LINUX_CALLS, || 0u32);
    let mut memory = Memory {
        tasks: carver.take(sizes.tasks, || Slot::EMPTY),
        threads: carver.take(sizes.threads, || Slot::EMPTY),
        spaces: carver.take(sizes.spaces, || Slot::EMPTY),
        tables: carver.take(sizes.tables, || Slot::EMPTY),
        directories: carver.take(sizes.tables, || Slot::EMPTY),
        rows: carver.take(sizes.tables, || Slot::EMPTY),
        chunks: carver.take(sizes.chunks, || Slot::EMPTY),
        sessions: carver.take(sizes.sessions, || Slot::EMPTY),
        calls: carver.take(sizes.calls, || Slot::EMPTY),
        watchers: carver.take(sizes.watchers, || Slot::EMPTY),
        servers: carver.take(sizes.servers, || Slot::EMPTY),
        buffers: carver.take(sizes.buffers, || 0),
        enosys: enosys.try_into().expect("as many counters as calls"),
        ring,
        frames: &mut [],
    };
    let frames = ((end - carver.next) / PAGE_SIZE) as u32;
    memory.frames = carver.take(frames, || FrameInfo::UNUSED);
    let first = Frame(carver.next.div_ceil(PAGE_SIZE) as u32);
    let count = (end / PAGE_SIZE) as u32 - first.0;
    let machine = Pc {
        memory: u64::from(kept.first.0) * PAGE_SIZE..end,
        clock,
        madt,
        fpu,
        fpu_owner: None,
        top: paging::kernel_top(),
    };
    let layout = Layout {
        free: FrameRange { first, count },
        archive: Frame((archive.start / PAGE_SIZE) as u32),
        archive_bytes: archive.end - archive.start,
    };
    let mut kernel = Kernel::new(machine, memory, first, kept);
    kernel.frames.shrink(count);
    (kernel, layout)
}
