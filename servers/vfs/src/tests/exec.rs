//! exec: scripts, dynamic linkers, permissions, and what proc is handed.

use alloc::{format, vec, vec::Vec};

use libipc::linux::errno::*;
use libipc::proto::process::{EXEC, Exec};

use super::model::Content;
use super::world::{End, World, elf, number};

fn exec(world: &mut World, path: &str) -> Result<(Exec, usize), i32> {
    match world.call(59, [0, 0x10, 0x20, 0, 0, 0], &[path]) {
        End::Forwarded(to, message) => {
            assert_eq!((to.0 + 10, message.label), (number("proc"), EXEC));
            Ok((message.decode().unwrap(), message.handles.len()))
        }
        End::Reply(reply) => Err(-reply.result as i32),
        other => panic!("{other:?}"),
    }
}

fn put(world: &mut World, path: &str, data: &[u8], bits: u32) -> u64 {
    world.model("ufs").put(0, path, Content::File(data.to_vec()), bits)
}

#[test]
fn a_static_program_goes_to_proc_with_its_headers() {
    let mut world = World::new();
    let (_, node) = world.look("/bin/sh", true).unwrap();
    let (exec, handles) = exec(&mut world, "/bin/sh").unwrap();
    assert_eq!(handles, 1);
    assert_eq!((exec.argv, exec.envp), (0x10, 0x20));
    assert_eq!((&exec.filename[..], &exec.path[..]), (&b"/bin/sh"[..], &b"/bin/sh"[..]));
    assert_eq!(exec.file, (u64::from(number("ufs")), node | 1 << 32), "the object that READ_AT told");
    assert_eq!(exec.header.len(), 64 + 56);
    assert_eq!((exec.prefix, exec.interpreter, exec.set_uid), (vec![], None, None));
}

#[test]
fn a_dynamic_program_brings_its_linker_wherever_its_path_stands() {
    let mut world = World::new();
    let ld = put(&mut world, "usr/lib/ld.so", &elf(None), 0o755);
    for at in [200, 5000] {
        put(&mut world, "bin/dynamic", &elf(Some(("/usr/lib/ld.so", at))), 0o755);
        let (exec, handles) = exec(&mut world, "/bin/dynamic").unwrap();
        let ((server, object), header) = exec.interpreter.unwrap();
        assert_eq!((server, object), (u64::from(number("ufs")), ld | 1 << 32));
        assert_eq!((handles, header.len(), exec.header.len()), (2, 120, 176));
        assert_eq!(exec.path, b"/bin/dynamic");
    }
    put(&mut world, "bin/broken", &elf(Some(("/usr/lib/none", 200))), 0o755);
    assert_eq!(exec(&mut world, "/bin/broken"), Err(ENOENT));
}

#[test]
fn a_script_is_replaced_by_its_interpreter() {
    let mut world = World::new();
    put(&mut world, "usr/script", b"#! /bin/sh -e  x \nexit\n", 0o755);
    let (found, handles) = exec(&mut world, "/usr/script").unwrap();
    assert_eq!(handles, 1);
    assert_eq!(found.prefix, [&b"/bin/sh"[..], b"-e  x", b"/usr/script"]);
    assert_eq!((&found.filename[..], &found.path[..]), (&b"/usr/script"[..], &b"/bin/sh"[..]));
    put(&mut world, "usr/outer", b"#!/usr/script a\n", 0o755);
    let (found, _) = exec(&mut world, "/usr/outer").unwrap();
    assert_eq!(found.prefix, [&b"/bin/sh"[..], b"-e  x", b"/usr/script", b"a", b"/usr/outer"]);
}

#[test]
fn four_interpreters_may_name_each_other_and_not_five() {
    let mut world = World::new();
    put(&mut world, "s0", b"#!/bin/sh\n", 0o755);
    for level in 1..5 {
        put(&mut world, &format!("s{level}"), format!("#!/s{}\n", level - 1).as_bytes(), 0o755);
    }
    assert_eq!(exec(&mut world, "/s3").unwrap().0.prefix.len(), 5);
    assert_eq!(exec(&mut world, "/s4"), Err(ELOOP));
}

#[test]
fn only_an_executable_regular_file_is_executed() {
    let mut world = World::new();
    put(&mut world, "plain", &elf(None), 0o644);
    put(&mut world, "text", b"echo hello\n", 0o755);
    put(&mut world, "empty", b"", 0o755);
    put(&mut world, "mine", &elf(None), 0o700);
    for (path, errno) in [
        ("/plain", EACCES),
        ("/usr", EACCES),
        ("/dev/null", EACCES),
        ("/text", ENOEXEC),
        ("/empty", ENOEXEC),
        ("/none", ENOENT),
        ("", ENOENT),
    ] {
        assert_eq!(exec(&mut world, path), Err(errno), "{path}");
    }
    world.caller.uid = 5;
    assert_eq!(exec(&mut world, "/mine"), Err(EACCES));
}

#[test]
fn set_id_bits_give_the_files_owner_but_a_scripts_do_not() {
    let mut world = World::new();
    let node = put(&mut world, "su", &elf(None), 0o6755);
    world.model("ufs").nodes.get_mut(&node).unwrap().uid = 42;
    let (found, _) = exec(&mut world, "/su").unwrap();
    assert_eq!((found.set_uid, found.set_gid), (Some(42), Some(0)));
    put(&mut world, "locked", &elf(None), 0o2745);
    assert_eq!(exec(&mut world, "/locked").unwrap().0.set_gid, None, "set-gid without group execution");
    put(&mut world, "script", b"#!/bin/sh\n", 0o6755);
    assert_eq!(exec(&mut world, "/script").unwrap().0.set_uid, None);
}

#[test]
fn the_path_shown_is_the_resolved_one() {
    let mut world = World::new();
    world.model("ufs").put(0, "usr/alias", Content::Link(b"../bin".to_vec()), 0o777);
    world.model("ufs").put(0, "usr/run", Content::Link(b"alias/./sh".to_vec()), 0o777);
    world.model("tmpfs").put(0, "tool", Content::File(elf(None)), 0o755);
    world.stand(80, "/usr/lib");
    for (given, shown) in [
        ("/usr/alias/sh", "/bin/sh"),
        ("/usr/run", "/bin/sh"),
        ("../run", "/bin/sh"),
        ("../../bin/sh", "/bin/sh"),
        ("/usr/../tmp/../tmp/tool", "/tmp/tool"),
        ("../../tmp/tool", "/tmp/tool"),
    ] {
        let (found, _) = exec(&mut world, given).unwrap();
        assert_eq!(found.path, shown.as_bytes(), "{given}");
        assert_eq!(found.filename, given.as_bytes());
    }
}

#[test]
fn execveat_takes_a_descriptor() {
    let mut world = World::new();
    let End::Reply(opened) = world.call(2, [0; 6], &["/bin"]) else { panic!() };
    let named = [world.named(opened.install[0]), Default::default()];
    let mut at = |path: &str, flags: u64| {
        let inputs: Vec<_> = vec![Some(path.as_bytes().to_vec())];
        match world.call_with(322, [5, 0, 0x10, 0x20, flags, 0], inputs, named) {
            End::Forwarded(_, message) => Ok(message.decode::<Exec>().unwrap()),
            End::Reply(reply) => Err(-reply.result as i32),
            other => panic!("{other:?}"),
        }
    };
    let found = at("sh", 0).unwrap();
    assert_eq!((found.argv, found.envp), (0x10, 0x20));
    assert_eq!((&found.filename[..], &found.path[..]), (&b"/dev/fd/5/sh"[..], &b"/bin/sh"[..]));
    assert_eq!(at("", 0), Err(ENOENT));
    assert_eq!(at("", 0x1000), Err(EACCES), "a directory");
    assert_eq!(at("sh", 1), Err(EINVAL));
}
