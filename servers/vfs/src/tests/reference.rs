//! Random paths against a reference: resolution over one tree of plain strings, as a reader of path_resolution(7)
//! would write it down.

use alloc::{borrow::ToOwned, format, string::String, vec, vec::Vec};

use libipc::linux::errno::*;
use proptest::prelude::*;

use super::model::Content;
use super::world::World;

const DIRECTORIES: [&str; 8] = ["/", "/bin", "/tmp", "/dev", "/proc", "/proc/7", "/usr", "/usr/lib"];
const FILES: [&str; 4] = ["/bin/sh", "/usr/file", "/tmp/note", "/dev/null"];
const LINKS: [(&str, &str); 6] = [
    ("/dir", "usr/"),
    ("/usr/up", "../tmp"),
    ("/usr/lib/abs", "/usr/lib/.."),
    ("/tmp/out", "../dir/up/.."),
    ("/loop", "/loop"),
    ("/proc/self", "7"),
];
const NAMES: [&str; 19] = [
    "usr", "lib", "file", "tmp", "note", "dev", "null", "bin", "sh", "proc", "7", "self", "dir", "up", "abs",
    "out", "loop", "..", ".",
];

fn child(at: &str, name: &str) -> String {
    if at == "/" { format!("/{name}") } else { format!("{at}/{name}") }
}

fn resolve(root: &str, path: &str) -> Result<String, i32> {
    let mut at = root.to_owned();
    let mut left: Vec<String> = path.split('/').rev().map(ToOwned::to_owned).collect();
    let mut links = 0;
    while let Some(name) = left.pop() {
        if !DIRECTORIES.contains(&at.as_str()) {
            return Err(ENOTDIR);
        }
        match name.as_str() {
            "" | "." => continue,
            ".." if at == root || at == "/" => continue,
            ".." => {
                at.truncate(at.rfind('/').unwrap().max(1));
                continue;
            }
            _ => {}
        }
        let next = child(&at, &name);
        if let Some((_, target)) = LINKS.iter().find(|(link, _)| *link == next) {
            links += 1;
            if links > 40 {
                return Err(ELOOP);
            }
            if target.starts_with('/') {
                at = root.to_owned();
            }
            left.extend(target.split('/').rev().map(ToOwned::to_owned));
        } else if DIRECTORIES.contains(&next.as_str()) || FILES.contains(&next.as_str()) {
            at = next;
        } else {
            return Err(ENOENT);
        }
    }
    Ok(at)
}

fn world() -> World {
    let mut world = World::new();
    for (link, target) in LINKS.iter().filter(|(link, _)| *link != "/proc/self") {
        let content = Content::Link(target.as_bytes().to_vec());
        match link.strip_prefix("/tmp/") {
            Some(name) => world.model("tmpfs").put(0, name, content, 0o777),
            None => world.model("ufs").put(0, &link[1..], content, 0o777),
        };
    }
    world
}

proptest! {
    #[test]
    fn every_path_leads_where_the_reference_leads(
        names in prop::collection::vec(prop::sample::select(NAMES.to_vec()), 0..12),
        slash in any::<bool>(),
        root in prop::sample::select(vec!["/", "/usr", "/tmp"]),
    ) {
        let mut path = format!("/{}", names.join("/"));
        if slash {
            path.push('/');
        }
        let expected = resolve(root, &path);
        let mut world = world();
        let place = expected.map(|canonical| world.look(&canonical, true).unwrap());
        prop_assert_eq!(world.stand(161, root), 0);
        prop_assert_eq!(world.look(&path, true), place, "{} in {}", path, root);
    }
}
