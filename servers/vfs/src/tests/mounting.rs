//! mount(2) and umount2(2).

use libipc::linux::errno::*;

use super::model::Content;
use super::world::{End, World, directory, number};

const KIND: u64 = 0x5000;

fn mount(world: &mut World, source: &str, at: &str, kind: &str, flags: u64) -> i64 {
    let mut name = kind.as_bytes().to_vec();
    name.push(0);
    world.script.memory.insert(KIND, name);
    world.result(165, [0, 0, KIND, flags, 0, 0], &[source, at])
}

fn unmount(world: &mut World, at: &str) -> i64 {
    world.result(166, [0; 6], &[at])
}

fn error(errno: i32) -> i64 {
    -i64::from(errno)
}

#[test]
fn a_new_tmpfs_covers_and_uncovers_a_directory() {
    let mut world = World::new();
    let below = world.look("/usr/file", true).unwrap();
    world.stand(80, "/usr");
    assert_eq!(mount(&mut world, "none", "../usr", "tmpfs", 0x8000), 0);
    assert_eq!(world.look("/usr/file", true), Err(ENOENT));
    assert_eq!(world.look("file", true), Ok(below), "who stood there before stays below");
    let (server, node) = world.look("/usr", true).unwrap();
    assert_eq!((server, node), (number("tmpfs"), 4), "the third tmpfs volume");
    world.stand(80, "/usr");
    assert_eq!(world.cwd(), Ok(b"/usr".to_vec()), "its absolute path is known");
    assert_eq!(unmount(&mut world, "/usr"), 0);
    assert_eq!(world.look("/usr/file", true), Ok(below));
}

#[test]
fn mounts_stand_on_each_other() {
    let mut world = World::new();
    assert_eq!(mount(&mut world, "a", "/usr", "tmpfs", 0), 0);
    world.model("tmpfs").put(2, "sub", directory(), 0o755);
    assert_eq!(mount(&mut world, "b", "/usr/sub", "tmpfs", 0), 0);
    assert_eq!(mount(&mut world, "c", "/usr", "tmpfs", 0), 0);
    assert_eq!(world.look("/usr/sub", true), Err(ENOENT), "the topmost is seen");
    assert_eq!(world.look("/usr/..", true), world.look("/", true));
    assert_eq!(unmount(&mut world, "/usr"), 0);
    assert_eq!(unmount(&mut world, "/usr"), error(EBUSY), "something is mounted in it");
    assert_eq!(unmount(&mut world, "/usr/sub"), 0);
    assert_eq!(unmount(&mut world, "/usr"), 0);
    assert_eq!(unmount(&mut world, "/usr"), error(EINVAL));
    assert_eq!(unmount(&mut world, "/"), error(EBUSY));
}

#[test]
fn another_disk_can_be_mounted_once_and_read_only() {
    let mut world = World::new();
    world.model("ufs").put(1, "data", Content::File(alloc::vec![]), 0o644);
    assert_eq!(mount(&mut world, "/dev/disk1", "/usr", "ufs", 1), 0);
    assert!(world.look("/usr/data", true).is_ok());
    assert_eq!(world.model("ufs").read_only, [1]);
    assert_eq!(mount(&mut world, "/dev/disk1", "/bin", "ufs", 0), error(EBUSY));
    assert_eq!(mount(&mut world, "disk0", "/bin", "ufs", 0), error(EBUSY));
}

#[test]
fn what_cannot_be_mounted_is_refused_before_anything_changes() {
    let mut world = World::new();
    assert_eq!(mount(&mut world, "x", "/usr", "ext4", 0), error(ENODEV));
    assert_eq!(mount(&mut world, "x", "/usr", "ufs", 0), error(ENOTBLK));
    assert_eq!(mount(&mut world, "x", "/usr/file", "tmpfs", 0), error(ENOTDIR));
    assert_eq!(mount(&mut world, "x", "/none", "tmpfs", 0), error(ENOENT));
    assert_eq!(mount(&mut world, "/bin", "/usr", "", 4096), error(EINVAL), "bind mounts");
    assert_eq!(world.result(165, [0, 0, 0x9_0000, 0, 0, 0], &["x", "/usr"]), error(EFAULT));
    world.caller.uid = 5;
    assert_eq!(mount(&mut world, "x", "/usr", "tmpfs", 0), error(EPERM));
    assert_eq!(unmount(&mut world, "/tmp"), error(EPERM));
    assert!(world.look("/usr/file", true).is_ok());
}

#[test]
fn the_types_name_may_lie_on_a_page_that_is_not_there_yet() {
    let mut world = World::new();
    world.script.memory.insert(KIND, b"tmpfs\0".to_vec());
    world.script.miss_next = true;
    let mut call = world.script.linux(world.caller, 165, [0, 0, KIND, 0, 0, 0]);
    if let libipc::server::Request::Foreign(foreign) = &mut call.request {
        foreign.inputs = [Some(b"x".to_vec()), Some(b"/usr".to_vec())];
        foreign.names =
            Some(Box::new(libipc::server::Names { directories: world.directories, ..Default::default() }));
    }
    let event = libipc::server::Event::Call(call);
    let effects = libipc::server::testing::step(&mut world.vfs, &event, &mut world.script);
    assert!(effects.again);
    let effects = world.run(&event);
    assert!(effects.iter().any(|effect| matches!(
        effect,
        libipc::server::Effect::ReplyForeign { reply, .. } if reply.result == 0
    )));
}

#[test]
fn unmounting_needs_the_mount_point_itself() {
    let mut world = World::new();
    assert_eq!(unmount(&mut world, "/tmp/note"), error(EINVAL));
    assert_eq!(world.result(166, [0, 4, 0, 0, 0, 0], &["/tmp"]), error(EINVAL));
    let End::Reply(reply) = world.call(166, [0, 2, 0, 0, 0, 0], &["/tmp"]) else { panic!() };
    assert_eq!(reply.result, 0);
}
