//! A server's image: what is mapped where, with which rights, and what it says of itself.

use alloc::{string::ToString, vec::Vec};

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use libipc::abi::upgrade::Verdict;
use libipc::abi::{PAGE_SIZE, Protection};
use libipc::server::boot::{IMAGE_ADDRESS, IMAGE_BYTES, STACK_TOP};
use libipc::server::image::{ABI_VERSION, Note};
use serde::{Deserialize, Serialize};

use crate::error::StartError;

/// Where the section headers' offset, and their count and names, are in a 64-bit ELF header. Nothing of them is loaded,
/// and whoever has the beginning of a file alone does not have them.
const SECTIONS_OFFSET: core::ops::Range<usize> = 0x28..0x30;
const SECTIONS_COUNT_AND_NAMES: core::ops::Range<usize> = 0x3c..0x40;

/// One loadable part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Where it goes.
    pub address: u64,
    /// Its pages.
    pub pages: u32,
    /// Its first page in the image file.
    pub file_page: u32,
    /// Bytes that come from the file.
    pub file_bytes: u32,
    /// How it may be accessed.
    pub protection: Protection,
}

impl Part {
    /// Whether its pages are copies of the file's: it is written.
    pub fn is_copied(&self) -> bool {
        self.protection.contains(Protection::WRITE)
    }

    /// Pages that come from the file.
    pub fn file_pages(&self) -> u32 {
        self.file_bytes.div_ceil(PAGE_SIZE as u32)
    }
}

/// What an image says of itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The name of its package.
    pub name: Vec<u8>,
    /// The machine it is made for, as ELF numbers machines.
    pub machine: u16,
    /// The version of the kernel's interface that it is made for.
    pub abi: u32,
    /// The schema in which it saves its state, and the oldest that it reads.
    pub schemas: (u32, u32),
}

/// A program root can load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Where it starts.
    pub entry: u64,
    /// Its parts.
    pub parts: Vec<Part>,
    /// What it says of itself.
    pub identity: Identity,
}

/// The beginning of an ELF file: where it starts, its parts, its machine, and where a note is, if there is one.
struct Head {
    entry: u64,
    machine: u16,
    parts: Vec<Part>,
    note: Option<(u64, u64)>,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Head> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).ok()?;
        let (mut parts, mut note) = (Vec::new(), None);
        for header in file.segments()?.iter() {
            match header.p_type {
                PT_LOAD => parts.push(part(&header)?),
                PT_NOTE if header.p_filesz > 0 => note = Some((header.p_offset, header.p_filesz)),
                _ => {}
            }
        }
        parts.first()?;
        Some(Head { entry: file.ehdr.e_entry, machine: file.ehdr.e_machine, parts, note })
    }

    fn with(self, note: Note) -> Image {
        let name = note.name.into_iter().take_while(|byte| *byte != 0).collect();
        let schemas = (note.schema, note.oldest);
        let identity = Identity { name, machine: self.machine, abi: note.abi, schemas };
        Image { entry: self.entry, parts: self.parts, identity }
    }
}

fn part(header: &elf::segment::ProgramHeader) -> Option<Part> {
    let end = header.p_vaddr.checked_add(header.p_memsz)?;
    let aligned = header.p_vaddr.is_multiple_of(PAGE_SIZE) && header.p_offset.is_multiple_of(PAGE_SIZE);
    if !aligned || header.p_memsz == 0 || header.p_filesz > header.p_memsz || end > STACK_TOP {
        return None;
    }
    let mut protection = Protection::READ;
    protection.set(Protection::WRITE, header.p_flags & PF_W != 0);
    protection.set(Protection::EXECUTE, header.p_flags & PF_X != 0);
    Some(Part {
        address: header.p_vaddr,
        pages: header.p_memsz.div_ceil(PAGE_SIZE) as u32,
        file_page: u32::try_from(header.p_offset / PAGE_SIZE).ok()?,
        file_bytes: header.p_filesz as u32,
        protection,
    })
}

impl Image {
    /// Takes the ELF file of a server in the boot archive apart.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Image, StartError> {
        let bad = || StartError::Image(name.to_string());
        let head = Head::read(bytes).ok_or_else(bad)?;
        let note = head.note.and_then(|(offset, _)| Note::read(bytes.get(offset as usize..)?));
        Ok(head.with(note.ok_or_else(bad)?))
    }

    /// The same for a file that was handed in, of which there is the first page, and what else is asked for: a note's
    /// bytes, by their place in the file. `bytes` is the file's length.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_file(
        first: &mut [u8],
        bytes: u64,
        note: impl FnOnce(u64) -> Option<Note>,
    ) -> Result<Image, Verdict> {
        if first.len() < SECTIONS_COUNT_AND_NAMES.end {
            return Err(Verdict::NotAnImage);
        }
        first[SECTIONS_OFFSET].fill(0);
        first[SECTIONS_COUNT_AND_NAMES].fill(0);
        let head = Head::read(first).ok_or(Verdict::NotAnImage)?;
        let within = |part: &Part| {
            let end = u64::from(part.file_page) * PAGE_SIZE + u64::from(part.file_bytes);
            end <= bytes && (part.is_copied() || part.pages == part.file_pages())
        };
        if !head.parts.iter().all(within) {
            return Err(Verdict::NotAnImage);
        }
        let room = IMAGE_ADDRESS..IMAGE_ADDRESS + IMAGE_BYTES;
        let end = |part: &Part| part.address + u64::from(part.pages) * PAGE_SIZE;
        if !head.parts.iter().all(|part| room.contains(&part.address) && end(part) <= room.end) {
            return Err(Verdict::TooLarge);
        }
        // Where it starts there is code of its own.
        let starts = |part: &Part| {
            part.protection.contains(Protection::EXECUTE) && (part.address..end(part)).contains(&head.entry)
        };
        let mut apart = head.parts.clone();
        apart.sort_unstable_by_key(|part| part.address);
        let overlap = apart.windows(2).any(|pair| end(&pair[0]) > pair[1].address);
        let both = Protection::WRITE | Protection::EXECUTE;
        let unfit = head.parts.iter().any(|part| part.protection.contains(both));
        if !head.parts.iter().any(starts) || overlap || unfit {
            return Err(Verdict::NotAnImage);
        }
        let own = head.note.filter(|(offset, length)| offset.saturating_add(*length) <= bytes);
        let note = own.and_then(|(offset, _)| note(offset)).ok_or(Verdict::NotAnImage)?;
        Ok(head.with(note))
    }

    /// Pages of copies that it needs, beside those of its file.
    pub fn copied_pages(&self) -> u32 {
        copied_pages(&self.parts)
    }
}

/// Pages of copies that these parts need.
pub fn copied_pages<'p>(parts: impl IntoIterator<Item = &'p Part>) -> u32 {
    parts.into_iter().filter(|part| part.is_copied()).map(|part| part.pages).sum()
}

impl Identity {
    /// Whether an image that says this of itself can take the place of another.
    ///
    /// # Errors
    /// What keeps it from that.
    pub fn check_successor_of(&self, old: &Identity) -> Result<(), Verdict> {
        let (newest, oldest) = self.schemas;
        let checks = [
            (self.machine == old.machine, Verdict::WrongMachine),
            (self.abi == ABI_VERSION, Verdict::OtherAbi),
            (self.name == old.name, Verdict::OtherServer),
            ((oldest..=newest).contains(&old.schemas.0), Verdict::Schema),
        ];
        checks.into_iter().find(|(sound, _)| !sound).map_or(Ok(()), |(_, verdict)| Err(verdict))
    }
}
