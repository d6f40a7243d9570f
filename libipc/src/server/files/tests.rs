//! The shared parts of file servers against what Linux answers.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn names(path: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    let mut path = path;
    while let Some(component) = first_component(path).unwrap() {
        names.push(component.name);
        path = component.rest;
    }
    names
}

#[test]
fn repeated_slashes_separate_once_and_a_trailing_one_demands_a_directory() {
    assert_eq!(names(b"//usr///bin/."), [&b"usr"[..], b"bin", b"."]);
    assert_eq!(first_component(b"///"), Ok(None));
    let last = first_component(b"name//").unwrap().unwrap();
    assert_eq!(last, Component { name: b"name", rest: b"", directory: true });
    assert!(!first_component(b"name").unwrap().unwrap().directory);
}

#[test]
fn a_component_has_at_most_255_bytes_and_no_nul() {
    let longest = vec![b'x'; 255];
    assert!(first_component(&longest).is_ok());
    let mut longer = longest.clone();
    longer.push(b'x');
    assert_eq!(first_component(&longer), Err(ENAMETOOLONG));
    assert_eq!(first_component(b"a\0b"), Err(EINVAL));
    assert_eq!(check_name(b""), Err(ENOENT));
    assert_eq!(check_name(b"a/b"), Err(EINVAL));
}

#[test]
fn dots_are_refused_by_what_makes_or_removes_names_as_linux_refuses_them() {
    let make = Operation::MakeDirectory { mode: 0 };
    assert_eq!(unnamed_error(&make, b""), Some(EEXIST));
    assert_eq!(unnamed_error(&make, b"a"), None);
    assert_eq!(unnamed_error(&Operation::Unlink, b".."), Some(EISDIR));
    for (name, error) in [(&b"."[..], EINVAL), (b"..", ENOTEMPTY), (b"", EBUSY)] {
        assert_eq!(unnamed_error(&Operation::RemoveDirectory, name), Some(error));
    }
    assert_eq!(unnamed_error(&Operation::Parent, b"."), Some(EBUSY));
    assert_eq!(unnamed_error(&Operation::Stat, b"."), None);
    let open = |flags| unnamed_error(&Operation::Open { flags, mode: 0 }, b".");
    assert_eq!([open(O_CREAT), open(O_CREAT | O_EXCL), open(O_RDONLY)], [Some(EISDIR), Some(EEXIST), None]);
}

#[test]
fn the_first_class_that_fits_the_caller_decides() {
    let caller = |uid, gid| Credentials { uid, gid, umask: 0, ..Credentials::default() };
    let check = |mode, uid, gid, wanted| permits(mode, 5, 50, &caller(uid, gid), wanted);
    assert!(check(0o640, 5, 1, R_OK | W_OK));
    assert!(!check(0o040, 5, 50, R_OK), "the owner's class hides the group's");
    assert!(check(0o640, 6, 50, R_OK));
    assert!(!check(0o640, 6, 50, W_OK));
    assert!(!check(0o640, 6, 6, R_OK));
    assert!(check(0o001, 6, 6, X_OK));
}

#[test]
fn the_superuser_executes_only_what_somebody_may_execute() {
    let root = Credentials::default();
    assert!(permits(mode::S_IFREG, 5, 5, &root, R_OK | W_OK));
    assert!(!permits(mode::S_IFREG | 0o666, 5, 5, &root, X_OK));
    assert!(permits(mode::S_IFREG | 0o010, 5, 5, &root, X_OK));
    assert!(permits(mode::S_IFDIR, 5, 5, &root, X_OK));
}

#[test]
fn a_sticky_directory_lets_owners_and_the_superuser_remove() {
    let refuses =
        |uid| sticky_refuses(0o1777, 5, 6, &Credentials { uid, gid: 0, umask: 0, ..Credentials::default() });
    assert_eq!([refuses(0), refuses(5), refuses(6), refuses(7)], [false, false, false, true]);
    assert!(!sticky_refuses(
        0o777,
        5,
        6,
        &Credentials { uid: 7, gid: 0, umask: 0, ..Credentials::default() }
    ));
}

#[test]
fn a_file_is_used_only_as_it_was_opened() {
    assert_eq!(
        [O_RDONLY, O_WRONLY, O_RDWR, O_PATH].map(check_readable),
        [Ok(()), Err(EBADF), Ok(()), Err(EBADF)]
    );
    assert_eq!(
        [O_RDONLY, O_WRONLY, O_RDWR, O_PATH | O_RDWR].map(check_writable),
        [Err(EBADF), Ok(()), Ok(()), Err(EBADF)]
    );
    assert_eq!(wanted_by_open(O_RDONLY | O_TRUNC), R_OK | W_OK);
    assert_eq!(wanted_by_open(O_PATH | O_RDWR), 0);
    assert_eq!(status_of_open(O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC), O_RDWR | O_APPEND);
}

#[test]
fn a_device_number_tells_its_server_and_volume() {
    assert_eq!(volume_of_device(device_number(9, 3), 9), Some(3));
    assert_eq!(volume_of_device(device_number(9, 3), 8), None);
    assert_eq!(volume_of_device(0, 9), None);
}

#[test]
fn lseek_adds_checks_and_refuses() {
    assert_eq!(seek(10, 5, 0, 100), Ok(5));
    assert_eq!(seek(10, -5, 1, 100), Ok(5));
    assert_eq!(seek(10, 5, 2, 100), Ok(105));
    assert_eq!(seek(10, -11, 1, 100), Err(EINVAL));
    assert_eq!(seek(10, i64::MAX, 1, 100), Err(EOVERFLOW));
    assert_eq!(seek(0, i64::MAX, 0, 0), Ok(i64::MAX as u64));
    assert_eq!(seek(0, 0, 9, 0), Err(EINVAL));
    assert_eq!([seek(0, 7, 3, 100), seek(0, 7, 4, 100), seek(0, 100, 3, 100)], [Ok(7), Ok(100), Err(ENXIO)]);
}

#[test]
fn a_wide_record_has_the_layout_of_linux_dirent64() {
    let mut records = Dirents::new(DirentLayout::Wide, 1000);
    assert!(records.push(7, 42, mode::S_IFDIR | 0o755, b"lib"));
    let (bytes, position) = records.finish().unwrap();
    assert_eq!(position, Some(42));
    let mut expected = Vec::from(7u64.to_le_bytes());
    expected.extend(42u64.to_le_bytes());
    expected.extend([24, 0, 4]);
    expected.extend(b"lib\0\0");
    assert_eq!(bytes, expected);
}

#[test]
fn an_old_record_has_its_type_in_the_last_byte() {
    let mut records = Dirents::new(DirentLayout::Old, 1000);
    assert!(records.push(7, 1, mode::S_IFREG, b"name"));
    let (bytes, _) = records.finish().unwrap();
    assert_eq!((bytes.len(), bytes[16], &bytes[18..23], bytes[23]), (24, 24, &b"name\0"[..], 8));
}

#[test]
fn a_buffer_too_small_for_one_entry_is_an_error_and_an_empty_directory_is_not() {
    let mut records = Dirents::new(DirentLayout::Wide, 20);
    assert!(!records.push(1, 1, 0, b"a"));
    assert_eq!(records.finish(), Err(EINVAL));
    assert_eq!(Dirents::new(DirentLayout::Wide, 0).finish(), Ok((Vec::new(), None)));
}

proptest! {
    #[test]
    fn records_always_fit_and_can_be_walked(
        names in prop::collection::vec(prop::collection::vec(1u8.., 1..300), 0..20),
        capacity in 0u64..2000,
        wide in any::<bool>(),
    ) {
        let layout = if wide { DirentLayout::Wide } else { DirentLayout::Old };
        let mut records = Dirents::new(layout, capacity);
        let taken = names.iter().zip(1..).take_while(|(name, next)| records.push(1, *next, 0, name)).count();
        let Ok((bytes, _)) = records.finish() else {
            prop_assert_eq!(taken, 0);
            return Ok(());
        };
        prop_assert!(bytes.len() as u64 <= capacity);
        let mut at = 0;
        for name in &names[..taken] {
            let length = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
            let start = at + if wide { 19 } else { 18 };
            prop_assert_eq!(&bytes[start..start + name.len()], &name[..]);
            prop_assert_eq!(bytes[start + name.len()], 0);
            prop_assert_eq!(length % 8, 0);
            at += length;
        }
        prop_assert_eq!(at, bytes.len());
    }

    #[test]
    fn components_give_back_the_path_without_its_slashes(
        path in prop::collection::vec(prop::sample::select(b"a./".to_vec()), 0..40),
    ) {
        let joined: Vec<u8> = names(&path).concat();
        let plain: Vec<u8> = path.into_iter().filter(|byte| *byte != b'/').collect();
        prop_assert_eq!(joined, plain);
    }
}
