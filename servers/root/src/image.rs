//! A server's image: what is mapped where, with which rights.

use alloc::{string::ToString, vec::Vec};

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use libipc::abi::{PAGE_SIZE, Protection};
use libipc::server::boot::STACK_TOP;

use crate::error::StartError;

/// One loadable part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// A program root can load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Where it starts.
    pub entry: u64,
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Image {
    /// Takes a server's ELF file apart.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Image, StartError> {
        let bad = || StartError::Image(name.to_string());
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| bad())?;
        let mut parts = Vec::new();
        for header in file.segments().ok_or_else(bad)?.iter().filter(|header| header.p_type == PT_LOAD) {
            let end = header.p_vaddr.checked_add(header.p_memsz).ok_or_else(bad)?;
            let aligned = header.p_vaddr % PAGE_SIZE == 0 && header.p_offset % PAGE_SIZE == 0;
            if !aligned || header.p_filesz > header.p_memsz || end > STACK_TOP {
                return Err(bad());
            }
            let mut protection = Protection::READ;
            protection.set(Protection::WRITE, header.p_flags & PF_W != 0);
            protection.set(Protection::EXECUTE, header.p_flags & PF_X != 0);
            parts.push(Part {
                address: header.p_vaddr,
                pages: header.p_memsz.div_ceil(PAGE_SIZE) as u32,
                file_page: (header.p_offset / PAGE_SIZE) as u32,
                file_bytes: header.p_filesz as u32,
                protection,
            });
        }
        Ok(Image { entry: file.ehdr.e_entry, parts })
    }
}
