//! Facts that were found out lately, within a limit.
//!
//! Facts are kept in two generations. One that is used moves to the young generation; when that is full it becomes
//! the old one, and what was not used since goes. So remembering costs a map's insertion, and nothing is sorted by
//! use.

use alloc::collections::BTreeMap;
use core::mem;

/// Facts by key. What is remembered never changes, so a fact that is dropped is only found out again.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: BTreeMap<K, V>,
    old: BTreeMap<K, V>,
    /// Most facts in a generation.
    most: u32,
}

impl<K: Ord + Copy, V> Recent<K, V> {
    /// Nothing yet, and later up to twice `most` facts.
    pub fn new(most: u32) -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), most }
    }

    /// What `read` makes of the fact, if it is remembered.
    pub fn get<R>(&mut self, key: K, read: impl Fn(&V) -> R) -> Option<R> {
        if let Some(fact) = self.young.get(&key) {
            return Some(read(fact));
        }
        let fact = self.old.remove(&key)?;
        let result = read(&fact);
        self.insert(key, fact);
        Some(result)
    }

    /// Remembers a fact.
    pub fn insert(&mut self, key: K, fact: V) {
        if self.young.len() as u64 >= u64::from(self.most) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut recent = Recent::new(4);
        recent.insert(0, "used");
        recent.insert(1, "unused");
        for key in 2..100 {
            recent.insert(key, "");
            assert_eq!(recent.get(0, |fact| *fact), Some("used"));
        }
        assert_eq!(recent.get(1, |fact| *fact), None);
        assert!(recent.young.len() + recent.old.len() <= 8);
    }
}
