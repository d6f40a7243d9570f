//! Calls, answers, sessions and handles between servers.

use libipc::abi::delivery::{Kind, MessageBuffer};
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, Readiness};
use libipc::linux::call::WAIT4;

use super::{World, info};

#[test]
fn a_call_brings_words_and_payload_there_and_back() {
    let (mut world, client, server) = World::two([false, false]);
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    world.set_payload(client, b"question");
    assert_eq!(world.trap(client, Syscall::Call, &[0, info(7, 8, 0), 1, 2, 3, 4]), None);
    let delivery = world.delivery(server);
    assert_eq!((delivery.kind, delivery.label), (Kind::Call as u32, 7));
    assert_eq!(delivery.words[..4], [1, 2, 3, 4]);
    assert_eq!(world.payload(server, 8), b"question");
    world.set_payload(server, b"answer");
    world.ok(server, Syscall::Reply, &[delivery.token, info(9, 6, 0), 5, 6, 7, 8]);
    assert_eq!(world.result(client), Some(Ok([info(9, 6, 0), 5, 6, 7, 8])));
    assert_eq!(world.payload(client, 6), b"answer");
}

#[test]
fn an_answered_call_is_no_call_any_more() {
    let (mut world, client, server) = World::two([false, false]);
    world.trap(client, Syscall::Call, &[0, info(7, 0, 0)]);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::Reply, &[token, 0]);
    assert_eq!(world.trap(server, Syscall::Reply, &[token, 0]), Some(Err(KernelError::NoSuchCall)));
    assert_eq!(world.trap(client, Syscall::Reply, &[token, 0]), Some(Err(KernelError::NoSuchCall)));
}

#[test]
fn a_sent_call_answers_as_an_event_with_its_tag() {
    let (mut world, client, server) = World::two([false, false]);
    world.set_header(client, MessageBuffer { tag: 77, ..MessageBuffer::default() });
    world.set_payload(client, b"later");
    world.ok(client, Syscall::Send, &[0, info(1, 5, 0), 10]);
    world.set_payload(client, b"other");
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.payload(server, 5), b"later", "the kernel keeps what was sent");
    let token = world.delivery(server).token;
    world.set_payload(server, b"result");
    world.ok(server, Syscall::Reply, &[token, info(0, 6, 0), 20]);
    world.ok(client, Syscall::Receive, &[]);
    let answer = world.delivery(client);
    assert_eq!((answer.kind, answer.token, answer.words[0]), (Kind::Answer as u32, 77, 20));
    assert_eq!(world.payload(client, 6), b"result");
    assert_eq!(world.kernel.calls.used(), 0);
    assert_eq!(world.kernel.buffers.count as usize, world.kernel.buffers.free.len());
}

#[test]
fn the_last_close_of_a_session_tells_its_server_once() {
    let (mut world, client, server) = World::two([false, false]);
    world.trap(client, Syscall::Call, &[0, info(1, 0, 0)]);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::SessionCreate, &[50, 42, 4242, u64::from(Readiness::IN.bits()) << 32, 0]);
    world.set_header(server, MessageBuffer { send: [50, 0, 0, 0], ..MessageBuffer::default() });
    world.set_header(client, MessageBuffer { offer: [60, 61, 62, 63], ..MessageBuffer::default() });
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 1)]);
    world.ok(client, Syscall::Duplicate, &[60, 70, 9]);
    world.trap(client, Syscall::Call, &[70, info(2, 0, 0)]);
    world.ok(server, Syscall::Receive, &[]);
    let delivery = world.delivery(server);
    assert_eq!(delivery.badge, 42, "a call through a session carries its badge");
    world.ok(server, Syscall::Reply, &[delivery.token, 0]);
    world.ok(client, Syscall::Close, &[60]);
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None, "one holder is left");
    world.ok(client, Syscall::Close, &[70]);
    let close = world.delivery(server);
    assert_eq!((close.kind, close.badge, close.owner), (Kind::LastClose as u32, 42, 50));
    world.ok(server, Syscall::Close, &[50]);
    assert_eq!(world.kernel.sessions.used(), 0);
}

#[test]
fn a_forwarded_call_is_answered_by_the_last_server() {
    let (mut world, client, first) = World::two([false, false]);
    let second = world.server(4, false);
    world.kernel.put(first, 20, world.inbox(second), libipc::abi::Rights::CALL).unwrap();
    world.start(4);
    world.trap(client, Syscall::Call, &[0, info(1, 0, 0), 5]);
    world.ok(first, Syscall::Receive, &[]);
    let token = world.delivery(first).token;
    world.set_payload(first, b"more");
    world.ok(first, Syscall::Forward, &[token, 20, info(2, 4, 0), 6]);
    assert_eq!(world.trap(first, Syscall::Reply, &[token, 0]), Some(Err(KernelError::NoSuchCall)));
    world.ok(second, Syscall::Receive, &[]);
    let delivery = world.delivery(second);
    assert_eq!((delivery.label, delivery.words[0]), (2, 6));
    assert_eq!(world.payload(second, 4), b"more");
    world.ok(second, Syscall::Reply, &[delivery.token, info(3, 0, 0)]);
    assert_eq!(world.result(client), Some(Ok([info(3, 0, 0), 0, 0, 0, 0])));
}

#[test]
fn handles_without_the_right_are_refused() {
    let (mut world, client, _) = World::two([false, false]);
    assert_eq!(world.trap(client, Syscall::Call, &[9, 0]), Some(Err(KernelError::BadHandle)));
    assert_eq!(world.trap(client, Syscall::Crash, &[0]), Some(Err(KernelError::NoRight)));
    assert_eq!(world.trap(client, Syscall::ServerRestart, &[0]), Some(Err(KernelError::NoRight)));
    assert_eq!(world.trap(client, Syscall::PortIn, &[0x60, 1]), Some(Err(KernelError::NoRight)));
}

#[test]
fn a_call_whose_process_has_ended_is_handed_on_to_nobody() {
    let (mut world, vm, proc, program) = World::with_program();
    world.grant(3, 0, 2);
    assert_eq!(world.linux(&program, WAIT4, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    let received = world.kernel.server(vm).unwrap().received;
    assert_eq!(world.trap(vm, Syscall::Receive, &[]), None);
    world.ok(proc, Syscall::TaskKill, &[program.task_slot]);
    world.ok(proc, Syscall::Forward, &[token, 0, info(1, 0, 0)]);
    assert_eq!(world.result(vm), None, "its message buffer says what it said before");
    assert_eq!(world.kernel.server(vm).unwrap().received, received);
    assert_eq!(world.kernel.calls.used(), 0);
}
