//! Random file operations against a naive model: a map from names to vectors of bytes.

use std::collections::BTreeMap;

use super::world::World;
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::{Found, Operation};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SIZE_MAX: u64 = 60_000;

#[derive(Clone, Debug)]
enum Act {
    Open {
        name: usize,
        flags: u32,
    },
    Close(usize),
    Write {
        file: usize,
        length: u64,
    },
    WriteAt {
        file: usize,
        offset: u64,
        length: u64,
    },
    Read {
        file: usize,
        length: u64,
    },
    ReadAt {
        file: usize,
        offset: u64,
        length: u64,
    },
    Seek {
        file: usize,
        offset: u64,
    },
    Truncate {
        file: usize,
        size: u64,
    },
    Punch {
        file: usize,
        offset: u64,
        length: u64,
    },
    Allocate {
        file: usize,
        offset: u64,
        length: u64,
    },
    Unlink(usize),
    Rename {
        from: usize,
        to: usize,
    },
    Link {
        from: usize,
        to: usize,
    },
    /// The next page that is looked at is missing.
    Miss,
}

fn act() -> impl Strategy<Value = Act> {
    let name = || 0..NAMES.len();
    let file = || 0..6usize;
    let offset = || prop_oneof![0..SIZE_MAX, (0..14u64).prop_map(|page| page * 4096)];
    let length = || prop_oneof![0..100u64, 0..20_000u64, Just(4096u64)];
    let flags = prop_oneof![
        Just(O_CREAT),
        Just(O_CREAT | O_TRUNC),
        Just(O_CREAT | O_APPEND),
        Just(O_CREAT | O_EXCL),
        Just(0)
    ];
    prop_oneof![
        4 => (name(), flags).prop_map(|(name, flags)| Act::Open { name, flags: flags | O_RDWR }),
        1 => file().prop_map(Act::Close),
        3 => (file(), length()).prop_map(|(file, length)| Act::Write { file, length }),
        3 => (file(), offset(), length()).prop_map(|(file, offset, length)| Act::WriteAt { file, offset, length }),
        2 => (file(), length()).prop_map(|(file, length)| Act::Read { file, length }),
        3 => (file(), offset(), length()).prop_map(|(file, offset, length)| Act::ReadAt { file, offset, length }),
        1 => (file(), offset()).prop_map(|(file, offset)| Act::Seek { file, offset }),
        2 => (file(), offset()).prop_map(|(file, size)| Act::Truncate { file, size }),
        1 => (file(), offset(), length()).prop_map(|(file, offset, length)| Act::Punch { file, offset, length }),
        1 => (file(), offset(), length()).prop_map(|(file, offset, length)| Act::Allocate { file, offset, length }),
        1 => name().prop_map(Act::Unlink),
        1 => (name(), name()).prop_map(|(from, to)| Act::Rename { from, to }),
        1 => (name(), name()).prop_map(|(from, to)| Act::Link { from, to }),
        1 => Just(Act::Miss),
    ]
}

/// An open file of the model.
struct Open {
    badge: u64,
    node: usize,
    position: u64,
    appends: bool,
}

#[derive(Default)]
struct Model {
    names: BTreeMap<usize, usize>,
    nodes: Vec<Vec<u8>>,
    opens: Vec<Open>,
    fill: u8,
}

impl Model {
    fn bytes(&mut self, length: u64) -> Vec<u8> {
        self.fill = self.fill.wrapping_add(1).max(1);
        vec![self.fill; length as usize]
    }

    fn write(&mut self, node: usize, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let file = &mut self.nodes[node];
        let end = offset as usize + bytes.len();
        file.resize(file.len().max(end), 0);
        file[offset as usize..end].copy_from_slice(bytes);
    }

    fn read(&self, node: usize, offset: u64, length: u64) -> Vec<u8> {
        self.nodes[node].iter().skip(offset as usize).take(length as usize).copied().collect()
    }

    fn links(&self, node: usize) -> u64 {
        self.names.values().filter(|named| **named == node).count() as u64
    }
}

struct Trial {
    world: World,
    model: Model,
}

impl Trial {
    fn act(&mut self, act: &Act) {
        match *act {
            Act::Open { name, flags } => self.open(name, flags),
            Act::Unlink(name) => {
                let result = self.world.request(NAMES[name], Operation::Unlink);
                assert_eq!(result.is_ok(), self.model.names.remove(&name).is_some());
            }
            Act::Rename { from, to } => self.rename(from, to),
            Act::Link { from, to } => self.link(from, to),
            Act::Miss => self.world.script.miss_next = true,
            Act::Close(file) if file < self.model.opens.len() => {
                let open = self.model.opens.remove(file);
                self.world.close(open.badge);
            }
            Act::Write { file, .. }
            | Act::WriteAt { file, .. }
            | Act::Read { file, .. }
            | Act::ReadAt { file, .. }
            | Act::Seek { file, .. }
            | Act::Truncate { file, .. }
            | Act::Punch { file, .. }
            | Act::Allocate { file, .. }
                if file < self.model.opens.len() =>
            {
                self.act_on(file, act);
            }
            _ => {}
        }
    }

    fn open(&mut self, name: usize, flags: u32) {
        if self.model.opens.len() >= 6 {
            return;
        }
        let exists = self.model.names.get(&name).copied();
        let expected = match exists {
            Some(_) if flags & O_EXCL != 0 => Err(EEXIST),
            None if flags & O_CREAT == 0 => Err(ENOENT),
            _ => Ok(()),
        };
        let opened = self.world.open(NAMES[name], flags);
        assert_eq!(opened.map(|_| ()), expected);
        let Ok(badge) = opened else { return };
        let node = exists.unwrap_or_else(|| {
            self.model.nodes.push(Vec::new());
            self.model.names.insert(name, self.model.nodes.len() - 1);
            self.model.nodes.len() - 1
        });
        if flags & O_TRUNC != 0 {
            self.model.nodes[node].clear();
        }
        self.model.opens.push(Open { badge, node, position: 0, appends: flags & O_APPEND != 0 });
    }

    fn rename(&mut self, from: usize, to: usize) {
        let found = self.world.request(NAMES[from], Operation::Parent).expect("the root is there");
        let Found::Parent { directory, name } = found else { panic!("a parent") };
        let result = self.world.request(NAMES[to], Operation::Rename { directory, name, flags: 0 });
        let node = self.model.names.get(&from).copied();
        assert_eq!(result.is_ok(), node.is_some());
        let Some(node) = node else { return };
        if self.model.names.get(&to) != Some(&node) {
            self.model.names.remove(&from);
            self.model.names.insert(to, node);
        }
    }

    fn link(&mut self, from: usize, to: usize) {
        let Ok(stat) = self.world.stat(NAMES[from]) else { return };
        let result = self.world.request(NAMES[to], Operation::Link { node: stat.ino });
        assert_eq!(result.is_ok(), !self.model.names.contains_key(&to));
        if result.is_ok() {
            let node = self.model.names[&from];
            self.model.names.insert(to, node);
        }
    }

    fn act_on(&mut self, file: usize, act: &Act) {
        let Open { badge, node, position, appends } = self.model.opens[file];
        let size = self.model.nodes[node].len() as u64;
        match *act {
            Act::Write { length, .. } => {
                let bytes = self.model.bytes(length);
                let offset = if appends { size } else { position };
                assert_eq!(self.world.write(badge, &bytes), length as i64);
                self.model.write(node, offset, &bytes);
                if length > 0 {
                    self.model.opens[file].position = offset + length;
                }
            }
            Act::WriteAt { offset, length, .. } => {
                let bytes = self.model.bytes(length);
                let offset = if appends { size } else { offset };
                assert_eq!(self.world.write_at(badge, &bytes, offset), length as i64);
                self.model.write(node, offset, &bytes);
            }
            Act::Read { length, .. } => {
                let expected = self.model.read(node, position, length);
                self.model.opens[file].position += expected.len() as u64;
                assert_eq!(self.world.read(badge, length), Ok(expected));
            }
            Act::ReadAt { offset, length, .. } => {
                assert_eq!(
                    self.world.read_at(badge, length, offset),
                    Ok(self.model.read(node, offset, length))
                );
            }
            Act::Seek { offset, .. } => {
                assert_eq!(self.world.linux(badge, 8, [3, offset, 0, 0, 0, 0]), offset as i64);
                self.model.opens[file].position = offset;
            }
            Act::Truncate { size, .. } => {
                assert_eq!(self.world.linux(badge, 77, [3, size, 0, 0, 0, 0]), 0);
                self.model.nodes[node].resize(size as usize, 0);
            }
            Act::Punch { offset, length, .. } if length > 0 => {
                assert_eq!(self.world.linux(badge, 285, [3, 3, offset, length, 0, 0]), 0);
                let bytes = self.model.nodes[node].iter_mut();
                bytes.skip(offset as usize).take(length as usize).for_each(|byte| *byte = 0);
            }
            Act::Allocate { offset, length, .. } if length > 0 => {
                assert_eq!(self.world.linux(badge, 285, [3, 0, offset, length, 0, 0]), 0);
                self.model.nodes[node].resize(size.max(offset + length) as usize, 0);
            }
            _ => {}
        }
    }

    /// Everything that can be seen is as the model says.
    fn compare(&mut self) {
        for (name, node) in self.model.names.clone() {
            let stat = self.world.stat(NAMES[name]).expect("the name is there");
            let expected = (self.model.nodes[node].len() as u64, self.model.links(node));
            assert_eq!((stat.size, stat.nlink), expected, "{}", NAMES[name]);
        }
        for Open { badge, node, .. } in &self.model.opens {
            let expected = &self.model.nodes[*node];
            assert_eq!(self.world.read_at(*badge, expected.len() as u64 + 1, 0).as_ref(), Ok(expected));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn files_behave_like_vectors_of_bytes(acts in prop::collection::vec(act(), 1..60)) {
        let mut trial = Trial { world: World::sized(4 << 20), model: Model::default() };
        let free = trial.world.free_pages();
        for act in &acts {
            trial.act(act);
        }
        trial.compare();
        for name in NAMES {
            let _ = trial.world.request(name, Operation::Unlink);
        }
        for open in std::mem::take(&mut trial.model.opens) {
            trial.world.close(open.badge);
        }
        assert_eq!(trial.world.free_pages(), free, "pages are lost");
        assert!(trial.world.server.opens.is_empty());
    }
}
