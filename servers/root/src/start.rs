//! Starting the system: every server is made, then each is told what it may use, then all run.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use libipc::abi::delivery::BUFFER_PAGES;
use libipc::abi::{Frame, Handle, PAGE_SIZE, Protection, Rights};
use libipc::archive::{Archive, VDSO};
use libipc::manifest::{Class, Manifest, ROOT, ServerEntry, Session};
use libipc::proto::config::VfsConfig;
use libipc::server::boot::{
    BOOT_ADDRESS, BOOT_PAGES, Boot, DEVICE_ADDRESS, DMA_ADDRESS, Device, HEAP_ADDRESS,
    MESSAGE_BUFFER_ADDRESS, ROOT_NUMBER, RootBoot, STACK_PAGES, STACK_TOP,
};
use libipc::server::effect::PageMap;
use libipc::sys::Traps;

use crate::error::StartError;
use crate::image::Image;
use crate::kernel::{Kernel, OWN_TASK, Purpose, READ_WRITE};
use crate::memory::{Free, pages};
use crate::pci::{self, Found};
use crate::policy::History;
use crate::supervise::{Charge, State};
use crate::tables::Tables;
use crate::upgrade::{Installed, Placed, fill};

/// Root's handle of its own task, and its number.
const OWN: (Handle, u32) = (Handle(1), ROOT_NUMBER);
/// The server that mounts and starts the session.
const NAMES_SERVER: &str = "vfs";
/// With fewer frames than these, what recovery sets aside is half of its share: 96 MiB.
const SCARCE: u32 = 24_576;
/// The share of memory that one arena may take at most.
const ARENA_SHARE: u32 = 6;
/// The share of memory that one heap may take at most.
const HEAP_SHARE: u32 = 32;
/// The same for the heap of the server that owns what is left.
const MEMORY_HEAP_SHARE: u32 = 12;
/// The share of memory that reproducers may take at most.
const REPRODUCERS_SHARE: u32 = 32;
/// The share of memory that images servers are upgraded to may take at most.
const IMAGES_SHARE: u32 = 24;
/// The share of memory that one server's journal may take at most, each of two times.
const JOURNAL_SHARE: u32 = 96;
/// The share of memory that one snapshot may take at most, each of three.
const SNAPSHOT_SHARE: u32 = 128;
/// The same for a snapshot of the server that owns what is left.
const MEMORY_SNAPSHOT_SHARE: u32 = 64;

/// A server being made.
struct Server<'m> {
    entry: &'m ServerEntry,
    number: u32,
    space: Handle,
    task: Handle,
    image: Installed,
    tables: Tables,
    boot: Boot,
    first_boot_frame: Frame,
}

/// The system being started.
pub struct Start<'a, T> {
    kernel: &'a mut Kernel<T>,
    boot: &'a RootBoot,
    archive: &'a Archive<'a>,
    manifest: &'a Manifest,
    session: &'a Session,
    free: Free,
    /// Frames at the start, of which shares are reckoned.
    all: u32,
}

impl<'a, T: Traps> Start<'a, T> {
    pub fn new(
        kernel: &'a mut Kernel<T>,
        boot: &'a RootBoot,
        archive: &'a Archive<'a>,
        manifest: &'a Manifest,
        session: &'a Session,
    ) -> Start<'a, T> {
        let end = (boot.free_first + boot.free_count).min(boot.archive_first);
        let free = Free::new(Frame(boot.free_first as u32), Frame(end as u32));
        Start { kernel, boot, archive, manifest, session, free, all: free.count() }
    }

    /// Makes and starts every server; what root has to look after from then on.
    pub fn all(mut self) -> Result<State, StartError> {
        let mut servers = Vec::new();
        for (number, entry) in (1..).zip(&self.manifest.servers) {
            if entry.name != ROOT {
                servers.push(self.make(number, entry)?);
            }
        }
        let mut tasks: BTreeMap<String, (Handle, u32)> =
            servers.iter().map(|server| (server.entry.name.clone(), (server.task, server.number))).collect();
        tasks.insert(ROOT.to_owned(), OWN);
        for (index, role) in (0..).zip(&self.manifest.personality.linux.default) {
            if let Some((task, _)) = tasks.get(role) {
                self.kernel.personality(index, *task)?;
            }
        }
        // Who gets what the others have left comes last.
        self.set_aside()?;
        let images = self.images()?;
        servers.sort_by_key(|server| server.entry.frames);
        for server in &mut servers {
            self.equip(server, &tasks)?;
        }
        servers.sort_by_key(|server| server.number);
        for server in &servers {
            self.kernel.start(server.task, &server.image, server.entry)?;
        }
        let charges = servers.into_iter().map(|server| Charge {
            name: server.entry.name.clone(),
            number: server.number,
            task: server.task,
            space: server.space,
            vital: server.entry.vital,
            history: History::default(),
            due_ns: None,
            gone: false,
            booted: server.image.clone(),
            image: server.image,
            other: None,
        });
        Ok(State { servers: charges.collect(), images })
    }

    /// How many frames a purpose of recovery gets at most.
    fn set_aside_at_most(&self, share: u32) -> u32 {
        self.all / if self.all < SCARCE { 2 * share } else { share }
    }

    /// Memory for images that servers are upgraded to. It stays root's.
    fn images(&mut self) -> Result<(Frame, u32), StartError> {
        let count = pages(self.manifest.images_kib).min(self.set_aside_at_most(IMAGES_SHARE));
        let short = || StartError::Memory { server: ROOT.to_owned() };
        Ok((self.free.take(count).ok_or_else(short)?, count))
    }

    /// Memory for what servers die of.
    fn set_aside(&mut self) -> Result<(), StartError> {
        let count = pages(self.manifest.reproducers_kib).min(self.set_aside_at_most(REPRODUCERS_SHARE));
        if count == 0 {
            return Ok(());
        }
        let short = || StartError::Memory { server: ROOT.to_owned() };
        let first = self.free.take(count).ok_or_else(short)?;
        Ok(self.kernel.give(OWN_TASK, Purpose::Reproducers, first, count)?)
    }

    fn take(&mut self, entry: &ServerEntry, count: u32) -> Result<Frame, StartError> {
        self.free.take(count).ok_or_else(|| StartError::Memory { server: entry.name.clone() })
    }

    /// Makes a server's space and task, and loads its image.
    fn make<'m>(&mut self, number: u32, entry: &'m ServerEntry) -> Result<Server<'m>, StartError> {
        let bad = || StartError::Image(entry.name.clone());
        let bytes = self.archive.find(&entry.name).ok_or_else(bad)?;
        let offset = self.archive.offset_of(&entry.name).ok_or_else(bad)?;
        let image = Image::parse(&entry.name, bytes)?;
        let file = Frame((self.boot.archive_first + offset / PAGE_SIZE) as u32);
        let top = self.take(entry, 1)?;
        let space = self.kernel.new_space(u64::from(number), top)?;
        let task = self.kernel.new_server(space, number, entry.class == Class::Journaled)?;
        self.kernel.quotas(task, &entry.quotas)?;
        let first_boot_frame = self.take(entry, BOOT_PAGES as u32)?;
        let boot = Boot {
            name: entry.name.clone(),
            number,
            epoch_s: self.boot.epoch_s,
            seed: self.boot.seed,
            counter: (self.boot.counter_start, self.boot.ns_per_count),
            ..Boot::default()
        };
        let copies = self.take(entry, image.copied_pages())?;
        let image = Installed::new(&image, file, copies);
        let parts = image.parts.clone();
        let tables = Tables::default();
        let mut server = Server { entry, number, space, task, image, tables, boot, first_boot_frame };
        for placed in &parts {
            self.load(&mut server, placed)?;
        }
        self.furnish(&mut server)?;
        Ok(server)
    }

    /// Maps one part of an image: where it lies in the archive if it is only read, else a copy.
    fn load(&mut self, server: &mut Server<'_>, placed: &Placed) -> Result<(), StartError> {
        let Placed { part, source, frames } = *placed;
        if !part.is_copied() {
            return self.map(server, part.address, frames, part.pages, part.protection);
        }
        fill(self.kernel, placed)?;
        self.map(server, part.address, frames, part.pages, READ_WRITE)?;
        Ok(self.kernel.segment(server.task, part.address, part.pages, source, part.file_bytes)?)
    }

    fn map(
        &mut self,
        server: &mut Server<'_>,
        address: u64,
        first: Frame,
        count: u32,
        protection: Protection,
    ) -> Result<(), StartError> {
        let missing = server.tables.missing(address, u64::from(count));
        let mut tables = Vec::new();
        for _ in 0..missing {
            tables.push(self.take(server.entry, 1)?);
        }
        let page = |number: u32| PageMap {
            address: address + u64::from(number) * PAGE_SIZE,
            frame: Frame(first.0 + number),
            protection,
        };
        let list: Vec<PageMap> = (0..count).map(page).collect();
        Ok(self.kernel.map(server.space, &tables, &list)?)
    }

    /// Fresh zeroed memory, which a restart zeroes again.
    fn zeroed(&mut self, server: &mut Server<'_>, address: u64, count: u32) -> Result<(), StartError> {
        let first = self.take(server.entry, count)?;
        self.kernel.zero(first, count)?;
        self.map(server, address, first, count, READ_WRITE)?;
        Ok(self.kernel.segment(server.task, address, count, first, 0)?)
    }

    /// Stack, heap, message buffer, arena, journal, memory for devices.
    fn furnish(&mut self, server: &mut Server<'_>) -> Result<(), StartError> {
        let entry = server.entry;
        self.zeroed(server, STACK_TOP - STACK_PAGES * PAGE_SIZE, STACK_PAGES as u32)?;
        // What must be remembered about memory grows with it.
        let (heap_share, snapshot_share) = if entry.frames {
            (MEMORY_HEAP_SHARE, MEMORY_SNAPSHOT_SHARE)
        } else {
            (HEAP_SHARE, SNAPSHOT_SHARE)
        };
        let heap = pages(entry.heap_kib).min(self.all / heap_share);
        self.zeroed(server, HEAP_ADDRESS, heap)?;
        server.boot.heap_bytes = u64::from(heap) * PAGE_SIZE;
        let buffer = self.take(entry, BUFFER_PAGES)?;
        self.kernel.zero(buffer, BUFFER_PAGES)?;
        self.map(server, MESSAGE_BUFFER_ADDRESS, buffer, BUFFER_PAGES, READ_WRITE)?;
        self.kernel.give(server.task, Purpose::Buffer, buffer, BUFFER_PAGES)?;
        let first = server.first_boot_frame;
        self.map(server, BOOT_ADDRESS, first, BOOT_PAGES as u32, Protection::READ)?;
        let arena = pages(entry.arena_kib).min(self.all / ARENA_SHARE);
        server.boot.arena_bytes = u64::from(arena) * PAGE_SIZE;
        // One since the last snapshot, and the one before it; the last two snapshots, and one that is being written.
        let journal = 2 * pages(entry.journal_kib).min(self.set_aside_at_most(JOURNAL_SHARE));
        let snapshots = 3 * pages(entry.snapshot_kib).min(self.set_aside_at_most(snapshot_share));
        let wanted = [(Purpose::Arena, arena), (Purpose::Journal, journal), (Purpose::Snapshots, snapshots)];
        for (purpose, count) in wanted.into_iter().filter(|(_, count)| *count > 0) {
            let first = self.take(entry, count)?;
            self.kernel.give(server.task, purpose, first, count)?;
            if purpose == Purpose::Arena {
                server.boot.arena_first = first;
            }
        }
        let dma = pages(entry.dma_kib);
        if dma > 0 {
            let first = self.take(entry, dma)?;
            self.kernel.zero(first, dma)?;
            self.map(server, DMA_ADDRESS, first, dma, READ_WRITE)?;
            server.boot.dma = Some((first, dma));
        }
        Ok(())
    }

    /// Handles, devices, configuration; then the boot block, which tells of them all.
    fn equip(
        &mut self,
        server: &mut Server<'_>,
        tasks: &BTreeMap<String, (Handle, u32)>,
    ) -> Result<(), StartError> {
        let entry = server.entry;
        let mut next = 0;
        let mut slot = || {
            next += 1;
            Handle(next - 1)
        };
        for name in entry.calls.iter().chain(&entry.forwards) {
            let Some((task, _)) = tasks.get(name) else { continue };
            let into = slot();
            self.kernel.grant(server.task, into, *task, Rights::CALL)?;
            server.boot.servers.insert(name.clone(), into);
        }
        if entry.observes {
            for (name, (task, _)) in tasks {
                let into = slot();
                self.kernel.grant(server.task, into, *task, Rights::INSPECT | Rights::CRASH)?;
                server.boot.tasks.insert(name.clone(), into);
            }
        }
        server.boot.first_free = slot().0;
        server.boot.numbers = tasks.iter().map(|(name, (_, number))| (name.clone(), *number)).collect();
        self.devices(server)?;
        if entry.name == NAMES_SERVER {
            let config = VfsConfig { mounts: self.manifest.mounts.clone(), session: self.session.clone() };
            server.boot.config = postcard::to_allocvec(&config).map_err(|_| StartError::Manifest)?;
        }
        if entry.frames {
            server.boot.config = self.archive.find(VDSO).unwrap_or_default().to_vec();
            let (first, count) = self.free.rest();
            self.kernel.give(server.task, Purpose::Own, first, count)?;
            server.boot.frames = alloc::vec![(first, count)];
        }
        self.write_boot_block(server)
    }

    fn devices(&mut self, server: &mut Server<'_>) -> Result<(), StartError> {
        let entry = server.entry;
        for range in &entry.ports {
            self.kernel.grant_ports(server.task, range.base, range.len)?;
        }
        for irq in &entry.irqs {
            self.kernel.grant_irq(server.task, *irq)?;
        }
        let mut at = DEVICE_ADDRESS;
        for found in pci::find(self.kernel, &entry.pci) {
            if found.irq < 24 {
                self.kernel.grant_irq(server.task, found.irq)?;
            }
            self.kernel.grant_function(server.task, found.address)?;
            let device = self.device(server, &found, &mut at)?;
            server.boot.devices.push(device);
        }
        Ok(())
    }

    /// Maps a device's registers, one BAR after the other.
    fn device(&mut self, server: &mut Server<'_>, found: &Found, at: &mut u64) -> Result<Device, StartError> {
        let mut bars = Vec::new();
        for (number, physical, bytes) in &found.bars {
            let Ok(frame) = u32::try_from(physical / PAGE_SIZE) else { continue };
            let count = bytes.div_ceil(PAGE_SIZE) as u32;
            self.map(server, *at, Frame(frame), count, READ_WRITE)?;
            bars.push((*number, *at, *bytes));
            *at += u64::from(count) * PAGE_SIZE;
        }
        Ok(Device { address: found.address, id: (found.id.vendor, found.id.device), bars, irq: found.irq })
    }

    fn write_boot_block(&mut self, server: &Server<'_>) -> Result<(), StartError> {
        let encoded = postcard::to_allocvec(&server.boot).map_err(|_| StartError::Manifest)?;
        let mut block = (encoded.len() as u32).to_le_bytes().to_vec();
        block.extend_from_slice(&server.boot.heap_bytes.to_le_bytes());
        block.extend_from_slice(&encoded);
        if block.len() as u64 > BOOT_PAGES * PAGE_SIZE {
            return Err(StartError::Memory { server: server.entry.name.to_owned().to_string() });
        }
        for (page, part) in (0..).zip(block.chunks(PAGE_SIZE as usize)) {
            self.kernel.write(Frame(server.first_boot_frame.0 + page), 0, part)?;
        }
        Ok(())
    }
}
