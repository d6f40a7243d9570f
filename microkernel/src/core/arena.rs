//! Arenas sized at boot, and lists of indices through them. An object is named by index and generation: when it goes,
//! its generation moves on, and every name still held is an error value, never a dangling pointer.

use core::fmt;
use core::marker::PhantomData;

/// The name of an object in an arena of `T`.
pub struct Id<T> {
    index: u32,
    generation: u32,
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
        self.index == other.index && self.generation == other.generation
    }
}

impl<T> Eq for Id<T> {}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl<T> Id<T> {
    /// The index alone.
    pub fn index(self) -> u32 {
        self.index
    }

    /// As one word that user code can hold.
    pub fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// From a word of user code; whether it names anything is found out when it is used.
    pub fn from_word(word: u64) -> Id<T> {
        Id { index: word as u32, generation: (word >> 32) as u32, kind: PhantomData }
    }
}

const NONE: u32 = u32::MAX;

/// One place of an arena.
pub struct Slot<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// A place that was never used.
    pub const EMPTY: Slot<T> = Slot { generation: 1, next_free: NONE, value: None };
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

impl<T> Arena<T> {
    /// An arena over memory that boot set aside.
    pub fn new(slots: &'static mut [Slot<T>]) -> Arena<T> {
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

    /// Puts a value in, unless the arena is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<Id<T>, Full> {
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
        } else {
            self.fresh += 1;
        }
        slot.value = Some(value);
        self.used += 1;
        Ok(Id { index, generation: slot.generation, kind: PhantomData })
    }

    /// Takes an object out; its name is stale from now on.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        self.freed(id.index);
        Some(value)
    }

    /// Takes an object out that nobody wants to look at any more.
    pub fn discard(&mut self, id: Id<T>) {
        if let Some(slot) = self.slots.get_mut(id.index as usize)
            && slot.generation == id.generation
            && slot.value.is_some()
        {
            slot.value = None;
            self.freed(id.index);
        }
    }

    fn freed(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.generation = slot.generation.wrapping_add(1).max(1);
            slot.next_free = self.free;
            self.free = index;
            self.used -= 1;
        }
    }

    /// The object of this name.
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.generation == id.generation { slot.value.as_ref() } else { None }
    }

    /// The object of this name, to be changed.
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.value.as_mut() } else { None }
    }

    /// The name of the object at an index, for enumerations.
    pub fn at(&self, index: u32) -> Option<Id<T>> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref()?;
        Some(Id { index, generation: slot.generation, kind: PhantomData })
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
pub trait Linked {
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
            Some(link) => link.next = id.index,
            None => self.head = id.index,
        }
        self.tail = id.index;
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
            Some(link) => link.previous = id.index,
            None => self.tail = id.index,
        }
        self.head = id.index;
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

    fn neighbour<T: Linked>(arena: &mut Arena<T>, index: u32) -> Option<&mut Link> {
        arena.slots.get_mut(index as usize)?.value.as_mut().map(Linked::link)
    }
}
