//! Pages for vm and bytes for program loaders.

use super::world::{End, World};
use libipc::abi::KernelError;
use libipc::linux::open::*;
use libipc::proto::fs::{OPEN_DEVICE, PAGE_IN, READ_AT};
use libipc::proto::space;
use libipc::server::{Call, Caller, Event, Message, Request};

const PAGE: u64 = 4096;

/// A fault of `pages` pages from `first` on; answers the call and what was sent to vm.
fn fault(world: &mut World, badge: u64, first: u64, pages: u64) -> (Call, Vec<(u64, Vec<u8>)>) {
    let message = Message::words(PAGE_IN, [55, first, pages, 0]);
    let call = world.script.call(Caller::default(), badge, Request::Native(message));
    world.sent.clear();
    world.begin_call(call.clone());
    let supplies = world.sent.iter().map(|(_, message)| match message.decode() {
        Ok(space::Request::Supply { object: 55, page, data }) => (page, data),
        other => panic!("{other:?}"),
    });
    (call, supplies.collect())
}

fn answer(world: &mut World, answer: space::Answer) {
    for (tag, _) in world.sent.clone() {
        world.event(&Event::Answer { tag, answer: Ok(Message::typed(0, &answer)) });
    }
}

#[test]
fn a_fault_is_answered_when_vm_has_all_pages() {
    let mut world = World::new();
    let file = world.make("f");
    world.write_at(file, &[7; 4096], PAGE);
    world.write_at(file, b"tail", 3 * PAGE);
    let (call, supplies) = fault(&mut world, file, 0, 100);
    let expected = vec![(0, vec![0]), (1, vec![7; 4096]), (2, vec![0]), (3, b"tail".to_vec())];
    assert_eq!(supplies, expected);
    assert!(!world.ends.contains_key(&call.id));
    answer(&mut world, space::Answer::Done);
    assert_eq!(world.ends[&call.id], End::Native(Message::label(0)));
    assert!(world.server.supplying.is_empty());
}

#[test]
fn a_page_beyond_the_end_is_supplied_empty() {
    let mut world = World::new();
    let file = world.make("f");
    world.write(file, b"x");
    let (_, supplies) = fault(&mut world, file, 1, 4);
    assert_eq!(supplies, [(1, vec![])]);
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
    assert_eq!(fault(&mut world, badge, 9, 1).1, [(9, vec![0])]);
}

#[test]
fn a_file_that_changes_after_vm_has_read_it_is_another_object_to_later_opens() {
    let mut world = World::new();
    let first = world.make("f");
    world.write(first, b"old");
    let second = world.make("f");
    assert_eq!(world.sessions[&first].object, world.sessions[&second].object);
    let _ = fault(&mut world, first, 0, 1);
    let third = world.make("f");
    assert_eq!(world.sessions[&third].object, world.sessions[&first].object, "nothing was written since");
    world.write_at(first, b"new", 0);
    let fourth = world.make("f");
    assert_ne!(world.sessions[&fourth].object, world.sessions[&first].object);
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
