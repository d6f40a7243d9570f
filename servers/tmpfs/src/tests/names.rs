//! Names: the errors of each operation, and what it leaves behind.

use super::world::{BUFFER, End, World, from_root, user};
use libipc::linux::Stat;
use libipc::linux::errno::*;
use libipc::linux::mode::*;
use libipc::linux::open::*;
use libipc::proto::fs::{
    Answer, Credentials, Found, From, Operation, Program, Request, SYNC, TICKET_WORDS, UNMOUNT, Wants,
};
use libipc::server::Message;

const MKDIR: Operation = Operation::MakeDirectory { mode: 0o755 };

fn mknod(mode: u32) -> Operation {
    Operation::MakeNode { mode, device: 0 }
}

fn symlink(target: &str) -> Operation {
    Operation::MakeSymlink { target: target.as_bytes().to_vec() }
}

impl World {
    fn rename(&mut self, from: &str, to: &str, flags: u32) -> Result<(), i32> {
        self.rename_as(&Credentials::default(), from, to, flags)
    }

    fn rename_as(&mut self, who: &Credentials, from: &str, to: &str, flags: u32) -> Result<(), i32> {
        let Found::Parent { directory, name } = self.request_as(who, from, Operation::Parent)? else {
            panic!("a parent")
        };
        self.request_as(who, to, Operation::Rename { directory, name, flags }).map(|_| ())
    }

    fn link(&mut self, from: &str, to: &str) -> Result<(), i32> {
        let node = self.stat(from)?.ino;
        self.request(to, Operation::Link { node }).map(|_| ())
    }

    fn links(&mut self, path: &str) -> u64 {
        self.stat(path).expect("a node").nlink
    }
}

#[test]
fn making_names_reports_linuxs_errors() {
    let mut world = World::new();
    assert!(world.request("d", MKDIR).is_ok());
    for (path, operation, errno) in [
        ("d", MKDIR, EEXIST),
        ("d/", MKDIR, EEXIST),
        (".", MKDIR, EEXIST),
        ("d/..", MKDIR, EEXIST),
        ("", MKDIR, EEXIST),
        ("none/x", MKDIR, ENOENT),
        ("x/", mknod(S_IFREG | 0o644), ENOENT),
        ("x", mknod(S_IFDIR | 0o755), EPERM),
        ("x", mknod(0o777_7777), EINVAL),
        ("x", symlink(""), ENOENT),
        ("x", symlink(&"y".repeat(4096)), ENAMETOOLONG),
        ("x", Operation::Link { node: 99_999 }, ENOENT),
    ] {
        assert_eq!(world.request(path, operation.clone()).err(), Some(errno), "{path} {operation:?}");
    }
    assert!(world.request("e/", MKDIR).is_ok());
    assert_eq!(world.link("d", "hard").err(), Some(EPERM));
    assert_eq!(world.request_as(&user(5), "dev", mknod(S_IFCHR)).err(), Some(EPERM));
    assert_eq!(world.request_as(&user(5), "d/x", MKDIR).err(), Some(EACCES));
    assert!(world.request_as(&user(5), "mine", MKDIR).is_ok());
}

#[test]
fn removing_names_reports_linuxs_errors() {
    let mut world = World::new();
    world.request("d", MKDIR).expect("d");
    world.request("d/e", MKDIR).expect("e");
    world.request("f", mknod(S_IFREG | 0o644)).expect("f");
    for (path, operation, errno) in [
        ("none", Operation::Unlink, ENOENT),
        ("d", Operation::Unlink, EISDIR),
        ("d/.", Operation::Unlink, EISDIR),
        ("f/", Operation::Unlink, ENOTDIR),
        ("f/x", Operation::Unlink, ENOTDIR),
        ("f", Operation::RemoveDirectory, ENOTDIR),
        ("d", Operation::RemoveDirectory, ENOTEMPTY),
        ("d/e/.", Operation::RemoveDirectory, EINVAL),
        ("d/e/..", Operation::RemoveDirectory, ENOTEMPTY),
        ("", Operation::RemoveDirectory, EBUSY),
    ] {
        assert_eq!(world.request(path, operation.clone()).err(), Some(errno), "{path} {operation:?}");
    }
    assert_eq!(world.request_as(&user(5), "d/e", Operation::RemoveDirectory).err(), Some(EACCES));
    assert_eq!(world.request_as(&user(5), "f", Operation::Unlink).err(), Some(EPERM), "the root is sticky");
    let covers = vec![world.stat("d/e").expect("e").ino];
    let request = from_root(&Credentials::default(), "d/e", Operation::RemoveDirectory);
    let call = world.begin_request(&Request { covers, ..request });
    assert_eq!(world.answer(call).expect("an answer").0, Answer::Failed(EBUSY));
}

#[test]
fn rename_reports_linuxs_errors() {
    let mut world = World::new();
    for path in ["d", "d/e", "full", "full/x", "empty"] {
        world.request(path, MKDIR).expect(path);
    }
    world.request("f", mknod(S_IFREG | 0o644)).expect("f");
    for (from, to, flags, errno) in [
        ("none", "x", 0, ENOENT),
        ("d", "d/e/x", 0, EINVAL),
        ("d/e", "d", 0, ENOTEMPTY),
        ("d", "f", 0, ENOTDIR),
        ("f", "d", 0, EISDIR),
        ("f", "g/", 0, ENOTDIR),
        ("f/", "g", 0, ENOTDIR),
        ("d", "full", 0, ENOTEMPTY),
        ("d/.", "x", 0, EBUSY),
        ("d", "x/..", 0, ENOENT),
        ("d", "..", 0, EBUSY),
        ("f", "d", RENAME_NOREPLACE, EEXIST),
        ("f", "x", RENAME_EXCHANGE, ENOENT),
        ("d", "d/e", RENAME_EXCHANGE, EINVAL),
        ("f", "d", RENAME_NOREPLACE | RENAME_EXCHANGE, EINVAL),
        ("f", "d", 4, EINVAL),
    ] {
        assert_eq!(world.rename(from, to, flags).err(), Some(errno), "{from} {to} {flags}");
    }
    assert_eq!(world.rename_as(&user(5), "f", "g", 0), Err(EPERM));
    let node = world.stat("f").expect("f").ino;
    let elsewhere = from_root(&Credentials::default(), "f", Operation::Link { node });
    let call = world.begin_request(&Request { from: From::Root(3), ..elsewhere });
    assert_eq!(world.answer(call).expect("an answer").0, Answer::Failed(EXDEV));
}

#[test]
fn a_moved_directory_has_its_new_parent_and_both_parents_count_right() {
    let mut world = World::new();
    for path in ["a", "b", "a/c", "b/old"] {
        world.request(path, MKDIR).expect(path);
    }
    let before = (world.links(""), world.links("a"), world.links("b"));
    assert_eq!(world.rename("a/c", "b/old", 0), Ok(()));
    assert_eq!((world.links("a"), world.links("b")), (before.1 - 1, before.2));
    assert_eq!(world.stat("b/old/..").expect("parent").ino, world.stat("b").expect("b").ino);
    assert_eq!(world.request("b/old", Operation::PathOf), Ok(Found::Text(b"b/old".to_vec())));
    assert_eq!(world.rename("b/old", "a/c", RENAME_NOREPLACE), Ok(()));
    assert_eq!((world.links(""), world.links("a"), world.links("b")), (before.0, before.1, before.2 - 1));
}

#[test]
fn exchange_swaps_a_file_and_a_directory() {
    let mut world = World::new();
    for path in ["a", "b", "a/d"] {
        world.request(path, MKDIR).expect(path);
    }
    world.request("b/f", mknod(S_IFREG | 0o644)).expect("f");
    let inos = (world.stat("a/d").expect("d").ino, world.stat("b/f").expect("f").ino);
    assert_eq!(world.rename("a/d", "b/f", RENAME_EXCHANGE), Ok(()));
    assert_eq!((world.stat("b/f").expect("d").ino, world.stat("a/d").expect("f").ino), inos);
    assert_eq!((world.links("a"), world.links("b")), (2, 3));
    assert_eq!(world.stat("b/f/..").expect("b").ino, world.stat("b").expect("b").ino);
}

#[test]
fn renaming_one_link_onto_another_of_the_same_file_does_nothing() {
    let mut world = World::new();
    world.request("f", mknod(S_IFREG | 0o644)).expect("f");
    world.link("f", "g").expect("g");
    assert_eq!(world.rename("f", "g", 0), Ok(()));
    assert_eq!(world.links("f"), 2);
    assert!(world.request("g", Operation::Unlink).is_ok());
    assert_eq!(world.links("f"), 1);
}

#[test]
fn a_set_group_id_directory_hands_on_its_group() {
    let mut world = World::new();
    world.request("d", Operation::MakeDirectory { mode: 0o777 }).expect("d");
    world.request("d", Operation::SetOwner(None, Some(77))).expect("chgrp");
    world.request("d", Operation::SetMode(0o2777)).expect("chmod");
    world.request_as(&user(5), "d/f", mknod(0o666)).expect("f");
    world.request_as(&user(5), "d/e", MKDIR).expect("e");
    let (file, directory) = (world.stat("d/f").expect("f"), world.stat("d/e").expect("e"));
    assert_eq!((file.uid, file.gid, file.mode), (5, 77, S_IFREG | 0o644));
    assert_eq!((directory.gid, directory.mode), (77, S_IFDIR | 0o2755));
}

#[test]
fn attributes_change_only_for_those_who_may() {
    let mut world = World::new();
    world.request_as(&user(5), "f", mknod(0o6755)).expect("f");
    let as_user = |world: &mut World, uid, operation| world.request_as(&user(uid), "f", operation).err();
    assert_eq!(as_user(&mut world, 6, Operation::SetMode(0o700)), Some(EPERM));
    assert_eq!(as_user(&mut world, 5, Operation::SetOwner(Some(6), None)), Some(EPERM));
    assert_eq!(as_user(&mut world, 5, Operation::SetOwner(None, Some(6))), Some(EPERM));
    assert_eq!(as_user(&mut world, 5, Operation::SetOwner(Some(5), Some(5))), None);
    assert_eq!(world.stat("f").expect("f").mode & 0o7777, 0o755, "the set-id bits go with chown");
    assert_eq!(as_user(&mut world, 6, Operation::SetTimes(Some(1), Some(2))), Some(EPERM));
    assert_eq!(as_user(&mut world, 6, Operation::Touch(1)), Some(EACCES));
    assert_eq!(as_user(&mut world, 5, Operation::SetTimes(Some(1), Some(2))), None);
    let stat = world.stat("f").expect("f");
    assert_eq!((stat.atime_ns, stat.mtime_ns), (1, 2));
    assert_eq!(as_user(&mut world, 6, Operation::Access(2)), Some(EACCES));
    assert_eq!(as_user(&mut world, 6, Operation::Access(5)), None);
    assert_eq!(as_user(&mut world, 6, Operation::Truncate(0)), Some(EACCES));
}

#[test]
fn open_reports_linuxs_errors() {
    let mut world = World::new();
    world.request("d", MKDIR).expect("d");
    world.request("l", symlink("d")).expect("l");
    world.request("s", mknod(S_IFSOCK | 0o666)).expect("s");
    world.request("f", mknod(0o600)).expect("f");
    for (path, flags, errno) in [
        ("none", O_RDONLY, ENOENT),
        ("f", O_CREAT | O_EXCL, EEXIST),
        ("f", O_DIRECTORY, ENOTDIR),
        ("f/", O_RDONLY, ENOTDIR),
        ("d", O_WRONLY, EISDIR),
        ("d", O_CREAT, EISDIR),
        ("d/.", O_CREAT, EISDIR),
        ("d", O_TRUNC, EISDIR),
        ("x/", O_CREAT, EISDIR),
        ("l", O_NOFOLLOW, ELOOP),
        ("l", O_CREAT | O_EXCL, EEXIST),
        ("s", O_RDWR, ENXIO),
        ("f", O_TMPFILE | O_RDWR, ENOTDIR),
    ] {
        assert_eq!(world.open(path, flags).err(), Some(errno), "{path} {flags:o}");
    }
    let open = |flags| Operation::Open { flags, mode: 0 };
    assert_eq!(world.request_as(&user(5), "f", open(O_RDONLY)).err(), Some(EACCES));
    assert!(world.request_as(&user(5), "f", open(O_PATH)).is_ok());
    assert!(world.open("l", O_PATH | O_NOFOLLOW).is_ok());
}

#[test]
fn a_file_made_without_a_name_can_be_given_one_unless_it_was_made_exclusively() {
    let mut world = World::new();
    world.request("d", MKDIR).expect("d");
    let [nameless, private] = [0, O_EXCL].map(|flags| {
        let open = Operation::Open { flags: O_TMPFILE | O_RDWR | flags, mode: 0o600 };
        match world.request("d", open) {
            Ok(Found::Opened { stat, created: true }) => stat,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!((nameless.nlink, private.nlink), (0, 0));
    let link = |stat: &Stat| Operation::Link { node: stat.ino };
    assert_eq!(world.request("d/x", link(&private)).err(), Some(ENOENT));
    assert!(world.request("d/x", link(&nameless)).is_ok());
    assert_eq!(world.request("d/x", Operation::Unlink), Ok(Found::Done));
    assert_eq!(world.request("d/x", link(&nameless)).err(), Some(ENOENT), "it has had a name");
    assert_eq!(world.request("d", Operation::RemoveDirectory), Ok(Found::Done));
}

#[test]
fn a_file_created_without_permissions_is_open_all_the_same() {
    let mut world = World::new();
    let operation = Operation::Open { flags: O_CREAT | O_RDWR, mode: 0 };
    let found = world.request_as(&user(5), "f", operation).expect("opened");
    assert!(matches!(found, Found::Opened { created: true, .. }));
}

#[test]
fn when_the_kernel_has_no_session_left_an_open_fails_and_leaves_nothing_behind() {
    let mut world = World::new();
    world.request("f", mknod(0o600)).expect("f");
    world.session_quota = 0;
    assert_eq!(world.open("f", O_RDWR).err(), Some(ENFILE));
    assert_eq!(world.server.opens.len(), 0);
    world.session_quota = 1;
    let result = world.linux(0, 293, [super::world::BUFFER, 0, 0, 0, 0, 0]);
    assert_eq!(result, -i64::from(ENFILE));
    assert!(world.sessions.is_empty() && world.server.pipes.is_empty() && world.server.opens.is_empty());
}

#[test]
fn an_unmounted_volume_is_empty_when_it_is_mounted_again_and_stays_while_it_is_open() {
    let mut world = World::new();
    let free = world.free_pages();
    let file = world.make("f");
    world.write(file, b"bytes");
    let unmount = |volume| Message::words(UNMOUNT, [volume, 0, 0, 0]);
    assert_eq!(world.native(0, unmount(0)).label, EBUSY as u32);
    world.close(file);
    assert_eq!(world.native(0, unmount(0)).label, 0);
    assert_eq!((world.stat("f").err(), world.free_pages()), (Some(ENOENT), free));
    assert_eq!(world.native(0, unmount(1)).label, EBUSY as u32);
    assert_eq!(world.native(0, unmount(u64::from(u32::MAX))).label, EINVAL as u32);
    assert_eq!(world.native(0, Message::label(SYNC)).label, 0);
}

/// A program's own call, handed on by vfs: how it ends.
fn as_program(world: &mut World, path: &str, operation: Operation, wants: Wants) -> End {
    let program = Some(Program { wants, ticket: [7; TICKET_WORDS] });
    let request = from_root(&Credentials::default(), path, operation);
    let call = world.begin_request(&Request { program, ..request });
    world.ends[&call].clone()
}

#[test]
fn a_program_is_answered_itself_and_goes_back_to_vfs_where_the_walk_leaves() {
    let mut world = World::new();
    world.request("link", Operation::MakeSymlink { target: b"elsewhere".to_vec() }).expect("a link");
    world.request("tty", Operation::MakeNode { mode: S_IFCHR | 0o666, device: 0x500 }).expect("a device");
    let open = |flags| Operation::Open { flags, mode: 0o600 };
    let slot = Wants::Descriptor(3);
    let End::Linux(reply) = as_program(&mut world, "new", open(O_CREAT | O_RDWR), slot) else { panic!() };
    assert_eq!((reply.result, world.server.opens.len()), (3, 1));
    let badge = *world.sessions.keys().next_back().expect("a session");
    world.close(badge);
    assert_eq!(world.server.opens.len(), 0);
    let End::Linux(reply) = as_program(&mut world, "new", Operation::Stat, Wants::Stat(BUFFER)) else {
        panic!()
    };
    assert_eq!((reply.result, reply.outputs[0].address, reply.outputs[0].bytes.len()), (0, BUFFER, 144));
    let End::Linux(reply) = as_program(&mut world, "none", Operation::Unlink, Wants::Nothing) else {
        panic!()
    };
    assert_eq!(reply.result, -i64::from(ENOENT));
    for (path, asks) in [("link/x", Operation::Stat), ("tty", open(O_RDWR))] {
        let End::Handed(message) = as_program(&mut world, path, asks, slot) else { panic!("{path}") };
        let (request, why) = Request::from_handed_back(&message).expect("what vfs has to know");
        assert_eq!(request.program.expect("the program").ticket, [7; TICKET_WORDS]);
        assert!(matches!(why, Answer::Stopped(_) | Answer::Found(Found::Device { .. })), "{why:?}");
    }
}

#[test]
fn a_program_whose_session_the_kernel_refuses_leaves_nothing_open() {
    let mut world = World::new();
    world.session_quota = 0;
    let open = Operation::Open { flags: O_CREAT | O_RDWR, mode: 0o600 };
    let End::Linux(reply) = as_program(&mut world, "f", open, Wants::Descriptor(3)) else { panic!() };
    assert_eq!((reply.result, world.server.opens.len()), (-i64::from(ENFILE), 0));
}
