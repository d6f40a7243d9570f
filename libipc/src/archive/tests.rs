//! What an archive keeps, and what it refuses.

use alloc::{format, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn sample() -> Vec<u8> {
    let mut builder = Builder::new();
    builder.add(MANIFEST, vec![1, 2, 3]).unwrap();
    builder.add("empty", vec![]).unwrap();
    builder.add("vm", vec![7; 5000]).unwrap();
    builder.finish()
}

fn error(bytes: &[u8]) -> ArchiveError {
    Archive::new(bytes).err().expect("an archive was accepted")
}

#[test]
fn entries_are_found_by_name_and_come_in_order() {
    let bytes = sample();
    let archive = Archive::new(&bytes).unwrap();
    assert_eq!(archive.find("vm"), Some(&[7; 5000][..]));
    assert_eq!(archive.find("empty"), Some(&[][..]));
    assert_eq!(archive.find("v"), None);
    let names: Vec<_> = archive.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [MANIFEST, "empty", "vm"]);
}

#[test]
fn contents_start_on_pages() {
    let bytes = sample();
    let start = bytes.as_ptr() as usize;
    for (_, contents) in Archive::new(&bytes).unwrap().iter() {
        assert_eq!((contents.as_ptr() as usize - start) % PAGE_BYTES, 0);
    }
}

#[test]
fn padding_behind_the_archive_is_ignored() {
    let mut bytes = sample();
    bytes.resize(bytes.len() + 777, 0xaa);
    assert!(Archive::new(&bytes).is_ok());
}

#[test]
fn other_files_and_versions_are_refused() {
    assert_eq!(error(b"\x7fELF, and more than a header's worth"), ArchiveError::NotAnArchive);
    assert_eq!(error(b""), ArchiveError::NotAnArchive);
    let mut bytes = sample();
    bytes[8] = 9;
    assert_eq!(error(&bytes), ArchiveError::Version(9));
}

#[test]
fn a_cut_archive_names_the_entry_that_is_missing() {
    let bytes = sample();
    assert_eq!(error(&bytes[..20]), ArchiveError::TableCut);
    assert_eq!(error(&bytes[..bytes.len() - 1]), ArchiveError::Contents(2));
}

#[test]
fn entries_that_overlap_or_wrap_are_refused() {
    let entry = |index: usize| size_of::<Header>() + index * size_of::<Entry>();
    let mut overlapping = sample();
    overlapping[entry(2) + 32..entry(2) + 40].copy_from_slice(&4096u64.to_le_bytes());
    assert_eq!(error(&overlapping), ArchiveError::Contents(2));
    let mut wrapping = sample();
    wrapping[entry(0) + 40..entry(0) + 48].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(error(&wrapping), ArchiveError::Contents(0));
    let mut inside_table = sample();
    inside_table[entry(0) + 32..entry(0) + 40].copy_from_slice(&0u64.to_le_bytes());
    assert_eq!(error(&inside_table), ArchiveError::Contents(0));
}

#[test]
fn names_are_padded_text_given_once() {
    let name_of = |index: usize| size_of::<Header>() + index * size_of::<Entry>();
    let mut twice = sample();
    twice.copy_within(name_of(0)..name_of(0) + 32, name_of(2));
    assert_eq!(error(&twice), ArchiveError::Duplicate(2));
    let mut unpadded = sample();
    unpadded[name_of(1) + 31] = b'x';
    assert_eq!(error(&unpadded), ArchiveError::Name(1));
    let mut builder = Builder::new();
    assert_eq!(builder.add("", vec![]), Err(ArchiveError::Name(0)));
    assert_eq!(builder.add(&"n".repeat(33), vec![]), Err(ArchiveError::Name(0)));
    builder.add("a", vec![]).unwrap();
    assert_eq!(builder.add("a", vec![]), Err(ArchiveError::Duplicate(1)));
}

proptest! {
    #[test]
    fn what_was_added_is_what_is_found(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..8),
    ) {
        let mut builder = Builder::new();
        for (index, bytes) in contents.iter().enumerate() {
            builder.add(&format!("entry-{index}"), bytes.clone()).unwrap();
        }
        let file = builder.finish();
        let archive = Archive::new(&file).unwrap();
        for (index, bytes) in contents.iter().enumerate() {
            prop_assert_eq!(archive.find(&format!("entry-{index}")), Some(&bytes[..]));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Archive::new(&bytes).map(|archive| archive.iter().count());
    }

    #[test]
    fn a_damaged_archive_is_refused_or_still_sound(position in 0usize..160, value: u8) {
        let mut bytes = sample();
        bytes[position] = value;
        if let Ok(archive) = Archive::new(&bytes) {
            prop_assert_eq!(archive.iter().count(), archive.entries.len());
        }
    }
}
