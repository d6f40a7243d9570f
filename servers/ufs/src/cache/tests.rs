//! Tests of cache.

use alloc::vec;

use proptest::prelude::*;

use super::*;

fn extent(sector: u64, sectors: u32) -> Extent {
    Extent { sector, sectors }
}

/// Bytes that say which sector they are of.
fn content(extent: Extent) -> Box<[u8]> {
    let mut bytes = vec![0; extent.bytes() as usize];
    for (sector, bytes) in (extent.sector..).zip(bytes.chunks_mut(SECTOR_BYTES as usize)) {
        bytes.fill(sector as u8);
    }
    bytes.into()
}

fn fill(cache: &mut Cache, sector: u64, sectors: u32) {
    cache.fill(extent(sector, sectors), content(extent(sector, sectors))).unwrap();
}

#[test]
fn what_was_filled_is_there_and_so_is_any_part_of_it() {
    let mut cache = Cache::new(0);
    fill(&mut cache, 8, 8);
    for part in [extent(8, 8), extent(8, 1), extent(10, 4), extent(15, 1)] {
        assert_eq!(cache.get(part), Ok(&*content(part)));
    }
    for outside in [extent(7, 1), extent(7, 2), extent(15, 2), extent(16, 1), extent(u64::MAX, 1)] {
        assert_eq!(cache.get(outside), Err(Miss(outside)));
    }
}

#[test]
fn a_longer_extent_takes_the_place_of_a_shorter_one_and_never_the_reverse() {
    let mut cache = Cache::new(0);
    fill(&mut cache, 8, 2);
    fill(&mut cache, 8, 8);
    fill(&mut cache, 8, 2);
    assert!(cache.get(extent(8, 8)).is_ok());
    assert_eq!(cache.used_bytes(), 8 * 512);
}

#[test]
fn a_short_extent_in_between_does_not_hide_what_a_longer_one_brings() {
    let mut cache = Cache::new(0);
    fill(&mut cache, 12, 1);
    fill(&mut cache, 6, 4);
    fill(&mut cache, 8, 8);
    assert_eq!(cache.get(extent(14, 2)), Ok(&*content(extent(14, 2))));
    assert_eq!(cache.get(extent(6, 1)), Err(Miss(extent(6, 1))), "it went with the sectors it shared");
    assert_eq!(cache.used_bytes(), 8 * 512);
}

#[test]
fn bytes_of_the_wrong_length_are_refused() {
    let mut cache = Cache::new(0);
    assert_eq!(cache.fill(extent(0, 2), vec![0; 512].into()), Err(WrongLength));
    assert_eq!(cache.fill(extent(0, 0), Box::default()), Err(WrongLength));
    assert_eq!(cache.used_bytes(), 0);
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let mut cache = Cache::new(0);
    let blocks = Cache::MIN_BYTES / 4096;
    for block in 0..blocks * 4 {
        fill(&mut cache, block * 8, 8);
        assert!(cache.get(extent(3, 2)).is_ok(), "block {block}"); // a part keeps the whole
    }
    assert_eq!(cache.used_bytes(), Cache::MIN_BYTES);
}

proptest! {
    #[test]
    fn an_operation_whose_blocks_fit_the_budget_ends(
        before in prop::collection::vec((0u64..4000, 1u32..=128), 0..60),
        wanted in prop::collection::btree_set(0u64..64, 1..=8),
    ) {
        let mut cache = Cache::new(0);
        for (sector, sectors) in before {
            fill(&mut cache, sector, sectors);
        }
        let wanted: alloc::vec::Vec<Extent> = wanted.into_iter().map(|n| extent(n * 128, 128)).collect();
        let mut attempts = 0;
        while let Some(missed) = wanted.iter().find(|extent| cache.get(**extent).is_err()) {
            fill(&mut cache, missed.sector, missed.sectors);
            attempts += 1;
            prop_assert!(attempts <= wanted.len());
        }
    }

    #[test]
    fn the_budget_is_kept_and_the_bytes_are_right(
        fills in prop::collection::vec((0u64..2000, 1u32..=128, any::<bool>()), 0..200),
    ) {
        let mut cache = Cache::new(0);
        for (sector, sectors, look) in fills {
            if look {
                let part = extent(sector, sectors);
                prop_assert!(cache.get(part).is_err() || cache.get(part) == Ok(&*content(part)));
            } else {
                fill(&mut cache, sector, sectors);
                prop_assert!(cache.get(extent(sector, sectors)).is_ok());
            }
            let held: u64 = cache.entries.values().map(|entry| entry.bytes.len() as u64).sum();
            prop_assert_eq!(held, cache.used_bytes());
            prop_assert_eq!(cache.entries.len(), cache.by_last_use.borrow().len());
            prop_assert!(held <= Cache::MIN_BYTES);
        }
    }
}
