//! A small server runs live over a kernel that records, and again over what it recorded.

use alloc::{collections::VecDeque, vec};

use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

use super::*;
use crate::abi::delivery::{Delivery, Extent, Kind};
use crate::abi::journal::Header;
use crate::server::{DIGEST_BIT, Effect, Effects, Env, Event, Operation};

/// Adds up the bits it is notified of, and sets its timer to `FACTOR` times the sum.
#[derive(Serialize, Deserialize)]
struct Adder<const FACTOR: u64> {
    sum: u64,
    crowded: bool,
}

impl<const FACTOR: u64> Server for Adder<FACTOR> {
    fn new(_: &Boot) -> Adder<FACTOR> {
        Adder { sum: 0, crowded: false }
    }

    fn step(&mut self, event: &Event, _: &mut dyn Env) -> Effects {
        let Event::Notify { bits } = event else { return Effects::none() };
        self.sum += bits;
        Effects::one(Effect::Do(Operation::TimerSet { deadline_ns: FACTOR * self.sum }))
    }

    fn crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }
}

/// A kernel that notifies of scripted bits and records every trap.
struct Recorder {
    bits: VecDeque<u64>,
    snapshot: Vec<u8>,
    journal: Vec<u8>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Recorder {
    fn record(&mut self, call: Syscall, arguments: [u64; 6], payload: &[u8]) {
        let header = Header { number: call as u16, error: 0, values: 0, payload: payload.len() as u32 };
        self.journal.extend_from_slice(&header.pack().to_le_bytes());
        let recorded = arguments.iter().take(header.arguments());
        recorded.for_each(|word| self.journal.extend_from_slice(&word.to_le_bytes()));
        self.journal.extend_from_slice(payload);
        self.journal.resize(self.journal.len().next_multiple_of(8), 0);
    }
}

impl Traps for Recorder {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        match call {
            Syscall::SnapshotRead => {
                let rest = self.snapshot.split_off(0);
                let from = PAYLOAD_OFFSET as usize;
                self.buffer[from..from + rest.len()].copy_from_slice(&rest);
                return Ok([rest.len() as u64, 0, 0, 0, 0]);
            }
            Syscall::Receive => {
                let mut delivery = Delivery {
                    kind: Kind::Notify as u32,
                    extent: Extent::Named as u32,
                    ..Delivery::default()
                };
                delivery.words[0] = self.bits.pop_front().unwrap();
                let at = DELIVERY_OFFSET as usize;
                self.buffer[at..at + size_of::<Delivery>()].copy_from_slice(delivery.as_bytes());
                self.record(call, arguments, delivery.as_bytes());
            }
            _ => self.record(call, arguments, &[]),
        }
        Ok([0; 5])
    }

    fn trap_then_receive(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        let trapped = self.trap(call, arguments)?;
        // Where a kernel would let it wait, the run ends.
        if self.bits.is_empty() { Ok(trapped) } else { self.trap(Syscall::Receive, [0; 6]) }
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

/// A server that starts from a snapshot and will be notified of these bits.
fn start(boot: &Boot, bits: &[u64], snapshot: &[u8]) -> Shell<Adder<1>, Recorder> {
    let traps = Recorder {
        bits: bits.iter().copied().collect(),
        snapshot: snapshot.to_vec(),
        journal: Vec::new(),
        buffer: Box::new([0; BUFFER_BYTES]),
    };
    Shell::start(boot, traps)
}

/// Runs a server over these notifications: its history, and its digest at the end.
fn live(bits: &[u64], snapshot: &[u8]) -> (History, u64) {
    let boot = Boot { name: "adder".into(), ..Boot::default() };
    let mut shell = start(&boot, bits, snapshot);
    bits.iter().for_each(|_| shell.serve_one());
    let journal = shell.traps.journal.clone();
    let history =
        History { boot, snapshot: snapshot.to_vec(), journal, snapshots: 0, settled: true, died: false };
    (history, crate::server::shell::digest(&shell.state()))
}

/// What was seen of a run: messages begun, and the sum after each.
#[derive(Default)]
struct Log {
    begun: Vec<u64>,
    sums: Vec<u64>,
}

impl<const FACTOR: u64> Onlooker<Shell<Adder<FACTOR>, Recorded>> for Log {
    fn before(&mut self, number: u64) {
        self.begun.push(number);
    }

    fn after(&mut self, number: u64, run: &Shell<Adder<FACTOR>, Recorded>) {
        assert_eq!(number, self.sums.len() as u64);
        self.sums.push(run.server.sum);
    }
}

fn run<const FACTOR: u64>(history: &History, until: Option<u64>) -> Result<Outcome, Divergence> {
    replay::<Shell<Adder<FACTOR>, _>>(history, until, &mut Log::default())
}

#[test]
fn a_server_that_was_crowded_when_it_was_saved_is_told_when_it_starts_again_that_it_is_not() {
    let boot = Boot::default();
    let mut saved = start(&boot, &[], &[]);
    saved.server.crowded(true);
    let mut shell = start(&boot, &[1], &saved.state());
    assert!(shell.server.crowded);
    shell.serve_one();
    assert!(!shell.server.crowded);
}

#[test]
fn a_replay_ends_in_the_state_of_the_run_it_repeats() {
    let (history, digest) = live(&[1, 2, 4], &[]);
    let outcome = run::<1>(&history, None).unwrap();
    // The clock at the start, and for each message a receive and a timer.
    assert_eq!(outcome, Outcome { digest, records: 7, messages: 3, told: None });
    assert_eq!(run::<1>(&history, None), Ok(outcome), "and again");
}

#[test]
fn a_replay_from_a_snapshot_goes_on_from_it() {
    let boot = Boot::default();
    let traps = Recorded::new(&[], &live(&[9], &[]).0.journal);
    let mut shell = Shell::<Adder<1>, _>::start(&boot, traps);
    shell.serve_one();
    let (history, digest) = live(&[1], &shell.state());
    let outcome = run::<1>(&history, None).unwrap();
    assert_eq!((outcome.digest, outcome.messages), (digest, 1));
    assert_ne!(run::<1>(&live(&[1], &[]).0, None).unwrap().digest, digest);
}

#[test]
fn a_replay_can_stop_after_some_messages() {
    let (history, _) = live(&[1, 2, 4], &[]);
    for (count, bits) in [(0, &[][..]), (1, &[1]), (2, &[1, 2])] {
        let outcome = run::<1>(&history, Some(count)).unwrap();
        assert_eq!((outcome.messages, outcome.digest), (count, live(bits, &[]).1));
    }
}

#[test]
fn a_message_whose_consequences_are_not_all_there_is_left_out() {
    let (mut history, _) = live(&[1, 2], &[]);
    history.settled = false;
    let timer = Header { number: 0, error: 0, values: 0, payload: 0 }.bytes();
    history.journal.truncate(history.journal.len() - timer as usize);
    assert_eq!(history.messages(), Messages { recorded: 2, complete: 1 });
    let outcome = run::<1>(&history, None).unwrap();
    assert_eq!((outcome.messages, outcome.digest), (1, live(&[1], &[]).1));
}

#[test]
fn a_server_that_does_something_else_diverges_where_it_does() {
    let (history, _) = live(&[1, 2], &[]);
    let divergence = run::<3>(&history, None).unwrap_err();
    assert_eq!((divergence.message, divergence.records), (1, 2));
    assert_eq!(
        (&divergence.recorded[..], &divergence.made[..]),
        ("timer_set(deadline_ns 1)", "timer_set(deadline_ns 3)")
    );
}

#[test]
fn a_digest_told_in_the_machine_is_checked() {
    let (mut history, digest) = live(&[1, DIGEST_BIT | 2, 0], &[]);
    let told = run::<1>(&history, None).unwrap().told;
    assert_eq!(told, Some((live(&[1], &[]).1, 2)), "the bits beside it are the server's, and come after it");
    assert_ne!(told.unwrap().0, digest);
    let word = told.unwrap().0.to_le_bytes();
    let at = history.journal.windows(8).position(|bytes| *bytes == word).unwrap();
    history.journal[at] ^= 1;
    assert!(run::<1>(&history, None).unwrap_err().recorded.starts_with("digest"));
}

#[test]
fn a_message_that_was_disposed_of_is_passed_over() {
    let (mut history, _) = live(&[1, 2, 4], &[]);
    let [clock, receive, timer] =
        [(Syscall::Clock, 0), (Syscall::Receive, size_of::<Delivery>()), (Syscall::TimerSet, 0)]
            .map(|(call, payload)| Header {
                number: call as u16,
                error: 0,
                values: 0,
                payload: payload as u32,
            })
            .map(|header| header.bytes() as usize);
    // The last one did nothing any more.
    let last = clock + 2 * (receive + timer);
    history.journal.truncate(last + receive);
    history.journal[last..last + 2].copy_from_slice(&DISPOSED.to_le_bytes());
    let outcome = run::<1>(&history, None).unwrap();
    assert_eq!((outcome.messages, outcome.digest), (2, live(&[1, 2], &[]).1));
}

#[test]
fn the_message_that_a_server_died_of_is_served_again() {
    let (mut history, _) = live(&[1, 2], &[]);
    let timer = Header { number: Syscall::TimerSet as u16, error: 0, values: 0, payload: 0 }.bytes();
    history.journal.truncate(history.journal.len() - timer as usize);
    (history.settled, history.died) = (false, true);
    let mut log = Log::default();
    replay::<Shell<Adder<1>, _>>(&history, None, &mut log).unwrap();
    assert_eq!((log.begun, log.sums), (vec![1, 2], vec![0, 1, 3]));
    let bits = [1, 2, 3].map(|number| history.message(number).map(|message| message.delivery.words[0]));
    assert_eq!(bits, [Some(1), Some(2), None]);
}
