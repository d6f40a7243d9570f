//! A map for things that are numbered one after the other: open files, inodes, pipes.
//!
//! It is a tree of sixteen branches at each level that is as high as its highest number needs: finding a thing takes a
//! few steps and no comparisons. Numbers that lie together share their branches, and what the tree looks like follows
//! from what is in it, not from how it came there.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::slice;

/// What things can be numbered by.
pub trait Number: Copy {
    /// As a number.
    fn number(self) -> u64;
}

impl Number for u64 {
    #[inline]
    fn number(self) -> u64 {
        self
    }
}

impl Number for u32 {
    #[inline]
    fn number(self) -> u64 {
        self.into()
    }
}

/// Bits of a number that each level decides by.
const BITS: u32 = 4;
const BRANCHES: usize = 1 << BITS;

#[derive(Clone, Debug)]
enum Tree<K, V> {
    Empty,
    Thing(Box<(K, V)>),
    Branch(Box<[Tree<K, V>; BRANCHES]>),
}

/// Things by number, in order.
#[derive(Clone, Debug)]
pub struct Numbered<K, V> {
    root: Tree<K, V>,
    /// Levels of branches.
    levels: u32,
    /// The highest number that can be in a tree of so many levels.
    highest: u64,
    count: usize,
}

fn branch<K, V>() -> Box<[Tree<K, V>; BRANCHES]> {
    Box::new([const { Tree::Empty }; BRANCHES])
}

fn digit(number: u64, level: u32) -> usize {
    (number >> (BITS * level)) as usize % BRANCHES
}

impl<K: Number, V> Numbered<K, V> {
    /// An empty map.
    pub const fn new() -> Numbered<K, V> {
        Numbered { root: Tree::Empty, levels: 0, highest: 0, count: 0 }
    }

    /// How many things there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the tree is high enough for a number.
    #[inline]
    fn reaches(&self, number: u64) -> bool {
        number <= self.highest
    }

    fn set_levels(&mut self, levels: u32) {
        self.levels = levels;
        self.highest = 1u64.checked_shl(BITS * levels).map_or(u64::MAX, |beyond| beyond - 1);
    }

    /// The thing with this number.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        let number = key.number();
        if !self.reaches(number) {
            return None;
        }
        let (mut tree, mut level) = (&self.root, self.levels);
        loop {
            match tree {
                Tree::Empty => return None,
                Tree::Thing(thing) => return Some(&thing.1),
                Tree::Branch(branches) => {
                    level -= 1;
                    tree = &branches[digit(number, level)];
                }
            }
        }
    }

    /// The thing with this number, to be changed.
    #[inline]
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let number = key.number();
        if !self.reaches(number) {
            return None;
        }
        let (mut tree, mut level) = (&mut self.root, self.levels);
        loop {
            match tree {
                Tree::Empty => return None,
                Tree::Thing(thing) => return Some(&mut thing.1),
                Tree::Branch(branches) => {
                    level -= 1;
                    tree = &mut branches[digit(number, level)];
                }
            }
        }
    }

    /// Puts a thing in, and takes out the one that had its number.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let number = key.number();
        while !self.reaches(number) || self.levels == 0 {
            let lower = core::mem::replace(&mut self.root, Tree::Empty);
            if !matches!(lower, Tree::Empty) {
                let mut higher = branch();
                higher[0] = lower;
                self.root = Tree::Branch(higher);
            }
            self.set_levels(self.levels + 1);
        }
        let mut tree = &mut self.root;
        for level in (0..self.levels).rev() {
            if matches!(tree, Tree::Empty) {
                *tree = Tree::Branch(branch());
            }
            let Tree::Branch(branches) = tree else { unreachable!("things are at the lowest level alone") };
            tree = &mut branches[digit(number, level)];
        }
        match core::mem::replace(tree, Tree::Thing(Box::new((key, value)))) {
            Tree::Thing(old) => Some(old.1),
            _ => {
                self.count += 1;
                None
            }
        }
    }

    /// Takes a thing out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let number = key.number();
        if !self.reaches(number) {
            return None;
        }
        let gone = take_out(&mut self.root, number, self.levels)?;
        self.count -= 1;
        self.lower();
        Some(gone)
    }

    /// Takes the levels away that the numbers that are left do not need.
    fn lower(&mut self) {
        if matches!(self.root, Tree::Empty) {
            self.set_levels(0);
        }
        while self.levels > 1
            && let Tree::Branch(branches) = &mut self.root
            && branches[1..].iter().all(|tree| matches!(tree, Tree::Empty))
        {
            self.root = core::mem::replace(&mut branches[0], Tree::Empty);
            self.set_levels(self.levels - 1);
        }
    }

    /// All things, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        Iter { levels: Vec::from([slice::from_ref(&self.root).iter()]) }
    }

    /// The things whose numbers are no lower than this one, in order.
    pub fn from(&self, key: K) -> impl Iterator<Item = (&K, &V)> {
        let number = key.number();
        let mut levels = Vec::new();
        let mut tree = if self.reaches(number) { &self.root } else { &Tree::Empty };
        for level in (0..self.levels).rev() {
            let Tree::Branch(branches) = tree else { break };
            let digit = digit(number, level);
            levels.push(branches[digit + 1..].iter());
            tree = &branches[digit];
        }
        levels.push(slice::from_ref(tree).iter());
        Iter { levels }
    }
}

/// Takes a thing out of a tree, and the branches that are empty then.
fn take_out<K, V>(tree: &mut Tree<K, V>, number: u64, level: u32) -> Option<V> {
    match tree {
        Tree::Empty => None,
        Tree::Thing(_) => match core::mem::replace(tree, Tree::Empty) {
            Tree::Thing(thing) => Some(thing.1),
            _ => None,
        },
        Tree::Branch(branches) => {
            let gone = take_out(&mut branches[digit(number, level - 1)], number, level - 1);
            if gone.is_some() && branches.iter().all(|tree| matches!(tree, Tree::Empty)) {
                *tree = Tree::Empty;
            }
            gone
        }
    }
}

impl<K: Number, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// What is still to come at each level.
struct Iter<'a, K, V> {
    levels: Vec<slice::Iter<'a, Tree<K, V>>>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.levels.last_mut()?.next() {
                None => {
                    self.levels.pop();
                }
                Some(Tree::Empty) => {}
                Some(Tree::Thing(thing)) => return Some((&thing.0, &thing.1)),
                Some(Tree::Branch(branches)) => self.levels.push(branches.iter()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Put(u64, u8),
        Remove(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let number = prop_oneof![4 => 0..80u64, 2 => 250..270u64, 1 => any::<u64>(), 1 => Just(u64::MAX)];
        prop_oneof![
            (number.clone(), any::<u8>()).prop_map(|(number, value)| Act::Put(number, value)),
            number.prop_map(Act::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_is_the_map_that_it_stands_for(acts in prop::collection::vec(act(), 0..300)) {
            let (mut tree, mut map) = (Numbered::<u64, u8>::new(), BTreeMap::new());
            for act in acts {
                match act {
                    Act::Put(number, value) => {
                        prop_assert_eq!(tree.insert(number, value), map.insert(number, value));
                        *tree.get_mut(&number).unwrap() ^= 1;
                        *map.get_mut(&number).unwrap() ^= 1;
                    }
                    Act::Remove(number) => prop_assert_eq!(tree.remove(&number), map.remove(&number)),
                }
                prop_assert_eq!(tree.len(), map.len());
                prop_assert!(tree.iter().eq(map.iter()));
                prop_assert!((0..300).all(|number| tree.get(&number) == map.get(&number)));
                for from in [0, 7, 64, 255, 256, 269, 1 << 40, u64::MAX] {
                    prop_assert!(tree.from(from).eq(map.range(from..)));
                }
                let highest = map.keys().next_back().copied().unwrap_or(0);
                let needed = (64 - highest.leading_zeros()).div_ceil(BITS).max(u32::from(!map.is_empty()));
                prop_assert_eq!(tree.levels, needed, "as high as its highest number needs");
            }
        }
    }
}
