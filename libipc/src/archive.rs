//! The boot archive: everything the machine starts from, in one file that the boot loader places in memory.
//!
//! It holds the encoded manifest, the first session, and one ELF image per server, each starting on a page so that it
//! can be mapped where it lies. The reader borrows the bytes and allocates nothing; it trusts no byte of them: an
//! archive that [`Archive::new`] accepts has entries inside it, in order, without overlap, under distinct names.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::fmt;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The entry that holds the encoded [`Manifest`](crate::manifest::Manifest).
pub const MANIFEST: &str = "manifest";
/// The entry that holds the encoded [`Session`](crate::manifest::Session).
pub const SESSION: &str = "session";
/// The entry that holds the shared object that is in every program's memory, if there is one.
pub const VDSO: &str = "vdso";
/// The longest name of an entry, in bytes.
pub const NAME_MAX_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"NaiadArc";
const VERSION: u32 = 1;
const ENTRIES_MAX: usize = 256;
const PAGE_BYTES: usize = 4096;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    entries: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    /// UTF-8, padded with zeros.
    name: [u8; NAME_MAX_BYTES],
    offset: U64,
    len: U64,
}

impl Entry {
    fn name(&self) -> Option<&str> {
        let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(NAME_MAX_BYTES);
        let (name, padding) = self.name.split_at(end);
        let sound = end > 0 && padding.iter().all(|&byte| byte == 0);
        core::str::from_utf8(name).ok().filter(|_| sound)
    }

    fn contents<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let start = usize::try_from(self.offset.get()).ok()?;
        let len = usize::try_from(self.len.get()).ok()?;
        bytes.get(start..start.checked_add(len)?)
    }
}

/// Why bytes are not an archive, or why an entry cannot become part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// The file does not begin with the archive's magic number.
    NotAnArchive,
    /// The archive's format is newer or older than this reader.
    Version(u32),
    /// The file ends within the table of entries.
    TableCut,
    /// More entries than an archive may have.
    TooManyEntries,
    /// The name of the entry with this index is empty, too long, or not padded text.
    Name(u32),
    /// The entry with this index has the name of an earlier one.
    Duplicate(u32),
    /// The contents of the entry with this index are not page aligned, not in order, or reach outside the file.
    Contents(u32),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArchive => f.write_str("this is not a boot archive"),
            Self::Version(version) => {
                write!(f, "the boot archive has version {version}, wanted is {VERSION}")
            }
            Self::TableCut => f.write_str("the boot archive ends within its table"),
            Self::TooManyEntries => write!(f, "the boot archive has more than {ENTRIES_MAX} entries"),
            Self::Name(index) => write!(f, "entry {index} of the boot archive has no sound name"),
            Self::Duplicate(index) => write!(f, "entry {index} of the boot archive has a name twice given"),
            Self::Contents(index) => write!(f, "entry {index} of the boot archive does not lie inside it"),
        }
    }
}

impl core::error::Error for ArchiveError {}

/// A checked archive, borrowed from memory.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    entries: &'a [Entry],
    bytes: &'a [u8],
}

impl<'a> Archive<'a> {
    /// Checks `bytes` as a whole. Bytes behind the last entry are ignored, as boot loaders pad.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| ArchiveError::NotAnArchive)?;
        if header.magic != MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        if header.version.get() != VERSION {
            return Err(ArchiveError::Version(header.version.get()));
        }
        let count = header.entries.get() as usize;
        if count > ENTRIES_MAX {
            return Err(ArchiveError::TooManyEntries);
        }
        let (entries, _) =
            <[Entry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| ArchiveError::TableCut)?;
        let archive = Self { entries, bytes };
        archive.check_entries()?;
        Ok(archive)
    }

    fn check_entries(&self) -> Result<(), ArchiveError> {
        let mut end = (size_of::<Header>() + size_of_val(self.entries)) as u64;
        for (index, entry) in (0u32..).zip(self.entries) {
            let name = entry.name().ok_or(ArchiveError::Name(index))?;
            if self.entries.iter().take(index as usize).any(|earlier| earlier.name() == Some(name)) {
                return Err(ArchiveError::Duplicate(index));
            }
            let offset = entry.offset.get();
            let contents = entry.contents(self.bytes).ok_or(ArchiveError::Contents(index))?;
            if offset % PAGE_BYTES as u64 != 0 || offset < end {
                return Err(ArchiveError::Contents(index));
            }
            end = offset + contents.len() as u64;
        }
        Ok(())
    }

    /// The contents of the entry called `name`.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|&(entry, _)| entry == name).map(|(_, contents)| contents)
    }

    /// Where the contents of the entry called `name` begin: a multiple of the page size.
    pub fn offset_of(&self, name: &str) -> Option<u64> {
        self.entries.iter().find(|entry| entry.name() == Some(name)).map(|entry| entry.offset.get())
    }

    /// Every entry, in the order in which they were added: name and contents.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.entries.iter().filter_map(move |entry| Some((entry.name()?, entry.contents(bytes)?)))
    }
}

/// Puts an archive together.
#[derive(Default)]
pub struct Builder {
    names: BTreeSet<String>,
    entries: Vec<(String, Vec<u8>)>,
}

impl Builder {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry.
    pub fn add(&mut self, name: &str, contents: Vec<u8>) -> Result<(), ArchiveError> {
        let index = self.entries.len() as u32;
        if self.entries.len() == ENTRIES_MAX {
            return Err(ArchiveError::TooManyEntries);
        }
        if name.is_empty() || name.len() > NAME_MAX_BYTES || name.contains('\0') {
            return Err(ArchiveError::Name(index));
        }
        if !self.names.insert(name.into()) {
            return Err(ArchiveError::Duplicate(index));
        }
        self.entries.push((name.into(), contents));
        Ok(())
    }

    /// The finished file.
    pub fn finish(self) -> Vec<u8> {
        let header =
            Header { magic: MAGIC, version: U32::new(VERSION), entries: U32::new(self.entries.len() as u32) };
        let mut table = Vec::from(header.as_bytes());
        let mut offset = size_of::<Header>() + self.entries.len() * size_of::<Entry>();
        for (name, contents) in &self.entries {
            offset = offset.next_multiple_of(PAGE_BYTES);
            let mut entry = Entry {
                name: [0; NAME_MAX_BYTES],
                offset: U64::new(offset as u64),
                len: U64::new(contents.len() as u64),
            };
            entry.name[..name.len()].copy_from_slice(name.as_bytes());
            table.extend_from_slice(entry.as_bytes());
            offset += contents.len();
        }
        let mut file = table;
        for (_, contents) in &self.entries {
            file.resize(file.len().next_multiple_of(PAGE_BYTES), 0);
            file.extend_from_slice(contents);
        }
        file
    }
}

#[cfg(test)]
mod tests;
