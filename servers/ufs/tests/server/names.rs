//! Walks and operations on names, and their errors as Linux has them on a read-only file system.

use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::*;
use libipc::proto::fs::{self, Answer, Credentials, Found, From, Operation as Op, Request, Stop};
use libipc::server::Message;

use crate::common::Format;
use crate::model::{Machine, request};
use crate::{image, small_image};

fn machine() -> Machine {
    Machine::new(vec![small_image()], 0, 5)
}

fn node(machine: &mut Machine, path: &[u8]) -> u64 {
    match machine.at(0, path, Op::Stat) {
        Answer::Found(Found::Stat(stat)) => stat.ino,
        other => panic!("{other:?}"),
    }
}

fn ask(machine: &mut Machine, request: &Request) -> Answer {
    machine.ask(request).0
}

#[test]
fn a_path_is_walked_whatever_its_slashes_and_dots() {
    let mut machine = machine();
    let level = node(&mut machine, b"level-0/level-1");
    for path in [
        &b"level-0//level-1"[..],
        b"level-0/level-1/",
        b"level-0/level-1///",
        b"./level-0/./level-1/.",
        b"level-0/level-1/level-2/..",
        b"level-0/../level-0/level-1/../level-1/",
    ] {
        assert_eq!(node(&mut machine, path), level);
    }
    let answer = ask(&mut machine, &request(From::Node(level), b"level-2/../file", Op::Stat));
    assert!(matches!(answer, Answer::Found(Found::Stat(stat)) if stat.is(mode::S_IFREG)));
}

#[test]
fn a_path_that_leads_nowhere_says_why() {
    let mut machine = machine();
    let long = [b'x'; 256];
    for (path, errno) in [
        (&b"absent"[..], ENOENT),
        (b"absent/", ENOENT),
        (b"absent/more", ENOENT),
        (b"level-0/absent/../file", ENOENT),
        (b"one/", ENOTDIR),
        (b"one/more", ENOTDIR),
        (b"one/..", ENOTDIR),
        (&long, ENAMETOOLONG),
    ] {
        let path_shown = String::from_utf8_lossy(path).into_owned();
        assert_eq!(machine.at(0, path, Op::Stat), Answer::Failed(errno), "{path_shown}");
    }
}

#[test]
fn links_stop_a_walk_with_their_text_and_what_is_left() {
    let mut machine = machine();
    let root = node(&mut machine, b"");
    let symlink = |target: &[u8], rest: &[u8]| {
        Answer::Stopped(Stop::Symlink { directory: root, target: target.to_vec(), rest: rest.to_vec() })
    };
    for length in [1, 60, 600] {
        let name = format!("link-of-{length}");
        let path = |end: &str| format!("{name}{end}").into_bytes();
        let text = vec![b't'; length];
        assert_eq!(machine.at(0, &path("/a//b"), Op::Stat), symlink(&text, b"a//b"));
        assert_eq!(machine.at(0, &path("/"), Op::Stat), symlink(&text, b""));
        assert_eq!(machine.at(0, &path(""), Op::ReadLink), Answer::Found(Found::Text(text.clone())));
        let followed = Request { follow: true, ..request(From::Root(0), &path(""), Op::Stat) };
        assert_eq!(ask(&mut machine, &followed), symlink(&text, b""));
        let found = machine.at(0, &path(""), Op::Stat);
        assert!(matches!(found, Answer::Found(Found::Stat(stat)) if stat.is(mode::S_IFLNK)));
        // What makes or removes a name does not follow.
        let made =
            Request { follow: true, ..request(From::Root(0), &path(""), Op::MakeDirectory { mode: 0o777 }) };
        assert_eq!(ask(&mut machine, &made), Answer::Failed(EEXIST));
    }
    assert_eq!(machine.at(0, b"one", Op::ReadLink), Answer::Failed(EINVAL));
    assert_eq!(machine.at(0, b"level-0", Op::ReadLink), Answer::Failed(EINVAL));
}

#[test]
fn a_walk_stops_at_mounts_and_above_the_root_but_not_at_the_barrier() {
    let mut machine = machine();
    let covered = node(&mut machine, b"level-0/level-1");
    let barrier = node(&mut machine, b"level-0");
    let with = |path: &[u8], operation| Request {
        covers: vec![covered],
        barrier: Some(barrier),
        ..request(From::Root(0), path, operation)
    };
    let stop = |rest: &[u8]| Answer::Stopped(Stop::Covered { node: covered, rest: rest.to_vec() });
    assert_eq!(ask(&mut machine, &with(b"level-0/level-1/a/b", Op::Stat)), stop(b"a/b"));
    assert_eq!(ask(&mut machine, &with(b"level-0/level-1", Op::Stat)), stop(b""));
    // Where a walk begins is no stop, and what makes a name does not enter it.
    let inside = Request { from: From::Node(covered), ..with(b".", Op::Stat) };
    assert!(matches!(ask(&mut machine, &inside), Answer::Found(Found::Stat(stat)) if stat.ino == covered));
    let opened = with(b"level-0/level-1", Op::Open { flags: O_RDONLY | O_CREAT, mode: 0 });
    assert_eq!(ask(&mut machine, &opened), stop(b""));
    let made = with(b"level-0/level-1", Op::MakeDirectory { mode: 0 });
    assert_eq!(ask(&mut machine, &made), Answer::Failed(EEXIST));

    let above = |rest: &[u8]| Answer::Stopped(Stop::Above { volume: 0, rest: rest.to_vec() });
    assert_eq!(ask(&mut machine, &with(b"../x/y", Op::Stat)), above(b"x/y"));
    let stays = Request { from: From::Node(barrier), ..with(b"../../level-1/..", Op::Stat) };
    assert_eq!(ask(&mut machine, &stays), stop(b".."));
    let stays = Request { covers: vec![], ..stays };
    assert!(matches!(ask(&mut machine, &stays), Answer::Found(Found::Stat(stat)) if stat.ino == barrier));
}

#[test]
fn nothing_can_be_made_changed_or_removed() {
    let mut machine = machine();
    let one = node(&mut machine, b"one");
    let symlink = || Op::MakeSymlink { target: b"x".to_vec() };
    let special = || Op::MakeNode { mode: mode::S_IFIFO | 0o600, device: 0 };
    let rename = || Op::Rename { directory: 2, name: b"one".to_vec(), flags: 0 };
    let table = [
        (&b"new"[..], Op::MakeDirectory { mode: 0o777 }, EROFS),
        (b"new/", Op::MakeDirectory { mode: 0o777 }, EROFS),
        (b"one", Op::MakeDirectory { mode: 0o777 }, EEXIST),
        (b"one/", Op::MakeDirectory { mode: 0o777 }, EEXIST),
        (b".", Op::MakeDirectory { mode: 0o777 }, EEXIST),
        (b"", Op::MakeDirectory { mode: 0o777 }, EEXIST),
        (b"absent/new", Op::MakeDirectory { mode: 0o777 }, ENOENT),
        (b"one/new", Op::MakeDirectory { mode: 0o777 }, ENOTDIR),
        (b"new", symlink(), EROFS),
        (b"new/", symlink(), ENOENT),
        (b"one", symlink(), EEXIST),
        (b"new", special(), EROFS),
        (b"new", Op::Link { node: one }, EROFS),
        (b"level-0", Op::Link { node: one }, EEXIST),
        (b"one", Op::Unlink, EROFS),
        (b"absent", Op::Unlink, EROFS),
        (b"level-0/.", Op::Unlink, EISDIR),
        (b"level-0", Op::RemoveDirectory, EROFS),
        (b"level-0/.", Op::RemoveDirectory, EINVAL),
        (b"level-0/..", Op::RemoveDirectory, ENOTEMPTY),
        (b"", Op::RemoveDirectory, EBUSY),
        (b"other", rename(), EROFS),
        (b"level-0/..", rename(), EBUSY),
        (b"..", Op::Parent, EBUSY),
        (b"one", Op::SetMode(0), EROFS),
        (b"absent", Op::SetMode(0), ENOENT),
        (b"one", Op::SetOwner(Some(1), None), EROFS),
        (b"one", Op::SetTimes(None, None), EROFS),
        (b"one", Op::Truncate(0), EROFS),
        (b"level-0", Op::Truncate(0), EISDIR),
        (b"fifo", Op::Truncate(0), EINVAL),
        (b"absent", Op::Truncate(0), ENOENT),
    ];
    for (path, operation, errno) in table {
        let shown = format!("{operation:?} on {}", String::from_utf8_lossy(path));
        assert_eq!(machine.at(0, path, operation), Answer::Failed(errno), "{shown}");
    }
    let parent = machine.at(0, b"level-0/absent", Op::Parent);
    let directory = node(&mut machine, b"level-0");
    assert_eq!(parent, Answer::Found(Found::Parent { directory, name: b"absent".to_vec() }));
}

#[test]
fn open_checks_in_linuxs_order() {
    let mut machine = machine();
    for (path, flags, errno) in [
        (&b"absent"[..], O_RDONLY, ENOENT),
        (b"absent", O_WRONLY | O_CREAT, EROFS),
        (b"absent", O_PATH | O_CREAT, ENOENT),
        (b"absent/", O_WRONLY | O_CREAT, EISDIR),
        (b"one", O_WRONLY, EROFS),
        (b"one", O_RDWR, EROFS),
        (b"one", O_RDONLY | O_TRUNC, EROFS),
        (b"one", O_RDONLY | O_CREAT | O_EXCL, EEXIST),
        (b"one", O_RDONLY | O_DIRECTORY, ENOTDIR),
        (b"one", O_WRONLY | O_DIRECTORY, ENOTDIR),
        (b"one", O_PATH | O_DIRECTORY, ENOTDIR),
        (b"level-0", O_WRONLY, EISDIR),
        (b"level-0", O_RDONLY | O_TRUNC, EISDIR),
        (b"level-0", O_RDONLY | O_CREAT, EISDIR),
        (b"level-0", O_RDWR | O_TMPFILE, EROFS),
        (b"level-0/.", O_RDONLY | O_CREAT, EISDIR),
        (b"link-of-1", O_RDONLY | O_NOFOLLOW, ELOOP),
        (b"link-of-1", O_RDONLY | O_CREAT | O_EXCL, EEXIST),
        (b"link-of-1", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, ENOTDIR),
        (b"fifo", O_RDONLY, ENXIO),
        (b"fifo", O_RDWR, ENXIO),
    ] {
        let shown = format!("{} {flags:o}", String::from_utf8_lossy(path));
        assert_eq!(machine.open(path, flags), Err(errno), "{shown}");
    }
    for (path, flags, status) in [
        (&b"one"[..], O_RDONLY | O_CREAT | O_CLOEXEC, O_RDONLY),
        (b"one", O_RDONLY | O_NONBLOCK | O_APPEND, O_NONBLOCK | O_APPEND),
        (b"one", O_PATH | O_WRONLY | O_TRUNC | O_CREAT, O_PATH),
        (b"level-0/", O_RDONLY | O_DIRECTORY, O_DIRECTORY),
        (b"fifo", O_PATH, O_PATH),
        (b"link-of-1", O_PATH | O_NOFOLLOW, O_PATH | O_NOFOLLOW),
    ] {
        let shown = machine.open(path, flags).map(|session| session.status & !S_MAPPABLE);
        assert_eq!(shown, Ok(status));
    }
    assert!(machine.open(b"one", O_RDONLY).is_ok_and(|session| session.status & S_MAPPABLE != 0));
    let (one, other) = (machine.open(b"one", 0).unwrap(), machine.open(b"another-name-for-one", 0).unwrap());
    assert_eq!((one.object, one.badge), (other.object, other.badge), "two names, one file");
}

#[test]
fn a_session_that_the_kernel_refuses_is_an_error() {
    let mut machine = machine();
    machine.sessions_are_out = true;
    assert_eq!(machine.open(b"one", O_RDONLY), Err(ENFILE));
    machine.sessions_are_out = false;
    assert!(machine.open(b"one", O_RDONLY).is_ok() && machine.is_quiet());
}

/// A folder with permissions; the images belong to the user who makes them.
fn guarded(root: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let permit = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, mode) in [("private", 0o700), ("public", 0o755), ("blind", 0o711)] {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("file"), name).unwrap();
        std::fs::write(root.join(name).join("secret"), name).unwrap();
        permit(&root.join(name).join("secret"), 0o600);
        permit(&root.join(name), mode);
    }
    std::fs::write(root.join("program"), "").unwrap();
    permit(&root.join("program"), 0o755);
}

#[test]
fn permission_bits_decide_for_everyone_but_the_superuser() {
    let format = Format { version: 1, order: "be", block: 4096, fragment: 512 };
    let mut machine = Machine::new(vec![image(guarded, format)], 0, 5);
    let Answer::Found(Found::Stat(owner)) = machine.at(0, b"private", Op::Stat) else { panic!() };
    let stranger = Credentials { uid: owner.uid + 1, gid: owner.gid + 1, umask: 0, ..Credentials::default() };
    let mut answer = |path: &[u8], operation, credentials: &Credentials| {
        let asked = request(From::Root(0), path, operation);
        let answer = machine.ask(&Request { credentials: credentials.clone(), ..asked }).0;
        match answer {
            Answer::Failed(errno) => errno,
            Answer::Found(_) => 0,
            Answer::Stopped(stop) => panic!("{stop:?}"),
        }
    };
    let read = || Op::Open { flags: O_RDONLY, mode: 0 };
    let write = || Op::Open { flags: O_WRONLY, mode: 0 };
    for (path, operation, errno) in [
        (&b"private/file"[..], Op::Stat, EACCES),
        (b"private/absent", Op::Stat, EACCES),
        (b"private/new", Op::MakeDirectory { mode: 0 }, EACCES),
        (b"private", read(), EACCES),
        (b"private", Op::Open { flags: O_PATH, mode: 0 }, 0),
        (b"public/file", read(), 0),
        (b"public/secret", Op::Stat, 0),
        (b"public/secret", read(), EACCES),
        (b"public/secret", write(), EROFS),
        (b"public/secret", Op::Access(4), EACCES),
        (b"public/secret", Op::Access(2), EROFS),
        (b"public/secret", Op::Access(0), 0),
        (b"public/file", Op::Access(4), 0),
        (b"public/file", Op::Access(1), EACCES),
        (b"blind", read(), EACCES),
        (b"blind/file", read(), 0),
        (b"program", Op::Access(5), 0),
        (b"program", Op::Open { flags: O_NOATIME, mode: 0 }, EPERM),
    ] {
        let shown = format!("{operation:?} on {}", String::from_utf8_lossy(path));
        assert_eq!(answer(path, operation, &stranger), errno, "{shown}");
    }
    let root = Credentials::default();
    assert_eq!(answer(b"private/secret", read(), &root), 0);
    assert_eq!(answer(b"private/file", Op::Access(1), &root), EACCES, "nobody may execute it");
    assert_eq!(answer(b"private/file", Op::Access(2), &root), EROFS);
    assert_eq!(answer(b"program", Op::Open { flags: O_NOATIME, mode: 0 }, &root), 0);
}

#[test]
fn the_path_of_a_directory_is_found_from_below() {
    let mut machine = machine();
    let mut path = String::new();
    for level in 0..12 {
        path.push_str(&format!("{}level-{level}", if level > 0 { "/" } else { "" }));
        let found = machine.at(0, path.as_bytes(), Op::PathOf);
        assert_eq!(found, Answer::Found(Found::Text(path.clone().into_bytes())));
    }
    assert_eq!(machine.at(0, b"", Op::PathOf), Answer::Found(Found::Text(vec![])));
    assert_eq!(machine.at(0, b"one", Op::PathOf), Answer::Failed(ENOTDIR));
}

/// A directory of several blocks with another in it, and names whose hashes (FNV-1a) are the same.
fn bushy(root: &std::path::Path) {
    std::fs::create_dir(root.join("bush")).unwrap();
    for index in 0..100 {
        std::fs::create_dir(root.join("bush").join(format!("{index:-<200}"))).unwrap();
    }
    std::fs::write(root.join("8yn0iYCKYHlIj4-BwPqk"), "1").unwrap();
    std::fs::write(root.join("GReLUrM4wMqfg9yzV3KQ"), "22").unwrap();
}

fn bushy_image() -> Vec<u8> {
    image(bushy, Format { version: 2, order: "le", block: 4096, fragment: 4096 })
}

#[test]
fn the_path_of_a_directory_in_a_large_one_is_found() {
    let mut machine = Machine::new(vec![bushy_image()], 0, 5);
    for index in 0..100 {
        let path = format!("bush/{index:-<200}").into_bytes();
        assert_eq!(machine.at(0, &path, Op::PathOf), Answer::Found(Found::Text(path)));
    }
}

#[test]
fn names_that_share_a_hash_are_told_apart() {
    let mut machine = Machine::new(vec![bushy_image()], 0, 5);
    for _ in 0..2 {
        for (name, expected) in [(b"8yn0iYCKYHlIj4-BwPqk", 1), (b"GReLUrM4wMqfg9yzV3KQ", 2)] {
            let answer = machine.at(0, name, Op::Stat);
            assert!(matches!(answer, Answer::Found(Found::Stat(stat)) if stat.size == expected));
        }
    }
}

#[test]
fn files_of_two_disks_are_never_the_same() {
    let mut machine = Machine::new(vec![small_image(), small_image()], 0, 5);
    let mut sessions = Vec::new();
    for disk in 0..2 {
        let open = request(From::Root(disk), b"one", Op::Open { flags: O_RDONLY, mode: 0 });
        let (Answer::Found(Found::Opened { stat, .. }), Some(session)) = machine.ask(&open) else { panic!() };
        sessions.push((session.badge, session.object, stat.ino, stat.dev));
    }
    let (one, other) = (sessions[0], sessions[1]);
    assert!(one.0 != other.0 && one.1 != other.1 && one.2 != other.2 && one.3 != other.3);
}

#[test]
fn the_volume_tells_its_room() {
    let mut machine = machine();
    let Answer::Found(Found::StatFs(room)) = machine.at(0, b"one", Op::StatFs) else { panic!() };
    assert_eq!((room.kind, room.bsize, room.frsize, room.flags), (0x1954_0119, 512, 512, 1));
    assert!(room.blocks > room.bfree && room.bfree > room.bavail && room.files > room.ffree);
}

#[test]
fn a_disk_without_a_volume_is_refused_with_the_reason_in_the_log_once() {
    let mut damaged = small_image();
    damaged[8192 + 4 * 12] ^= 0xff;
    let mut machine = Machine::new(vec![small_image(), vec![0; 1 << 20], damaged], 0, 5);
    for _ in 0..3 {
        assert_eq!(machine.at(1, b"", Op::Stat), Answer::Failed(EINVAL));
        assert_eq!(machine.at(2, b"x", Op::Stat), Answer::Failed(EIO));
        assert_eq!(machine.at(3, b"", Op::Stat), Answer::Failed(ENXIO));
        assert_eq!(machine.at(4000, b"", Op::Stat), Answer::Failed(ENXIO));
    }
    assert_eq!(machine.log.len(), 2, "{:?}", machine.log);
    assert_eq!(machine.log[0], "ufs: disk1: this disk holds no UFS volume\n");
    assert!(machine.log[1].starts_with("ufs: disk2: the superblock cannot be used"));
}

#[test]
fn a_volume_is_mounted_and_unmounted_for_vfs() {
    let mut machine = Machine::new(vec![small_image(), vec![0; 4096]], 0, 5);
    for (label, volume, errno) in [
        (fs::MOUNT, 0, 0),
        (fs::MOUNT, 1, EINVAL),
        (fs::MOUNT, 2, ENXIO),
        (fs::MOUNT, 1 << 40, ENXIO),
        (fs::SYNC, 0, 0),
        (fs::UNMOUNT, 0, 0),
    ] {
        let (answer, _) = machine.native(None, Message::words(label, [volume, 1, 0, 0]));
        assert_eq!(answer, Message::label(errno as u32), "{label:#x} {volume}");
    }
    // A disk that was refused is looked at anew after an unmount.
    machine.disks[1] = small_image();
    machine.native(None, Message::words(fs::UNMOUNT, [1, 0, 0, 0]));
    let (answer, _) = machine.native(None, Message::words(fs::MOUNT, [1, 1, 0, 0]));
    assert_eq!(answer.label, 0);
}

#[test]
fn messages_that_make_no_sense_are_answered_with_an_error() {
    let mut machine = machine();
    let (answer, _) = machine.native(None, Message::label(0x777));
    assert_eq!(answer.label, EINVAL as u32);
    let broken = Message { label: fs::REQUEST, payload: vec![0xff; 20], ..Message::default() };
    assert_eq!(machine.native(None, broken).0.label, EINVAL as u32);
    for label in [fs::PAGE_IN, fs::READ_AT] {
        assert_eq!(machine.native(None, Message::label(label)).0.label, EBADF as u32);
    }
    // A node that vfs cannot know of.
    for number in [0, 1, 1 << 31, 1 << 63, u64::MAX] {
        let answer = ask(&mut machine, &request(From::Node(number), b"", Op::Stat));
        assert!(matches!(answer, Answer::Failed(EIO | ENXIO)), "{answer:?}");
    }
}
