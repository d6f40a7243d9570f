//! What a sweep finds, and what it must not.

use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::handles::HandleSlots;
use super::super::shell::Deferred;
use super::super::{Boot, Effect, Effects, Env, Event, Operation, Rows};
use super::*;
use crate::abi::{CallId, KernelError, Tag};
use crate::sys::{BUFFER_BYTES, Trapped};

/// A server that has what servers have, wherever they may have it.
#[derive(Default, Serialize, Deserialize)]
struct Keeper {
    rows: Rows<u64, (Option<Handle>, u32)>,
    jobs: BTreeMap<Tag, Job>,
    /// Numbers that are no names.
    numbers: Vec<u64>,
    used: Vec<Frame>,
}

#[derive(Serialize, Deserialize)]
enum Job {
    Plain(CallId),
    Named { call: CallId, handles: Box<[Handle]> },
}

impl Server for Keeper {
    fn new(_: &Boot) -> Keeper {
        Keeper::default()
    }

    fn step(&mut self, _: &Event, _: &mut dyn Env) -> Effects {
        Effects::none()
    }

    fn is_free(&self, frame: Frame) -> bool {
        !self.used.contains(&frame)
    }
}

/// The first slot that it may choose.
const FIRST_FREE: u32 = 96;

fn nothing_kept() -> Kept {
    let mut slots = HandleSlots::new(FIRST_FREE);
    let offered = [slots.take(), slots.take(), slots.take(), slots.take()];
    Kept { slots, offered, deferred: BTreeMap::new(), again: BTreeMap::new() }
}

/// A kernel that has this list for its server, and notes what is ended.
struct Kernel {
    list: (Holding, Vec<u64>),
    places: [u64; 2],
    ended: Vec<u64>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

/// All places at once.
const ALL: [u64; 2] = [0, u32::MAX as u64];

impl Kernel {
    fn new(what: Holding, names: &[u64], places: [u64; 2]) -> Kernel {
        let buffer = Box::new([0; BUFFER_BYTES]);
        Kernel { list: (what, names.to_vec()), places, ended: vec![], buffer }
    }
}

impl Traps for Kernel {
    fn trap(&mut self, call: Syscall, [what, name, ..]: [u64; 6]) -> Trapped {
        let (holding, names) = &self.list;
        if call == Syscall::Sweep {
            let places = self.buffer[PAYLOAD_OFFSET as usize..].chunks_mut(8);
            places.zip(names).for_each(|(place, name)| place.copy_from_slice(&name.to_le_bytes()));
            let [from, to] = self.places;
            return Ok([*holding as u64, names.len() as u64, 1, from, to]);
        }
        assert_eq!((call, what), (Syscall::Discard, *holding as u64));
        self.ended.push(name);
        // A thread has ended with its task.
        if name == 404 { Err(KernelError::BadHandle) } else { Ok([0; 5]) }
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

/// What a sweep ends of a list.
fn ended(kept: &mut Kept, server: &Keeper, what: Holding, names: &[u64]) -> Vec<u64> {
    let mut kernel = Kernel::new(what, names, ALL);
    sweep(kept, server, &mut kernel, FIRST_FREE);
    kernel.ended
}

#[test]
fn what_stands_anywhere_in_a_state_is_known() {
    let mut keeper = Keeper::default();
    keeper.rows.insert(7, (Some(Handle(101)), 102));
    keeper.jobs.insert(Tag(5), Job::Plain(CallId(201)));
    let handles = [Handle(103), Handle(104)].into();
    keeper.jobs.insert(Tag(6), Job::Named { call: CallId(202), handles });
    keeper.numbers = vec![105, 203, 7];
    let mut kept = nothing_kept();
    let close = Effect::Do(Operation::Close { handle: Handle(106) });
    kept.deferred.insert(CallId(204), Deferred::Waiting(vec![close]));
    kept.offered[0] = Handle(107);
    let handles = [101, 102, 103, 104, 105, 106, 107, 5, 201];
    assert_eq!(ended(&mut kept, &keeper, Holding::Handle, &handles), [5, 102, 105, 107, 201]);
    let calls = [101, 201, 202, 203, 204, 5];
    assert_eq!(ended(&mut kept, &keeper, Holding::Call, &calls), [5, 101, 203]);
    assert_eq!(ended(&mut kept, &keeper, Holding::Sent, &[5, 6, 7, 101]), [7, 101]);
    keeper.used = vec![Frame(9)];
    assert_eq!(ended(&mut kept, &keeper, Holding::Frame, &[8, 9, 101]), [8, 101]);
}

#[test]
fn a_server_is_told_of_what_it_knows_and_does_not_have() {
    let mut keeper = Keeper::default();
    const INDEX: u64 = 7;
    let call = CallId(9 << 32 | INDEX);
    let handles = [Handle(103), Handle::NONE].into();
    keeper.jobs.insert(Tag(6), Job::Named { call, handles });
    let mut kept = nothing_kept();
    kept.offered[0] = Handle(107);
    let mut told = |what, names: &[u64], places| {
        sweep(&mut kept, &keeper, &mut Kernel::new(what, names, places), FIRST_FREE)
    };
    assert_eq!(told(Holding::Handle, &[], ALL), [Event::Lost { handle: Handle(103) }]);
    assert_eq!(told(Holding::Handle, &[103], ALL), []);
    assert_eq!(told(Holding::Handle, &[], [104, 200]), [], "those come with another part");
    assert_eq!(told(Holding::Call, &[], ALL), [Event::Cancel { call }]);
    assert_eq!(told(Holding::Call, &[], [INDEX, INDEX + 1]), [Event::Cancel { call }]);
    assert_eq!(told(Holding::Call, &[], [INDEX + 1, 100]), []);
    let failed = Event::Answer { tag: Tag(6), answer: Err(KernelError::PeerDead) };
    assert_eq!(told(Holding::Sent, &[], ALL), [failed]);
    assert_eq!(told(Holding::Sent, &[], [0, 50]), [], "it may be in another part");
    assert_eq!(told(Holding::Space, &[3], ALL), [Event::Unclaimed { space: Badge(3) }]);
}

#[test]
fn a_slot_is_free_when_what_it_named_has_ended_and_not_sooner() {
    let (mut kept, keeper) = (nothing_kept(), Keeper::default());
    let taken: Vec<Handle> = (0..3).map(|_| kept.slots.take()).collect();
    assert_eq!(taken, [Handle(100), Handle(101), Handle(102)]);
    assert_eq!(ended(&mut kept, &keeper, Holding::Handle, &[101, 404]), [101, 404]);
    assert_eq!((kept.slots.take(), kept.slots.take()), (Handle(101), Handle(103)));
}

#[test]
fn a_sweep_takes_back_what_was_said_to_be_free_and_is_not() {
    let (mut kept, mut keeper) = (nothing_kept(), Keeper::default());
    assert_eq!((0..8).map(|_| kept.slots.take()).last(), Some(Handle(107)));
    (101..108).for_each(|slot| kept.slots.give_back(Handle(slot)));
    kept.offered = [101, 102, 103, 104].map(Handle);
    let handles = [Handle(102), Handle(103), Handle(107), Handle(112)].into();
    keeper.jobs.insert(Tag(6), Job::Named { call: CallId(9), handles });
    let close = Effect::Do(Operation::Close { handle: Handle(106) });
    kept.deferred.insert(CallId(204), Deferred::Waiting(vec![close]));
    assert_eq!(ended(&mut kept, &keeper, Holding::Handle, &[102, 103, 106, 107, 112]), []);
    assert_eq!(kept.offered, [101, 105, 113, 104].map(Handle));
    assert_eq!((kept.slots.take(), kept.slots.take()), (Handle(114), Handle(115)));
}

proptest! {
    #[test]
    fn nothing_that_a_state_knows_is_ended_and_all_else_is(
        known in prop::collection::btree_set(0u32..600, 0..40),
        all in prop::collection::btree_set(0u64..600, 0..256),
    ) {
        let mut keeper = Keeper::default();
        for handle in &known {
            let calls = Job::Named { call: CallId(u64::from(*handle) + 1000), handles: [Handle(*handle)].into() };
            keeper.jobs.insert(Tag(u64::from(*handle) + 2000), calls);
        }
        let names: Vec<u64> = all.iter().copied().collect();
        let ended = ended(&mut nothing_kept(), &keeper, Holding::Handle, &names);
        let unknown: Vec<u64> = names.into_iter().filter(|name| !known.contains(&(*name as u32))).collect();
        prop_assert_eq!(ended, unknown);
    }
}
