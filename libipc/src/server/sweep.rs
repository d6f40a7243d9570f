//! Sweeps: after an inexact recovery a server looks for what it has and does not know of.
//!
//! The kernel lists what the server has, some at a time. What its state knows is found by going through the state as
//! a snapshot does: a handle, a call or a tag that stands in it anywhere is known. So a sweep needs nothing of the
//! server, and can find nothing where the state is what the kernel's objects were made for. What it does is in traps
//! and events alone, so it is in the journal like any other step, and killing a server in the midst of it changes
//! nothing.
//!
//! What the state knows, and the kernel does not have, the server is told of by the event that would have told it in
//! time: a cancellation, an answer that failed, or [`Event::Lost`]. A space may also be one that its maker knows, and
//! nobody else any more: who asked for it has lost the answer.
//!
//! It never ends what the state knows, and never asks whether that is right. The shell's own slots are put right by the
//! same search: one that the state knows is neither free nor offered, or the next handle would be refused for ever.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use serde::ser::{self, Serialize, Serializer};

use super::shell::Kept;
use super::{Event, Server};
use crate::abi::delivery::PAYLOAD_OFFSET;
use crate::abi::sweep::Holding;
use crate::abi::syscall::Syscall;
use crate::abi::{Badge, CallId, Frame, Handle, KernelError, Tag};
use crate::sys::Traps;

/// Goes through the next of what a server has, and ends what it does not know. What has happened to what it knows, and
/// does not have.
/// `first_free` is the first slot that the server may choose.
pub(super) fn sweep<S: Server, T: Traps>(
    kept: &mut Kept,
    server: &S,
    traps: &mut T,
    first_free: u32,
) -> Vec<Event> {
    let listed = traps.trap(Syscall::Sweep, [0; 6]);
    let [what, count, _, from, to] = listed.expect("a server that is told to may list what it has");
    let what = Holding::from_number(what).expect("what the kernel lists is known");
    let names = &traps.buffer()[PAYLOAD_OFFSET as usize..];
    let names = names.as_chunks().0.iter().take(count as usize).map(|name| u64::from_le_bytes(*name));
    let listed: BTreeSet<u64> = names.collect();
    let places = from..to;
    let (known, kept_too) = match what {
        // What is offered is not known: nothing has come there yet.
        Holding::Handle => (
            Search::new("Handle", places.clone()).through(server),
            Search::of("Handle", &(&kept.deferred, &kept.again)),
        ),
        Holding::Call => (Search::new("CallId", places.clone()).through(server), Search::of("CallId", kept)),
        Holding::Sent => (Search::of("Tag", server), Search::of("Tag", kept)),
        Holding::Frame => {
            let used = listed.iter().copied().filter(|frame| !server.is_free(Frame(*frame as u32)));
            (used.collect(), BTreeSet::new())
        }
        // The server knows them. It is others that do not.
        Holding::Space => {
            return listed.into_iter().map(|space| Event::Unclaimed { space: Badge(space) }).collect();
        }
    };
    for name in listed.iter().filter(|name| !known.contains(name) && !kept_too.contains(name)) {
        let ended = traps.trap(Syscall::Discard, [what as u64, *name, 0, 0, 0, 0]);
        // What belongs together ends together.
        if ended.is_ok() && what == Holding::Handle {
            kept.slots.reclaim(Handle(*name as u32));
        }
    }
    if what == Holding::Handle {
        let used = known.iter().chain(&kept_too).copied();
        kept.slots.correct(first_free, places, used, &mut kept.offered);
    }
    let whole = from == 0 && to == u64::from(u32::MAX);
    let gone = known.difference(&listed).filter_map(|name| match what {
        Holding::Handle => Some(Event::Lost { handle: Handle(*name as u32) }),
        Holding::Call => Some(Event::Cancel { call: CallId(*name) }),
        // They are not listed in the order of their tags.
        Holding::Sent if whole => Some(Event::Answer { tag: Tag(*name), answer: Err(KernelError::PeerDead) }),
        Holding::Sent | Holding::Frame | Holding::Space => None,
    });
    gone.collect()
}

/// Goes through a state and notes the names that it meets.
struct Search {
    /// The type whose values are looked for: one number each.
    kind: &'static str,
    /// Of which places.
    places: Range<u64>,
    met: BTreeSet<u64>,
    /// The next number is one.
    inside: bool,
}

impl Search {
    fn new(kind: &'static str, places: Range<u64>) -> Search {
        Search { kind, places, met: BTreeSet::new(), inside: false }
    }

    /// The names that stand anywhere in a state.
    fn of(kind: &'static str, state: &impl Serialize) -> BTreeSet<u64> {
        Search::new(kind, 0..u64::MAX).through(state)
    }

    fn through(mut self, state: &impl Serialize) -> BTreeSet<u64> {
        state.serialize(&mut self).expect("state always encodes");
        self.met
    }

    fn number(&mut self, number: u64) {
        // A call's index is in the low half of its name.
        if core::mem::take(&mut self.inside) && self.places.contains(&(number & u64::from(u32::MAX))) {
            self.met.insert(number);
        }
    }
}

type Met = Result<(), fmt::Error>;

/// Scalars that cannot be names.
macro_rules! pass_over {
    ($($method:ident($kind:ty))*) => { $(fn $method(self, _: $kind) -> Met { Ok(()) })* };
}

impl Serializer for &mut Search {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    pass_over! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_f32(f32) serialize_f64(f64) serialize_char(char)
        serialize_str(&str) serialize_bytes(&[u8]) serialize_unit_struct(&'static str)
    }

    fn serialize_u32(self, number: u32) -> Met {
        self.number(number.into());
        Ok(())
    }

    fn serialize_u64(self, number: u64) -> Met {
        self.number(number);
        Ok(())
    }

    fn serialize_none(self) -> Met {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Met {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Met {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Met {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Met {
        self.inside = name == self.kind;
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Met {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, fmt::Error> {
        Ok(self)
    }
}

/// Compound values whose parts have no names.
macro_rules! go_through {
    ($($compound:ident $part:ident)*) => { $(impl ser::$compound for &mut Search {
        type Ok = ();
        type Error = fmt::Error;

        fn $part<T: Serialize + ?Sized>(&mut self, value: &T) -> Met {
            value.serialize(&mut **self)
        }

        fn end(self) -> Met {
            Ok(())
        }
    })* };
}

go_through! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

impl ser::SerializeMap for &mut Search {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Met {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Met {
        value.serialize(&mut **self)
    }

    fn end(self) -> Met {
        Ok(())
    }
}

/// Compound values whose parts have.
macro_rules! go_through_fields {
    ($($compound:ident)*) => { $(impl ser::$compound for &mut Search {
        type Ok = ();
        type Error = fmt::Error;

        fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Met {
            value.serialize(&mut **self)
        }

        fn end(self) -> Met {
            Ok(())
        }
    })* };
}

go_through_fields! { SerializeStruct SerializeStructVariant }

#[cfg(test)]
mod tests;
