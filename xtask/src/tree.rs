//! A file tree for the guest, before it is an image: which path is what, owned by whom, taken from where on the host.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs::{self, Metadata},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

const PERMISSIONS: u32 = 0o7777;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    Link(OsString),
    /// A file, with the host's that it is copied from.
    File(PathBuf),
    /// A device, pipe or socket: kept by makefs when it packs the folder itself, left out of a tree that is staged.
    Special,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Seconds and nanoseconds of the Epoch.
    modified: (i64, i64),
    len: u64,
}

/// Who the nodes taken from the host belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// To the guest's root, with permissions as git keeps them.
    Root,
    /// To the host's numbers.
    Host,
}

/// A file tree, by paths relative to its root.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// A folder made up, with those above it.
    pub fn folder(&mut self, path: &str, mode: u32) {
        let path = relative(Path::new(path));
        self.parents(&path);
        self.insert(path, made_up(Kind::Folder, mode));
    }

    /// A symbolic link made up.
    pub fn link(&mut self, path: &str, target: &str) {
        let path = relative(Path::new(path));
        self.parents(&path);
        self.insert(path, made_up(Kind::Link(target.into()), 0o777));
    }

    /// Takes a file or folder of the host, with all below it, as `guest`.
    pub fn take(&mut self, host: &Path, guest: &Path, owner: Owner) -> Result<()> {
        let metadata = fs::metadata(host).with_context(|| format!("cannot read {}", host.display()))?;
        let guest = relative(guest);
        self.parents(&guest);
        self.take_node(host, guest, &metadata, owner)
    }

    fn take_node(&mut self, host: &Path, guest: PathBuf, metadata: &Metadata, owner: Owner) -> Result<()> {
        let file_type = metadata.file_type();
        let kind = if file_type.is_dir() {
            Kind::Folder
        } else if file_type.is_symlink() {
            Kind::Link(fs::read_link(host)?.into())
        } else if file_type.is_file() {
            Kind::File(fs::canonicalize(host)?)
        } else {
            Kind::Special
        };
        if kind == Kind::Folder {
            let entries = fs::read_dir(host).with_context(|| format!("cannot list {}", host.display()))?;
            for entry in entries {
                let entry = entry?;
                self.take_node(&entry.path(), guest.join(entry.file_name()), &entry.metadata()?, owner)?;
            }
        }
        let (mode, uid, gid) = match owner {
            Owner::Host => (metadata.mode() & PERMISSIONS, metadata.uid(), metadata.gid()),
            Owner::Root if kind == Kind::Folder || metadata.mode() & 0o100 != 0 => (0o755, 0, 0),
            Owner::Root => (0o644, 0, 0),
        };
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        self.insert(guest, Node { kind, mode, uid, gid, modified, len: metadata.len() });
        Ok(())
    }

    fn parents(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            self.nodes.entry(above.to_owned()).or_insert_with(|| made_up(Kind::Folder, 0o755));
        }
    }

    fn insert(&mut self, path: PathBuf, node: Node) {
        self.nodes.insert(path, node);
    }

    /// One line a node with all that an image depends on: equal listings make equal images.
    pub fn listing(&self) -> String {
        let mut listing = String::new();
        for (path, node) in &self.nodes {
            let (seconds, nanoseconds) = node.modified;
            let Node { kind, mode, uid, gid, len, .. } = node;
            // Writing to a string does not fail.
            let _ =
                writeln!(listing, "{path:?} {kind:?} {mode:o} {uid}:{gid} {len} {seconds}.{nanoseconds:09}");
        }
        listing
    }

    /// The tree as an mtree(8) specification, which overrides owners, modes and times of a staged folder.
    pub fn specification(&self) -> String {
        let mut specification = String::new();
        for (path, node) in &self.nodes {
            let kind = match node.kind {
                Kind::Folder => "dir",
                Kind::Link(_) => "link",
                Kind::File(_) => "file",
                Kind::Special => continue,
            };
            let name =
                if path.as_os_str().is_empty() { ".".to_owned() } else { format!("./{}", encoded(path)) };
            let Node { mode, uid, gid, modified: (seconds, nanoseconds), .. } = node;
            let _ = write!(specification, "{name} type={kind} mode={mode:04o} uid={uid} gid={gid}");
            let _ = write!(specification, " time={seconds}.{nanoseconds:09}");
            if let Kind::Link(target) = &node.kind {
                let _ = write!(specification, " link={}", encoded(Path::new(target)));
            }
            specification.push('\n');
        }
        specification
    }

    /// Lays the tree out in the empty folder `stage`: hard links where the host allows, copies elsewhere.
    pub fn stage(&self, stage: &Path) -> Result<()> {
        for (path, node) in &self.nodes {
            let to = stage.join(path);
            let cannot = || format!("cannot stage {}", path.display());
            match &node.kind {
                Kind::Folder if path.as_os_str().is_empty() => {}
                Kind::Folder => fs::create_dir(&to).with_context(cannot)?,
                Kind::Link(target) => symlink(target, &to).with_context(cannot)?,
                Kind::File(from) => fs::hard_link(from, &to)
                    .or_else(|_| fs::copy(from, &to).map(drop))
                    .with_context(|| format!("cannot stage {}", from.display()))?,
                Kind::Special => {}
            }
        }
        Ok(())
    }

    /// Checks that a path that is to hold others is a folder.
    pub fn check(&self) -> Result<()> {
        for path in self.nodes.keys() {
            let above = path.parent().and_then(|above| self.nodes.get(above));
            ensure!(
                above.is_none_or(|above| above.kind == Kind::Folder),
                "/{} is inside what is not a folder",
                path.display()
            );
        }
        Ok(())
    }
}

fn made_up(kind: Kind, mode: u32) -> Node {
    Node { kind, mode, uid: 0, gid: 0, modified: (0, 0), len: 0 }
}

/// The path below the root, without `.` and with `..` going no higher.
fn relative(path: &Path) -> PathBuf {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::ParentDir => drop(relative.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    relative
}

/// A path as mtree(8) wants it: everything unusual as an octal escape.
fn encoded(path: &Path) -> String {
    let mut encoded = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "\\{byte:03o}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(host: &Path) -> Tree {
        fs::create_dir(host.join("sub")).unwrap();
        fs::write(host.join("sub/a b#c"), "text").unwrap();
        symlink("sub", host.join("name")).unwrap();
        let mut tree = Tree::default();
        tree.folder("/tmp", 0o1777);
        tree.link("/bin/sh", "/bin/busybox");
        tree.take(host, Path::new("/home/x"), Owner::Root).unwrap();
        tree
    }

    #[test]
    fn the_specification_names_every_node_with_owner_mode_and_type() {
        let host = tempfile::tempdir().unwrap();
        let specification = sample(host.path()).specification();
        for line in [
            ". type=dir mode=0755 uid=0 gid=0",
            "./tmp type=dir mode=1777 uid=0 gid=0",
            "./bin type=dir mode=0755 uid=0 gid=0",
            r"./home/x/sub/a\040b\043c type=file mode=0644 uid=0 gid=0",
        ] {
            assert!(specification.contains(&format!("{line} ")), "{line} is not in\n{specification}");
        }
        assert!(specification.contains(" link=/bin/busybox\n"));
    }

    #[test]
    fn the_listing_changes_with_contents_and_not_without() {
        let host = tempfile::tempdir().unwrap();
        let before = sample(host.path()).listing();
        let again = |owner| {
            let mut tree = Tree::default();
            tree.folder("/tmp", 0o1777);
            tree.link("/bin/sh", "/bin/busybox");
            tree.take(host.path(), Path::new("/home/x"), owner).unwrap();
            tree.listing()
        };
        assert_eq!(before, again(Owner::Root));
        assert_ne!(before, again(Owner::Host));
        fs::write(host.path().join("sub/a b#c"), "longer text").unwrap();
        assert_ne!(before, again(Owner::Root));
    }

    #[test]
    fn a_staged_tree_has_files_links_and_folders() {
        let host = tempfile::tempdir().unwrap();
        let tree = sample(host.path());
        let stage = tempfile::tempdir().unwrap();
        tree.stage(stage.path()).unwrap();
        assert_eq!(fs::read_to_string(stage.path().join("home/x/name/a b#c")).unwrap(), "text");
        assert_eq!(fs::read_link(stage.path().join("bin/sh")).unwrap(), Path::new("/bin/busybox"));
    }

    #[test]
    fn a_path_below_a_file_is_refused() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("f"), "").unwrap();
        let mut tree = Tree::default();
        tree.take(&host.path().join("f"), Path::new("/f"), Owner::Host).unwrap();
        tree.check().unwrap();
        tree.folder("/f/g", 0o755);
        assert!(tree.check().unwrap_err().to_string().contains("f/g"));
    }

    #[test]
    fn guest_paths_stay_below_the_root() {
        assert_eq!(relative(Path::new("/a/./b/../c")), Path::new("a/c"));
        assert_eq!(relative(Path::new("/../../etc")), Path::new("etc"));
    }
}
