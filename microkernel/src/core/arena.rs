//! Arenas sized at boot, and lists of indices through them. An object is named by index and generation: when it goes,
//! its generation moves on, and every name still held is an error value, never a dangling pointer.

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::ops::Deref;

/// The name of an object in an arena of `T`: index below, generation above, which is never 0.
pub struct Id<T> {
    word: NonZeroU64,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}

impl<T> Eq for Id<T> {}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.word.get() >> 32)
    }
}

impl<T> Id<T> {
    /// The name of nothing.
    pub const NOTHING: Id<T> = Id::from_word(0);

    /// The index alone.
    pub fn index(self) -> u32 {
        self.word.get() as u32
    }

    /// As one word that user code can hold.
    pub fn to_word(self) -> u64 {
        self.word.get()
    }

    /// From a word of user code; whether it names anything is found out when it is used.
    pub const fn from_word(word: u64) -> Id<T> {
        let word = match NonZeroU64::new(word) {
            Some(word) => word,
            // No arena has a place with this index.
            None => NonZeroU64::MAX,
        };
        Id { word, kind: PhantomData }
    }

    const fn new(index: u32, generation: u32) -> Id<T> {
        Id::from_word((generation as u64) << 32 | index as u64)
    }
}

const NONE: u32 = u32::MAX;
/// In the name of a place that is free. No index is so high, so no name of user code can be equal to it.
const FREE: u64 = 1 << 31;

/// Objects that an arena can hold: its free places hold blank ones, so that a look at a place is not a question of
/// what kind of thing is there.
pub trait Blank: 'static {
    /// An object that means nothing.
    const BLANK: Self;
}

impl<T: Copy + 'static, const N: usize> Blank for [Option<T>; N] {
    const BLANK: Self = [None; N];
}

/// One place of an arena.
pub struct Slot<T> {
    /// What it is called: a word of an [`Id`]. While it is free, what it will be called, and [`FREE`].
    name: u64,
    next_free: u32,
    value: T,
}

impl<T: Blank> Slot<T> {
    /// A place that was never used.
    pub const EMPTY: Slot<T> = Slot { name: FREE, next_free: NONE, value: T::BLANK };
}

/// An arena has no place left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// A fixed number of objects of one kind.
pub struct Arena<T: 'static> {
    slots: &'static mut [Slot<T>],
    free: u32,
    /// Slots from here on have never been used; they are taken when the free list is empty.
    fresh: u32,
    used: u32,
}

/// An object that has been found, and what it takes to give its place back.
pub struct Held<'a, T> {
    slot: &'a mut Slot<T>,
    index: u32,
    free: &'a mut u32,
    used: &'a mut u32,
}

impl<T> Held<'_, T> {
    /// See [`Arena::discard`].
    #[inline(always)]
    pub fn discard(self) {
        const GENERATION: u64 = 1 << 32;
        let next = self.slot.name.wrapping_add(GENERATION);
        // No name is of generation 0.
        self.slot.name = if next < GENERATION { next + GENERATION } else { next } | FREE;
        self.slot.next_free = *self.free;
        *self.free = self.index;
        *self.used -= 1;
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.slot.value
    }
}

impl<T: Blank> Arena<T> {
    /// An arena over memory that boot set aside.
    pub fn new(slots: &'static mut [Slot<T>]) -> Arena<T> {
        debug_assert!((slots.len() as u64) < FREE);
        Arena { slots, free: NONE, fresh: 0, used: 0 }
    }

    /// Takes the arena apart: its places, empty and never used.
    pub fn into_slots(self) -> &'static mut [Slot<T>] {
        self.slots[..self.fresh as usize].fill_with(|| Slot::EMPTY);
        self.slots
    }

    /// How many objects it holds.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// How many it can hold.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Takes a place with what was there before: something blank, or an object that was discarded. The caller writes
    /// over what counts. So a big object is not moved.
    #[inline(always)]
    pub fn renew(&mut self) -> Result<(Id<T>, &mut T), Full> {
        let index = if self.free != NONE {
            self.free
        } else if self.fresh < self.capacity() {
            self.fresh
        } else {
            return Err(Full);
        };
        let slot = &mut self.slots[index as usize];
        if self.free != NONE {
            self.free = slot.next_free;
            slot.name &= !FREE;
        } else {
            self.fresh += 1;
            slot.name = Id::<T>::new(index, 1).to_word();
        }
        self.used += 1;
        Ok((Id::from_word(slot.name), &mut slot.value))
    }

    /// Puts a value in, unless the arena is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Id<T>, Full> {
        let (id, place) = self.renew()?;
        *place = value;
        Ok(id)
    }

    /// Takes an object out; its name is stale from now on.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let value = core::mem::replace(self.get_mut(id)?, T::BLANK);
        self.discard(id);
        Some(value)
    }

    /// Takes an object out that nobody wants to look at any more. What was in it stays there to be written over.
    #[inline(always)]
    pub fn discard(&mut self, id: Id<T>) {
        if let Some(held) = self.hold(id) {
            held.discard();
        }
    }

    /// The object of this name, to be discarded perhaps.
    #[inline(always)]
    pub fn hold(&mut self, id: Id<T>) -> Option<Held<'_, T>> {
        let slot = self.slots.get_mut(id.index() as usize).filter(|slot| slot.name == id.to_word())?;
        Some(Held { slot, index: id.index(), free: &mut self.free, used: &mut self.used })
    }

    /// The object of this name.
    #[inline]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let slot = self.slots.get(id.index() as usize)?;
        if slot.name == id.to_word() { Some(&slot.value) } else { None }
    }

    /// The object of this name, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index() as usize)?;
        if slot.name == id.to_word() { Some(&mut slot.value) } else { None }
    }

    /// Two objects, to be changed together. `None` when they are one.
    #[inline(always)]
    pub fn two(&mut self, first: Id<T>, second: Id<T>) -> Option<(&mut T, &mut T)> {
        let places = [first.index() as usize, second.index() as usize];
        let [one, other] = self.slots.get_disjoint_mut(places).ok()?;
        let named = one.name == first.to_word() && other.name == second.to_word();
        named.then_some((&mut one.value, &mut other.value))
    }

    /// The name of the object at an index, for enumerations.
    pub fn at(&self, index: u32) -> Option<Id<T>> {
        let slot = self.slots.get(index as usize).filter(|slot| slot.name & FREE == 0)?;
        Some(Id::from_word(slot.name))
    }

    /// One past the highest index that was ever used.
    pub fn bound(&self) -> u32 {
        self.fresh
    }
}

/// An object's place in the one list it can be in.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    previous: u32,
    next: u32,
    listed: bool,
}

impl Link {
    /// In no list.
    pub const NONE: Link = Link { previous: NONE, next: NONE, listed: false };

    /// Whether the object is in a list.
    pub fn is_listed(&self) -> bool {
        self.listed
    }
}

/// Objects that can stand in a list.
pub trait Linked: Blank {
    /// The object's link.
    fn link(&mut self) -> &mut Link;
}

/// A doubly linked list of objects of one arena. It owns the links of its members; there is no second owner.
#[derive(Clone, Copy, Debug)]
pub struct List {
    head: u32,
    tail: u32,
}

impl List {
    /// Empty.
    pub const EMPTY: List = List { head: NONE, tail: NONE };

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Whether nothing is in any of these.
    #[inline(always)]
    pub fn are_empty<const N: usize>(lists: [&List; N]) -> bool {
        lists.iter().fold(NONE, |heads, list| heads & list.head) == NONE
    }

    /// The first object's name.
    pub fn first<T: Linked>(&self, arena: &Arena<T>) -> Option<Id<T>> {
        arena.at(self.head)
    }

    /// Appends an object that is in no list. One that is listed already stays where it is.
    pub fn push_back<T: Linked>(&mut self, arena: &mut Arena<T>, id: Id<T>) {
        let tail = self.tail;
        let Some(object) = arena.get_mut(id) else { return };
        if object.link().listed {
            return;
        }
        *object.link() = Link { previous: tail, next: NONE, listed: true };
        match Self::neighbour(arena, tail) {
            Some(link) => link.next = id.index(),
            None => self.head = id.index(),
        }
        self.tail = id.index();
    }

    /// Puts an object that is in no list before all others.
    pub fn push_front<T: Linked>(&mut self, arena: &mut Arena<T>, id: Id<T>) {
        let head = self.head;
        let Some(object) = arena.get_mut(id) else { return };
        if object.link().listed {
            return;
        }
        *object.link() = Link { previous: NONE, next: head, listed: true };
        match Self::neighbour(arena, head) {
            Some(link) => link.previous = id.index(),
            None => self.tail = id.index(),
        }
        self.head = id.index();
    }

    /// Takes out an object that is in this list; one that is in none is left alone.
    pub fn remove<T: Linked>(&mut self, arena: &mut Arena<T>, id: Id<T>) {
        let Some(object) = arena.get_mut(id) else { return };
        let link = core::mem::replace(object.link(), Link::NONE);
        if !link.listed {
            return;
        }
        match Self::neighbour(arena, link.previous) {
            Some(before) => before.next = link.next,
            None => self.head = link.next,
        }
        match Self::neighbour(arena, link.next) {
            Some(after) => after.previous = link.previous,
            None => self.tail = link.previous,
        }
    }

    /// Takes out the first object.
    pub fn pop_front<T: Linked>(&mut self, arena: &mut Arena<T>) -> Option<Id<T>> {
        let id = self.first(arena)?;
        self.remove(arena, id);
        Some(id)
    }

    /// The names of all, in order.
    #[cfg(test)]
    pub fn names<T: Linked>(&self, arena: &mut Arena<T>) -> Vec<Id<T>> {
        let mut names: Vec<Id<T>> = self.first(arena).into_iter().collect();
        while let Some(last) = names.last() {
            let next = Self::neighbour(arena, last.index()).map_or(NONE, |link| link.next);
            let Some(next) = arena.at(next) else { break };
            names.push(next);
        }
        names
    }

    fn neighbour<T: Linked>(arena: &mut Arena<T>, index: u32) -> Option<&mut Link> {
        arena.slots.get_mut(index as usize).filter(|slot| slot.name & FREE == 0).map(|slot| slot.value.link())
    }
}
