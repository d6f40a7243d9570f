//! Where paths lead: links, mounts, `..`, chroot, and their limits.

use alloc::{format, string::String, vec};

use libipc::linux::errno::*;

use super::model::Content;
use super::world::{End, World, directory, number};

fn link(text: &str) -> Content {
    Content::Link(text.as_bytes().to_vec())
}

#[test]
fn paths_lead_where_linux_would_go() {
    let mut world = World::new();
    let ufs = world.model("ufs");
    ufs.put(0, "abs", link("/usr/file"), 0o777);
    ufs.put(0, "usr/rel", link("../bin/sh"), 0o777);
    ufs.put(0, "usr/up", link("../tmp/note"), 0o777);
    ufs.put(0, "dir", link("usr/"), 0o777);
    ufs.put(0, "dangling", link("nowhere"), 0o777);
    ufs.put(0, "chain", link("dir/rel"), 0o777);
    let id = |world: &mut World, server: &str, volume, path: &str| {
        let model = world.model(server);
        let mut node = model.root(volume);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Content::Directory(names, _) = &model.nodes[&node].content else { panic!() };
            node = names[name.as_bytes()];
        }
        Ok((number(server), node))
    };
    let ok: [(&str, &str, u32, &str); 20] = [
        ("/", "ufs", 0, ""),
        ("//", "ufs", 0, ""),
        (".", "ufs", 0, ""),
        ("/..", "ufs", 0, ""),
        ("/../../usr/./file", "ufs", 0, "usr/file"),
        ("usr/file", "ufs", 0, "usr/file"),
        ("/abs", "ufs", 0, "usr/file"),
        ("/usr/rel", "ufs", 0, "bin/sh"),
        ("/chain", "ufs", 0, "bin/sh"),
        ("/dir/", "ufs", 0, "usr"),
        ("/dir/file", "ufs", 0, "usr/file"),
        ("/tmp", "tmpfs", 0, ""),
        ("/tmp/", "tmpfs", 0, ""),
        ("/tmp/note", "tmpfs", 0, "note"),
        ("/usr/up", "tmpfs", 0, "note"),
        ("/dev/null", "tmpfs", 1, "null"),
        ("/tmp/..", "ufs", 0, ""),
        ("/tmp/../usr/file", "ufs", 0, "usr/file"),
        ("/tmp/../dev/../tmp/note", "tmpfs", 0, "note"),
        ("/proc/self", "procfs", 0, "7"),
    ];
    for (path, server, volume, place) in ok {
        let expected = id(&mut world, server, volume, place);
        assert_eq!(world.look(path, true), expected, "{path}");
    }
    for (path, errno) in [
        ("", ENOENT),
        ("/nothing", ENOENT),
        ("/dangling", ENOENT),
        ("/usr/file/x", ENOTDIR),
        ("/tmp/note/..", ENOTDIR),
        ("/proc/self/x", ENOENT),
    ] {
        assert_eq!(world.look(path, true), Err(errno), "{path}");
    }
}

#[test]
fn the_last_link_is_followed_only_when_asked_or_when_a_slash_follows() {
    let mut world = World::new();
    let (node, usr) = {
        let ufs = world.model("ufs");
        let node = ufs.put(0, "dir", link("usr"), 0o777);
        let Content::Directory(names, _) = &ufs.nodes[&2].content else { panic!() };
        (node, names[&b"usr"[..]])
    };
    let ufs = number("ufs");
    assert_eq!(world.look("/dir", false), Ok((ufs, node)));
    assert_eq!(world.look("/dir", true), Ok((ufs, usr)));
    assert_eq!(world.look("/dir/", false), Ok((ufs, usr)));
    let End::Reply(reply) = world.call(89, [0, 0x1000, 2, 0, 0, 0], &["/dir"]) else { panic!() };
    assert_eq!((reply.result, &reply.outputs[0].bytes[..]), (2, &b"us"[..]));
    assert_eq!(world.result(89, [0, 0x1000, 0, 0, 0, 0], &["/dir"]), -i64::from(EINVAL));
}

#[test]
fn forty_links_are_followed_and_not_one_more() {
    let mut world = World::new();
    let ufs = world.model("ufs");
    ufs.put(0, "l0", link("usr/file"), 0o777);
    for step in 1..=40 {
        ufs.put(0, &format!("l{step}"), link(&format!("l{}", step - 1)), 0o777);
    }
    ufs.put(0, "a", link("b"), 0o777);
    ufs.put(0, "b", link("/a"), 0o777);
    assert!(world.look("/l39", true).is_ok());
    assert_eq!(world.look("/l40", true), Err(ELOOP));
    assert_eq!(world.look("/a", true), Err(ELOOP));
    assert_eq!(world.look("/a/b/c", true), Err(ELOOP));
}

#[test]
fn a_path_that_is_too_long_is_refused_also_when_links_make_it_so() {
    let mut world = World::new();
    let long: String = "./".repeat(2048);
    assert_eq!(world.look(&long, true), Err(ENAMETOOLONG));
    world.model("ufs").put(0, "far", link(&"./".repeat(2000)), 0o777);
    assert_eq!(world.look(&format!("far/{}", "./".repeat(1000)), true), Err(ENAMETOOLONG));
    assert_eq!(world.look(&"x".repeat(256), true), Err(ENAMETOOLONG));
    let target = "t".repeat(4095);
    assert_eq!(world.result(88, [0; 6], &[&target, &"./".repeat(2047)]), -i64::from(ENAMETOOLONG));
}

#[test]
fn nothing_leads_out_of_a_root_directory() {
    let mut world = World::new();
    let ufs = world.model("ufs");
    ufs.put(0, "usr/jump", link("/lib"), 0o777);
    ufs.put(0, "usr/climb", link("../../../lib"), 0o777);
    let lib = world.look("/usr/lib", true);
    let usr = world.look("/usr", true);
    assert_eq!(world.stand(161, "/usr"), 0);
    assert_eq!(world.stand(80, "/"), 0);
    for path in ["/lib", "/../lib", "lib", "../lib", "/lib/../../lib", "/jump", "/climb"] {
        assert_eq!(world.look(path, true), lib, "{path}");
    }
    assert_eq!(world.look("..", true), usr);
    assert_eq!(world.look("/bin", true), Err(ENOENT));
    assert_eq!(world.cwd(), Ok(b"/".to_vec()));
    assert_eq!(world.stand(80, "lib"), 0);
    assert_eq!(world.cwd(), Ok(b"/lib".to_vec()));
}

#[test]
fn a_root_directory_on_a_mounted_volume_holds_at_the_volumes_root_too() {
    let mut world = World::new();
    world.model("tmpfs").put(0, "deep", directory(), 0o755);
    let root = world.look("/tmp", true);
    let deep = world.look("/tmp/deep", true);
    assert_eq!(world.stand(161, "/tmp"), 0);
    assert_eq!(world.look("/..", true), root);
    assert_eq!(world.look("/../deep", true), deep);
    // The working directory is still outside; from there Linux lets it climb.
    assert_eq!(world.cwd(), Ok(b"(unreachable)/".to_vec()));
    assert!(world.look("usr", true).is_ok());
}

#[test]
fn getcwd_tells_the_path_across_mounts_and_fits_the_buffer() {
    let mut world = World::new();
    world.model("tmpfs").put(0, "deep", directory(), 0o755);
    for (path, shown) in
        [("/", "/"), ("/usr/lib", "/usr/lib"), ("/tmp/deep", "/tmp/deep"), ("/dev", "/dev"), ("..", "/")]
    {
        assert_eq!(world.stand(80, path), 0, "{path}");
        assert_eq!(world.cwd(), Ok(shown.as_bytes().to_vec()));
    }
    world.stand(80, "/usr/lib");
    assert_eq!(world.result(79, [0x1000, 8, 0, 0, 0, 0], &[]), -i64::from(ERANGE));
    assert_eq!(world.result(79, [0x1000, 9, 0, 0, 0, 0], &[]), 9);
    assert_eq!(world.result(79, [0x1000, 0, 0, 0, 0, 0], &[]), -i64::from(EINVAL));
}

#[test]
fn only_a_searchable_directory_can_be_stood_in() {
    let mut world = World::new();
    world.model("ufs").put(0, "closed", directory(), 0o700);
    assert_eq!(world.stand(80, "/usr/file"), -i64::from(ENOTDIR));
    assert_eq!(world.stand(80, "/closed"), 0);
    world.caller.uid = 9;
    assert_eq!(world.stand(80, "/closed"), -i64::from(EACCES));
    assert_eq!(world.stand(161, "/usr"), -i64::from(EPERM));
}

#[test]
fn a_descriptor_is_where_the_at_calls_begin() {
    let mut world = World::new();
    let End::Reply(opened) = world.call(2, [0; 6], &["/usr"]) else { panic!() };
    let usr = world.named(opened.install[0]);
    let mut at = |directory: u64, path: &str, flags: u64, named| {
        let arguments = [directory, 0, 0x1000, flags, 0, 0];
        let inputs = vec![Some(path.as_bytes().to_vec())];
        match world.call_with(262, arguments, inputs, [named, Default::default()]) {
            End::Reply(reply) if reply.result == 0 => Ok(reply.outputs[0].bytes[8]),
            End::Reply(reply) => Err(-reply.result as i32),
            other => panic!("{other:?}"),
        }
    };
    let none = Default::default();
    let here = -100i32 as u32 as u64;
    let file = at(5, "file", 0, usr);
    assert!(file.is_ok());
    assert_eq!(at(here, "usr/file", 0, none), file);
    assert_eq!(at(5, "/usr/file", 0, none), file, "an absolute path does not look at the descriptor");
    assert_eq!(at(5, "file", 0, none), Err(EBADF));
    assert_eq!(at(5, "", 0, usr), Err(ENOENT));
    assert_eq!(at(5, "", 0x1000, usr), Ok(usr.object as u8));
    assert_eq!(at(5, "", 0x4, usr), Err(EINVAL));
    let tty = libipc::abi::delivery::Named { server: number("tty").into(), badge: 1, object: 1 };
    assert_eq!(at(5, "x", 0, tty), Err(ENOTDIR));
}

#[test]
fn openat2_holds_a_walk_to_its_limits() {
    let mut world = World::new();
    world.model("ufs").put(0, "abs", link("/usr/file"), 0o777);
    let mut open = |path: &str, resolve: u64, size: u64| {
        let how = [0u64, 0, resolve].iter().flat_map(|word| word.to_le_bytes()).collect();
        let inputs = vec![Some(path.as_bytes().to_vec()), Some(how)];
        let here = -100i32 as u32 as u64;
        match world.call_with(437, [here, 0, 0, size, 0, 0], inputs, Default::default()) {
            End::Reply(reply) => reply.result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(open("/abs", 0, 24), 3);
    assert_eq!(open("/abs", 4, 24), -i64::from(ELOOP));
    assert_eq!(open("/tmp/note", 1, 24), -i64::from(EXDEV));
    assert_eq!(open("/usr/file", 5, 24), 3);
    assert_eq!(open("/usr/file", 8, 24), -i64::from(ENOSYS));
    assert_eq!(open("/usr/file", 0x100, 24), -i64::from(EINVAL));
    assert_eq!(open("/usr/file", 0, 16), -i64::from(EINVAL));
    assert_eq!(open("/usr/file", 0, 32), -i64::from(E2BIG));
}
