//! Sweeps: after an inexact recovery a server looks for what it has and does not know of.
//!
//! The kernel lists what the server has, some at a time. What its state knows is found by going through the state as a
//! snapshot does: a handle, a call or a tag that stands in it anywhere is known. So a sweep needs nothing of the server, and
//! can find nothing where the state is what the kernel's objects were made for. It takes traps alone and puts nothing
//! into the state, so it is in the journal like any other step, and killing a server in the midst of it changes nothing.
//!
//! A space may also be one that its maker knows, and nobody else any more: who asked for it has lost the answer.
//!
//! It never ends what the state knows, and never asks whether that is right.

use alloc::collections::BTreeSet;
use core::fmt;

use serde::ser::{self, Serialize, Serializer};

use super::shell::Kept;
use super::{Effects, Server};
use crate::abi::delivery::PAYLOAD_OFFSET;
use crate::abi::sweep::Holding;
use crate::abi::syscall::Syscall;
use crate::abi::{Badge, Frame, Handle};
use crate::sys::Traps;

/// Goes through the next of what a server has, and ends what it does not know.
pub(super) fn sweep<S: Server, T: Traps>(kept: &mut Kept, server: &mut S, traps: &mut T) -> Effects {
    let listed = traps.trap(Syscall::Sweep, [0; 6]);
    let [what, count, ..] = listed.expect("a server that is told to may list what it has");
    let what = Holding::from_number(what).expect("what the kernel lists is known");
    let names = &traps.buffer()[PAYLOAD_OFFSET as usize..];
    let names = names.as_chunks().0.iter().take(count as usize).map(|name| u64::from_le_bytes(*name));
    let mut unknown: BTreeSet<u64> = names.collect();
    let mut effects = Effects::none();
    match what {
        Holding::Handle => Search::new("Handle", &mut unknown).through(&(&*kept, &*server)),
        Holding::Call => Search::new("CallId", &mut unknown).through(&(&*kept, &*server)),
        Holding::Sent => Search::new("Tag", &mut unknown).through(&(&*kept, &*server)),
        Holding::Frame => unknown.retain(|frame| server.is_free(Frame(*frame as u32))),
        // The server knows them. It is others that do not.
        Holding::Space => {
            for space in core::mem::take(&mut unknown) {
                effects.append(server.unclaimed(Badge(space)));
            }
        }
    }
    for name in unknown {
        let ended = traps.trap(Syscall::Discard, [what as u64, name, 0, 0, 0, 0]);
        // What belongs together ends together.
        if ended.is_ok() && what == Holding::Handle {
            kept.slots.reclaim(Handle(name as u32));
        }
    }
    effects
}

/// Goes through a state and takes from a list of names those that it meets.
struct Search<'a> {
    /// The type whose values are looked for: one number each.
    kind: &'static str,
    /// Those that were not met.
    unknown: &'a mut BTreeSet<u64>,
    /// The next number is one.
    inside: bool,
}

impl<'a> Search<'a> {
    fn new(kind: &'static str, unknown: &'a mut BTreeSet<u64>) -> Search<'a> {
        Search { kind, unknown, inside: false }
    }

    fn through(mut self, state: &impl Serialize) {
        if !self.unknown.is_empty() {
            state.serialize(&mut self).expect("state always encodes");
        }
    }

    fn number(&mut self, number: u64) {
        if core::mem::take(&mut self.inside) {
            self.unknown.remove(&number);
        }
    }
}

type Met = Result<(), fmt::Error>;

/// Scalars that cannot be names.
macro_rules! pass_over {
    ($($method:ident($kind:ty))*) => { $(fn $method(self, _: $kind) -> Met { Ok(()) })* };
}

impl Serializer for &mut Search<'_> {
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
    ($($compound:ident $part:ident)*) => { $(impl ser::$compound for &mut Search<'_> {
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

impl ser::SerializeMap for &mut Search<'_> {
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
    ($($compound:ident)*) => { $(impl ser::$compound for &mut Search<'_> {
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
