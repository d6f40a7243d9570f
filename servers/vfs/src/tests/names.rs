//! Opening, making, moving and removing, and attributes.

use alloc::{vec, vec::Vec};

use libipc::abi::Handle;
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::{self, Operation};
use libipc::server::{Event, Message};

use super::model::Content;
use super::world::{End, World, directory, number};

fn error(errno: i32) -> i64 {
    -i64::from(errno)
}

fn last_operation(world: &mut World, server: &str) -> Operation {
    world.model(server).requests.last().unwrap().operation.clone()
}

#[test]
fn open_gives_the_reserved_descriptor_and_keeps_nothing() {
    let mut world = World::new();
    let End::Reply(reply) = world.call(2, [0, O_CLOEXEC.into(), 0, 0, 0, 0], &["/usr/file"]) else {
        panic!()
    };
    assert_eq!((reply.result, reply.install.len(), reply.close_on_exec), (3, 1, true));
    let End::Reply(reply) = world.call(85, [0, 0o4666, 0, 0, 0, 0], &["/tmp/new"]) else { panic!() };
    assert_eq!((reply.result, reply.close_on_exec), (3, false));
    let flags = O_CREAT | O_WRONLY | O_TRUNC;
    assert_eq!(last_operation(&mut world, "tmpfs"), Operation::Open { flags, mode: 0o4666 });
    assert_eq!(world.model("tmpfs").requests.last().unwrap().credentials.umask, 0o022);
}

#[test]
fn open_refuses_what_linux_refuses() {
    let mut world = World::new();
    world.model("ufs").put(0, "link", Content::Link(b"usr/file".to_vec()), 0o777);
    let mut open = |path: &str, flags: u32| world.result(2, [0, flags.into(), 0, 0, 0, 0], &[path]);
    assert_eq!(open("/usr/", O_CREAT | O_WRONLY), error(EISDIR));
    assert_eq!(open("/usr", O_CREAT | O_DIRECTORY), error(EINVAL));
    assert_eq!(open("/tmp", O_TMPFILE), error(EINVAL));
    assert_eq!(open("/tmp", O_TMPFILE & !O_DIRECTORY | O_RDWR), error(EINVAL));
    assert_eq!(open("/tmp", O_TMPFILE | O_RDWR | O_CREAT), error(EINVAL));
    assert_eq!(open("/usr/file", O_DIRECTORY), error(ENOTDIR));
    assert_eq!(open("/link", O_NOFOLLOW), error(ELOOP));
    assert_eq!(open("/link", O_NOFOLLOW | O_PATH), 3);
    assert_eq!(open("/link", 0), 3);
}

#[test]
fn a_dangling_link_is_created_through_but_not_exclusively() {
    let mut world = World::new();
    world.model("ufs").put(0, "link", Content::Link(b"/tmp/made".to_vec()), 0o777);
    assert_eq!(world.result(2, [0, O_CREAT.into(), 0, 0, 0, 0], &["/link"]), 3);
    assert!(world.look("/tmp/made", true).is_ok());
    world.result(2, [0, u64::from(O_CREAT | O_EXCL), 0, 0, 0, 0], &["/link"]);
    assert!(!world.model("ufs").requests.last().unwrap().follow);
}

#[test]
fn a_device_is_opened_at_the_server_that_has_it() {
    let mut world = World::new();
    assert_eq!(world.result(2, [0, 2, 0, 0, 0, 0], &["/dev/null"]), 3);
    assert_eq!(world.result(2, [0, 2, 0, 0, 0, 0], &["/dev/tty"]), 3);
    for ((server, message), (wanted, device)) in world.messages.iter().zip([("tmpfs", 0x103), ("tty", 0x500)])
    {
        assert_eq!((*server, message.label), (wanted, fs::OPEN_DEVICE));
        assert_eq!(message.words, [device, 2, 7, 5 << 32 | 6]);
        let node = message.decode::<libipc::linux::Stat>().expect("the node it was opened by");
        assert_eq!((node.rdev, node.ino != 0), (device, true));
    }
    assert_eq!(world.messages.len(), 2);
    assert_eq!(world.result(2, [0, 2, 0, 0, 0, 0], &["/dev/disk"]), error(ENXIO));
}

#[test]
fn a_fifo_is_left_to_its_server_which_may_wait() {
    let mut world = World::new();
    let Ok((_, node)) = world.look("/dev/pipe", true) else { panic!() };
    let end = world.call(2, [0, 1, 0, 0, 0, 0], &["/dev/pipe"]);
    let message = Message::words(fs::OPEN_FIFO, [node, 1, 3, 0]);
    assert_eq!(end, End::Forwarded(Handle(number("tmpfs") - 10), message));
}

#[test]
fn rename_stays_on_one_server() {
    let mut world = World::new();
    world.model("tmpfs").put(0, "sub", directory(), 0o755);
    assert_eq!(world.result(82, [0; 6], &["/tmp/note", "/tmp/sub/moved"]), 0);
    assert!(world.look("/tmp/sub/moved", true).is_ok());
    assert_eq!(world.look("/tmp/note", true), Err(ENOENT));
    assert_eq!(world.result(82, [0; 6], &["/tmp/sub/moved", "/usr/x"]), error(EXDEV));
    assert!(world.look("/tmp/sub/moved", true).is_ok(), "nothing has moved");
    assert_eq!(world.look("/usr/x", true), Err(ENOENT));
    assert_eq!(world.result(82, [0; 6], &["/usr/..", "/usr/x"]), error(EBUSY));
    assert_eq!(world.result(82, [0; 6], &["/usr/file", "/tmp"]), error(EBUSY));
    let both = u64::from(RENAME_NOREPLACE | RENAME_EXCHANGE);
    assert_eq!(world.result(316, [0, 0, 0, 0, both, 0], &["/usr/file", "/usr/f"]), error(EINVAL));
    world.result(316, [0, 0, 0, 0, 1, 0], &["/usr/file", "/usr/f"]);
    let Operation::Rename { name, flags, .. } = last_operation(&mut world, "ufs") else { panic!() };
    assert_eq!((&name[..], flags), (&b"file"[..], RENAME_NOREPLACE));
}

#[test]
fn link_stays_on_one_server_and_follows_only_when_asked() {
    let mut world = World::new();
    world.model("ufs").put(0, "s", Content::Link(b"usr/file".to_vec()), 0o777);
    let file = world.look("/usr/file", true);
    let here = -100i32 as u32 as u64;
    assert_eq!(world.result(86, [0; 6], &["/usr/file", "/usr/again"]), 0);
    assert_eq!(world.look("/usr/again", true), file);
    assert_eq!(world.result(86, [0; 6], &["/usr/file", "/usr/again"]), error(EEXIST));
    assert_eq!(world.result(86, [0; 6], &["/usr/file", "/tmp/x"]), error(EXDEV));
    assert_eq!(world.result(86, [0; 6], &["/usr", "/x"]), error(EPERM));
    assert_eq!(world.result(86, [0; 6], &["/s", "/t"]), 0);
    let link = world.look("/s", false);
    assert_eq!(world.look("/t", false), link);
    let follow = AT_SYMLINK_FOLLOW.into();
    assert_eq!(world.result(265, [here, 0, here, 0, follow, 0], &["/s", "/u"]), 0);
    assert_eq!(world.look("/u", false), file);
}

#[test]
fn making_and_removing_act_on_the_name_itself() {
    let mut world = World::new();
    assert_eq!(world.result(83, [0, 0o7777, 0, 0, 0, 0], &["/tmp/d/"]), 0);
    assert_eq!(last_operation(&mut world, "tmpfs"), Operation::MakeDirectory { mode: 0o1777 });
    assert_eq!(world.result(83, [0, 0o777, 0, 0, 0, 0], &["/tmp"]), error(EEXIST), "a mount point is there");
    assert_eq!(world.result(83, [0, 0o777, 0, 0, 0, 0], &["/"]), error(EEXIST));
    assert_eq!(world.result(84, [0; 6], &["/tmp"]), error(EBUSY));
    assert_eq!(world.result(88, [0; 6], &["", "/x"]), error(ENOENT));
    assert_eq!(world.result(88, [0; 6], &["where", "/x"]), 0);
    assert_eq!(world.look("/x", true), Err(ENOENT));
    assert_eq!(world.result(87, [0; 6], &["/x"]), 0);
    assert_eq!(world.look("/x", false), Err(ENOENT));
    let here = -100i32 as u32 as u64;
    world.result(263, [here, 0, AT_REMOVEDIR.into(), 0, 0, 0], &["/tmp/d"]);
    assert_eq!(last_operation(&mut world, "tmpfs"), Operation::RemoveDirectory);
    assert_eq!(world.result(263, [here, 0, 1, 0, 0, 0], &["/tmp/d"]), error(EINVAL));
}

#[test]
fn mknod_makes_devices_for_the_superuser_alone() {
    let mut world = World::new();
    world.result(133, [0, 0o644, 77, 0, 0, 0], &["/tmp/f"]);
    assert_eq!(last_operation(&mut world, "tmpfs"), Operation::MakeNode { mode: 0o100_644, device: 0 });
    world.result(133, [0, 0o020_600, 0x501, 0, 0, 0], &["/tmp/c"]);
    assert_eq!(last_operation(&mut world, "tmpfs"), Operation::MakeNode { mode: 0o020_600, device: 0x501 });
    assert_eq!(world.result(133, [0, 0o040_755, 0, 0, 0, 0], &["/tmp/d"]), error(EPERM));
    assert_eq!(world.result(133, [0, 0o120_755, 0, 0, 0, 0], &["/tmp/l"]), error(EINVAL));
    world.caller.uid = 5;
    assert_eq!(world.result(133, [0, 0o020_600, 0x501, 0, 0, 0], &["/tmp/c"]), error(EPERM));
    assert_eq!(world.result(133, [0, 0o010_600, 0, 0, 0, 0], &["/tmp/p"]), 0);
}

#[test]
fn attributes_travel_as_the_caller_means_them() {
    let mut world = World::new();
    world.script.now = 5;
    let here = -100i32 as u32 as u64;
    let none = u64::from(u32::MAX);
    let mut after = |number, arguments, inputs: Vec<Option<Vec<u8>>>| {
        let end = world.call_with(number, arguments, inputs, Default::default());
        assert!(matches!(end, End::Reply(reply) if reply.result == 0));
        let request = world.model("ufs").requests.last().unwrap().clone();
        (request.operation, request.follow)
    };
    let path = || Some(b"/usr/file".to_vec());
    let words = |words: &[i64]| Some(words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    assert_eq!(after(90, [0, 0o107_644, 0, 0, 0, 0], vec![path()]), (Operation::SetMode(0o7644), true));
    assert_eq!(after(94, [0, 7, none, 0, 0, 0], vec![path()]), (Operation::SetOwner(Some(7), None), false));
    assert_eq!(
        after(260, [here, 0, none, 8, 0, 0], vec![path()]),
        (Operation::SetOwner(None, Some(8)), true)
    );
    assert_eq!(
        after(132, [0; 6], vec![path(), words(&[3, 4])]),
        (Operation::SetTimes(Some(3_000_000_000), Some(4_000_000_000)), true)
    );
    let now = 1_000_000_000_005;
    assert_eq!(after(235, [0; 6], vec![path(), None]), (Operation::Touch(now), true));
    let (omit, at_once) = (0x3fff_fffe, 0x3fff_ffff);
    let times = words(&[0, omit, 0, at_once]);
    let nofollow = u64::from(AT_SYMLINK_NOFOLLOW);
    assert_eq!(
        after(280, [here, 0, 0, nofollow, 0, 0], vec![path(), times]),
        (Operation::SetTimes(None, Some(now)), false)
    );
    assert_eq!(after(76, [0, 9, 0, 0, 0, 0], vec![path()]), (Operation::Truncate(9), true));
    assert_eq!(world.result(76, [0, u64::MAX, 0, 0, 0, 0], &["/usr/file"]), error(EINVAL));
    assert_eq!(world.result(21, [0, 8, 0, 0, 0, 0], &["/usr/file"]), error(EINVAL));
    assert_eq!(world.result(21, [0, 5, 0, 0, 0, 0], &["/usr/file"]), 0);
    assert_eq!(last_operation(&mut world, "ufs"), Operation::Access(5));
}

#[test]
fn a_null_path_means_the_descriptor_for_utimensat_alone() {
    let mut world = World::new();
    let End::Reply(opened) = world.call(2, [0; 6], &["/usr/file"]) else { panic!() };
    let named = [world.named(opened.install[0]), Default::default()];
    let End::Reply(reply) = world.call_with(280, [3, 0, 0, 0, 0, 0], vec![None, None], named) else {
        panic!()
    };
    assert_eq!(reply.result, 0);
    assert!(matches!(last_operation(&mut world, "ufs"), Operation::Touch(_)));
    let End::Reply(reply) = world.call_with(258, [3, 0, 0, 0, 0, 0], vec![None], named) else { panic!() };
    assert_eq!(reply.result, error(EFAULT));
}

#[test]
fn statx_and_statfs_fill_their_structures() {
    let mut world = World::new();
    let here = -100i32 as u32 as u64;
    let End::Reply(reply) = world.call(332, [here, 0, 0, 0xfff, 0x2000, 0], &["/dev/null"]) else { panic!() };
    let bytes = &reply.outputs[0].bytes;
    assert_eq!((bytes.len(), reply.outputs[0].address), (256, 0x2000));
    assert_eq!((bytes[128], bytes[132]), (1, 3), "rdev");
    assert_eq!(world.result(332, [here, 0, 0, 1 << 31, 0x2000, 0], &["/"]), error(EINVAL));
    let End::Reply(reply) = world.call(137, [0, 0x1000, 0, 0, 0, 0], &["/tmp"]) else { panic!() };
    assert_eq!(u32::from(reply.outputs[0].bytes[0]), number("tmpfs"));
}

#[test]
fn a_copy_within_the_kernel_sends_programs_to_read_and_write() {
    let mut world = World::new();
    assert_eq!(world.result(326, [0; 6], &[]), error(ENOSYS));
    assert_eq!(world.result(162, [0; 6], &[]), 0);
}

#[test]
fn a_server_that_is_gone_is_an_error_to_its_callers_alone() {
    let mut world = World::new();
    let call = world.script.linux(world.caller, 89, [0, 0x1000, 10, 0, 0, 0]);
    let mut call = call;
    if let libipc::server::Request::Foreign(foreign) = &mut call.request {
        foreign.inputs[0] = Some(b"/usr".to_vec());
        foreign.names =
            Some(Box::new(libipc::server::Names { directories: world.directories, ..Default::default() }));
    }
    let effects =
        libipc::server::testing::step(&mut world.vfs, &Event::Call(call.clone()), &mut world.script);
    let libipc::server::Effect::Send { tag, .. } = effects.list[0] else { panic!() };
    let answer = Err(libipc::abi::KernelError::PeerDead);
    let effects = world.run(&Event::Answer { tag, answer });
    assert!(
        matches!(&effects[..], [libipc::server::Effect::ReplyForeign { reply, .. }] if reply.result == error(EIO))
    );
    assert!(world.look("/usr", true).is_ok());
}
