//! What of an ELF file decides how it is loaded: the file header and the program headers, checked.
//!
//! Only the first bytes of the file are looked at, and nothing in them is trusted: what comes out is in order, inside
//! the address space, and free of overflow.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};
use libipc::abi::{PAGE_SIZE, Protection};
use serde::{Deserialize, Serialize};

use crate::tables::{MACHINE, ceil, floor};

/// Bytes of one program header.
pub const PROGRAM_HEADER_BYTES: u64 = 56;
/// Largest alignment of a segment that is honoured.
const ALIGN_MAX: u64 = 1 << 30;
/// The lowest address of a fixed program, Linux's `vm.mmap_min_addr`.
const LOWEST: u64 = 0x1_0000;

/// Why a file cannot be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// It is no ELF file, or cut short.
    NotElf,
    /// It is for another machine.
    OtherMachine,
    /// It is no program and no shared object.
    NotLoadable,
    /// The program headers are missing, of another size, or not within the first page.
    Headers,
    /// A segment's numbers contradict each other or leave the address space.
    Segment,
    /// It does not start in its own code.
    Entry,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElfError::NotElf => "not an ELF file",
            ElfError::OtherMachine => "for another machine",
            ElfError::NotLoadable => "neither a program nor a shared object",
            ElfError::Headers => "its program headers are not where they should be",
            ElfError::Segment => "a segment contradicts itself or leaves the address space",
            ElfError::Entry => "it does not start in its own code",
        })
    }
}

impl core::error::Error for ElfError {}

/// A piece of the file to be shown in memory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Where it begins, before the base is added.
    pub address: u64,
    /// Where its bytes begin in the file; congruent to the address within a page.
    pub offset: u64,
    /// Bytes from the file.
    pub file_bytes: u64,
    /// Bytes in memory; those beyond the file's are zeroes.
    pub memory_bytes: u64,
    /// How the program may access it.
    pub protection: Protection,
}

/// A file that can be loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    /// It must be loaded where it says; else anywhere.
    pub fixed: bool,
    /// Where it starts, before the base is added.
    pub entry: u64,
    /// Its segments, ascending.
    pub segments: Vec<Segment>,
    /// Where its program headers are in memory, before the base is added; 0 when they are not.
    pub headers: u64,
    /// How many program headers it has.
    pub header_count: u64,
    /// It wants an interpreter.
    pub interpreted: bool,
    /// It wants to execute its stack.
    pub stack_executable: bool,
    /// The largest alignment of its segments; a power of two, at least a page.
    pub align: u64,
}

impl Image {
    /// Reads an image from the first bytes of a file.
    pub fn parse(file: &[u8]) -> Result<Image, ElfError> {
        let header = file_header(file)?;
        let mut image = Image {
            fixed: header.e_type == abi::ET_EXEC,
            entry: header.e_entry,
            segments: Vec::new(),
            headers: 0,
            header_count: u64::from(header.e_phnum),
            interpreted: false,
            stack_executable: false,
            align: PAGE_SIZE,
        };
        for program_header in program_headers(file, &header)? {
            image.take(&program_header)?;
        }
        let lowest = image.segments.first().ok_or(ElfError::Segment)?.address;
        if image.fixed && lowest < LOWEST {
            return Err(ElfError::Segment);
        }
        image.headers = image.address_of_offset(header.e_phoff).unwrap_or(0);
        let starts_in = |segment: &Segment| {
            segment.protection.contains(Protection::EXECUTE)
                && (segment.address..segment.address + segment.file_bytes).contains(&image.entry)
        };
        if image.segments.iter().any(starts_in) { Ok(image) } else { Err(ElfError::Entry) }
    }

    /// The pages it spans, before the base is added.
    pub fn span(&self) -> Range<u64> {
        let start = self.segments.first().map_or(0, |segment| floor(segment.address));
        let end = self.segments.last().map_or(0, |segment| segment.address + segment.memory_bytes);
        start..ceil(end).unwrap_or(end)
    }

    /// Rounds an address down to the image's alignment.
    pub fn aligned(&self, address: u64) -> u64 {
        address & !(self.align - 1)
    }

    /// Bytes of address space from an aligned base to its end.
    pub fn extent(&self) -> u64 {
        self.span().end - self.aligned(self.span().start)
    }

    fn take(&mut self, header: &ProgramHeader) -> Result<(), ElfError> {
        match header.p_type {
            abi::PT_LOAD if header.p_memsz > 0 => {
                let segment = segment(header)?;
                let reached = self.segments.last().map_or(0, |last| last.address + last.memory_bytes);
                if segment.address < reached {
                    return Err(ElfError::Segment);
                }
                self.align = self.align.max(header.p_align);
                self.segments.push(segment);
            }
            abi::PT_INTERP => self.interpreted = true,
            abi::PT_GNU_STACK => self.stack_executable = header.p_flags & abi::PF_X != 0,
            _ => {}
        }
        Ok(())
    }

    fn address_of_offset(&self, offset: u64) -> Option<u64> {
        let holds =
            |segment: &&Segment| (segment.offset..segment.offset + segment.file_bytes).contains(&offset);
        let segment = self.segments.iter().find(holds)?;
        Some(segment.address + (offset - segment.offset))
    }
}

fn file_header(file: &[u8]) -> Result<FileHeader<LittleEndian>, ElfError> {
    let (ident, tail) = file.split_at_checked(abi::EI_NIDENT).ok_or(ElfError::NotElf)?;
    let ident = parse_ident::<LittleEndian>(ident).map_err(|_| ElfError::NotElf)?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| ElfError::NotElf)?;
    if header.class != Class::ELF64 || header.e_machine != abi::EM_X86_64 {
        return Err(ElfError::OtherMachine);
    }
    if header.version != u32::from(abi::EV_CURRENT) {
        return Err(ElfError::NotElf);
    }
    if !matches!(header.e_type, abi::ET_EXEC | abi::ET_DYN) {
        return Err(ElfError::NotLoadable);
    }
    Ok(header)
}

fn program_headers<'a>(
    file: &'a [u8],
    header: &FileHeader<LittleEndian>,
) -> Result<impl Iterator<Item = ProgramHeader> + 'a, ElfError> {
    let bytes = u64::from(header.e_phnum) * PROGRAM_HEADER_BYTES;
    let end = header.e_phoff.checked_add(bytes).filter(|end| *end <= PAGE_SIZE).ok_or(ElfError::Headers)?;
    if u64::from(header.e_phentsize) != PROGRAM_HEADER_BYTES || header.e_phnum == 0 {
        return Err(ElfError::Headers);
    }
    let table = file.get(header.e_phoff as usize..end as usize).ok_or(ElfError::Headers)?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, table).iter())
}

fn segment(header: &ProgramHeader) -> Result<Segment, ElfError> {
    let end = header.p_vaddr.checked_add(header.p_memsz).and_then(ceil);
    let fits = end.is_some_and(|end| end <= MACHINE.user_end);
    let file_end = header.p_offset.checked_add(header.p_filesz);
    let congruent = header.p_vaddr % PAGE_SIZE == header.p_offset % PAGE_SIZE;
    let aligned = header.p_align <= 1 || header.p_align.is_power_of_two() && header.p_align <= ALIGN_MAX;
    let in_file = file_end.is_some_and(|end| end <= i64::MAX as u64) && header.p_filesz <= header.p_memsz;
    if !(fits && congruent && aligned && in_file) {
        return Err(ElfError::Segment);
    }
    let flags =
        [(abi::PF_R, Protection::READ), (abi::PF_W, Protection::WRITE), (abi::PF_X, Protection::EXECUTE)];
    let granted = flags.into_iter().filter(|(flag, _)| header.p_flags & flag != 0);
    Ok(Segment {
        address: header.p_vaddr,
        offset: header.p_offset,
        file_bytes: header.p_filesz,
        memory_bytes: header.p_memsz,
        protection: granted.map(|(_, protection)| protection).collect(),
    })
}

#[cfg(test)]
pub mod tests;
