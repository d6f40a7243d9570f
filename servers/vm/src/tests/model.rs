//! Random programs against a model in which every page is a byte and its protection, copied whole at every fork.

use alloc::collections::BTreeMap;

use libipc::abi::Protection;
use proptest::prelude::*;

use super::machine::{Machine, PAGE, file_byte};
use super::program::start;

/// Where the random programs play.
const BASE: u64 = 0x10_0000_0000;
const PAGES: u64 = 40;
const FILE_PAGES: u64 = 24;
const FRAMES: u32 = 360;
const SPACES_MAX: usize = 4;

/// What a page of the model shows.
#[derive(Clone, Copy, Debug)]
enum Shows {
    /// The program's own byte.
    Own(u8),
    /// A page of shared memory.
    Shared(u64, u64),
    /// A page of a file, not written yet.
    File(u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct ModelPage {
    protection: Protection,
    shows: Shows,
    discards_to: Shows,
}

type ModelSpace = BTreeMap<u64, ModelPage>;

#[derive(Default)]
struct Model {
    spaces: BTreeMap<u64, ModelSpace>,
    shared: BTreeMap<(u64, u64), u8>,
    next_shared: u64,
}

#[derive(Clone, Debug)]
enum Action {
    Map { kind: u8, start: u64, count: u64, protection: u8, page: u64 },
    Unmap { start: u64, count: u64 },
    Protect { start: u64, count: u64, protection: u8 },
    Discard { start: u64, count: u64 },
    Move { start: u64, count: u64, to: u64 },
    Fork,
    Destroy,
    Touch { page: u64, access: u8, byte: u8 },
    Walk { start: u64, count: u64, byte: u8 },
}

fn actions() -> impl Strategy<Value = (u8, Action)> {
    let range = || (0..PAGES, 1u64..12).prop_map(|(start, count)| (start, count.min(PAGES - start)));
    let action = prop_oneof![
        4 => (0u8..4, range(), 0u8..8, 0u64..FILE_PAGES + 4).prop_map(|(kind, (start, count), protection, page)| {
            Action::Map { kind, start, count, protection, page }
        }),
        2 => range().prop_map(|(start, count)| Action::Unmap { start, count }),
        3 => (range(), 0u8..8).prop_map(|((start, count), protection)| {
            Action::Protect { start, count, protection }
        }),
        1 => range().prop_map(|(start, count)| Action::Discard { start, count }),
        1 => (range(), 0..PAGES).prop_map(|((start, count), to)| Action::Move { start, count, to }),
        2 => Just(Action::Fork),
        1 => Just(Action::Destroy),
        12 => (0..PAGES, 0u8..3, 1u8..).prop_map(|(page, access, byte)| Action::Touch { page, access, byte }),
        6 => (range(), 1u8..).prop_map(|((start, count), byte)| Action::Walk { start, count, byte }),
    ];
    (any::<u8>(), action)
}

/// A machine and its model, side by side.
struct Both {
    machine: Machine,
    model: Model,
}

impl Both {
    fn space(&self, which: u8) -> Option<u64> {
        let count = self.model.spaces.len();
        if count == 0 { None } else { self.model.spaces.keys().nth(usize::from(which) % count).copied() }
    }

    fn act(&mut self, which: u8, action: &Action) -> Result<(), TestCaseError> {
        let Some(space) = self.space(which) else { return Ok(()) };
        match *action {
            Action::Map { kind, start, count, protection, page } => {
                self.map(space, kind, start..start + count, protection, page)?;
            }
            Action::Unmap { start, count } => {
                let result = self.machine.linux(space, 11, [BASE + start * PAGE, count * PAGE, 0, 0, 0, 0]);
                prop_assert_eq!(result, 0);
                self.pages(space).retain(|page, _| !(start..start + count).contains(page));
            }
            Action::Protect { start, count, protection } => {
                self.protect(space, start..start + count, protection)?
            }
            Action::Discard { start, count } => {
                self.machine.linux(space, 28, [BASE + start * PAGE, count * PAGE, 4, 0, 0, 0]);
                for (_, page) in self.pages(space).range_mut(start..start + count) {
                    page.shows = page.discards_to;
                }
            }
            Action::Move { start, count, to } => self.relocate(space, start..start + count, to)?,
            Action::Fork if self.model.spaces.len() < SPACES_MAX => {
                let child = self.machine.fork(space).expect("there is memory for a fork");
                let pages = self.model.spaces[&space].clone();
                self.model.spaces.insert(child, pages);
            }
            Action::Fork => {}
            Action::Destroy => {
                self.machine.destroy(space);
                self.model.spaces.remove(&space);
            }
            Action::Touch { page, access, byte } => self.touch(space, page, access, byte)?,
            Action::Walk { start, count, byte } => {
                for page in start..start + count {
                    self.touch(space, page, 1, byte)?;
                }
            }
        }
        Ok(())
    }

    fn pages(&mut self, space: u64) -> &mut ModelSpace {
        self.model.spaces.get_mut(&space).expect("the model has it")
    }

    fn map(
        &mut self,
        space: u64,
        kind: u8,
        range: core::ops::Range<u64>,
        bits: u8,
        page: u64,
    ) -> Result<(), TestCaseError> {
        let (shared, anonymous) = (kind & 1 != 0, kind & 2 != 0);
        let protection = Protection::from_bits_retain(bits);
        let flags = 0x10 | if shared { 1 } else { 2 } | if anonymous { 0x20 } else { 0 };
        let (address, length) = (BASE + range.start * PAGE, (range.end - range.start) * PAGE);
        let arguments = [address, length, u64::from(bits), flags, 0, page * PAGE];
        let result = match anonymous {
            true => self.machine.linux(space, 9, arguments),
            false => self.machine.map_file(space, 2, arguments),
        };
        if shared && !anonymous && protection.contains(Protection::WRITE) {
            prop_assert_eq!(result, -13);
            return Ok(());
        }
        prop_assert_eq!(result, address as i64);
        self.model.next_shared += 1;
        let shared_id = self.model.next_shared;
        for (index, number) in range.enumerate() {
            let index = index as u64;
            let shows = match (shared, anonymous) {
                (true, true) => Shows::Shared(shared_id, index),
                (false, true) => Shows::Own(0),
                (_, false) => Shows::File(u64::from(shared), page + index),
            };
            self.pages(space).insert(number, ModelPage { protection, shows, discards_to: shows });
        }
        Ok(())
    }

    fn protect(&mut self, space: u64, range: core::ops::Range<u64>, bits: u8) -> Result<(), TestCaseError> {
        let (address, length) = (BASE + range.start * PAGE, (range.end - range.start) * PAGE);
        let result = self.machine.linux(space, 10, [address, length, u64::from(bits), 0, 0, 0]);
        let protection = Protection::from_bits_retain(bits);
        let pages = self.pages(space);
        let shared_file = |page: &ModelPage| matches!(page.discards_to, Shows::File(1, _));
        let writes = protection.contains(Protection::WRITE);
        // Changed is what comes before the first page that is not there or may not become writable.
        let mut expected = 0;
        for number in range {
            expected = match pages.get_mut(&number) {
                None => -12,
                Some(page) if writes && shared_file(page) => -13,
                Some(page) => {
                    page.protection = protection;
                    continue;
                }
            };
            break;
        }
        prop_assert_eq!(result, expected);
        Ok(())
    }

    /// mremap to a fixed place. It succeeds when the range is one mapping; the model follows what vm says.
    fn relocate(&mut self, space: u64, range: core::ops::Range<u64>, to: u64) -> Result<(), TestCaseError> {
        let length = range.end - range.start;
        let to = to.min(PAGES - length);
        let old = BASE + range.start * PAGE;
        let new = BASE + to * PAGE;
        let result = self.machine.linux(space, 25, [old, length * PAGE, length * PAGE, 3, new, 0]);
        let pages = self.pages(space);
        let overlaps = range.start < to + length && to < range.end;
        if overlaps || !range.clone().all(|page| pages.contains_key(&page)) {
            prop_assert!(result == -22 || result == -14, "{}", result);
            return Ok(());
        }
        if result == new as i64 {
            for (index, page) in range.enumerate() {
                let moved = pages.remove(&page).expect("complete");
                pages.insert(to + index as u64, moved);
            }
        } else {
            prop_assert_eq!(result, -14);
        }
        Ok(())
    }

    fn touch(&mut self, space: u64, number: u64, access: u8, byte: u8) -> Result<(), TestCaseError> {
        let address = BASE + number * PAGE + 5;
        let expected = self.expected(space, number, access, address % PAGE);
        match access {
            1 => prop_assert_eq!(self.machine.write(space, address, byte), expected.map(|_| ())),
            2 => {
                let result = self.machine.access(space, address, Protection::EXECUTE);
                prop_assert_eq!(result.map(|_| ()), expected.map(|_| ()));
            }
            _ => prop_assert_eq!(self.machine.read(space, address), expected),
        }
        if access == 1 && expected.is_ok() {
            let page = self.pages(space).get_mut(&number).expect("it may be written");
            match page.shows {
                Shows::Shared(id, index) => {
                    self.model.shared.insert((id, index), byte);
                }
                _ => page.shows = Shows::Own(byte),
            }
        }
        Ok(())
    }

    /// The byte that the program should see, or its signal.
    fn expected(&self, space: u64, number: u64, access: u8, offset: u64) -> Result<u8, (u64, i32)> {
        let page = self.model.spaces[&space].get(&number).ok_or((11, 1))?;
        let needed = [Protection::empty(), Protection::WRITE, Protection::EXECUTE][usize::from(access)];
        if page.protection.is_empty() || !page.protection.contains(needed) {
            return Err((11, 2));
        }
        match page.shows {
            Shows::Own(byte) => Ok(byte),
            Shows::Shared(id, index) => Ok(self.model.shared.get(&(id, index)).copied().unwrap_or(0)),
            Shows::File(_, index) if index < FILE_PAGES => Ok(file_byte(2, index * PAGE + offset)),
            Shows::File(..) => Err((7, 2)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn programs_see_what_the_model_sees_and_every_frame_comes_back(
        script in prop::collection::vec(actions(), 1..110)
    ) {
        let mut machine = Machine::new(FRAMES, b"");
        machine.files.insert(2, FILE_PAGES * PAGE);
        let first = start(&mut machine).space;
        let mut both = Both { machine, model: Model::default() };
        both.model.spaces.insert(first, ModelSpace::new());
        for (which, action) in &script {
            both.act(*which, action)?;
            both.machine.check();
        }
        for space in both.model.spaces.keys() {
            both.machine.destroy(*space);
        }
        both.machine.check();
        let cached = both.machine.vm.memory.objects.cached();
        prop_assert_eq!(u64::from(both.machine.free()) + cached, u64::from(FRAMES));
    }
}
