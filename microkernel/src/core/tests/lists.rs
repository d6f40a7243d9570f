//! Lists and arenas against a plain model: no sequence of operations breaks a link or revives a stale name.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::core::arena::{Arena, Blank, Id, Link, Linked, List, Slot};

struct Item {
    link: Link,
    number: u32,
}

impl Blank for Item {
    const BLANK: Item = Item { link: Link::NONE, number: 0 };
}

impl Linked for Item {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

#[derive(Clone, Debug)]
enum Step {
    New,
    Drop(usize),
    PushBack(usize, usize),
    PushFront(usize, usize),
    Remove(usize),
    Pop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::New),
        any::<usize>().prop_map(Step::Drop),
        any::<(usize, usize)>().prop_map(|(list, item)| Step::PushBack(list, item)),
        any::<(usize, usize)>().prop_map(|(list, item)| Step::PushFront(list, item)),
        any::<usize>().prop_map(Step::Remove),
        any::<usize>().prop_map(Step::Pop),
    ];
    prop::collection::vec(step, 0..200)
}

struct Model {
    arena: Arena<Item>,
    lists: [List; 3],
    live: Vec<(Id<Item>, u32)>,
    stale: Vec<Id<Item>>,
    queues: [VecDeque<u32>; 3],
    next: u32,
}

impl Model {
    fn pick(&self, index: usize) -> Option<(Id<Item>, u32)> {
        (!self.live.is_empty()).then(|| self.live[index % self.live.len()])
    }

    fn listed(&self, number: u32) -> Option<usize> {
        self.queues.iter().position(|queue| queue.contains(&number))
    }

    fn remove(&mut self, id: Id<Item>, number: u32) {
        if let Some(list) = self.listed(number) {
            self.lists[list].remove(&mut self.arena, id);
            self.queues[list].retain(|other| *other != number);
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::New => {
                let item = Item { link: Link::NONE, number: self.next };
                if let Ok(id) = self.arena.insert(item) {
                    self.live.push((id, self.next));
                }
                self.next += 1;
            }
            Step::Drop(index) => {
                let Some((id, number)) = self.pick(index) else { return };
                self.remove(id, number);
                assert_eq!(self.arena.remove(id).map(|item| item.number), Some(number));
                self.live.retain(|(other, _)| *other != id);
                self.stale.push(id);
            }
            Step::PushBack(list, index) | Step::PushFront(list, index) => {
                let Some((id, number)) = self.pick(index) else { return };
                let list = list % 3;
                let fresh = self.listed(number).is_none();
                if matches!(step, Step::PushBack(..)) {
                    self.lists[list].push_back(&mut self.arena, id);
                    fresh.then(|| self.queues[list].push_back(number));
                } else {
                    self.lists[list].push_front(&mut self.arena, id);
                    fresh.then(|| self.queues[list].push_front(number));
                }
            }
            Step::Remove(index) => {
                let Some((id, number)) = self.pick(index) else { return };
                self.remove(id, number);
            }
            Step::Pop(list) => {
                let list = list % 3;
                let id = self.lists[list].pop_front(&mut self.arena);
                let number = id.and_then(|id| self.arena.get(id)).map(|item| item.number);
                assert_eq!(number, self.queues[list].pop_front());
            }
        }
        assert!(self.stale.iter().all(|id| self.arena.get(*id).is_none()), "a stale name is an error");
    }
}

proptest! {
    #[test]
    fn lists_behave_like_queues_and_stale_names_are_errors(steps in steps()) {
        let slots = Box::leak((0..16).map(|_| Slot::EMPTY).collect::<Vec<_>>().into_boxed_slice());
        let mut model = Model {
            arena: Arena::new(slots),
            lists: [List::EMPTY; 3],
            live: Vec::new(),
            stale: Vec::new(),
            queues: Default::default(),
            next: 0,
        };
        for step in &steps {
            model.run(step);
        }
        for list in 0..3 {
            while let Some(id) = model.lists[list].pop_front(&mut model.arena) {
                let number = model.arena.get(id).map(|item| item.number);
                prop_assert_eq!(number, model.queues[list].pop_front());
            }
            prop_assert!(model.queues[list].is_empty());
        }
    }
}

#[test]
fn the_next_name_of_a_free_place_is_the_name_of_nothing_yet() {
    let slots = Box::leak((0..2).map(|_| Slot::EMPTY).collect::<Vec<_>>().into_boxed_slice());
    let mut arena = Arena::new(slots);
    let item = |number| Item { link: Link::NONE, number };
    let Ok(first) = arena.insert(item(1)) else { panic!("there is room") };
    let next = Id::from_word(first.to_word() + (1 << 32));
    arena.discard(first);
    assert!(arena.get(next).is_none(), "nothing was put there");
    assert!(
        (0..u64::from(u32::MAX))
            .step_by(1 << 28)
            .all(|low| arena.get(Id::from_word(low | 2 << 32)).is_none())
    );
    assert_eq!(arena.insert(item(2)).ok(), Some(next));
    assert_eq!(arena.get(next).map(|item| item.number), Some(2));
}
