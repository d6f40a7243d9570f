//! From a message buffer to an event.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zerocopy::FromBytes;

use super::event::{Call, Caller, Event, Foreign, Names, Request};
use super::message::Message;
use crate::abi::delivery::{
    DELIVERY_OFFSET, Delivery, Extent, FaultKind, INPUT_NULL, Kind, MessageBuffer, Occasion, PAYLOAD_OFFSET,
};
use crate::abi::{Badge, CallId, Handle, KernelError, Readiness, Tag};
use crate::sys::BUFFER_BYTES;

/// What has come.
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once, never kept in numbers")]
pub enum Incoming {
    /// Something for the server.
    Event(Event),
    /// A page that a call was missing is there, or never will be.
    Ready {
        /// The call.
        call: CallId,
        /// It never will be.
        failed: bool,
    },
}

/// The slots that the next handles to come in may use.
pub fn write_offer(buffer: &mut [u8; BUFFER_BYTES], offered: &[Handle; 4]) {
    if let Ok((header, _)) = MessageBuffer::mut_from_prefix(&mut buffer[..]) {
        header.offer = offered.map(|handle| handle.0);
    }
}

/// Writes the outgoing header: handles to send along, and a tag.
pub fn write_header(buffer: &mut [u8; BUFFER_BYTES], handles: &[Handle], tag: u64) {
    if let Ok((header, _)) = MessageBuffer::mut_from_prefix(&mut buffer[..]) {
        for (place, handle) in header.send.iter_mut().zip(handles) {
            *place = handle.0;
        }
        header.tag = tag;
    }
}

/// What the shell itself wants to know of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Nanoseconds since boot.
    pub now: u64,
    /// How full the journal is, as [`Delivery::fill`] says it.
    pub fill: u32,
    /// Handles that came along, by the slots they were put into.
    pub handles: [u32; 4],
    /// How many.
    pub handle_count: u32,
}

/// Has the delivery in a buffer looked at, where it lies if it is aligned; it is not only on the host.
#[inline(always)]
fn with_delivery<T>(buffer: &[u8; BUFFER_BYTES], look: impl FnOnce(&Delivery) -> T) -> T {
    let at = DELIVERY_OFFSET as usize;
    let bytes = &buffer[at..at + size_of::<Delivery>()];
    match Delivery::ref_from_bytes(bytes) {
        Ok(delivery) => look(delivery),
        Err(_) => look(&Delivery::read_from_bytes(bytes).unwrap_or_default()),
    }
}

/// What the shell wants to know of the delivery in a buffer.
#[inline(always)]
pub fn head(buffer: &[u8; BUFFER_BYTES]) -> Head {
    with_delivery(buffer, |delivery| {
        let Delivery { now, fill, handles, handle_count, .. } = *delivery;
        Head { now, fill, handles, handle_count }
    })
}

/// Takes the delivery in a buffer apart. `None` when it is none.
#[inline(never)]
pub fn incoming(buffer: &[u8; BUFFER_BYTES]) -> Option<Incoming> {
    with_delivery(buffer, |delivery| {
        let from = PAYLOAD_OFFSET as usize;
        let payload = buffer.get(from..from + delivery.payload_len as usize)?;
        event(delivery, payload)
    })
}

/// Each kind is made by itself, where it is wanted: on a way that they share a call would be moved word by word.
#[inline(always)]
fn event(delivery: &Delivery, payload: &[u8]) -> Option<Incoming> {
    match Kind::from_number(delivery.kind)? {
        Kind::Foreign => {
            let request = Request::Foreign(foreign(delivery, payload));
            Some(Incoming::Event(Event::Call(call(delivery, delivery.caller, request))))
        }
        Kind::Call => {
            let request = Request::Native(message(delivery, payload));
            Some(Incoming::Event(Event::Call(call(delivery, known_caller(delivery), request))))
        }
        Kind::Answer => {
            let dead = delivery.label == u32::MAX;
            let answer = if dead { Err(KernelError::PeerDead) } else { Ok(message(delivery, payload)) };
            Some(Incoming::Event(Event::Answer { tag: Tag(delivery.token), answer }))
        }
        kind => rare(kind, delivery),
    }
}

/// What brings no message and is no system call.
#[inline(never)]
fn rare(kind: Kind, delivery: &Delivery) -> Option<Incoming> {
    let id = CallId(delivery.token);
    let event = match kind {
        Kind::Fault => {
            let [word0, word1, word2, word3, ..] = delivery.words;
            let kind = FaultKind::from_number(delivery.label)?;
            let request = Request::Fault { kind, words: [word0, word1, word2, word3] };
            Event::Call(call(delivery, known_caller(delivery), request))
        }
        Kind::Attention => {
            let [restart, occasion, ..] = delivery.words;
            let occasion = Occasion::from_number(occasion)?;
            Event::Call(call(delivery, known_caller(delivery), Request::Attention { restart, occasion }))
        }
        Kind::Notify => Event::Notify { bits: delivery.words[0] },
        Kind::Cancel => Event::Cancel { call: id },
        Kind::LastClose => Event::LastClose { badge: Badge(delivery.badge), owner: Handle(delivery.owner) },
        Kind::Watch => Event::Watch { call: id },
        Kind::Watched => {
            let [cookie, bits, gone, ..] = delivery.words;
            let ready = Readiness::from_bits_truncate(bits as u32);
            Event::Watched { cookie, ready: (gone == 0).then_some(ready) }
        }
        Kind::Ready => return Some(Incoming::Ready { call: id, failed: delivery.words[0] != 0 }),
        Kind::Call | Kind::Foreign | Kind::Answer => return None,
    };
    Some(Incoming::Event(event))
}

#[inline(always)]
fn call(delivery: &Delivery, caller: Caller, request: Request) -> Call {
    Call {
        id: CallId(delivery.token),
        caller,
        badge: Badge(delivery.badge),
        position: delivery.position,
        status: delivery.status,
        request,
    }
}

/// Who calls, if it is a program.
fn known_caller(delivery: &Delivery) -> Caller {
    let known = delivery.extent >= Extent::Caller as u32;
    if known { delivery.caller } else { Caller::default() }
}

#[inline]
fn message(delivery: &Delivery, payload: &[u8]) -> Message {
    let [word0, word1, word2, word3, ..] = delivery.words;
    let handles = delivery.handles.iter().take(delivery.handle_count as usize);
    Message {
        label: delivery.label,
        words: [word0, word1, word2, word3],
        payload: payload.to_vec(),
        handles: handles.map(|handle| Handle(*handle)).collect(),
    }
}

#[inline(always)]
fn foreign(delivery: &Delivery, payload: &[u8]) -> Foreign {
    let inputs = match delivery.inputs {
        [INPUT_NULL, INPUT_NULL] => [None, None],
        lengths => inputs(lengths, payload),
    };
    let known = delivery.extent >= Extent::Named as u32;
    let Delivery { named, directories, .. } = *delivery;
    Foreign {
        number: delivery.label,
        arguments: delivery.words,
        inputs,
        names: known.then(|| Box::new(Names { named, directories })),
        slots: delivery.slots,
        passed: (delivery.handle_count > 0).then(|| Handle(delivery.handles[0])),
    }
}

fn inputs(lengths: [u32; 2], payload: &[u8]) -> [Option<Vec<u8>>; 2] {
    let mut rest = payload;
    lengths.map(|length| {
        if length == INPUT_NULL {
            return None;
        }
        let (input, after) = rest.split_at_checked(length as usize)?;
        rest = after;
        Some(input.to_vec())
    })
}
