//! The start of the system.

use alloc::{string::String, vec, vec::Vec};

use libipc::proto::proc_tree::{Mounts, SET_MOUNTS};
use libipc::proto::process::{self, Request};
use libipc::server::{Event, Operation};

use super::world::{World, mount, session};

fn started(mounts: Vec<libipc::manifest::Mount>, prepare: impl FnOnce(&mut World)) -> World {
    let mut world = World::unstarted(mounts);
    prepare(&mut world);
    world.run(&Event::Start);
    world
}

fn says(world: &World) -> String {
    match &world.log[..] {
        [Operation::Log { text }, Operation::PowerOff { status: 127, reboot: false }] => {
            String::from_utf8(text.clone()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_program_gets_its_files_its_root_and_the_console() {
    let mounts = vec![mount("/", "ufs", Some("disk0")), mount("/tmp", "tmpfs", None)];
    let world = started(mounts, |_| ());
    assert_eq!((&world.log[..], world.held.len()), (&[][..], 0));
    let (to, spawn) = world.messages.last().unwrap();
    let Request::Spawn { exec, argv, env, exit_on_end } = spawn.decode().unwrap() else { panic!() };
    assert_eq!((*to, spawn.label, spawn.handles.len()), ("proc", process::REQUEST, 4));
    assert_eq!(spawn.handles[0], spawn.handles[1], "it has no linker");
    assert_eq!(world.sessions[&spawn.handles[3]].2, 0x440, "the serial line");
    assert_eq!((argv, env, exit_on_end), (session().argv, session().env, true));
    assert_eq!(exec.path, b"/bin/sh");
}

#[test]
fn procfs_is_told_of_the_mounts_in_their_order() {
    let world = started(
        vec![
            mount("/", "ufs", Some("disk0")),
            mount("/dev", "tmpfs", None),
            mount("/tmp", "tmpfs", None),
            mount("/proc", "procfs", None),
        ],
        |_| (),
    );
    let (to, message) = world.messages.iter().find(|(_, message)| message.label == SET_MOUNTS).unwrap();
    let shown: Mounts = message.decode().unwrap();
    let lines: Vec<(&[u8], &[u8], &[u8])> =
        shown.iter().map(|mount| (&mount.source[..], &mount.at[..], &mount.kind[..])).collect();
    assert_eq!(*to, "procfs");
    assert_eq!(
        lines,
        [
            (&b"disk0"[..], &b"/"[..], &b"ufs"[..]),
            (b"tmpfs", b"/dev", b"tmpfs"),
            (b"tmpfs", b"/tmp", b"tmpfs"),
            (b"proc", b"/proc", b"proc"),
        ]
    );
    assert_eq!(shown[2].device & 0xff, 1, "tmpfs volumes are counted in order");
}

#[test]
fn a_missing_mount_point_is_made() {
    let mounts = vec![mount("/", "ufs", Some("disk0")), mount("/run", "tmpfs", None)];
    let mut world = started(mounts, |_| ());
    assert_eq!(world.log, []);
    assert!(world.model("ufs").nodes.len() > World::files().values().next().unwrap().nodes.len());
}

#[test]
fn a_read_only_mount_is_agreed_with_its_server() {
    let mut root = mount("/", "ufs", Some("disk1"));
    root.flags.insert(libipc::manifest::MountFlag::Ro);
    let mut world = started(vec![root], |world| {
        world.model("ufs").put(1, "bin", super::world::directory(), 0o755);
        let sh = super::model::Content::File(super::world::elf(None));
        world.model("ufs").put(1, "bin/sh", sh, 0o755);
    });
    assert_eq!(world.log, []);
    assert_eq!(world.model("ufs").read_only, [1]);
}

#[test]
fn what_goes_wrong_at_start_is_said_and_ends_the_machine() {
    let root = || mount("/", "ufs", Some("disk0"));
    let world = started(vec![mount("/", "ufs", Some("sda"))], |_| ());
    assert_eq!(says(&world), "vfs: cannot mount sda at /: the source is not a disk (disk0, disk1 …)\n");
    let world = started(vec![root(), mount("/usr/file", "tmpfs", None)], |_| ());
    assert_eq!(says(&world), "vfs: cannot mount tmpfs at /usr/file: not a directory\n");
    let world = started(vec![root(), mount("/a/b", "tmpfs", None)], |_| ());
    assert_eq!(says(&world), "vfs: cannot mount tmpfs at /a/b: no such file or directory\n");
    let world = started(vec![], |_| ());
    assert_eq!(says(&world), "vfs: the manifest names no mounts or cannot be read\n");
    let world = started(vec![root()], |world| {
        world.model("ufs").remove("bin", "sh");
    });
    assert_eq!(says(&world), "vfs: cannot start /bin/sh: no such file or directory\n");
    let world = started(vec![root()], |world| world.spawn_answer = process::Answer::Failed(12));
    assert_eq!(says(&world), "vfs: the process server cannot start /bin/sh: not enough memory\n");
}
