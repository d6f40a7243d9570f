//! Tests of region.

use alloc::vec;

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;
const WINDOW: Range<u64> = 8 * PAGE..56 * PAGE;

fn pages(range: Range<u64>) -> Range<u64> {
    range.start * PAGE..range.end * PAGE
}

fn anonymous(range: Range<u64>) -> Region {
    Region::anonymous(pages(range), Protection::READ | Protection::WRITE)
}

fn file(range: Range<u64>, page: u64) -> Region {
    Region { backing: Backing::Object { object: 1, page, limit: u64::MAX }, ..anonymous(range) }
}

fn shape(regions: &Regions) -> Vec<Range<u64>> {
    regions.iter().map(Region::pages).collect()
}

#[test]
fn neighbours_that_continue_each_other_are_one_region() {
    let mut regions = Regions::new(WINDOW);
    regions.insert(anonymous(10..12));
    regions.insert(anonymous(14..16));
    regions.insert(anonymous(12..14));
    assert_eq!(shape(&regions), vec![10..16]);
    regions.insert(file(20..22, 5));
    regions.insert(file(22..24, 7));
    regions.insert(file(24..26, 8));
    assert_eq!(shape(&regions), vec![10..16, 20..24, 24..26]);
}

#[test]
fn carving_the_middle_leaves_both_ends_and_the_file_offset_right() {
    let mut regions = Regions::new(WINDOW);
    regions.insert(file(10..20, 100));
    let taken = regions.carve(pages(13..15));
    assert_eq!(taken, [file(13..15, 103)]);
    assert_eq!(regions.iter().copied().collect::<Vec<_>>(), [file(10..13, 100), file(15..20, 105)]);
}

#[test]
fn a_changed_middle_splits_and_changing_it_back_joins_again() {
    let mut regions = Regions::new(WINDOW);
    regions.insert(file(10..20, 0));
    regions.change(pages(12..14), |region| region.protection = Protection::READ);
    assert_eq!(shape(&regions), vec![10..12, 12..14, 14..20]);
    regions.change(pages(12..14), |region| region.protection = Protection::READ | Protection::WRITE);
    assert_eq!(shape(&regions), vec![10..20]);
}

#[test]
fn room_is_the_top_of_the_smallest_gap_that_suffices() {
    let mut regions = Regions::new(WINDOW);
    regions.insert(anonymous(20..30));
    regions.insert(anonymous(33..40));
    assert_eq!(regions.room(2 * PAGE), Some(31 * PAGE));
    assert_eq!(regions.room(4 * PAGE), Some(16 * PAGE));
    assert_eq!(regions.room(13 * PAGE), Some(43 * PAGE));
    assert_eq!(regions.room(17 * PAGE), None);
}

#[test]
fn growing_down_gives_up_the_gap_it_grew_into() {
    let mut regions = Regions::new(WINDOW);
    regions.insert(anonymous(40..56));
    regions.extend_down(40 * PAGE, 20 * PAGE);
    assert_eq!(shape(&regions), vec![20..56]);
    assert_eq!(regions.room(12 * PAGE), Some(8 * PAGE));
    assert_eq!(regions.room(13 * PAGE), None);
}

#[test]
fn loads_are_permitted_wherever_anything_is() {
    let region = |protection| Region { protection, ..anonymous(1..2) };
    assert!(region(Protection::WRITE).permits(Protection::READ));
    assert!(region(Protection::EXECUTE).permits(Protection::READ));
    assert!(!region(Protection::READ).permits(Protection::WRITE));
    assert!(!region(Protection::empty()).permits(Protection::READ));
}

/// A page of the model: its protection and, for files, which page of the file it shows.
type Shown = (u8, Option<u64>);

proptest! {
    #[test]
    fn regions_show_what_a_list_of_pages_shows(
        script in prop::collection::vec((0u8..4, 0u64..64, 1u64..16, 0u8..3, 0u64..4), 1..60)
    ) {
        let mut regions = Regions::new(WINDOW);
        let mut model: Vec<Option<Shown>> = vec![None; 80];
        for (action, start, count, protection, page) in script {
            let range = start..start + count;
            let cells = start as usize..(start + count) as usize;
            match action {
                0 | 1 => {
                    regions.carve(pages(range.clone()));
                    let made = if action == 0 { anonymous(range) } else { file(range, page) };
                    regions.insert(Region { protection: Protection::from_bits_retain(protection), ..made });
                    for (index, cell) in model[cells].iter_mut().enumerate() {
                        *cell = Some((protection, (action == 1).then_some(page + index as u64)));
                    }
                }
                2 => {
                    regions.carve(pages(range));
                    model[cells].fill(None);
                }
                _ => {
                    regions.change(pages(range), |region| {
                        region.protection = Protection::from_bits_retain(protection);
                    });
                    for cell in model[cells].iter_mut().flatten() {
                        cell.0 = protection;
                    }
                }
            }
            check(&regions, &model)?;
        }
    }
}

fn check(regions: &Regions, model: &[Option<Shown>]) -> Result<(), TestCaseError> {
    for (page, expected) in model.iter().enumerate() {
        let page = page as u64;
        let shown = regions.find(page * PAGE).map(|region| {
            let file = match region.backing {
                Backing::Object { page: first, .. } => Some(first + page - region.pages().start),
                Backing::Anonymous => None,
            };
            (region.protection.bits(), file)
        });
        prop_assert_eq!(shown, *expected);
    }
    for (region, next) in regions.iter().zip(regions.iter().skip(1)) {
        prop_assert!(region.end <= next.start && !region.continues_as(next));
    }
    let mut free = BTreeSet::new();
    let mut reached = 0;
    for region in regions.iter().map(Region::pages).chain(core::iter::once(80..80)) {
        let gap = pages(reached.max(8)..region.start.min(56));
        if gap.start < gap.end {
            free.insert((gap.end - gap.start, gap.start));
        }
        reached = region.end;
    }
    prop_assert_eq!(&regions.gaps, &free);
    Ok(())
}
