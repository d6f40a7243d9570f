//! What a walk does by itself; where it leads across servers is tested with the model file servers.

use alloc::vec::Vec;

use libipc::proto::fs::From;
use proptest::prelude::*;

use super::*;

fn walk(path: &[u8]) -> Walk {
    let mut walk = Walk::new(Place::node(1, 5), path, true, Aim::Do(Operation::Stat));
    walk.trail = Some(b"/a/b".to_vec());
    walk
}

fn who() -> Who {
    Who::system(Place::volume(1, 0))
}

fn link(walk: &mut Walk, target: &[u8], rest: &[u8]) -> Result<(), i32> {
    let stop = Stop::Symlink { directory: 9, target: target.to_vec(), rest: rest.to_vec() };
    walk.resume(&stop, &who(), &MountTable::default())
}

#[test]
fn a_link_is_replaced_by_its_target() {
    let mut relative = walk(b"d/l/x/");
    assert_eq!(link(&mut relative, b"t/u", b"x/"), Ok(()));
    assert_eq!((relative.at, &relative.path[..]), (Place::node(1, 9), &b"t/u/x/"[..]));
    assert_eq!(relative.full_path(), Some(b"/a/b/d/t/u/x".to_vec()));
    let mut absolute = walk(b"d/l");
    assert_eq!(link(&mut absolute, b"//t", b""), Ok(()));
    assert_eq!((absolute.at.from, &absolute.path[..]), (From::Root(0), &b"t"[..]));
    assert_eq!(absolute.full_path(), Some(b"/t".to_vec()));
    assert_eq!(link(&mut walk(b"l"), b"", b""), Err(ENOENT));
}

#[test]
fn a_trailing_slash_is_kept_even_when_the_server_drops_it() {
    let mut last = walk(b"l//");
    assert_eq!(link(&mut last, b"t", b""), Ok(()));
    assert_eq!(last.path, b"t/");
    let mut before = walk(b"l/x/");
    assert_eq!(link(&mut before, b"t", b"x"), Ok(()));
    assert_eq!(before.path, b"t/x/");
}

#[test]
fn a_server_that_stops_for_ever_is_given_up() {
    let mut walk = walk(b"x");
    let mut mounts = MountTable::default();
    mounts.add(crate::mounts::Mount {
        at: b"/".to_vec(),
        source: Vec::new(),
        kind: "ufs".into(),
        read_only: false,
        server: 1,
        volume: 0,
        root: 2,
        covered: None,
    });
    let stop = Stop::Above { volume: 0, rest: b"x".to_vec() };
    let ends = (0..1000).find_map(|_| walk.resume(&stop, &who(), &mounts).err());
    assert_eq!(ends, Some(ELOOP));
    let unknown = Stop::Covered { node: 77, rest: Vec::new() };
    assert_eq!(self::walk(b"x").resume(&unknown, &who(), &mounts), Err(EIO));
    let unknown = Stop::Above { volume: 3, rest: Vec::new() };
    assert_eq!(self::walk(b"x").resume(&unknown, &who(), &mounts), Err(EIO));
}

#[test]
fn absolute_paths_join_without_dots() {
    assert_eq!(join_absolute(b"/", b""), b"/");
    assert_eq!(join_absolute(b"/tmp", b""), b"/tmp");
    assert_eq!(join_absolute(b"/", b"a/./b//c"), b"/a/b/c");
    assert_eq!(join_absolute(b"/tmp", b"a/../../.."), b"/");
}

proptest! {
    /// A rest that is no rest, a target of any kind: whatever a server answers, a walk goes on soundly or ends.
    #[test]
    fn a_walk_survives_any_answer(
        path in prop::collection::vec(prop::sample::select(b"ab./".to_vec()), 0..20),
        target in prop::collection::vec(prop::sample::select(b"ab./".to_vec()), 0..20),
        rest in prop::collection::vec(prop::sample::select(b"ab./".to_vec()), 0..20),
    ) {
        let mut walk = walk(&path);
        if link(&mut walk, &target, &rest).is_ok() {
            prop_assert!(!walk.path.starts_with(b"/"));
            if let Some(full) = walk.full_path() {
                prop_assert!(full.starts_with(b"/") && (full == b"/" || !full.ends_with(b"/")));
            }
        }
    }
}
