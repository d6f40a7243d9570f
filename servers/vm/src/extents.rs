//! Maps by number that are saved as extents: numbers that follow each other, with values that do.
//!
//! A space's pages are most often neighbours in neighbouring frames, and so are a file's. So a snapshot has a line for
//! each such stretch and not for each page. Here is nothing but that form: `#[serde(with = "extents")]`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use libipc::abi::Frame;
use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest extent: as many pages as the machine may have.
const LONGEST: u64 = 1 << 20;

/// A value that says what would stand behind it if what it stands for went on.
pub trait Follow: Copy + PartialEq {
    /// The value so many numbers on.
    fn after(self, distance: u64) -> Self;
}

impl Follow for Frame {
    fn after(self, distance: u64) -> Frame {
        Frame(self.0.wrapping_add(distance as u32))
    }
}

/// Numbers that follow each other: how many lie between the last extent and this one, how many these are, and the
/// first one's value.
type Extent<V> = (u64, u64, V);

/// The extents of a map, in order.
fn extents<V: Follow>(map: &BTreeMap<u64, V>) -> impl Iterator<Item = Extent<V>> {
    let (mut rest, mut end) = (map.iter().peekable(), 0);
    core::iter::from_fn(move || {
        let (first, value) = rest.next()?;
        let (gap, mut count) = (first - end, 1);
        while count < LONGEST
            && rest.next_if(|next| *next == (&(first + count), &value.after(count))).is_some()
        {
            count += 1;
        }
        end = first + count;
        Some((gap, count, *value))
    })
}

/// Saves a map.
pub fn serialize<V, S>(map: &BTreeMap<u64, V>, serializer: S) -> Result<S::Ok, S::Error>
where
    V: Follow + Serialize,
    S: Serializer,
{
    let mut list = serializer.serialize_seq(Some(extents(map).count()))?;
    extents(map).try_for_each(|extent| list.serialize_element(&extent))?;
    list.end()
}

/// Reads a map.
pub fn deserialize<'de, V, D>(deserializer: D) -> Result<BTreeMap<u64, V>, D::Error>
where
    V: Follow + Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_seq(Reader(PhantomData))
}

struct Reader<V>(PhantomData<V>);

impl<'de, V: Follow + Deserialize<'de>> Visitor<'de> for Reader<V> {
    type Value = BTreeMap<u64, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut rows, mut end) = (Vec::new(), 0_u64);
        while let Some((gap, count, value)) = list.next_element::<Extent<V>>()? {
            let first = end.checked_add(gap);
            let Some((first, past)) = first.and_then(|first| Some((first, first.checked_add(count)?))) else {
                return Err(A::Error::custom("an extent behind all numbers"));
            };
            if count > LONGEST {
                return Err(A::Error::custom("an extent longer than memory"));
            }
            rows.extend((first..past).map(|number| (number, value.after(number - first))));
            end = past;
        }
        // In order already, so the tree is built in one go.
        Ok(rows.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    struct Kept<V: Follow + Serialize + serde::de::DeserializeOwned>(
        #[serde(with = "super", bound = "")] BTreeMap<u64, V>,
    );

    #[test]
    fn neighbours_with_neighbouring_values_cost_one_extent() {
        let pages = Kept((1000..1500).map(|page| (page, Frame(page as u32 + 7))).collect());
        assert!(postcard::to_allocvec(&pages).unwrap().len() < 10);
    }

    #[test]
    fn what_no_map_would_be_saved_as_is_refused() {
        let refused = |extents: &[Extent<Frame>]| {
            let bytes = postcard::to_allocvec(extents).unwrap();
            postcard::from_bytes::<Kept<Frame>>(&bytes).is_err()
        };
        assert!(!refused(&[(5, 3, Frame(1)), (0, LONGEST, Frame(2))]));
        assert!(refused(&[(5, LONGEST + 1, Frame(1))]));
        assert!(refused(&[(u64::MAX, 3, Frame(1))]));
        assert!(refused(&[(1, 3, Frame(1)), (u64::MAX, 1, Frame(1))]));
    }

    proptest! {
        #[test]
        fn a_map_comes_back_as_it_was(
            stretches in prop::collection::vec((0_u64..5, 1_u64..5, 0_u32..4), 0..40),
        ) {
            let (mut map, mut at) = (BTreeMap::new(), 0);
            for (gap, count, value) in stretches {
                at += gap;
                map.extend((at..at + count).map(|number| (number, Frame(value + (number - at) as u32))));
                at += count;
            }
            let kept = Kept(map);
            let bytes = postcard::to_allocvec(&kept).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Kept<Frame>>(&bytes).unwrap(), kept);
        }
    }
}
