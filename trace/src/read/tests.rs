//! Made-up traces, whole and damaged.

use super::*;
use crate::synthetic::{self, Entry, Writer};
use libipc::abi::trace::Event as Number;
use proptest::prelude::*;

#[test]
fn a_call_knows_its_cause_its_servers_and_its_end() {
    let trace = read(&synthetic::trace(1)).unwrap();
    let of = |operation: &str| trace.numbered().find(|(_, call)| call.operation() == operation).unwrap();
    let (open, call) = of("openat");
    assert_eq!(call.by, Actor::Thread { pid: 11, tid: 11 });
    let ends: Vec<(String, LegEnd)> =
        call.legs.iter().map(|leg| (trace.server(leg.server), leg.end)).collect();
    assert_eq!(ends, [("vfs".to_owned(), LegEnd::Forwarded), ("ufs".to_owned(), LegEnd::Answered)]);
    assert_eq!(call.outcome, Some(Outcome::Returned(3)));
    let (read, below) = of("block.read");
    assert_eq!((below.cause, trace.root_of(read)), (Some(open), open));
    let (_, fault) = of("page fault");
    assert_eq!(trace.call(fault.cause.unwrap()).operation(), "read");
}

#[test]
fn processes_have_the_names_of_what_they_run() {
    let trace = read(&synthetic::trace(150)).unwrap();
    let names: Vec<(u32, &str)> =
        trace.processes.iter().map(|(pid, process)| (*pid, process.name.as_str())).collect();
    assert_eq!(names, [(10, ""), (11, "ls"), (12, "wc")]);
    assert_eq!(trace.who(Actor::Thread { pid: 12, tid: 12 }), "wc[12]");
}

#[test]
fn a_call_of_a_dead_server_goes_on_with_its_next_incarnation() {
    let trace = read(&synthetic::trace(30)).unwrap();
    let call = trace.calls.iter().find(|call| call.operation() == "fstat").unwrap();
    let ends: Vec<LegEnd> = call.legs.iter().map(|leg| leg.end).collect();
    assert_eq!(ends, [LegEnd::Dropped, LegEnd::Answered]);
}

#[test]
fn a_file_that_ends_too_soon_is_read_as_far_as_it_goes() {
    let file = synthetic::trace(3);
    let whole = read(&file).unwrap();
    let cut = read(&file[..file.len() - 20]).unwrap();
    assert_eq!(cut.records + 1, whole.records);
    assert!(cut.notes[0].contains("ends in the middle of the record at byte"), "{:?}", cut.notes);
    assert!(whole.notes.is_empty(), "{:?}", whole.notes);
}

#[test]
fn another_file_is_refused_by_name() {
    assert_eq!(read(b"PNG").unwrap_err(), Damage::NoTrace);
    let mut other = synthetic::trace(1);
    other[8] = 77;
    assert_eq!(read(&other).unwrap_err(), Damage::Version(77));
}

#[test]
fn a_trace_that_begins_in_the_middle_makes_up_no_beginning() {
    let mut writer = Writer::default();
    let arguments = [5, 0, 42];
    writer.add(Entry { call: 5, arguments: &arguments, ..Entry::native(Syscall::ReplyForeign, 7, 5) });
    let trace = read(&writer.finish()).unwrap();
    assert_eq!(trace.calls.len(), 1);
    assert_eq!(trace.calls[0].request, Request::Unknown);
    assert_eq!(trace.calls[0].outcome, Some(Outcome::Returned(42)));
}

#[test]
fn lost_records_are_noted() {
    let mut writer = Writer::default();
    writer.add(Entry { arguments: &[9], ..Entry::event(Number::Lost, Who::Kernel) });
    let trace = read(&writer.finish()).unwrap();
    assert_eq!(trace.lost, 9);
    assert_eq!(trace.notes, ["9 records were lost while it was recorded"]);
}

#[test]
fn only_what_the_kernel_kept_of_an_input_is_shown() {
    let mut writer = Writer::default();
    let call = writer.id();
    let number = u64::from(crate::linux::number("rename").unwrap());
    let who = Who::Program { pid: 3, tid: 3 };
    writer.add(Entry { call, arguments: &[number, 1, 2], ..Entry::event(Number::Linux, who) });
    let lengths = 200 | 5 << 32;
    let arguments = [Kind::Foreign as u64, 0, 1, 2, lengths];
    let delivered = Entry::event(Number::Delivered, Who::Server(7));
    writer.add(Entry { call, cause: call, arguments: &arguments, payload: &[b'x'; 128], ..delivered });
    let trace = read(&writer.finish()).unwrap();
    let wanted = format!("rename(\"{}\"..., 0x2)", "x".repeat(32));
    assert_eq!(trace.calls[0].text(), wanted);
}

/// All forms that need nothing but a trace.
fn all_forms(trace: &Trace) -> usize {
    let selection = crate::select::Selection::new(trace, "not slow or failed or pid=11").unwrap();
    crate::summary::summary(trace, &selection).len()
        + crate::tree::tree(trace, &selection, crate::tree::Options { traps: true }).len()
        + crate::tree::strace(trace, &selection).len()
        + crate::tree::grep(trace, &selection).len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_anywhere_ends_in_words_and_never_in_a_panic(
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        end in any::<prop::sample::Index>(),
    ) {
        let mut file = synthetic::trace(3);
        for (place, value) in places {
            let place = place.index(file.len());
            file[place] = value;
        }
        file.truncate(end.index(file.len()) + 1);
        if let Ok(trace) = read(&file) {
            prop_assert!(all_forms(&trace) > 0);
            for (at, call) in trace.numbered() {
                prop_assert!(call.cause.is_none_or(|cause| cause < at));
            }
        }
    }

    #[test]
    fn words_that_mean_nothing_are_told_as_they_are(
        words in prop::collection::vec((0..40u8, any::<u64>(), 0..4u64), 1..60),
    ) {
        let mut writer = Writer::default();
        for (number, word, id) in &words {
            let event = Number::from_number(0x8000 + u16::from(*number) % 21).unwrap();
            let entry = Entry::event(event, Who::from_word(word.rotate_left(32) & 0x7_0000_000f));
            let arguments = [*word & 0xffff_0000_0fff, *word, *word >> 3, word.swap_bytes(), *word];
            if event != Number::Pad {
                writer.add(Entry { call: *id, cause: word & 3, arguments: &arguments, ..entry });
            }
        }
        let trace = read(&writer.finish()).unwrap();
        prop_assert!(all_forms(&trace) > 0);
    }
}
