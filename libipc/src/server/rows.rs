//! Tables that a snapshot saves row by row.
//!
//! A server keeps in [`Rows`] what there is one of per process, space or file, and names these tables in
//! [`super::Server::tables`]. A snapshot then writes only the rows that were changed since the last one, behind it, so
//! that it costs what happened and not what there is. A table notices changes by itself: whoever gets a row to change
//! it has changed it. What the last snapshot has is not part of the state: it makes no difference to any step or
//! digest.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::mem::{replace, take};
use core::ops::Index;

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::numbered::{Number, Numbered};

/// Rows by key, in order.
#[derive(Clone)]
pub struct Rows<K, V> {
    rows: Numbered<K, Row<V>>,
    /// The keys of all rows that the last snapshot does not have as they are, or still has. Some may be named twice.
    changed: Vec<K>,
    /// One past the highest number that a snapshot may have a row of. What came and went since is not worth a word.
    known: u64,
    /// The rest of the state is being saved without it.
    aside: bool,
}

#[derive(Clone)]
struct Row<V> {
    value: V,
    changed: bool,
}

impl<K: Number + Ord, V> Rows<K, V> {
    /// An empty table.
    pub fn new() -> Rows<K, V> {
        Rows { rows: Numbered::new(), changed: Vec::new(), known: 0, aside: false }
    }

    /// A row.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|row| &row.value)
    }

    /// A row, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        if !replace(&mut row.changed, true) {
            self.changed.push(*key);
        }
        Some(&mut row.value)
    }

    /// Puts a row in, and takes out the one that had its key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.rows.insert(key, Row { value, changed: true });
        if old.as_ref().is_none_or(|old| !old.changed) {
            self.changed.push(key);
        }
        old.map(|old| old.value)
    }

    /// Puts a row in that the last snapshot has.
    fn put_saved(&mut self, key: K, value: V) {
        self.known = self.known.max(key.number().saturating_add(1));
        self.rows.insert(key, Row { value, changed: false });
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let old = self.rows.remove(key)?;
        if !old.changed {
            self.changed.push(*key);
        }
        Some(old.value)
    }

    /// Whether there is a row.
    pub fn contains_key(&self, key: &K) -> bool {
        self.rows.get(key).is_some()
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
        self.rows.iter().map(|(key, row)| (key, &row.value))
    }

    /// The rows from a key on, in order.
    pub fn from(&self, key: K) -> impl Iterator<Item = (&K, &V)> {
        self.rows.from(key).map(|(key, row)| (key, &row.value))
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.iter().map(|(key, _)| key)
    }

    /// The rows without their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Number + Ord, V> Index<&K> for Rows<K, V> {
    type Output = V;

    /// A row that is known to be there.
    fn index(&self, key: &K) -> &V {
        self.get(key).expect("a row that is known to be there")
    }
}

impl<K: Number + Ord, V> Default for Rows<K, V> {
    fn default() -> Rows<K, V> {
        Rows::new()
    }
}

impl<K: Number + Ord, V> FromIterator<(K, V)> for Rows<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Rows<K, V> {
        let mut table = Rows::new();
        for (key, value) in rows {
            table.insert(key, value);
        }
        table
    }
}

impl<K: Number + Ord, V: PartialEq> PartialEq for Rows<K, V> {
    fn eq(&self, other: &Rows<K, V>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Number + Ord, V: Eq> Eq for Rows<K, V> {}

impl<K: Number + Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Rows<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Number + Ord + Serialize, V: Serialize> Serialize for Rows<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = if self.aside { 0 } else { self.len() };
        serializer.collect_map(Counted(self.iter().take(count), count))
    }
}

impl<'de, K: Number + Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Rows<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows<K, V>, D::Error> {
        let rows = BTreeMap::<K, V>::deserialize(deserializer)?;
        let mut table = Rows::new();
        for (key, value) in rows {
            table.put_saved(key, value);
        }
        Ok(table)
    }
}

/// An iterator that says how much there is.
struct Counted<I>(I, usize);

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

/// Takes bytes, piece by piece.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> postcard::Result<()>;

/// A table as the shell sees it.
pub trait Table: Any {
    /// Keeps the rows out of what is saved of the state, or lets them in again.
    fn set_aside(&mut self, aside: bool);

    /// Gives out the rows that were changed, and the keys of those that are gone.
    fn save(&mut self, sink: Sink<'_>) -> postcard::Result<()>;

    /// A snapshot has everything that was changed.
    fn saved(&mut self);

    /// Takes the rows over from the same table of an older state.
    fn adopt(&mut self, old: &mut dyn Table);

    /// Brings the rows up to date with what [`Table::save`] gave out, and takes it off the bytes.
    fn load(&mut self, bytes: &mut &[u8]) -> postcard::Result<()>;
}

impl<K, V> Table for Rows<K, V>
where
    K: Number + Ord + Serialize + DeserializeOwned + 'static,
    V: Serialize + DeserializeOwned + 'static,
{
    fn set_aside(&mut self, aside: bool) {
        self.aside = aside;
    }

    fn save(&mut self, sink: Sink<'_>) -> postcard::Result<()> {
        self.changed.sort_unstable();
        self.changed.dedup();
        let (rows, known) = (&self.rows, self.known);
        self.changed.retain(|key| key.number() < known || rows.get(key).is_some());
        give_changes(self.changed.iter(), |key| self.rows.get(key).map(|row| &row.value), sink)
    }

    fn saved(&mut self) {
        for key in take(&mut self.changed) {
            if let Some(row) = self.rows.get_mut(&key) {
                row.changed = false;
                self.known = self.known.max(key.number().saturating_add(1));
            }
        }
    }

    fn adopt(&mut self, old: &mut dyn Table) {
        let old: &mut dyn Any = old;
        if let Some(old) = old.downcast_mut::<Rows<K, V>>() {
            (self.rows, self.known) = (take(&mut old.rows), old.known);
        }
    }

    fn load(&mut self, bytes: &mut &[u8]) -> postcard::Result<()> {
        take_changes(bytes, |key, row| match row {
            Some(value) => self.put_saved(key, value),
            None => drop(self.rows.remove(&key)),
        })
    }
}

/// Gives out what became of the rows with these keys: how many there are, then each key with its row, if it has one.
pub fn give_changes<'a, K: Serialize + 'a, V: Serialize + 'a>(
    keys: impl ExactSizeIterator<Item = &'a K>,
    row: impl Fn(&K) -> Option<&'a V>,
    sink: Sink<'_>,
) -> postcard::Result<()> {
    give(&(keys.len() as u64), sink)?;
    for key in keys {
        give(&(key, row(key)), sink)?;
    }
    Ok(())
}

/// Takes what [`give_changes`] gave out off bytes, one after the other.
pub fn take_changes<K: DeserializeOwned, V: DeserializeOwned>(
    bytes: &mut &[u8],
    mut change: impl FnMut(K, Option<V>),
) -> postcard::Result<()> {
    let count: u64 = take_from(bytes)?;
    for _ in 0..count {
        let (key, row) = take_from(bytes)?;
        change(key, row);
    }
    Ok(())
}

/// The bytes that a table gives out of its changes, which count as saved then: for tests of tables.
pub fn changes(table: &mut dyn Table) -> postcard::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    table.save(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    table.saved();
    Ok(bytes)
}

/// Gives a value out as bytes.
pub fn give(value: &(impl Serialize + ?Sized), sink: Sink<'_>) -> postcard::Result<()> {
    postcard::serialize_with_flavor(value, Through(sink))
}

/// Takes a value off bytes.
pub fn take_from<T: DeserializeOwned>(bytes: &mut &[u8]) -> postcard::Result<T> {
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    *bytes = rest;
    Ok(value)
}

/// Serialises into a sink.
struct Through<'a, 'b>(&'a mut (dyn FnMut(&[u8]) -> postcard::Result<()> + 'b));

impl Flavor for Through<'_, '_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        (self.0)(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        (self.0)(bytes)
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restored(base: &[u8], changes: &[Vec<u8>]) -> Rows<u64, u32> {
        let mut table: Rows<u64, u32> = postcard::from_bytes(base).unwrap();
        for mut bytes in changes.iter().map(Vec::as_slice) {
            let mut next: Rows<u64, u32> = take_from(&mut bytes).unwrap();
            next.adopt(&mut table);
            next.load(&mut bytes).unwrap();
            assert!(bytes.is_empty());
            table = next;
        }
        table
    }

    proptest! {
        #[test]
        fn a_table_comes_back_from_a_snapshot_and_the_changes_behind_it(
            script in prop::collection::vec((0u8..6, 0u64..12, any::<u32>()), 1..80),
        ) {
            let (mut table, mut model) = (Rows::<u64, u32>::new(), BTreeMap::new());
            let (base, mut parts) = (postcard::to_allocvec(&table).unwrap(), Vec::new());
            for (action, key, value) in script {
                match action {
                    0 | 1 => prop_assert_eq!(table.insert(key, value), model.insert(key, value)),
                    2 => prop_assert_eq!(table.remove(&key), model.remove(&key)),
                    3 => {
                        if let Some(row) = table.get_mut(&key) {
                            *row = value;
                        }
                        model.entry(key).and_modify(|row| *row = value);
                    }
                    _ => {
                        table.set_aside(true);
                        let mut bytes = postcard::to_allocvec(&table).unwrap();
                        table.set_aside(false);
                        bytes.extend(changes(&mut table).unwrap());
                        parts.push(bytes);
                        prop_assert_eq!(&restored(&base, &parts), &table);
                    }
                }
                prop_assert!(table.iter().eq(model.iter()));
            }
        }
    }

    #[test]
    fn rows_that_nobody_touched_are_not_saved_again() {
        let mut table: Rows<u64, [u64; 4]> = (0..1000).map(|key| (key, [9; 4])).collect();
        table.saved();
        table.get_mut(&7);
        table.remove(&8);
        let bytes = changes(&mut table).unwrap();
        assert!(bytes.len() < 20, "{bytes:?}");
    }

    #[test]
    fn what_came_and_went_between_two_snapshots_is_not_saved() {
        let mut table: Rows<u64, [u64; 4]> = (0..10).map(|key| (key, [9; 4])).collect();
        table.saved();
        for key in 100..1000 {
            table.insert(key, [1; 4]);
            table.remove(&key);
        }
        table.remove(&3);
        assert_eq!(
            changes(&mut table).unwrap(),
            postcard::to_allocvec(&(1_u64, 3_u64, None::<[u64; 4]>)).unwrap()
        );
    }
}
