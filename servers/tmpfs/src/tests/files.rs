//! Open files and directories.

use super::world::{BUFFER, World};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::Operation;
use libipc::server::{Event, Foreign};

const PAGE: usize = 4096;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

#[test]
fn what_is_written_is_read_and_the_position_moves() {
    let mut world = World::new();
    let file = world.make("f");
    let bytes = pattern(3 * PAGE + 17);
    assert_eq!(world.write(file, &bytes), bytes.len() as i64);
    assert_eq!(world.sessions[&file].position, bytes.len() as u64);
    assert_eq!(world.read(file, 10), Ok(vec![]));
    assert_eq!(world.read_at(file, 100_000, 5), Ok(bytes[5..].to_vec()));
    assert_eq!(world.linux(file, 8, [3, 7, 0, 0, 0, 0]), 7);
    assert_eq!(world.read(file, 9), Ok(bytes[7..16].to_vec()));
    assert_eq!(world.sessions[&file].position, 16);
}

#[test]
fn a_call_moves_at_most_a_mebibyte_in_windows() {
    let mut world = World::sized(4 << 20);
    let file = world.make("f");
    let bytes = pattern((1 << 20) + PAGE);
    assert_eq!(world.write(file, &bytes), 1 << 20);
    assert_eq!(world.write(file, &bytes[1 << 20..]), PAGE as i64);
    assert_eq!(world.read_at(file, 2 << 20, 0), Ok(bytes[..1 << 20].to_vec()));
}

#[test]
fn what_was_never_written_is_zero() {
    let mut world = World::new();
    let file = world.make("f");
    assert_eq!(world.write_at(file, b"x", 300_000), 1);
    let mut expected = vec![0; 300_001];
    expected[300_000] = b'x';
    assert_eq!(world.read_at(file, 400_000, 0), Ok(expected));
    assert_eq!(world.stat("f").expect("f").blocks, 8);
    assert_eq!(world.linux(file, 77, [3, 300_000, 0, 0, 0, 0]), 0);
    assert_eq!(world.linux(file, 77, [3, 300_010, 0, 0, 0, 0]), 0);
    assert_eq!(world.read_at(file, 100, 300_000), Ok(vec![0; 10]));
}

#[test]
fn data_and_holes_are_found() {
    let mut world = World::new();
    let file = world.make("f");
    world.write_at(file, b"x", 2 * PAGE as u64);
    world.linux(file, 77, [3, 5 * PAGE as u64, 0, 0, 0, 0]);
    let mut seek = |offset: usize, whence| world.linux(file, 8, [3, offset as u64, whence, 0, 0, 0]);
    assert_eq!(seek(0, 3), 2 * PAGE as i64);
    assert_eq!(seek(0, 4), 0);
    assert_eq!(seek(2 * PAGE + 5, 4), 3 * PAGE as i64);
    assert_eq!(seek(3 * PAGE, 3), -i64::from(ENXIO));
    assert_eq!(seek(5 * PAGE, 4), -i64::from(ENXIO));
}

#[test]
fn a_full_arena_gives_a_short_count_and_then_enospc() {
    let mut world = World::sized(1 << 20);
    let file = world.make("f");
    let bytes = pattern(1 << 20);
    let first = world.write(file, &bytes);
    assert!(first > 0 && first < 1 << 20, "{first}");
    assert_eq!(world.write(file, &bytes), -i64::from(ENOSPC));
    assert_eq!(world.linux(file, 285, [3, 0, 0, 2 << 20, 0, 0]), -i64::from(ENOSPC));
    assert_eq!(world.read_at(file, first as u64, 0), Ok(bytes[..first as usize].to_vec()));
}

#[test]
fn an_unlinked_file_lives_until_its_last_close() {
    let mut world = World::new();
    let free = world.free_pages();
    let file = world.make("f");
    world.write(file, &pattern(PAGE));
    world.request("f", Operation::Unlink).expect("unlinked");
    assert_eq!(world.read_at(file, 10, 0), Ok(pattern(10)));
    assert!(world.free_pages() < free);
    world.close(file);
    assert_eq!(world.free_pages(), free);
}

#[test]
fn how_a_file_was_opened_limits_what_may_be_done_with_it() {
    let mut world = World::new();
    world.make("f");
    let (reader, writer) = (world.open("f", O_RDONLY).expect("r"), world.open("f", O_WRONLY).expect("w"));
    let path = world.open("f", O_PATH).expect("path");
    assert_eq!(world.write(reader, b"x"), -i64::from(EBADF));
    assert_eq!(world.read(writer, 1), Err(-i64::from(EBADF)));
    assert_eq!(world.read(path, 1), Err(-i64::from(EBADF)));
    assert_eq!(world.linux(path, 8, [3, 0, 0, 0, 0, 0]), -i64::from(EBADF));
    assert_eq!(world.linux(path, 91, [3, 0o600, 0, 0, 0, 0]), -i64::from(EBADF));
    assert_eq!(world.linux(path, 5, [3, BUFFER, 0, 0, 0, 0]), 0);
    assert_eq!(world.linux(reader, 77, [3, 0, 0, 0, 0, 0]), -i64::from(EINVAL));
    let directory = world.open("", O_RDONLY | O_DIRECTORY).expect("the root");
    assert_eq!(world.read(directory, 1), Err(-i64::from(EISDIR)));
}

#[test]
fn appending_writes_at_the_end_whatever_the_position() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, b"one");
    let other = world.open("f", O_WRONLY | O_APPEND).expect("opened");
    assert_eq!(world.write(other, b"two"), 3);
    assert_eq!(world.sessions[&other].position, 6);
    assert_eq!(world.read_at(file, 10, 0), Ok(b"onetwo".to_vec()));
}

#[test]
fn a_missing_page_of_the_caller_delays_the_write_and_changes_nothing() {
    let mut world = World::new();
    let file = world.make("f");
    world.script.miss_next = true;
    assert_eq!(world.write(file, b"x"), 1);
    assert!(!world.script.miss_next, "the write looked before it changed anything");
}

#[test]
fn a_bad_address_behind_good_ones_gives_a_short_count() {
    let mut world = World::new();
    let file = world.make("f");
    world.script.memory.insert(0x8000_0000, vec![7; PAGE]);
    assert_eq!(world.linux(file, 1, [3, 0x8000_0000, 2 * PAGE as u64, 0, 0, 0]), PAGE as i64);
    assert_eq!(world.linux(file, 1, [3, 0x9000_0000, 1, 0, 0, 0]), -i64::from(EFAULT));
    assert_eq!(world.stat("f").expect("f").size, PAGE as u64);
}

#[test]
fn vectors_are_filled_and_emptied_in_order() {
    let mut world = World::new();
    let file = world.make("f");
    world.store(BUFFER, b"hello, world");
    let vectors = |pieces: &[(u64, u64)]| {
        let words = pieces.iter().flat_map(|(address, length)| [*address, *length]);
        Some(words.flat_map(u64::to_le_bytes).collect())
    };
    let foreign = |number, pieces: &[(u64, u64)]| Foreign {
        number,
        arguments: [3, 0, pieces.len() as u64, 0, 0, 0],
        inputs: [vectors(pieces), None],
        ..Foreign::default()
    };
    let call = world.begin_with(file, foreign(20, &[(BUFFER + 7, 5), (BUFFER, 0), (BUFFER, 7)]));
    assert_eq!(world.result(call), Some(12));
    assert_eq!(world.read_at(file, 20, 0), Ok(b"worldhello, ".to_vec()));
    let call = world.begin_with(file, foreign(295, &[(BUFFER + 100, 2), (BUFFER + 200, 99)]));
    assert_eq!(world.result(call), Some(12));
    assert_eq!(
        (world.load(BUFFER + 100, 2), world.load(BUFFER + 200, 10)),
        (b"wo".to_vec(), b"rldhello, ".to_vec())
    );
    let huge = Foreign { number: 20, arguments: [3, 0, 1025, 0, 0, 0], ..Foreign::default() };
    let call = world.begin_with(file, huge);
    assert_eq!(world.result(call), Some(-i64::from(EINVAL)));
}

#[test]
fn fallocate_reserves_punches_and_clears() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, &pattern(3 * PAGE));
    let page = PAGE as u64;
    assert_eq!(world.linux(file, 285, [3, 3, page / 2, 2 * page, 0, 0]), 0);
    let mut expected = pattern(3 * PAGE);
    expected[PAGE / 2..PAGE / 2 + 2 * PAGE].fill(0);
    assert_eq!(world.read_at(file, 4 * page, 0), Ok(expected));
    assert_eq!(world.stat("f").expect("f").blocks, 16);
    assert_eq!(world.linux(file, 285, [3, 1, 8 * page, page, 0, 0]), 0);
    assert_eq!(world.stat("f").expect("f").size, 3 * page);
    assert_eq!(world.linux(file, 285, [3, 0, 8 * page, page, 0, 0]), 0);
    assert_eq!(world.read_at(file, page, 8 * page), Ok(vec![0; PAGE]));
    assert_eq!(world.linux(file, 285, [3, 2, 0, 1, 0, 0]), -i64::from(EOPNOTSUPP));
    assert_eq!(world.linux(file, 285, [3, 0, 0, 0, 0, 0]), -i64::from(EINVAL));
}

/// The names in the records of getdents64.
fn names(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = u16::from_le_bytes([rest[16], rest[17]]) as usize;
        let name = rest[19..length].split(|byte| *byte == 0).next().expect("a name");
        names.push(String::from_utf8(name.to_vec()).expect("text"));
        rest = &rest[length..];
    }
    names
}

#[test]
fn a_directory_is_read_whole_while_its_entries_are_removed() {
    let mut world = World::new();
    world.request("d", Operation::MakeDirectory { mode: 0o755 }).expect("d");
    for index in 0..200 {
        let operation = Operation::MakeNode { mode: 0o644, device: 0 };
        world.request(&format!("d/file{index}"), operation).expect("made");
    }
    let directory = world.open("d", O_RDONLY | O_DIRECTORY).expect("opened");
    let mut seen = Vec::new();
    loop {
        let result = world.linux(directory, 217, [3, BUFFER, 512, 0, 0, 0]);
        assert!(result >= 0);
        if result == 0 {
            break;
        }
        for name in names(&world.load(BUFFER, result as u64)) {
            if name.starts_with("file") {
                world.request(&format!("d/{name}"), Operation::Unlink).expect("unlinked");
            }
            seen.push(name);
        }
    }
    assert_eq!(seen.len(), 202);
    assert_eq!(&seen[..2], [".", ".."]);
    world.request("d", Operation::RemoveDirectory).expect("it is empty");
    assert_eq!(world.linux(directory, 217, [3, BUFFER, 512, 0, 0, 0]), -i64::from(ENOENT));
    let root = world.open("", O_RDONLY).expect("the root");
    assert_eq!(world.linux(root, 217, [3, BUFFER, 10, 0, 0, 0]), -i64::from(EINVAL));
}

#[test]
fn a_write_takes_the_set_id_bits_of_a_file_away_unless_it_is_the_superusers() {
    let mut world = World::new();
    let file = world.make("f");
    world.request("f", Operation::SetMode(0o6755)).expect("chmod");
    world.write(file, b"x");
    assert_eq!(world.stat("f").expect("f").mode & 0o7777, 0o6755);
    world.caller.uid = 5;
    world.write(file, b"x");
    assert_eq!(world.stat("f").expect("f").mode & 0o7777, 0o755);
}

#[test]
fn calls_for_sessions_that_are_not_there_are_refused() {
    let mut world = World::new();
    assert_eq!(world.linux(77, 0, [3, BUFFER, 1, 0, 0, 0]), -i64::from(EBADF));
    let file = world.make("f");
    assert_eq!(world.linux(file, 999, [0; 6]), -i64::from(ENOSYS));
    assert_eq!(world.linux(file, 16, [3, 0x5401, 0, 0, 0, 0]), -i64::from(ENOTTY));
    world.event(&Event::Cancel { call: libipc::abi::CallId(12345) });
    world.event(&Event::LastClose { badge: libipc::abi::Badge(99), owner: libipc::abi::Handle(9) });
}
