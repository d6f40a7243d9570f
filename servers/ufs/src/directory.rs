//! Directories: chunks of 512 bytes, each filled to its last byte by entries that name an inode.
//!
//! Every entry is checked before it is given out, and every step forward is at least an entry's header, so no
//! directory can hold a reader for longer than its size.

use zerocopy::FromBytes;
use zerocopy::byteorder::{BigEndian, ByteOrder, LittleEndian};

use crate::blocks::Blocks;
use crate::bmap::map_block;
use crate::error::{Error, Place};
use crate::geometry::Geometry;
use crate::inode::{FileType, Inode, InodeNumber};
use crate::layout::{DIRECTORY_CHUNK, EntryHeader, Order};

/// The longest name in a directory, in bytes.
pub const NAME_MAX: usize = 255;

const HEADER_BYTES: usize = 8;
/// `d_ino` of an entry that is free.
const FREE: u32 = 0;
/// `d_ino` of a whiteout, which hides a name of a lower layer in a union mount and names no file.
const WHITEOUT: u32 = 1;

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The file it names.
    pub number: InodeNumber,
    /// The kind of that file, if the directory records it; the inode has the last word.
    pub kind: Option<FileType>,
    /// The name: 1 to 255 bytes, none of them `/` or NUL.
    pub name: &'a [u8],
    /// The cookie of the entry behind this one.
    pub next: u64,
}

/// The entries of one block of a directory.
///
/// A cookie is an offset in the directory. The entries from a cookie on are those at that offset or behind it,
/// so a cookie stays good whatever happens to other entries, and any number can be used as one.
#[derive(Clone, Debug)]
pub struct DirEntries<'a> {
    bytes: &'a [u8],
    /// Where in `bytes` the next entry is.
    at: usize,
    /// The offset of `bytes` in the directory.
    base: u64,
    /// Entries before this offset are passed over.
    from: u64,
    size: u64,
    directory: InodeNumber,
    order: Order,
    inodes: u32,
}

impl<'a> DirEntries<'a> {
    /// The cookie for the directory's next block, or nothing if this is the last.
    pub fn next_block(&self) -> Option<u64> {
        let end = self.base + self.bytes.len() as u64;
        (end < self.size).then_some(end)
    }

    fn corrupt(&self, what: &'static str, at: usize) -> Error {
        Error::Corrupt {
            what,
            place: Place::Directory { inode: self.directory, offset: self.base + at as u64 },
        }
    }

    /// Take the entry at hand, free or not, and go on to the next; nothing at the end of the block.
    fn advance(&mut self) -> Result<Option<RawEntry<'a>>, Error> {
        let at = self.at;
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let chunk = DIRECTORY_CHUNK as usize;
        let rest = rest.get(..chunk - at % chunk).unwrap_or(rest);
        let header = match self.order {
            Order::Little => Header::read::<LittleEndian>(rest),
            Order::Big => Header::read::<BigEndian>(rest),
        };
        let header = header.ok_or_else(|| self.corrupt("an entry without room for its header", at))?;
        let aligned = header.reclen >= HEADER_BYTES && header.reclen.is_multiple_of(4);
        let record = rest.get(..header.reclen).filter(|_| aligned);
        let record = record.ok_or_else(|| self.corrupt("an entry of an impossible length", at))?;
        self.at += header.reclen;
        Ok(Some(RawEntry { header, record, at }))
    }

    /// The entry's name and file, or nothing if it is free.
    fn check(&self, entry: &RawEntry<'a>) -> Result<Option<DirEntry<'a>>, Error> {
        let RawEntry { header, record, at } = entry;
        if header.ino == FREE || header.ino == WHITEOUT {
            return Ok(None);
        }
        if header.ino >= self.inodes {
            return Err(self.corrupt("an entry that names an inode beyond the last", *at));
        }
        // A name is followed by a NUL, for which the record must have room too.
        let name = record.get(HEADER_BYTES..).and_then(|room| room.get(..header.namlen + 1)?.split_last());
        let name = name.map(|(_nul, name)| name).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.corrupt("a name that does not fit its entry", *at))?;
        if name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(self.corrupt("a name with a slash or a NUL", *at));
        }
        Ok(Some(DirEntry {
            number: InodeNumber(header.ino),
            kind: FileType::from_entry(header.kind),
            name,
            next: self.base + self.at as u64,
        }))
    }

    fn next_live(&mut self) -> Result<Option<DirEntry<'a>>, Error> {
        while let Some(entry) = self.advance()? {
            if self.base + (entry.at as u64) < self.from {
                continue;
            }
            if let Some(live) = self.check(&entry)? {
                return Ok(Some(live));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for DirEntries<'a> {
    type Item = Result<DirEntry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_live().transpose();
        if matches!(item, Some(Err(_))) {
            self.at = self.bytes.len(); // nothing behind a damaged entry can be trusted
        }
        item
    }
}

struct RawEntry<'a> {
    header: Header,
    record: &'a [u8],
    at: usize,
}

/// The fixed part of an entry, in the machine's byte order.
struct Header {
    ino: u32,
    reclen: usize,
    kind: u8,
    namlen: usize,
}

impl Header {
    fn read<O: ByteOrder>(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = EntryHeader::<O>::ref_from_prefix(bytes).ok()?;
        Some(Self {
            ino: raw.ino.get(),
            reclen: raw.reclen.get().into(),
            kind: raw.kind,
            namlen: raw.namlen.into(),
        })
    }
}

/// How far a search for a name has come. Keep it while a block is fetched, and even a directory larger than the
/// cache is searched only once; a new one starts from the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The cookie of the first block that was not searched.
    from: u64,
}

/// The entries from a cookie to the end of its block.
pub(crate) fn entries<'a>(
    geometry: &Geometry,
    blocks: &'a impl Blocks,
    directory: &Inode,
    cookie: u64,
) -> Result<DirEntries<'a>, Error> {
    if directory.kind != FileType::Directory {
        return Err(Error::NotDirectory);
    }
    let size = directory.size;
    let cookie = cookie.min(size);
    let base = if cookie == size { size } else { cookie - cookie % geometry.block_bytes() };
    let len = geometry.block_bytes().min(size - base);
    let bytes = if cookie == size {
        &[]
    } else {
        let run = map_block(geometry, blocks, directory, cookie >> geometry.block_shift)?
            .ok_or_else(|| directory.corrupt("a hole in a directory"))?;
        let block = blocks.get(geometry.extent(run))?;
        block.get(..len as usize).ok_or_else(|| directory.corrupt("a directory block that is cut short"))?
    };
    let chunk = cookie - cookie % u64::from(DIRECTORY_CHUNK);
    Ok(DirEntries {
        bytes,
        at: (chunk - base) as usize,
        base,
        from: cookie,
        size,
        directory: directory.number,
        order: geometry.order,
        inodes: geometry.inodes(),
    })
}

/// Find a name.
pub(crate) fn lookup(
    geometry: &Geometry,
    blocks: &impl Blocks,
    directory: &Inode,
    name: &[u8],
    search: &mut Search,
) -> Result<InodeNumber, Error> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    loop {
        let mut block = entries(geometry, blocks, directory, search.from)?;
        while let Some(entry) = block.next_live()? {
            if entry.name == name {
                return Ok(entry.number);
            }
        }
        search.from = block.next_block().ok_or(Error::NotFound)?;
    }
}

#[cfg(test)]
mod tests;
