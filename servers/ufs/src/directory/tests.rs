//! Tests of directory.

use alloc::vec::Vec;
use core::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::blocks::{Extent, Miss};
use crate::layout::Version;
use crate::specimen::{BLOCK, DATA, FRAGMENT, KINDS, Specimen, addresses, entry};

/// Two chunks: `.`, `..` and a file in the first; a free entry, a whiteout and a folder in the second.
fn sample(order: Order) -> Vec<u8> {
    [
        entry(order, 6, 12, 4, b"."),
        entry(order, 2, 12, 4, b".."),
        entry(order, 7, 488, 8, b"file"),
        entry(order, 0, 100, 0, b""),
        entry(order, 1, 12, 14, b"gone"),
        entry(order, 8, 400, 4, b"folder"),
    ]
    .concat()
}

fn names(specimen: &Specimen, directory: &Inode, cookie: u64) -> Result<Vec<Vec<u8>>, Error> {
    let entries = specimen.volume.read_dir(&specimen.disk, directory, cookie)?;
    entries.map(|entry| entry.map(|entry| entry.name.to_vec())).collect()
}

fn find(specimen: &Specimen, directory: &Inode, name: &[u8]) -> Result<u32, Error> {
    let number = specimen.volume.lookup(&specimen.disk, directory, name, &mut Search::default());
    number.map(|number| number.0)
}

#[test]
fn every_name_is_listed_once_without_free_entries_and_whiteouts() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        let directory = specimen.directory(&sample(kind.1));
        let entries = specimen.volume.read_dir(&specimen.disk, &directory, 0).unwrap();
        assert_eq!(entries.next_block(), None);
        let listed: Vec<_> =
            entries.map(|entry| entry.map(|e| (e.number.0, e.kind, e.name, e.next)).unwrap()).collect();
        let folder = Some(FileType::Directory);
        assert_eq!(
            listed,
            [
                (6, folder, b".".as_slice(), 12),
                (2, folder, b"..", 24),
                (7, Some(FileType::Regular), b"file", 512),
                (8, folder, b"folder", 1024),
            ]
        );
    }
}

#[test]
fn no_block_comes_after_the_end() {
    let mut specimen = Specimen::new(KINDS[0]);
    let directory = specimen.directory(&sample(KINDS[0].1));
    for cookie in [directory.size, directory.size + 1, u64::MAX] {
        let mut entries = specimen.volume.read_dir(&specimen.disk, &directory, cookie).unwrap();
        assert_eq!((entries.next_block(), entries.next()), (None, None));
    }
}

#[test]
fn a_name_is_found_or_not_found() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        let directory = specimen.directory(&sample(kind.1));
        let found =
            [b".".as_slice(), b"..", b"file", b"folder"].map(|name| find(&specimen, &directory, name));
        assert_eq!(found, [Ok(6), Ok(2), Ok(7), Ok(8)]);
        for absent in [b"".as_slice(), b"gone", b"fil", b"files"] {
            assert_eq!(find(&specimen, &directory, absent), Err(Error::NotFound));
        }
        assert_eq!(find(&specimen, &directory, &[b'a'; 255]), Err(Error::NotFound));
        assert_eq!(find(&specimen, &directory, &[b'a'; 256]), Err(Error::NameTooLong));
    }
}

#[test]
fn any_number_is_a_cookie_and_names_the_entries_behind_it() {
    let mut specimen = Specimen::new(KINDS[0]);
    let directory = specimen.directory(&sample(KINDS[0].1));
    for (cookie, count) in [(0, 4), (1, 3), (12, 3), (24, 2), (25, 1), (512, 1), (624, 1), (625, 0)] {
        assert_eq!(names(&specimen, &directory, cookie).unwrap().len(), count, "{cookie}");
    }
    for beyond in [1024, 1025, u64::MAX] {
        assert_eq!(names(&specimen, &directory, beyond), Ok(Vec::new()));
    }
}

#[test]
fn the_longest_name_fits() {
    let order = KINDS[3].1;
    let long = [b'n'; NAME_MAX];
    let chunk = [entry(order, 7, 264, 8, &long), entry(order, 0, 248, 0, b"")].concat();
    let mut specimen = Specimen::new(KINDS[3]);
    let directory = specimen.directory(&chunk);
    assert_eq!(find(&specimen, &directory, &long), Ok(7));
}

#[test]
fn a_damaged_entry_is_reported_once_with_its_place() {
    let order = Order::Little;
    let length = "an entry of an impossible length";
    let name = "a name that does not fit its entry";
    let damages = [
        (length, entry(order, 7, 0, 8, b"zero")),
        (length, entry(order, 7, 4, 8, b"less")),
        (length, entry(order, 7, 18, 8, b"odd")),
        (length, entry(order, 7, 504, 8, b"over")),
        (length, entry(order, 0, 65532, 0, b"far")[..500].to_vec()),
        (name, entry(order, 7, 12, 8, b"tight")[..12].to_vec()),
        (name, entry(order, 7, 12, 8, b"nul!")),
        (name, entry(order, 7, 500, 8, b"")),
        ("a name with a slash or a NUL", entry(order, 7, 500, 8, b"a/b")),
        ("a name with a slash or a NUL", entry(order, 7, 500, 8, b"a\0b")),
        ("an entry that names an inode beyond the last", entry(order, 192, 500, 8, b"x")),
        (
            "an entry without room for its header",
            [entry(order, 7, 496, 8, b"x"), entry(order, 7, 4, 0, b"")[..4].to_vec()].concat(),
        ),
    ];
    for (what, bytes) in damages {
        let mut chunk = [entry(order, 6, 12, 4, b"."), bytes].concat();
        chunk.resize(512, 0);
        let mut specimen = Specimen::new((Version::Ufs2, order));
        let directory = specimen.directory(&chunk);
        let mut entries = specimen.volume.read_dir(&specimen.disk, &directory, 0).unwrap();
        assert!(entries.next().unwrap().is_ok());
        let error = entries.find_map(Result::err).expect(what);
        let Error::Corrupt { what: reported, place: Place::Directory { inode, offset } } = error else {
            panic!("{error} is not about a directory")
        };
        assert_eq!((reported, inode), (what, directory.number));
        assert!((12..512).contains(&offset));
        assert!(entries.next().is_none());
        assert_eq!(find(&specimen, &directory, b"absent"), Err(error));
    }
}

#[test]
fn a_directory_with_a_hole_is_corrupt() {
    let mut specimen = Specimen::new(KINDS[0]);
    specimen.put_inode(6, 0o040_755, 512, [0; 15]);
    let directory = specimen.inode(6);
    assert_eq!(names(&specimen, &directory, 0), Err(directory.corrupt("a hole in a directory")));
}

#[test]
fn a_file_is_not_a_directory() {
    let mut specimen = Specimen::new(KINDS[0]);
    let file = specimen.file(512, addresses(&[DATA]));
    assert_eq!(find(&specimen, &file, b"x"), Err(Error::NotDirectory));
    assert_eq!(names(&specimen, &file, 0), Err(Error::NotDirectory));
}

#[test]
fn a_search_reads_each_block_once_even_if_none_is_kept() {
    /// Has only the block that was missed last.
    struct Forgetful<'a> {
        specimen: &'a Specimen,
        last: Cell<Option<Extent>>,
    }
    impl Blocks for Forgetful<'_> {
        fn get(&self, extent: Extent) -> Result<&[u8], Miss> {
            match self.last.replace(Some(extent)) == Some(extent) {
                true => self.specimen.disk.get(extent),
                false => Err(Miss(extent)),
            }
        }
    }
    let order = KINDS[0].1;
    let mut specimen = Specimen::new(KINDS[0]);
    for block in 0..8 {
        for chunk in 0..BLOCK / 512 {
            let byte = (DATA + block * 4) * FRAGMENT + chunk * 512;
            specimen.disk.put(byte, &entry(order, 7, 512, 8, b"other"));
        }
    }
    specimen.disk.put((DATA + 28) * FRAGMENT + 3584, &entry(order, 9, 512, 8, b"wanted"));
    let places: Vec<u64> = (0..8).map(|block| DATA + block * 4).collect();
    specimen.put_inode(6, 0o040_755, 8 * BLOCK, addresses(&places));
    let directory = specimen.inode(6);
    let blocks = Forgetful { specimen: &specimen, last: Cell::new(None) };
    let mut search = Search::default();
    for _ in 0..8 {
        let missed = specimen.volume.lookup(&blocks, &directory, b"wanted", &mut search);
        assert!(matches!(missed, Err(Error::Miss(_))));
    }
    assert_eq!(specimen.volume.lookup(&blocks, &directory, b"wanted", &mut search), Ok(InodeNumber(9)));
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_a_directory_that_ends(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => 0u8..16, 1 => any::<u8>()], 1024),
        cookie in 0u64..1100,
    ) {
        let mut specimen = Specimen::new(KINDS[0]);
        let directory = specimen.directory(&bytes);
        let entries = specimen.volume.read_dir(&specimen.disk, &directory, cookie).unwrap();
        prop_assert!(entries.take(200).count() <= 1024 / 12 + 1);
        let _ = find(&specimen, &directory, b"x");
    }
}
