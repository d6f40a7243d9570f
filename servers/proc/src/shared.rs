//! Rows that several processes share, and that go when the last one lets go: address spaces, tables of signal
//! actions, the strings of a program.

use libipc::server::{Rows, Table};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Rows by number, each with a count of its users.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct Shared<T> {
    rows: Rows<u64, (u32, T)>,
    last: u64,
}

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared { rows: Rows::new(), last: 0 }
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Shared<T> {
    /// The rows as a table.
    pub fn table(&mut self) -> &mut dyn Table {
        &mut self.rows
    }
}

impl<T> Shared<T> {
    /// A new row with one user, under a number of its own.
    pub fn add(&mut self, value: T) -> u64 {
        self.last += 1;
        self.rows.insert(self.last, (1, value));
        self.last
    }

    /// A new row with one user, under a number that somebody else chose.
    pub fn insert(&mut self, number: u64, value: T) {
        self.rows.insert(number, (1, value));
    }

    /// One more user.
    pub fn hold(&mut self, number: u64) {
        if let Some((users, _)) = self.rows.get_mut(&number) {
            *users += 1;
        }
    }

    /// One user less; the row, when that was the last.
    pub fn release(&mut self, number: u64) -> Option<T> {
        let (users, _) = self.rows.get_mut(&number)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.rows.remove(&number).map(|(_, value)| value)
    }

    /// How many use a row.
    pub fn users(&self, number: u64) -> u32 {
        self.rows.get(&number).map_or(0, |(users, _)| *users)
    }

    /// A row.
    pub fn get(&self, number: u64) -> Option<&T> {
        self.rows.get(&number).map(|(_, value)| value)
    }

    /// A row, to be changed for all its users.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.rows.get_mut(&number).map(|(_, value)| value)
    }

    /// How many rows there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_goes_with_its_last_user() {
        let mut rows = Shared::default();
        let number = rows.add('a');
        rows.hold(number);
        assert_eq!((rows.release(number), rows.users(number)), (None, 1));
        assert_eq!((rows.release(number), rows.get(number)), (Some('a'), None));
        assert_eq!(rows.release(number), None);
    }
}
