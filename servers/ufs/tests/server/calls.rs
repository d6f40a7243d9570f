//! Linux calls on sessions, and what vm and exec read of files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use libipc::abi::{Badge, Handle};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs;
use libipc::server::{Event, Message};

use crate::common::{Format, noise};
use crate::model::{MEMORY, Machine, Session};
use crate::{image, small_image};

const READ: u32 = 0;
const LSEEK: u32 = 8;
const PREAD64: u32 = 17;
const READV: u32 = 19;
const GETDENTS: u32 = 78;
const GETDENTS64: u32 = 217;
const PREADV: u32 = 295;

fn machine() -> Machine {
    Machine::new(vec![small_image()], 0, 3)
}

fn result(machine: &mut Machine, session: &Session, number: u32, arguments: [u64; 5]) -> i64 {
    machine.linux(&mut session.clone(), number, arguments).result
}

/// `file-of-70000` of the small tree.
fn content() -> Vec<u8> {
    noise(70_000, 9)
}

#[test]
fn reads_move_the_position_and_end_at_the_end() {
    let mut machine = machine();
    let mut session = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let content = content();
    for (length, count) in [(100, 100), (0, 0), (60_000, 60_000), (60_000, 9_900), (10, 0)] {
        let start = session.position as usize;
        let reply = machine.linux(&mut session, READ, [MEMORY, length, 0, 0, 0]);
        assert_eq!((reply.result, reply.position), (count, Some(session.position)));
        assert!(machine.at_memory(0, count as usize) == &content[start..start + count as usize]);
    }
    session.position = 1 << 40;
    assert_eq!(machine.linux(&mut session, READ, [MEMORY, 10, 0, 0, 0]).result, 0);
    assert_eq!(session.position, 1 << 40);
    session.position = 500;
    let reply = machine.linux(&mut session, PREAD64, [MEMORY, 5000, 66_000, 0, 0]);
    assert_eq!((reply.result, reply.position), (4000, None));
    assert!(machine.at_memory(0, 4000) == &content[66_000..]);
}

#[test]
fn vectored_reads_fill_their_buffers_in_order() {
    let mut machine = machine();
    let mut session = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let content = content();
    let buffers: [(u64, u64); 5] = [(9, 30), (0, 0), (50_000, 66_000), (200, 1), (200_000, 90_000)];
    let vector: Vec<u8> = buffers
        .iter()
        .flat_map(|(offset, length)| [MEMORY + offset, *length])
        .flat_map(u64::to_le_bytes)
        .collect();
    for (number, start) in [(READV, 0usize), (PREADV, 10)] {
        machine.memory.fill(0);
        let call =
            machine.linux_call(&session, number, [0x1000, 5, start as u64, 0, 0], Some(vector.clone()));
        let call = machine.begin(call);
        let reply = machine.finish_linux(&mut session, call);
        assert_eq!(reply.result as usize, 70_000 - start);
        let mut rest = &content[start..];
        for (offset, length) in buffers {
            let (here, behind) = rest.split_at(rest.len().min(length as usize));
            assert!(machine.at_memory(offset as usize, here.len()) == here);
            rest = behind;
        }
        assert_eq!(session.position, 70_000, "preadv does not move it");
    }
}

#[test]
fn a_vector_longer_than_a_payload_is_read_from_the_caller() {
    let mut machine = machine();
    let mut session = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let vector: Vec<u8> =
        (0..1000u64).flat_map(|index| [MEMORY + index * 70, 70]).flat_map(u64::to_le_bytes).collect();
    machine.script.memory.insert(0x1000, vector.clone());
    machine.script.miss_next = true;
    let call = machine.linux_call(&session, READV, [0x1000, 1000, 0, 0, 0], Some(vector[..8192].to_vec()));
    let call = machine.begin(call);
    assert_eq!(machine.finish_linux(&mut session, call).result, 70_000);
    assert!(machine.at_memory(0, 70_000) == content());
    for (count, length, errno) in [(1025, 8192, EINVAL), (1000, 100, EFAULT)] {
        machine.script.memory.clear();
        let call = machine.linux_call(&session, READV, [0x1000, count, 0, 0, 0], Some(vec![0; length]));
        let call = machine.begin(call);
        assert_eq!(machine.finish_linux(&mut session, call).result, -i64::from(errno));
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let mut machine = machine();
    let file = machine.open(b"one", O_RDONLY).unwrap();
    let directory = machine.open(b"level-0", O_RDONLY).unwrap();
    let path = machine.open(b"one", O_PATH).unwrap();
    for (session, number, arguments, errno) in [
        (directory, READ, [MEMORY, 10, 0, 0, 0], EISDIR),
        (directory, PREAD64, [MEMORY, 0, 0, 0, 0], EISDIR),
        (path, READ, [MEMORY, 10, 0, 0, 0], EBADF),
        (file, PREAD64, [MEMORY, 10, u64::MAX, 0, 0], EINVAL),
        (file, READ, [MEMORY, u64::MAX, 0, 0, 0], EINVAL),
        (file, READ, [u64::MAX - 5, 10, 0, 0, 0], EFAULT),
        (file, GETDENTS64, [MEMORY, 1000, 0, 0, 0], ENOTDIR),
        (path, GETDENTS64, [MEMORY, 1000, 0, 0, 0], EBADF),
        (directory, GETDENTS64, [MEMORY, 20, 0, 0, 0], EINVAL),
    ] {
        assert_eq!(result(&mut machine, &session, number, arguments), -i64::from(errno), "{number}");
    }
}

#[test]
fn the_other_calls_answer_as_on_a_read_only_file_system() {
    let mut machine = machine();
    let file = machine.open(b"one", O_RDONLY).unwrap();
    let path = machine.open(b"one", O_PATH).unwrap();
    let eof = -i64::from(EBADF);
    for (name, number, arguments, on_file, on_path) in [
        ("write", 1, [MEMORY, 1, 0, 0, 0], eof, eof),
        ("pwrite64", 18, [MEMORY, 1, 0, 0, 0], eof, eof),
        ("writev", 20, [MEMORY, 1, 0, 0, 0], eof, eof),
        ("pwritev", 296, [MEMORY, 1, 0, 0, 0], eof, eof),
        ("ioctl", 16, [0x5401, 0, 0, 0, 0], -i64::from(ENOTTY), eof),
        ("flock", 73, [2 | 4, 0, 0, 0, 0], 0, eof),
        ("flock of nothing", 73, [3, 0, 0, 0, 0], -i64::from(EINVAL), eof),
        ("fsync", 74, [0; 5], 0, eof),
        ("fdatasync", 75, [0; 5], 0, eof),
        ("ftruncate", 77, [0; 5], -i64::from(EINVAL), eof),
        ("fchmod", 91, [0; 5], -i64::from(EROFS), eof),
        ("fchown", 93, [0; 5], -i64::from(EROFS), eof),
        ("readahead", 187, [0; 5], 0, eof),
        ("fadvise64", 221, [0, 0, 3, 0, 0], 0, eof),
        ("fadvise64 of the unknown", 221, [0, 0, 6, 0, 0], -i64::from(EINVAL), eof),
        ("fallocate", 285, [0; 5], eof, eof),
        ("accept4", 288, [0; 5], -i64::from(ENOTSOCK), eof),
        ("syncfs", 306, [0; 5], 0, eof),
        ("an unknown call", 400, [0; 5], -i64::from(ENOSYS), eof),
        ("fcntl F_SETLKW", 72, [7, 0x3000, 0, 0, 0], 0, eof),
        ("fcntl F_SETLK to write", 72, [6, 0x3002, 0, 0, 0], eof, eof),
        ("fcntl F_OFD_SETLK", 72, [37, 0x3004, 0, 0, 0], 0, eof),
        ("fcntl F_SETLK of nothing", 72, [6, 0x3006, 0, 0, 0], -i64::from(EINVAL), eof),
        ("fcntl F_GETLK", 72, [5, 0x3002, 0, 0, 0], -i64::from(EFAULT), eof),
        ("fcntl F_ADD_SEALS", 72, [1033, 0, 0, 0, 0], -i64::from(EINVAL), eof),
    ] {
        if name == "fcntl F_GETLK" {
            machine.script.memory.clear();
        } else {
            machine.script.memory.insert(0x3000, vec![0, 0, 1, 0, 2, 0, 9, 9]);
        }
        machine.script.miss_next = number == 72 && on_file != -i64::from(EINVAL);
        assert_eq!(result(&mut machine, &file, number, arguments), on_file, "{name}");
        machine.script.miss_next = false;
        assert_eq!(result(&mut machine, &path, number, arguments), on_path, "{name}");
    }
    machine.script.memory.insert(MEMORY, vec![1, 0]);
    assert_eq!(result(&mut machine, &file, 72, [5, MEMORY, 0, 0, 0]), 0);
    assert_eq!(machine.at_memory(0, 2), [2, 0], "F_GETLK finds no lock");
}

#[test]
fn fstat_and_fstatfs_tell_what_vfs_is_told() {
    let mut machine = machine();
    for flags in [O_RDONLY, O_PATH] {
        let session = machine.open(b"file-of-513", flags).unwrap();
        let expected = crate::tree::stat(&mut machine, session.badge);
        assert_eq!((expected.size, expected.blksize, expected.nlink), (513, 4096, 1));
        assert_eq!(result(&mut machine, &session, 5, [MEMORY, 0, 0, 0, 0]), 0);
        assert_eq!(machine.at_memory(0, 144), expected.to_bytes());
        assert_eq!(result(&mut machine, &session, 138, [MEMORY, 0, 0, 0, 0]), 0);
        assert_eq!(machine.at_memory(0, 8), 0x1954_0119u64.to_le_bytes());
    }
}

#[test]
fn a_directory_is_listed_alike_in_buffers_of_any_size() {
    let mut machine = machine();
    let mut session = machine.open(b"", O_RDONLY | O_DIRECTORY).unwrap();
    let expected = crate::tree::list(&mut machine, &mut session, 1 << 20);
    assert!(expected.len() > 30 && expected.contains_key([b'n'; 255].as_slice()));
    for capacity in [280, 300, 512, 1000, 5000] {
        session.position = 0;
        assert_eq!(crate::tree::list(&mut machine, &mut session, capacity), expected);
    }
    // The older layout has the type in its last byte.
    let mut session = machine.open(b"level-11", O_RDONLY).unwrap_or_else(|_| {
        let path: Vec<String> = (0..12).map(|level| format!("level-{level}")).collect();
        machine.open(path.join("/").as_bytes(), O_RDONLY).unwrap()
    });
    let reply = machine.linux(&mut session, GETDENTS, [MEMORY, 4096, 0, 0, 0]);
    let records = machine.at_memory(0, reply.result as usize);
    assert_eq!((reply.result, &records[18..20], records[23]), (24 + 24 + 24, &b".\0"[..], 4));
    assert_eq!((&records[48 + 18..48 + 23], records[71]), (&b"file\0"[..], 8));
}

#[test]
fn a_listing_goes_on_where_lseek_says() {
    let mut machine = machine();
    let mut session = machine.open(b"", O_RDONLY).unwrap();
    let all = crate::tree::list(&mut machine, &mut session, 300).len();
    let reply = machine.linux(&mut session, LSEEK, [0, 0, 0, 0, 0]);
    assert_eq!((reply.result, session.position), (0, 0));
    machine.linux(&mut session, GETDENTS64, [MEMORY, 48, 0, 0, 0]);
    assert_eq!(crate::tree::list(&mut machine, &mut session, 1000).len(), all - 2, "after . and ..");
}

/// A file with data in its first and third megabyte, a file that is one hole, and a large file.
fn sparse(root: &Path) {
    let file = File::create(root.join("sparse")).unwrap();
    file.write_all_at(&noise(10_000, 1), 0).unwrap();
    file.write_all_at(&noise(5_000, 2), 2 << 20).unwrap();
    file.set_len((3 << 20) + 7).unwrap();
    File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    std::fs::write(root.join("large"), noise(3_000_000, 3)).unwrap();
}

/// makefs writes zeroes where a file has holes: the addresses of blocks without data are taken out.
fn sparse_machine() -> Machine {
    let format = Format { version: 2, order: "be", block: 8192, fragment: 1024 };
    let mut image = image(sparse, format);
    for (size, last_direct, indirect) in [((3u64 << 20) + 7, 2, Some(244)), (1 << 20, 0, None)] {
        let is_file = |inode: &[u8]| inode[16..24] == size.to_be_bytes() && inode[0] == 0x81;
        let inode = image.chunks_exact(256).position(is_file).unwrap() * 256;
        image[inode + 112 + last_direct * 8..inode + 208].fill(0);
        let block = u64::from_be_bytes(image[inode + 208..inode + 216].try_into().unwrap()) as usize * 1024;
        for index in (0..1024).filter(|index| Some(*index) != indirect) {
            image[block + index * 8..block + index * 8 + 8].fill(0);
        }
    }
    Machine::new(vec![image], 0, 11)
}

#[test]
fn lseek_finds_positions_data_and_holes() {
    let mut machine = sparse_machine();
    let file = machine.open(b"sparse", O_RDONLY).unwrap();
    let hole = machine.open(b"hole", O_RDONLY).unwrap();
    let size = (3 << 20) + 7;
    let data = 2 << 20;
    let from = |position| Session { position, ..file };
    for (session, offset, whence, expected) in [
        (from(5), 10, 0, 10),
        (from(5), 10, 1, 15),
        (from(5), -6, 1, -i64::from(EINVAL)),
        (from(5), -7, 2, size - 7),
        (from(5), 1 << 40, 0, 1 << 40),
        (from(5), 0, 5, -i64::from(EINVAL)),
        (from(5), 0, 3, 0),
        (from(5), 9_000, 3, 9_000),
        (from(5), 100_000, 3, data),
        (from(5), data + 8192, 3, -i64::from(ENXIO)),
        (from(5), 0, 4, 16384),
        (from(5), 20_000, 4, 20_000),
        (from(5), data, 4, data + 8192),
        (from(5), size - 1, 4, size - 1),
        (from(5), size, 4, -i64::from(ENXIO)),
        (from(5), -1, 3, -i64::from(ENXIO)),
        (hole, 0, 3, -i64::from(ENXIO)),
        (hole, 5, 4, 5),
    ] {
        let mut session = session;
        let before = session.position;
        let found = machine.linux(&mut session, LSEEK, [offset as u64, whence, 0, 0, 0]).result;
        assert_eq!(found, expected, "{offset} {whence}");
        assert_eq!(session.position, if found < 0 { before } else { found as u64 });
    }
    let path = machine.open(b"sparse", O_PATH).unwrap();
    assert_eq!(result(&mut machine, &path, LSEEK, [0; 5]), -i64::from(EBADF));
}

#[test]
fn holes_read_as_zeroes_and_large_reads_are_cut_at_a_megabyte() {
    let mut machine = sparse_machine();
    let mut session = machine.open(b"sparse", O_RDONLY).unwrap();
    machine.memory.fill(0xaa);
    let mut bytes = Vec::new();
    for expected in [1 << 20, 1 << 20, 1 << 20, 7, 0] {
        let count = machine.linux(&mut session, READ, [MEMORY, 2 << 20, 0, 0, 0]).result;
        assert_eq!(count, expected);
        bytes.extend_from_slice(machine.at_memory(0, count as usize));
    }
    assert!(bytes[..10_000] == noise(10_000, 1) && bytes[2 << 20..(2 << 20) + 5000] == noise(5_000, 2));
    assert!(bytes[10_000..2 << 20].iter().chain(&bytes[(2 << 20) + 5000..]).all(|byte| *byte == 0));
    let mut large = machine.open(b"large", O_RDONLY).unwrap();
    assert!(crate::tree::read(&mut machine, &mut large, 1 << 20) == noise(3_000_000, 3));
}

#[test]
fn vm_is_given_the_pages_it_asks_for() {
    let mut machine = machine();
    let session = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let content = content();
    let (answer, _) = machine.native(Some(&session), Message::words(fs::PAGE_IN, [99, 15, 16, 0]));
    assert!(
        answer.label == 0 && machine.supplied.contains_key(&(99, 15)),
        "the others may not be at hand yet"
    );
    crate::tree::read(&mut machine, &mut session.clone(), 1 << 20);
    for (first, wanted, given) in [(0, 1, 1), (2, 5, 5), (10, 16, 8), (17, 1, 1), (18, 4, 1), (1 << 60, 1, 1)]
    {
        machine.supplied.clear();
        let message = Message::words(fs::PAGE_IN, [99, first, wanted, 0]);
        assert_eq!(machine.native(Some(&session), message).0, Message::label(0));
        assert_eq!(machine.supplied.len(), given, "{first} {wanted}");
        for ((object, page), data) in &machine.supplied {
            let start = (*page as usize).saturating_mul(4096).min(content.len());
            assert!(*object == 99 && *data == content[start..(start + 4096).min(content.len())]);
        }
        assert!(machine.supplied.contains_key(&(99, first)));
    }
    machine.vm_is_full = true;
    let (answer, _) = machine.native(Some(&session), Message::words(fs::PAGE_IN, [99, 0, 1, 0]));
    assert_eq!(answer.label, EIO as u32);
    let directory = machine.open(b"level-0", O_RDONLY).unwrap();
    let (answer, _) = machine.native(Some(&directory), Message::words(fs::PAGE_IN, [99, 0, 1, 0]));
    assert_eq!(answer.label, EISDIR as u32);
    assert!(machine.is_quiet());
}

#[test]
fn exec_reads_a_programs_first_bytes_and_learns_its_object() {
    let mut machine = machine();
    let session = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let content = content();
    for (offset, length, count) in
        [(0, 4096, 4096), (5, 20_000, 8192), (69_000, 8192, 1000), (70_000, 1, 0), (u64::MAX, 9, 0)]
    {
        let message = Message::words(fs::READ_AT, [offset, length, 0, 0]);
        let (answer, _) = machine.native(Some(&session), message);
        assert_eq!((answer.label, answer.words[0]), (0, session.object));
        let start = (offset as usize).min(content.len());
        assert!(answer.payload == content[start..start + count]);
    }
}

#[test]
fn the_end_of_a_session_needs_nothing() {
    let mut machine = machine();
    let mut session = machine.open(b"one", O_RDONLY).unwrap();
    machine.event(&Event::LastClose { badge: Badge(session.badge), owner: Handle::NONE });
    assert_eq!(machine.linux(&mut session, READ, [MEMORY, 10, 0, 0, 0]).result, 1, "another holder reads on");
}
