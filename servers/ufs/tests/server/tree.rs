//! Whole trees, read through the protocol and compared with the folders they were made of.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libipc::linux::open::*;
use libipc::linux::{Stat, mode};
use libipc::proto::fs::{Answer, Found, From, Operation as Op};
use tempfile::TempDir;

use crate::common::{Format, large_tree, make_image, small_tree};
use crate::model::{MEMORY, Machine, Session, request};

const READ: u32 = 0;
const GETDENTS64: u32 = 217;

/// A directory's entries: name, inode number, type.
pub fn list(machine: &mut Machine, session: &mut Session, capacity: u64) -> BTreeMap<Vec<u8>, (u64, u8)> {
    let mut entries = BTreeMap::new();
    loop {
        let length = machine.linux(session, GETDENTS64, [MEMORY, capacity, 0, 0, 0]).result;
        assert!(length >= 0, "{length}");
        if length == 0 {
            return entries;
        }
        let mut rest = machine.at_memory(0, length as usize);
        while !rest.is_empty() {
            let inode = u64::from_le_bytes(rest[..8].try_into().unwrap());
            let record = usize::from(u16::from_le_bytes(rest[16..18].try_into().unwrap()));
            let name: Vec<u8> = rest[19..record].iter().copied().take_while(|byte| *byte != 0).collect();
            assert_eq!(
                entries.insert(name.clone(), (inode, rest[18])),
                None,
                "{} is listed twice",
                String::from_utf8_lossy(&name)
            );
            rest = &rest[record..];
        }
    }
}

/// The whole of a file, by reads of this length.
pub fn read(machine: &mut Machine, session: &mut Session, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let count = machine.linux(session, READ, [MEMORY, length, 0, 0, 0]).result;
        assert!(count >= 0, "{count}");
        bytes.extend_from_slice(machine.at_memory(0, count as usize));
        if (count as u64) < length {
            return bytes;
        }
    }
}

pub fn stat(machine: &mut Machine, node: u64) -> Stat {
    match machine.ask(&request(From::Node(node), b"", Op::Stat)).0 {
        Answer::Found(Found::Stat(stat)) => stat,
        other => panic!("{other:?}"),
    }
}

fn open(machine: &mut Machine, directory: u64, name: &[u8], flags: u32) -> Session {
    let opened = machine.ask(&request(From::Node(directory), name, Op::Open { flags, mode: 0 }));
    let (Answer::Found(Found::Opened { .. }), Some(session)) = opened else { panic!("{opened:?}") };
    session
}

/// Compares a directory with the host's, and all below it. Gives the number of files.
fn compare(machine: &mut Machine, directory: u64, host: &Path) -> u64 {
    let mut session = open(machine, directory, b"", O_RDONLY | O_DIRECTORY);
    let listed = list(machine, &mut session, 4000);
    assert_eq!(listed[b".".as_slice()].0, directory);
    let mut files = 1;
    let host_entries: Vec<_> = fs::read_dir(host).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(listed.len(), host_entries.len() + 2, "{}", host.display());
    for entry in host_entries {
        let (path, name) = (entry.path(), entry.file_name().into_vec());
        let (node, kind) = listed[&name];
        let expected = fs::symlink_metadata(&path).unwrap();
        let found = stat(machine, node);
        assert_eq!((found.mode, found.ino, found.mode >> 12), (expected.mode(), node, u32::from(kind)));
        assert_eq!(found.nlink, expected.nlink());
        assert_eq!(found.mtime_ns, expected.mtime() * 1_000_000_000);
        match found.mode & mode::S_IFMT {
            mode::S_IFDIR => files += compare(machine, node, &path),
            mode::S_IFREG => {
                let mut session = open(machine, directory, &name, O_RDONLY);
                let length = [500, 4096, 70_001, 1 << 20][machine.random(4) as usize].max(found.size / 20);
                assert!(
                    read(machine, &mut session, length) == fs::read(&path).unwrap(),
                    "{}",
                    path.display()
                );
                assert_eq!(session.position, found.size);
                files += 1;
            }
            mode::S_IFLNK => {
                let text = fs::read_link(&path).unwrap().into_os_string().into_vec();
                let found = machine.ask(&request(From::Node(directory), &name, Op::ReadLink)).0;
                assert_eq!(found, Answer::Found(Found::Text(text)));
                files += 1;
            }
            _ => files += 1,
        }
    }
    files
}

fn compare_tree(tree: fn(&Path), block: u32, fragment: u32, heap_bytes: u64, crashes: u64) {
    let temporary = TempDir::new().unwrap();
    let folder = temporary.path().join("tree");
    fs::create_dir(&folder).unwrap();
    tree(&folder);
    for (seed, format) in Format::all(block, fragment).into_iter().enumerate() {
        let image = fs::read(make_image(&temporary, &folder, format)).unwrap();
        // As the second disk, so that every number bears the disk's.
        let mut machine = Machine::new(vec![vec![], image], heap_bytes, seed as u64 + 77);
        machine.crashes = crashes;
        let Answer::Found(Found::Stat(root)) = machine.at(1, b"", Op::Stat) else { panic!("no root") };
        assert_eq!((root.ino, root.dev), (1 << 32 | 2, 7 << 20 | 1));
        assert!(compare(&mut machine, root.ino, &folder) > 40);
        assert_eq!(machine.log, Vec::<String>::new());
    }
}

#[test]
fn a_tree_in_small_blocks_is_as_the_host_has_it() {
    compare_tree(large_tree, 4096, 512, 0, 0);
}

#[test]
fn a_tree_in_large_blocks_is_as_the_host_has_it() {
    compare_tree(large_tree, 65536, 8192, 8 << 20, 0);
}

#[test]
fn a_tree_is_the_same_when_the_server_is_killed_again_and_again() {
    compare_tree(small_tree, 16384, 2048, 0, 20);
}
