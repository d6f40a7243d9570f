//! A copy, question by question.

use alloc::{vec, vec::Vec};

use libipc::abi::delivery::Named;
use libipc::server::testing::{Script, boot};
use libipc::server::{Caller, Foreign, Request, Server};

use super::*;
use crate::who::{Place, Who};

struct Bench {
    vfs: Vfs,
    script: Script,
}

impl Bench {
    /// Descriptor 3 is written to, 4 is read.
    fn new() -> Bench {
        let mut script = Script::default();
        let named = |badge| Named { server: 9, badge, object: badge };
        script.descriptors = [(3, named(3)), (4, named(4))].into();
        script.memory.insert(0x1000, 100u64.to_le_bytes().to_vec());
        Bench { vfs: Vfs::new(&boot("vfs", &[])), script }
    }

    fn send(&mut self, arguments: [u64; 4]) -> Result<(CallId, Effects), i32> {
        let [to, from, at, count] = arguments;
        let arguments = [to, from, at, count, 0, 0];
        let foreign = Foreign { number: 40, arguments, ..Foreign::default() };
        let call = self.script.call(Caller::default(), 0, Request::Foreign(foreign.clone()));
        let who = Who::system(Place::volume(0, 0));
        let args = Args { call: &call, foreign: &foreign, who, now_ns: 0 };
        self.vfs.send_file(&args, &mut self.script).map(|effects| (call.id, effects))
    }

    fn answer(&mut self, asked: &Effects, answer: Message) -> Effects {
        let (_, tag, _) = question(asked);
        self.vfs.answer(tag, &Ok(answer), &mut self.script)
    }
}

fn question(effects: &Effects) -> (Handle, Tag, Message) {
    let sent = effects.list.iter().find_map(|effect| match effect {
        Effect::Send { to, tag, message } => Some((*to, *tag, message.clone())),
        _ => None,
    });
    sent.expect("a question")
}

fn result(effects: &Effects) -> Option<(i64, Vec<Output>)> {
    effects.list.iter().find_map(|effect| match effect {
        Effect::ReplyForeign { reply, .. } => Some((reply.result, reply.outputs.clone())),
        _ => None,
    })
}

fn closes(effects: &Effects) -> usize {
    let close = |effect: &&Effect| matches!(effect, Effect::Do(Operation::Close { .. }));
    effects.list.iter().filter(close).count()
}

fn bytes(count: usize) -> Message {
    Message { payload: vec![7; count], ..Message::default() }
}

#[test]
fn bytes_go_from_the_offset_in_pieces_until_the_end() {
    let mut bench = Bench::new();
    let (_, asked) = bench.send([3, 4, 0x1000, 10_000]).expect("it begins");
    assert_eq!(question(&asked).2.words[..2], [100, 8192]);
    let asked = bench.answer(&asked, bytes(8192));
    assert_eq!((question(&asked).2.label, question(&asked).2.payload.len()), (fs::WRITE_AT, 8192));
    let asked = bench.answer(&asked, Message::words(0, [5000, 5000, 0, 0]));
    assert_eq!((question(&asked).2.words[0], question(&asked).2.payload.len()), (5000, 3192));
    let asked = bench.answer(&asked, Message::words(0, [3192, 8192, 0, 0]));
    assert_eq!(question(&asked).2.words[..2], [8292, 1808]);
    let ended = bench.answer(&asked, bytes(0));
    let offset = Output { address: 0x1000, bytes: 8292u64.to_le_bytes().to_vec() };
    assert_eq!(result(&ended), Some((8192, vec![offset])));
    assert_eq!(closes(&ended), 2);
    assert!(bench.vfs.copies.is_empty());
}

#[test]
fn without_room_it_waits_and_a_signal_ends_the_wait() {
    let mut bench = Bench::new();
    bench.script.readiness.insert(3, Readiness::empty());
    let (call, asked) = bench.send([3, 4, 0, 10]).expect("it begins");
    let asked = bench.answer(&asked, bytes(10));
    let waiting = bench.answer(&asked, Message::label(EAGAIN as u32));
    assert!(waiting.list.is_empty());
    let asked = bench.vfs.copy_woken(call).expect("it waited");
    assert_eq!(question(&asked).2.label, fs::WRITE_AT);
    let _ = bench.answer(&asked, Message::label(EAGAIN as u32));
    let ended = bench.vfs.copy_cancelled(call);
    assert_eq!(result(&ended).map(|(result, _)| result), Some(-i64::from(EINTR)));
    assert_eq!(closes(&ended), 2);
}

#[test]
fn a_refusal_gives_everything_back() {
    let mut bench = Bench::new();
    assert_eq!(bench.send([3, 77, 0, 1]).map(drop), Err(EBADF));
    let (_, ended) = bench.send([77, 4, 0, 1]).expect("it is answered");
    assert_eq!((result(&ended).map(|(result, _)| result), closes(&ended)), (Some(-i64::from(EBADF)), 1));
    let (_, asked) = bench.send([3, 4, 0, 1]).expect("it begins");
    let ended = bench.answer(&asked, Message::label(EBADF as u32));
    assert_eq!((result(&ended).map(|(result, _)| result), closes(&ended)), (Some(-i64::from(EINVAL)), 2));
}
