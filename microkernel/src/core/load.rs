//! Loads root, the one server the kernel itself starts: from its image in the boot archive, over memory taken from
//! the low end of what is free. Everything else is root's to make.

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use libipc::abi::delivery::BUFFER_PAGES;
use libipc::abi::{Frame, KernelError, PAGE_SIZE, Protection};
use libipc::archive::Archive;
use libipc::manifest::ROOT;
use libipc::server::boot::{
    ARCHIVE_ADDRESS, BOOT_ADDRESS, BOOT_PAGES, HEAP_ADDRESS, MESSAGE_BUFFER_ADDRESS, ROOT_MAGIC, RootBoot,
    STACK_PAGES, STACK_TOP,
};
use zerocopy::IntoBytes;

use super::Kernel;
use super::machine::{Machine, Mapping, physical};
use super::object::{FrameRange, Segment};
use super::pmap::index;

/// Root's heap.
const HEAP_PAGES: u32 = 512;
/// Root's journal.
const JOURNAL_PAGES: u32 = 256;
/// Root's two snapshots.
const SNAPSHOT_PAGES: u32 = 64;

/// What boot has left.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Free frames, the archive's among them.
    pub free: FrameRange,
    /// Where the boot archive begins.
    pub archive: Frame,
    /// Its length.
    pub archive_bytes: u64,
}

/// Root being loaded.
struct Loader<'k, M: Machine> {
    kernel: &'k mut Kernel<M>,
    /// The next frame that is free.
    next: u32,
    end: u32,
    top: Frame,
    segments: [Segment; 4],
    count: usize,
}

impl<M: Machine> Loader<'_, M> {
    fn take(&mut self, count: u32) -> Result<FrameRange, KernelError> {
        let range = FrameRange { first: Frame(self.next), count };
        self.next =
            self.next.checked_add(count).filter(|next| *next <= self.end).ok_or(KernelError::Exhausted)?;
        self.kernel.machine.bytes(range, 0, range.bytes()).fill(0);
        Ok(range)
    }

    fn map(&mut self, address: u64, frame: Frame, protection: Protection) -> Result<(), KernelError> {
        let mut table = self.top;
        for level in (1..M::LEVELS).rev() {
            let entry = index::<M>(address, level);
            table = match self.kernel.machine.entry(table, entry) {
                Mapping::Table(lower) => lower,
                _ => {
                    let lower = self.take(1)?.first;
                    self.kernel.frames.mark_table(lower, true);
                    self.kernel.machine.set_entry(table, entry, Mapping::Table(lower));
                    lower
                }
            };
        }
        self.kernel.frames.count_mapping(frame, true);
        self.kernel.machine.set_entry(table, index::<M>(address, 0), Mapping::Page(frame, protection));
        Ok(())
    }

    fn map_range(
        &mut self,
        address: u64,
        range: FrameRange,
        protection: Protection,
    ) -> Result<(), KernelError> {
        (0..range.count).try_for_each(|page| {
            self.map(address + u64::from(page) * PAGE_SIZE, Frame(range.first.0 + page), protection)
        })
    }

    /// Fresh zeroed memory that a restart zeroes again.
    fn zeroed(&mut self, address: u64, pages: u32) -> Result<(), KernelError> {
        let range = self.take(pages)?;
        self.map_range(address, range, Protection::READ | Protection::WRITE)?;
        self.remember(Segment { address, pages, ..Segment::default() })
    }

    fn remember(&mut self, segment: Segment) -> Result<(), KernelError> {
        *self.segments.get_mut(self.count).ok_or(KernelError::Exhausted)? = segment;
        self.count += 1;
        Ok(())
    }

    /// One loadable part of the image. Read-only parts are mapped where they lie in the archive.
    fn part(&mut self, image: Frame, header: &elf::segment::ProgramHeader) -> Result<(), KernelError> {
        let misplaced =
            !header.p_vaddr.is_multiple_of(PAGE_SIZE) || !header.p_offset.is_multiple_of(PAGE_SIZE);
        if misplaced || header.p_filesz > header.p_memsz {
            return Err(KernelError::BadArgument);
        }
        let pages = header.p_memsz.div_ceil(PAGE_SIZE) as u32;
        let first = Frame(image.0 + (header.p_offset / PAGE_SIZE) as u32);
        if header.p_flags & PF_W == 0 {
            let execute = if header.p_flags & PF_X != 0 { Protection::EXECUTE } else { Protection::empty() };
            return self.map_range(
                header.p_vaddr,
                FrameRange { first, count: pages },
                Protection::READ | execute,
            );
        }
        let range = self.take(pages)?;
        self.kernel.machine.copy(physical(first), range.physical(), header.p_filesz);
        self.map_range(header.p_vaddr, range, Protection::READ | Protection::WRITE)?;
        let pristine = FrameRange { first, count: header.p_filesz.div_ceil(PAGE_SIZE) as u32 };
        self.remember(Segment { address: header.p_vaddr, pages, pristine, bytes: header.p_filesz as u32 })
    }
}

/// Makes and starts root.
pub fn load_root<M: Machine>(
    kernel: &mut Kernel<M>,
    archive: &Archive<'_>,
    layout: Layout,
) -> Result<(), KernelError> {
    let (epoch_s, seed, (counter_start, ns_per_count)) = (kernel.epoch_s, kernel.seed, kernel.counter);
    let image = archive.find(ROOT).ok_or(KernelError::BadArgument)?;
    let file = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(|_| KernelError::BadArgument)?;
    let offset = archive.offset_of(ROOT).ok_or(KernelError::BadArgument)?;
    let image = Frame(layout.archive.0 + (offset / PAGE_SIZE) as u32);
    let top = layout.free.first;
    kernel.machine.bytes(FrameRange::one(top), 0, PAGE_SIZE).fill(0);
    kernel.machine.prepare_root(top);
    let (task, server) = kernel.make_root(top, true)?;
    let end = layout.archive.0.min(layout.free.first.0 + layout.free.count);
    let mut loader =
        Loader { kernel, next: top.0 + 1, end, top, segments: [Segment::default(); 4], count: 0 };
    for header in file.segments().ok_or(KernelError::BadArgument)?.iter() {
        if header.p_type == PT_LOAD {
            loader.part(image, &header)?;
        }
    }
    loader.zeroed(HEAP_ADDRESS, HEAP_PAGES)?;
    loader.zeroed(STACK_TOP - STACK_PAGES * PAGE_SIZE, STACK_PAGES as u32)?;
    let buffer = loader.take(BUFFER_PAGES)?;
    loader.map_range(MESSAGE_BUFFER_ADDRESS, buffer, Protection::READ | Protection::WRITE)?;
    let archive_pages = layout.archive_bytes.div_ceil(PAGE_SIZE) as u32;
    let archive_frames = FrameRange { first: layout.archive, count: archive_pages };
    loader.map_range(ARCHIVE_ADDRESS, archive_frames, Protection::READ)?;
    let boot = loader.take(BOOT_PAGES as u32)?;
    loader.map_range(BOOT_ADDRESS, boot, Protection::READ)?;
    let journal = loader.take(JOURNAL_PAGES)?;
    let snapshots = loader.take(SNAPSHOT_PAGES)?;
    let (next, segments) = (loader.next, loader.segments);
    let words = RootBoot {
        magic: ROOT_MAGIC,
        free_first: u64::from(next),
        free_count: u64::from(layout.free.first.0 + layout.free.count - next),
        archive_first: u64::from(layout.archive.0),
        archive_bytes: layout.archive_bytes,
        epoch_s,
        seed,
        heap_bytes: u64::from(HEAP_PAGES) * PAGE_SIZE,
        counter_start,
        ns_per_count,
    };
    kernel.machine.bytes(boot, 0, size_of::<RootBoot>() as u64).copy_from_slice(words.as_bytes());
    let own = FrameRange { first: Frame(next), count: layout.free.first.0 + layout.free.count - next };
    kernel.frames.give(own, task.index() as u16);
    kernel.frames.give(buffer, task.index() as u16);
    let (message, records) = (kernel.machine.window(buffer), kernel.machine.window(journal));
    if let Some(state) = kernel.boot_server(server) {
        (state.buffer, state.message) = (buffer, message);
        state.segments = segments;
        if let Some(own) = &mut state.journal {
            own.lie_in(journal, records);
            own.snapshots = snapshots;
        }
    }
    kernel.start_root(server, file.ehdr.e_entry, STACK_TOP)
}
