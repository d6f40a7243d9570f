//! Tests of random.

use libipc::abi::{Badge, CallId, Tag};
use libipc::linux::open::{O_NONBLOCK, O_RDWR};
use libipc::proto::terminal::{QUERY, SESSION_ENDED, TAKE_EVENTS};
use libipc::server::testing::{Script, step};
use libipc::server::{Event, Message, Server, TIMER_BIT};
use proptest::prelude::*;

use super::world::*;
use crate::Tty;

/// Something that happens.
#[derive(Clone, Debug)]
enum Act {
    Typed(u8),
    Drain,
    Wait(u32),
    Read(u16),
    Write(u16),
    Ioctl(u64, u64),
    Cancel(u8),
    Missing(u8),
    Open(bool),
    Ended,
    Called(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let requests = prop::sample::select(vec![
        0x5401,
        0x5402,
        0x5403,
        0x5404,
        0x5409,
        0x540a,
        0x540b,
        0x540e,
        0x540f,
        0x5410,
        0x5411,
        0x5412,
        0x5413,
        0x5414,
        0x541b,
        0x5421,
        0x5422,
        0x5425,
        0x5429,
        0x802c_542a,
        0x402c_542b,
    ]);
    let arguments = prop_oneof![0..4_u64, BUFFER..BUFFER + 9000, any::<u64>()];
    let keys = prop_oneof![any::<u8>(), prop::sample::select(b"\x03\x04\x11\x13\x1a\x7f\n\r".to_vec())];
    prop_oneof![
        8 => keys.prop_map(Act::Typed),
        8 => Just(Act::Drain),
        2 => (0..2_000_000_000_u32).prop_map(Act::Wait),
        4 => (0..200_u16).prop_map(Act::Read),
        4 => prop_oneof![0..100_u16, 0..6000_u16].prop_map(Act::Write),
        6 => (requests, arguments).prop_map(|(request, argument)| Act::Ioctl(request, argument)),
        2 => any::<u8>().prop_map(Act::Cancel),
        1 => any::<u8>().prop_map(Act::Missing),
        1 => any::<bool>().prop_map(Act::Open),
        1 => Just(Act::Ended),
        1 => (0..320_u32).prop_map(Act::Called),
    ]
}

fn run(acts: &[Act], instant: bool) -> World {
    let (mut world, mut badge) = World::new();
    world.script.ports.instant = instant;
    let mut calls = Vec::new();
    for (index, act) in acts.iter().enumerate() {
        let who = if index % 3 == 0 { job() } else { shell() };
        match act {
            Act::Typed(byte) if world.script.ports.port.received.len() < world.script.ports.port.depth() => {
                world.script.ports.port.arrive(*byte, if *byte == 0x80 { 0x10 } else { 0 });
                world.event(Event::Notify { bits: 1 });
            }
            Act::Typed(_) => {}
            Act::Drain => world.drain(),
            Act::Wait(time) => world.wait_ns(u64::from(*time)),
            Act::Read(length) => calls.push(world.read(who, badge, u64::from(*length))),
            Act::Write(length) => {
                calls.push(world.linux(who, badge, 1, [1, BUFFER, u64::from(*length), 0, 0, 0]))
            }
            Act::Ioctl(request, argument) => {
                // Only programs of the host write to bad addresses; the kernel answers for them.
                let known = (BUFFER..BUFFER + 9000).contains(argument) || *argument < 4;
                let writes =
                    !matches!(request, 0x5401 | 0x540f | 0x5411 | 0x5413 | 0x541b | 0x5429 | 0x802c_542a);
                if writes || known && *argument >= 4 {
                    calls.push(world.ioctl(who, badge, *request, *argument));
                }
            }
            Act::Cancel(which) if !calls.is_empty() => {
                let call = calls[usize::from(*which) % calls.len()];
                world.cancel(call);
            }
            Act::Cancel(_) => world.cancel(CallId(99_999)),
            Act::Missing(page) => {
                world.script.missing.insert((BUFFER >> 12) + u64::from(page % 3));
            }
            Act::Open(nonblock) => {
                let flags = if *nonblock { O_RDWR | O_NONBLOCK } else { O_RDWR };
                badge = world.open(who, if *nonblock { SERIAL } else { CONSOLE }, flags).unwrap_or(badge);
            }
            Act::Ended => {
                world.native(Message::words(SESSION_ENDED, [2, 0, 0, 0]));
            }
            Act::Called(number) => calls.push(world.linux(who, badge, *number, [1, BUFFER, 1, 0, 0, 0])),
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_replays_to_the_same_state(acts in prop::collection::vec(act(), 0..80), instant: bool) {
        // A replay needs the same bytes of the caller at every point, so nothing is missing and nothing is read
        // twice.
        let acts: Vec<Act> = acts.into_iter().filter(|act| !matches!(act, Act::Missing(_) | Act::Read(_))).collect();
        let acts: Vec<Act> = acts.into_iter().filter(|act| !matches!(act, Act::Ioctl(..) | Act::Called(_))).collect();
        let world = run(&acts, instant);
        let replayed = world.replay();
        prop_assert_eq!(postcard::to_allocvec(&world.tty).unwrap(), postcard::to_allocvec(&replayed).unwrap());
    }

    #[test]
    fn no_call_is_lost_and_none_is_answered_twice(acts in prop::collection::vec(act(), 0..100), instant: bool) {
        // The world checks the rules at every step; what is left must be answered when everybody gives up.
        let mut world = run(&acts, instant);
        for id in 0..150 {
            world.cancel(CallId(id));
        }
        prop_assert_eq!(world.tty.readers.len() + world.tty.writers.len() + world.tty.drains.len(), 0);
    }

    #[test]
    fn a_port_gone_mad_and_foreign_messages_do_no_harm(
        values in prop::collection::vec(any::<u8>(), 0..2000),
        events in prop::collection::vec((0..9_u8, any::<u64>(), any::<[u64; 4]>(), any::<Vec<u8>>()), 0..60),
    ) {
        let mut script = Script::default();
        for (index, value) in values.iter().enumerate() {
            script.ports.entry(0x3f8 + (index % 8) as u16).or_default().push(u32::from(*value));
        }
        let mut tty = Tty::new(&boot_block());
        let _ = step(&mut tty, &Event::Start, &mut script);
        for (kind, number, words, payload) in events {
            let label = [0x100, 0x101, 0x102, QUERY, TAKE_EVENTS, SESSION_ENDED, 0x503, 0x504][number as usize % 8];
            let event = match kind {
                0 => Event::Notify { bits: number },
                1 => Event::Notify { bits: TIMER_BIT | 1 },
                2 => Event::Done { tag: Tag(number % 4), result: Ok(0) },
                3 => Event::Cancel { call: CallId(number % 60) },
                4 => Event::LastClose { badge: Badge(number % 5), owner: libipc::abi::Handle(1) },
                5 => Event::Call(script.linux(job(), (number % 330) as u32, [1; 6])),
                6 => {
                    let mut call = script.linux(shell(), (number % 20) as u32, [1, words[0], words[1], words[2], 0, 0]);
                    call.badge = Badge(words[3] % 4);
                    Event::Call(call)
                }
                7 => {
                    let words = [0x440, words[0], 2, 2 << 32];
                    Event::Call(script.native(Message { label, words, payload, ..Message::default() }))
                }
                _ => Event::Call(script.native(Message { label, words, payload, ..Message::default() })),
            };
            let _ = step(&mut tty, &event, &mut script);
        }
    }
}
