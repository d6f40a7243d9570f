//! Images made by makefs, read through the library and compared with the folders they were made of.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use common::{Disk, Format, large_tree, make_image, small_tree};
use tempfile::TempDir;
use ufs::{Error, FileType, Inode, InodeNumber, Order, Piece, READ_MAX_BYTES, Search, Version, Volume};

/// A mounted image, and what the walk over it has seen.
struct Walk {
    disk: Disk,
    volume: Volume,
    /// Which inode has which of the host's: hard links must agree.
    numbers: BTreeMap<u64, InodeNumber>,
    fragment_bytes: u64,
    fragments_per_group: u64,
    inodes_per_group: u32,
    files: u64,
}

impl Walk {
    fn new(image: &Path) -> Self {
        let mut disk = Disk::open(image);
        let sectors = disk.sectors;
        let volume = disk.run(|blocks| Volume::mount(blocks, sectors)).unwrap();
        let fragment_bytes = u64::from(volume.statfs().fragment_bytes);
        let group =
            disk.run(|blocks| volume.cylinder_group(blocks, 0).map(|group| (group.fragments, group.inodes)));
        let (fragments_per_group, inodes_per_group) = group.unwrap();
        Self {
            disk,
            volume,
            numbers: BTreeMap::new(),
            fragment_bytes,
            fragments_per_group: fragments_per_group.into(),
            inodes_per_group,
            files: 0,
        }
    }

    fn inode(&mut self, number: InodeNumber) -> Inode {
        self.disk.run(|blocks| self.volume.inode(blocks, number)).unwrap()
    }

    fn lookup(&mut self, directory: &Inode, name: &[u8]) -> Result<InodeNumber, Error> {
        let mut search = Search::default();
        self.disk.run(|blocks| self.volume.lookup(blocks, directory, name, &mut search))
    }

    /// All entries of a directory, one block after the other.
    fn list(&mut self, directory: &Inode) -> BTreeMap<Vec<u8>, (InodeNumber, Option<FileType>)> {
        let mut all = BTreeMap::new();
        let mut cookie = Some(0);
        while let Some(at) = cookie {
            let (entries, next) = self
                .disk
                .run(|blocks| {
                    let block = self.volume.read_dir(blocks, directory, at)?;
                    let next = block.next_block();
                    let entries: Result<Vec<_>, Error> =
                        block.map(|entry| entry.map(|e| (e.name.to_vec(), (e.number, e.kind)))).collect();
                    Ok((entries?, next))
                })
                .unwrap();
            for (name, entry) in entries {
                assert!(all.insert(name, entry).is_none(), "a name is listed twice");
            }
            cookie = next;
        }
        all
    }

    /// The whole of a file, by plans of odd lengths.
    fn read(&mut self, file: &Inode) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < file.size {
            let offset = bytes.len() as u64;
            let len = READ_MAX_BYTES - 333;
            let pieces = self.disk.run(|blocks| self.volume.plan_read(blocks, file, offset, len)).unwrap();
            let first = self.disk.run(|blocks| self.volume.block_map(blocks, file, offset)).unwrap().unwrap();
            assert_eq!(place(first), place(pieces[0]));
            assert_eq!(pieces.iter().map(|piece| piece.bytes()).sum::<u64>(), len.min(file.size - offset));
            for piece in pieces {
                match piece {
                    Piece::Hole { bytes: len } => bytes.extend(vec![0; len as usize]),
                    Piece::Disk { address, bytes: len } => {
                        bytes.extend(self.disk.read(address, len));
                        self.must_be_allocated(address, len);
                    }
                }
            }
        }
        bytes
    }

    /// The map of the cylinder group must say that these bytes are in use.
    fn must_be_allocated(&mut self, address: u64, len: u64) {
        for fragment in address / self.fragment_bytes..(address + len).div_ceil(self.fragment_bytes) {
            let (group, index) = (fragment / self.fragments_per_group, fragment % self.fragments_per_group);
            let free = self.disk.run(|blocks| {
                Ok(self.volume.cylinder_group(blocks, group as u32)?.is_fragment_free(index as u32))
            });
            assert_eq!(free, Ok(Some(false)), "fragment {fragment}");
        }
    }

    fn must_be_used(&mut self, number: InodeNumber) {
        let (group, index) = (number.0 / self.inodes_per_group, number.0 % self.inodes_per_group);
        let used =
            self.disk.run(|blocks| Ok(self.volume.cylinder_group(blocks, group)?.is_inode_used(index)));
        assert_eq!(used, Ok(Some(true)), "{number}");
    }

    /// Compare an inode with the host's idea of the same file.
    fn compare(&mut self, number: InodeNumber, host: &Path) {
        let inode = self.inode(number);
        let expected = fs::symlink_metadata(host).unwrap();
        assert_eq!(u32::from(inode.mode), expected.mode(), "{}", host.display());
        assert_eq!((inode.uid, inode.gid), (expected.uid(), expected.gid()));
        assert_eq!(inode.modified.seconds, expected.mtime()); // makefs leaves the fraction out
        assert_eq!(*self.numbers.entry(expected.ino()).or_insert(number), number);
        self.must_be_used(number);
        self.files += 1;
        match inode.kind {
            FileType::Directory => {
                let folders =
                    fs::read_dir(host).unwrap().filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir());
                assert_eq!(usize::from(inode.links), 2 + folders.count());
                self.compare_directory(&inode, host);
            }
            FileType::Regular => {
                assert_eq!((inode.size, u64::from(inode.links)), (expected.size(), expected.nlink()));
                assert!(self.read(&inode) == fs::read(host).unwrap(), "{}", host.display());
            }
            FileType::Symlink => {
                let target =
                    self.disk.run(|blocks| self.volume.read_link(blocks, &inode).map(<[u8]>::to_vec));
                assert_eq!(target.unwrap(), fs::read_link(host).unwrap().into_os_string().into_vec());
            }
            FileType::Fifo => assert!(expected.file_type().is_fifo()),
            other => panic!("{other:?} was not put on the image"),
        }
    }

    fn compare_directory(&mut self, directory: &Inode, host: &Path) {
        let listed = self.list(directory);
        assert_eq!(listed[b".".as_slice()].0, directory.number);
        let names: BTreeSet<_> =
            listed.keys().filter(|name| !matches!(name.as_slice(), b"." | b"..")).cloned().collect();
        let expected: BTreeSet<_> =
            fs::read_dir(host).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
        assert_eq!(names, expected, "{}", host.display());
        assert_eq!(self.lookup(directory, b"absent"), Err(Error::NotFound));
        for name in names {
            let (number, kind) = listed[&name];
            assert_eq!(self.lookup(directory, &name), Ok(number));
            let inode = self.inode(number);
            assert_eq!(kind, Some(inode.kind));
            if inode.kind == FileType::Directory {
                assert_eq!(self.lookup(&inode, b".."), Ok(directory.number));
            }
            self.compare(number, &host.join(std::ffi::OsStr::from_bytes(&name)));
        }
    }
}

/// Where a piece starts; nothing if it is a hole.
fn place(piece: Piece) -> Option<u64> {
    match piece {
        Piece::Hole { .. } => None,
        Piece::Disk { address, .. } => Some(address),
    }
}

fn compare_images(block: u32, fragment: u32, tree: fn(&Path)) {
    let temporary = TempDir::new().unwrap();
    let folder = temporary.path().join("tree");
    fs::create_dir(&folder).unwrap();
    tree(&folder);
    for format in Format::all(block, fragment) {
        let mut walk = Walk::new(&make_image(&temporary, &folder, format));
        assert_eq!(walk.volume.version(), if format.version == 1 { Version::Ufs1 } else { Version::Ufs2 });
        assert_eq!(walk.volume.order(), if format.order == "le" { Order::Little } else { Order::Big });
        assert!(walk.volume.is_clean());
        let statfs = walk.volume.statfs();
        assert_eq!((statfs.block_bytes, statfs.fragment_bytes), (block, fragment));
        let root = walk.disk.run(|blocks| walk.volume.root(blocks)).unwrap();
        assert_eq!(walk.lookup(&root, b".."), Ok(InodeNumber::ROOT));
        walk.compare(root.number, &folder);
        assert!(walk.files > 40);
        let used = statfs.inodes - statfs.free_inodes;
        assert_eq!(used, walk.numbers.len() as u64, "every file on the image was walked");
    }
}

#[test]
fn blocks_of_4096_in_fragments_of_512_are_read_right() {
    compare_images(4096, 512, large_tree);
}

#[test]
fn blocks_of_4096_in_one_piece_are_read_right() {
    compare_images(4096, 4096, large_tree);
}

#[test]
fn blocks_of_8192_in_fragments_of_1024_are_read_right() {
    compare_images(8192, 1024, large_tree);
}

#[test]
fn blocks_of_16384_in_fragments_of_2048_are_read_right() {
    compare_images(16384, 2048, small_tree);
}

#[test]
fn blocks_of_32768_in_fragments_of_4096_are_read_right() {
    compare_images(32768, 4096, large_tree);
}

#[test]
fn blocks_of_65536_in_fragments_of_8192_are_read_right() {
    compare_images(65536, 8192, large_tree);
}

/// With the smallest blocks of UFS2, triple indirection begins behind the first gigabyte.
#[test]
fn a_file_that_needs_triple_indirection_is_read_right() {
    let temporary = TempDir::new().unwrap();
    let folder = temporary.path().join("tree");
    fs::create_dir(&folder).unwrap();
    let triple = (12 + 512 + 512 * 512) * 4096;
    let marks = [0, 12 * 4096, (12 + 512) * 4096, triple - 4096, triple, triple + 9 * 4096 + 5];
    let host = File::create(folder.join("huge")).unwrap();
    for mark in marks {
        host.write_all_at(format!("here is byte {mark}").as_bytes(), mark).unwrap();
    }
    let format = Format { version: 2, order: "be", block: 4096, fragment: 512 };
    let mut walk = Walk::new(&make_image(&temporary, &folder, format));
    let root = walk.inode(InodeNumber::ROOT);
    let number = walk.lookup(&root, b"huge").unwrap();
    let huge = walk.inode(number);
    assert_eq!(huge.size, host.metadata().unwrap().len());
    for mark in marks {
        let expected = format!("here is byte {mark}");
        let len = expected.len() as u64;
        let pieces = walk.disk.run(|blocks| walk.volume.plan_read(blocks, &huge, mark, len)).unwrap();
        let [Piece::Disk { address, bytes }] = pieces[..] else {
            panic!("{pieces:?} should be in one piece")
        };
        assert_eq!(walk.disk.read(address, bytes), expected.as_bytes());
    }
}
