//! A table whose keys are no small numbers: calls that wait, names.
//!
//! It is to a snapshot what [`super::Rows`] is, but finds things by comparing keys, and its rows are put in and taken
//! out as a whole.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::any::Any;
use core::mem::take;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rows::{Sink, Table, give_changes, take_changes};

/// Rows by key, in order.
#[derive(Clone, Debug)]
pub struct Listed<K, V> {
    rows: BTreeMap<K, V>,
    /// The keys of all rows that the last snapshot does not have as they are, or still has; and whether it has one.
    changed: BTreeMap<K, bool>,
    /// The rest of the state is being saved without it.
    aside: bool,
}

impl<K: Copy + Ord, V> Listed<K, V> {
    /// An empty table.
    pub const fn new() -> Listed<K, V> {
        Listed { rows: BTreeMap::new(), changed: BTreeMap::new(), aside: false }
    }

    /// A row.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// Whether there is a row.
    pub fn contains_key(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// Puts a row in, and takes out the one that had its key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.rows.insert(key, value);
        self.changed.entry(key).or_insert(old.is_some());
        old
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.rows.remove(key)?;
        match self.changed.entry(*key) {
            Entry::Vacant(entry) => {
                entry.insert(true);
            }
            // What came and went since then is not worth a word.
            Entry::Occupied(entry) if !entry.get() => {
                entry.remove();
            }
            Entry::Occupied(_) => {}
        }
        Some(old)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }
}

impl<K: Copy + Ord, V> Default for Listed<K, V> {
    fn default() -> Listed<K, V> {
        Listed::new()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Listed<K, V> {
    fn eq(&self, other: &Listed<K, V>) -> bool {
        self.rows == other.rows
    }
}

impl<K: Eq, V: Eq> Eq for Listed<K, V> {}

impl<K: Ord + Serialize, V: Serialize> Serialize for Listed<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.aside {
            true => BTreeMap::<&K, &V>::new().serialize(serializer),
            false => self.rows.serialize(serializer),
        }
    }
}

impl<'de, K: Copy + Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Listed<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Listed<K, V>, D::Error> {
        BTreeMap::deserialize(deserializer).map(|rows| Listed { rows, ..Listed::new() })
    }
}

impl<K, V> Table for Listed<K, V>
where
    K: Copy + Ord + Serialize + DeserializeOwned + 'static,
    V: Serialize + DeserializeOwned + 'static,
{
    fn set_aside(&mut self, aside: bool) {
        self.aside = aside;
    }

    fn save(&mut self, sink: Sink<'_>) -> postcard::Result<()> {
        give_changes(self.changed.keys(), |key| self.rows.get(key), sink)
    }

    fn saved(&mut self) {
        self.changed.clear();
    }

    fn adopt(&mut self, old: &mut dyn Table) {
        let old: &mut dyn Any = old;
        if let Some(old) = old.downcast_mut::<Listed<K, V>>() {
            self.rows = take(&mut old.rows);
        }
    }

    fn load(&mut self, bytes: &mut &[u8]) -> postcard::Result<()> {
        take_changes(bytes, |key, row| match row {
            Some(value) => drop(self.rows.insert(key, value)),
            None => drop(self.rows.remove(&key)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::changes;
    use super::*;

    type Key = (u64, u8);

    proptest! {
        #[test]
        fn a_table_comes_back_from_a_snapshot_and_the_changes_behind_it(
            script in prop::collection::vec((0u8..5, 0u64..12, any::<u32>()), 1..80),
        ) {
            let (mut table, mut model) = (Listed::<Key, u32>::new(), BTreeMap::new());
            let mut restored = table.clone();
            for (action, key, value) in script {
                let key = (key << 40, key as u8);
                match action {
                    0 | 1 => prop_assert_eq!(table.insert(key, value), model.insert(key, value)),
                    2 | 3 => prop_assert_eq!(table.remove(&key), model.remove(&key)),
                    _ => {
                        table.set_aside(true);
                        prop_assert_eq!(postcard::to_allocvec(&table).unwrap(), [0]);
                        table.set_aside(false);
                        let mut next = Listed::new();
                        next.adopt(&mut restored);
                        let bytes = changes(&mut table).unwrap();
                        let mut rest = &bytes[..];
                        next.load(&mut rest).unwrap();
                        prop_assert!(rest.is_empty() && next == table);
                        restored = next;
                    }
                }
                prop_assert!(table.iter().eq(model.iter()));
                let whole = postcard::to_allocvec(&table).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<Listed<Key, u32>>(&whole).unwrap(), &table);
            }
        }
    }

    #[test]
    fn only_what_the_last_snapshot_does_not_say_is_saved() {
        let mut table = Listed::<Key, u32>::new();
        for key in 0..100 {
            table.insert((key, 0), 7);
        }
        changes(&mut table).unwrap();
        table.insert((200, 0), 1);
        table.remove(&(200, 0));
        assert_eq!(changes(&mut table).unwrap(), [0], "it came and went");
        table.remove(&(50, 0));
        table.insert((50, 0), 8);
        table.remove(&(51, 0));
        let expected = (2_u64, ((50_u64, 0_u8), Some(8_u32)), ((51_u64, 0_u8), None::<u32>));
        assert_eq!(changes(&mut table).unwrap(), postcard::to_allocvec(&expected).unwrap());
    }
}
