//! Tests of tree.

use super::*;
use crate::names::Author;
use libipc::linux::mode::{S_IFDIR, S_IFREG};
use libipc::proto::fs::From;

const ROOT: Credentials = Credentials { uid: 0, gid: 0, umask: 0, groups: Vec::new() };
const USER: Credentials = Credentials { uid: 5, gid: 5, umask: 0, groups: Vec::new() };

/// `a/b/c` are directories, `a/f` a file, `a/l` a link to `b`.
struct House {
    tree: Tree,
    root: Ino,
    a: Ino,
    b: Ino,
    c: Ino,
}

fn make(tree: &mut Tree, directory: Ino, name: &[u8], mode: u32, body: Body) -> Ino {
    let author = Author { who: &ROOT, now_ns: 0, covers: &[] };
    let target = Target { directory: Some(directory), name, node: None, slash: false };
    tree.create(&target, author, mode, body).expect("a free name")
}

fn house() -> House {
    let mut tree = Tree::new(100);
    let root = tree.root(0, 0).expect("a volume");
    let directory = |tree: &mut Tree, parent, name: &[u8], permissions| {
        make(tree, parent, name, S_IFDIR | permissions, Body::Directory(Directory::new(parent)))
    };
    let a = directory(&mut tree, root, b"a", 0o755);
    let b = directory(&mut tree, a, b"b", 0o700);
    let c = directory(&mut tree, b, b"c", 0o755);
    make(&mut tree, a, b"f", S_IFREG | 0o644, Body::File(Default::default()));
    make(&mut tree, a, b"l", 0, Body::Symlink(b"b".to_vec()));
    House { tree, root, a, b, c }
}

fn request(path: &[u8], who: &Credentials) -> Request {
    Request {
        from: From::Root(0),
        path: path.to_vec(),
        barrier: None,
        covers: Vec::new(),
        follow: true,
        credentials: who.clone(),
        operation: Operation::Stat,
        program: None,
    }
}

impl House {
    fn node(&self, start: Ino, path: &[u8]) -> Result<Option<Ino>, i32> {
        let request = request(path, &ROOT);
        let walk = self.tree.walk(start, &request)?;
        match walk {
            Walk::At(target) => Ok(target.node),
            Walk::Stopped(stop) => panic!("{stop:?}"),
        }
    }

    fn stop(&self, start: Ino, request: &Request) -> Stop {
        match self.tree.walk(start, request) {
            Ok(Walk::Stopped(stop)) => stop,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn dots_and_repeated_slashes_lead_where_they_should() {
    let house = house();
    assert_eq!(house.node(house.root, b"a//./b/c/../"), Ok(Some(house.b)));
    assert_eq!(house.node(house.b, b".."), Ok(Some(house.a)));
    assert_eq!(house.node(house.a, b""), Ok(Some(house.a)));
}

#[test]
fn a_missing_last_component_is_no_error_of_the_walk_but_one_on_the_way_is() {
    let house = house();
    assert_eq!(house.node(house.root, b"a/none"), Ok(None));
    assert_eq!(house.node(house.root, b"none/b"), Err(ENOENT));
    assert_eq!(house.node(house.root, b"a/f/x"), Err(ENOTDIR));
    assert_eq!(house.node(house.root, b"a/f/"), Err(ENOTDIR));
    let long = [b'x'; 256];
    assert_eq!(house.node(house.root, &long), Err(ENAMETOOLONG));
    assert_eq!(house.node(house.root, &long[1..]), Ok(None));
}

#[test]
fn directories_are_searched_only_with_permission() {
    let house = house();
    assert_eq!(house.tree.walk(house.root, &request(b"a/b/c", &USER)), Err(EACCES));
    assert!(matches!(house.tree.walk(house.root, &request(b"a/b", &USER)), Ok(Walk::At(_))));
}

#[test]
fn a_link_stops_the_walk_with_what_follows_it() {
    let house = house();
    let stop = |rest: &[u8]| Stop::Symlink { directory: house.a, target: b"b".to_vec(), rest: rest.to_vec() };
    assert_eq!(house.stop(house.root, &request(b"a/l/c/x", &ROOT)), stop(b"c/x"));
    assert_eq!(house.stop(house.root, &request(b"a/l", &ROOT)), stop(b""));
    let nofollow = |path| Request { follow: false, ..request(path, &ROOT) };
    assert!(matches!(house.tree.walk(house.root, &nofollow(b"a/l")), Ok(Walk::At(_))));
    assert_eq!(house.stop(house.root, &nofollow(b"a/l/")), stop(b""));
}

#[test]
fn a_covered_directory_stops_the_walk_unless_it_is_where_the_walk_begins() {
    let house = house();
    let covered = |path| Request { covers: vec![house.b], ..request(path, &ROOT) };
    let stop = |rest: &[u8]| Stop::Covered { node: house.b, rest: rest.to_vec() };
    assert_eq!(house.stop(house.root, &covered(b"a/b/c")), stop(b"c"));
    assert_eq!(house.stop(house.root, &covered(b"a/b")), stop(b""));
    assert_eq!(house.stop(house.c, &covered(b"..")), stop(b""));
    assert!(matches!(house.tree.walk(house.b, &covered(b"c")), Ok(Walk::At(_))));
    let removal = Request { operation: Operation::RemoveDirectory, ..covered(b"a/b") };
    assert!(matches!(house.tree.walk(house.root, &removal), Ok(Walk::At(_))));
}

#[test]
fn the_root_of_a_volume_leads_above_and_the_callers_root_does_not() {
    let house = house();
    let stop = Stop::Above { volume: 0, rest: b"x/y".to_vec() };
    assert_eq!(house.stop(house.a, &request(b"../../x/y", &ROOT)), stop);
    let behind = Request { barrier: Some(house.a), ..request(b"../../b", &ROOT) };
    let Ok(Walk::At(target)) = house.tree.walk(house.b, &behind) else { panic!("a target") };
    assert_eq!(target.node, Some(house.b));
}

#[test]
fn a_path_is_told_from_the_root_and_not_for_what_has_no_name() {
    let mut house = house();
    assert_eq!(house.tree.path_of(house.c), Ok(b"a/b/c".to_vec()));
    assert_eq!(house.tree.path_of(house.root), Ok(Vec::new()));
    let author = Author { who: &ROOT, now_ns: 0, covers: &[] };
    house.tree.get_mut(house.c).expect("c").opens = 1;
    let target = Target { directory: Some(house.b), name: b"c", node: Some(house.c), slash: false };
    let mut arena = Arena::new(1 << 20);
    assert_eq!(house.tree.remove_directory(&target, author, &mut arena), Ok(()));
    assert_eq!(house.tree.path_of(house.c), Err(ENOENT));
}

#[test]
fn volumes_are_made_when_they_are_named_and_there_are_not_endlessly_many() {
    let mut tree = Tree::new(1000);
    let (zero, two) = (tree.root(0, 0), tree.root(2, 0));
    assert!(zero.is_ok() && two.is_ok() && zero != two);
    assert_eq!(tree.root(2, 9), two);
    assert_eq!(tree.root(VOLUMES_MAX, 0), Err(ENOENT));
    let mut small = Tree::new(1);
    assert!(small.root(0, 0).is_ok());
    assert_eq!(small.root(1, 0), Err(ENOSPC));
}
