//! Pages for vm and bytes for program loaders.

use super::world::{End, World};
use crate::arena::Use;
use libipc::abi::{Frame, KernelError};
use libipc::linux::errno::ETXTBSY;
use libipc::linux::open::*;
use libipc::proto::fs::{OPEN_DEVICE, Operation, PAGE_IN, READ_AT};
use libipc::proto::process::FILE_LIMIT;
use libipc::proto::space;
use libipc::server::{Call, Caller, Event, Message, Request};

const PAGE: u64 = 4096;

/// A fault of `pages` pages from `first` on; answers the call and what was sent to vm.
fn fault(world: &mut World, badge: u64, first: u64, pages: u64) -> (Call, Vec<space::Request>) {
    let message = Message::words(PAGE_IN, [55, first, pages, 0]);
    let call = world.script.call(Caller::default(), badge, Request::Native(message));
    world.sent.clear();
    world.begin_call(call.clone());
    (call, world.sent.iter().map(|(_, message)| message.decode().expect("a request of vm's")).collect())
}

fn frames(requests: &[space::Request]) -> Vec<Frame> {
    match requests {
        [space::Request::Lend { object: 55, frames, .. }] => frames.clone(),
        other => panic!("{other:?}"),
    }
}

fn answer(world: &mut World, answer: space::Answer) {
    for (tag, _) in world.sent.clone() {
        world.event(&Event::Answer { tag, answer: Ok(Message::typed(0, &answer)) });
    }
}

#[test]
fn a_fault_is_answered_when_vm_has_been_lent_the_pages_up_to_the_next_hole() {
    let mut world = World::new();
    let file = world.make("f");
    world.write_at(file, &[7; 8192], PAGE);
    world.write_at(file, b"tail", 4 * PAGE);
    let (call, lent) = fault(&mut world, file, 0, 100);
    assert_eq!(frames(&lent).len(), 3, "the hole that was touched, and the pages behind it");
    assert_eq!(world.read_at(file, PAGE, 0), Ok(vec![0; PAGE as usize]));
    assert!(!world.ends.contains_key(&call.id));
    answer(&mut world, space::Answer::Done);
    assert_eq!(world.ends[&call.id], End::Native(Message::label(0)));
    assert!(world.server.supplying.is_empty());
    let (_, again) = fault(&mut world, file, 2, 100);
    assert_eq!(frames(&again), frames(&lent)[2..], "always the same frames");
}

#[test]
fn pages_that_were_lent_are_given_out_again_when_vm_has_let_go_of_them() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, &[7; 8192]);
    let (_, lent) = fault(&mut world, file, 0, 2);
    answer(&mut world, space::Answer::Done);
    let before = world.server.arena.available(Use::Pipe);
    world.sent.clear();
    assert_eq!(world.linux(file, 77, [0, 10, 0, 0, 0, 0]), 0);
    let asked: Vec<space::Request> = world.sent.iter().map(|(_, it)| it.decode().unwrap()).collect();
    assert!(matches!(asked[..], [space::Request::Invalidate { page: 0, pages: u64::MAX, .. }]), "{asked:?}");
    assert_eq!(world.server.arena.available(Use::Pipe), before, "not yet");
    answer(&mut world, space::Answer::Done);
    assert_eq!(world.server.arena.available(Use::Pipe), before + 1);
    assert_eq!(frames(&lent).len(), 2);
}

#[test]
fn a_page_beyond_the_end_is_supplied_empty() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, b"x");
    let (_, supplies) = fault(&mut world, file, 1, 4);
    assert_eq!(supplies, [space::Request::Supply { object: 55, page: 1, data: vec![] }]);
}

#[test]
fn a_fault_fails_when_vm_fails_or_nothing_can_be_mapped() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, b"x");
    let (call, _) = fault(&mut world, file, 0, 1);
    let (tag, _) = world.sent[0];
    world.event(&Event::Answer { tag, answer: Err(KernelError::PeerDead) });
    assert!(matches!(&world.ends[&call.id], End::Native(message) if message.label != 0));
    let (read, _) = world.pipe(0);
    let (call, supplies) = fault(&mut world, read, 0, 1);
    assert!(supplies.is_empty());
    assert!(matches!(&world.ends[&call.id], End::Native(message) if message.label != 0));
}

#[test]
fn the_zero_device_can_be_mapped() {
    let mut world = World::new();
    let opened = world.native(0, Message::words(OPEN_DEVICE, [0x105, u64::from(O_RDWR), 0, 0]));
    let owner = opened.handles[0];
    let badge = *world.sessions.iter().find(|(_, session)| session.owner == owner).expect("a session").0;
    let zeroes = space::Request::Supply { object: 55, page: 9, data: vec![0] };
    assert_eq!(fault(&mut world, badge, 9, 1).1, [zeroes]);
}

#[test]
fn loaders_read_through_a_session() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, b"#!/bin/sh");
    let read = |offset, length| Message::words(READ_AT, [offset, length, 0, 0]);
    let answer = world.native(file, read(2, 100));
    assert_eq!(
        (answer.payload.as_slice(), answer.words[0]),
        (b"/bin/sh".as_slice(), world.sessions[&file].object)
    );
    assert_eq!(world.native(file, read(50, 100)).payload, b"");
    assert_ne!(world.native(77, read(0, 1)).label, 0);
    assert_ne!(world.native(file, Message::label(0xdead)).label, 0);
}

#[test]
fn a_file_is_either_written_or_run() {
    let mut world = World::new();
    let writer = world.make("f");
    assert_eq!(world.open("f", O_RDONLY | O_RUNS), Err(ETXTBSY));
    world.close(writer);
    let running = world.open("f", O_RDONLY | O_RUNS).unwrap();
    assert_eq!(world.open("f", O_RDWR), Err(ETXTBSY));
    assert_eq!(world.request("f", Operation::Truncate(0)), Err(ETXTBSY));
    let reader = world.open("f", O_RDONLY).unwrap();
    world.close(running);
    let writer = world.open("f", O_RDWR).unwrap();
    world.close(reader);
    world.close(writer);
    assert!(world.open("f", O_RDONLY | O_RUNS).is_ok());
}

#[test]
fn a_file_grows_up_to_its_callers_limit_and_then_the_process_server_is_told() {
    let mut world = World::new();
    let file = world.make("f");
    world.caller.file_limit = 1001;
    assert_eq!((world.write(file, &[1; 900]), world.write(file, &[1; 900])), (900, 100));
    let refused = world.begin(file, 77, [0, 1001, 0, 0, 0, 0]);
    assert!(matches!(&world.ends[&refused], End::Handed(message) if message.label == FILE_LIMIT));
    assert_eq!(world.linux(file, 77, [0, 1000, 0, 0, 0, 0]), 0);
    let refused = world.begin(file, 285, [0, 0, 0, 2000, 0, 0]);
    assert!(matches!(&world.ends[&refused], End::Handed(message) if message.label == FILE_LIMIT));
}
