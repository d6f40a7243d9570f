//! Holds the line discipline against the one in the host's Linux, through a pseudoterminal.
//!
//! Known differences, which these tests therefore keep out of:
//! - A raw read waits for VMIN bytes as POSIX says; Linux gives up after 64 whatever VMIN is.
//! - EXTPROC is kept and has no effect.
//! - Echo that was held is shown as soon as a program releases output; on Linux it waits for the next event.
//! - With ECHOPRT and without ECHOCTL, literal-next after an erased character makes Linux (6.18) show thousands of
//!   zero bytes: its echo buffer is run past its end. We show the slash that is due.
//! - While the input queue is full, the stop and start characters behind it wait like any other byte.

mod both;
mod kernel;
mod random;

use both::{Both, Step};
use kernel::KernelPty;
use tty::ioctl::Flow;
use tty::termios::{ControlChar, InputFlags, LocalFlags, OutputFlags, Termios};

fn check(steps: &[Step]) {
    if let Err(difference) = Both::compare(steps) {
        panic!("{difference}");
    }
}

fn typed(bytes: impl AsRef<[u8]>) -> Step {
    Step::Type(bytes.as_ref().to_vec())
}

fn written(bytes: impl AsRef<[u8]>) -> Step {
    Step::Write(bytes.as_ref().to_vec())
}

/// The default settings with a change.
fn with(change: impl FnOnce(&mut Termios)) -> Step {
    let mut termios = Termios::default();
    change(&mut termios);
    Step::Set(termios)
}

/// Raw settings that wait for `min` bytes or `time` tenths of a second.
fn raw(min: u8, time: u8) -> Step {
    with(|termios| {
        termios.input = InputFlags::empty();
        termios.output = OutputFlags::empty();
        termios.local = LocalFlags::empty();
        termios.set_char(ControlChar::Min, min);
        termios.set_char(ControlChar::Time, time);
    })
}

fn without_local(flags: LocalFlags) -> Step {
    with(|termios| termios.local.remove(flags))
}

/// The default settings without echo.
fn silent() -> Termios {
    let mut termios = Termios::default();
    termios.local.remove(LocalFlags::ECHO);
    termios
}

#[test]
fn a_fresh_terminal_has_the_default_settings_in_both_layouts() {
    let kernel = KernelPty::open();
    assert_eq!(Termios::default().to_bytes(), kernel.termios());
    assert_eq!(Termios::default().to_termios2_bytes(), kernel.termios2());
}

#[test]
fn a_canonical_read_returns_one_line_or_a_part_of_it() {
    check(&[
        typed("one\rtwo\nthree"),
        Step::Read(100),
        Step::Read(2),
        Step::Read(0),
        Step::Read(100),
        Step::Read(100),
        typed("\r"),
        Step::Read(100),
    ]);
}

#[test]
fn erase_takes_one_character_and_its_columns() {
    for settings in [
        with(|_| {}),
        with(|termios| termios.input |= InputFlags::IUTF8),
        without_local(LocalFlags::ECHOE),
        without_local(LocalFlags::ECHOCTL),
        without_local(LocalFlags::ECHO),
        with(|termios| termios.local |= LocalFlags::ECHOPRT),
        with(|termios| {
            termios.local |= LocalFlags::ECHOPRT;
            termios.input |= InputFlags::IUTF8;
            termios.output |= OutputFlags::XTABS;
        }),
    ] {
        check(&[
            settings,
            written("prompt> "),
            typed("ab\x7f\x7f\x7fa\tb\t\x7f\x7f\x7f\x7f"),
            typed("\x01\x02\x16\x03\tx\x7f\x7f\x7f\x7f"),
            typed("d\u{e9}j\u{e0}\u{20ac}\t\x7f\x7f\x7f\x7f"),
            typed(b"\x80\xbf\x7f\x7f\x7f\tend\r"),
            Step::Read(100),
        ]);
    }
}

#[test]
fn word_erase_and_kill_take_words_and_lines() {
    for settings in [
        with(|_| {}),
        with(|termios| termios.local |= LocalFlags::ECHOPRT),
        without_local(LocalFlags::ECHOKE),
        without_local(LocalFlags::ECHOK),
        without_local(LocalFlags::ECHOK | LocalFlags::ECHOKE),
        without_local(LocalFlags::ECHOE),
        without_local(LocalFlags::ECHO),
        without_local(LocalFlags::IEXTEN),
    ] {
        check(&[
            settings,
            typed(b"cd /usr/lo_cal  \x17\x17 \xe9t\xe9 a\xd7b..\x17\x17\tw\x17\x17\x17\x17"),
            typed("some words\there\x01\x15\x15again\x15the end\n"),
            Step::Read(100),
        ]);
    }
}

#[test]
fn reprint_and_literal_next_show_and_take_what_they_should() {
    for settings in [with(|_| {}), without_local(LocalFlags::ECHOCTL), without_local(LocalFlags::IEXTEN)] {
        check(&[
            settings,
            typed("ab\x01\t\x12cd\x7f\x16\x7f\x16\x03\x16\x04\x16\n\x16\rx\n"),
            Step::Read(100),
            Step::Read(100),
            Step::Read(100),
        ]);
    }
}

#[test]
fn the_end_of_file_hands_out_what_there_is_and_is_seen_once() {
    check(&[
        typed("\x04"),
        Step::Read(10),
        Step::Read(10),
        typed("abc\x04"),
        Step::Read(3),
        Step::Read(10),
        typed("abc\x04\x04"),
        Step::Read(10),
        Step::Read(10),
        Step::Read(10),
        typed("abc\x04def\n\x04"),
        Step::Read(2),
        Step::Read(2),
        Step::Read(10),
        Step::Read(10),
        Step::Read(10),
    ]);
}

#[test]
fn other_ends_of_line_end_lines() {
    let settings = with(|termios| {
        termios.set_char(ControlChar::EndOfLine, b';');
        termios.set_char(ControlChar::EndOfLine2, 0xff);
        termios.input |= InputFlags::PARMRK;
    });
    check(&[
        settings,
        typed(b"a;b\xffc\xfe;;\n"),
        Step::Read(9),
        Step::Read(9),
        Step::Read(9),
        Step::Read(9),
    ]);
}

#[test]
fn input_is_translated_as_asked() {
    type I = InputFlags;
    for flags in [
        I::empty(),
        I::INLCR,
        I::IGNCR,
        I::ICRNL | I::INLCR,
        I::ISTRIP,
        I::IUCLC,
        I::PARMRK,
        I::ISTRIP | I::PARMRK,
    ] {
        for local in [LocalFlags::empty(), LocalFlags::ICANON] {
            let settings = with(|termios| {
                termios.input = flags;
                termios.local = local | LocalFlags::ECHO | LocalFlags::ECHOCTL | LocalFlags::IEXTEN;
            });
            check(&[settings, typed(b"Ab\r\nC\xc9\xd7\xff\x80\x8a\n\r\x00"), Step::Read(50), Step::Read(50)]);
        }
    }
}

#[test]
fn a_newline_is_echoed_without_echo_if_asked() {
    for local in [LocalFlags::ICANON | LocalFlags::ECHONL, LocalFlags::ECHONL] {
        check(&[with(|termios| termios.local = local), typed("ab\ncd\r"), Step::Read(9), Step::Read(9)]);
    }
}

#[test]
fn a_raw_read_follows_min_and_polls_follow_min_and_time() {
    for (min, time) in [(1, 0), (0, 0), (0, 1), (3, 0), (3, 1), (64, 0)] {
        check(&[
            raw(min, time),
            Step::Read(10),
            typed("ab"),
            Step::Read(1),
            Step::Read(10),
            typed("abcdef"),
            Step::Read(4),
            Step::Read(2),
            Step::Read(10),
        ]);
    }
}

#[test]
fn input_survives_a_switch_of_modes() {
    check(&[
        typed("one\ntwo\x04par"),
        raw(1, 0),
        Step::Read(2),
        typed("more"),
        with(|_| {}),
        typed("\x7f\x15new\x7f\n"),
        Step::Read(50),
        Step::Read(50),
        Step::Read(50),
    ]);
    check(&[
        raw(1, 0),
        typed("zero\0"),
        with(|_| {}),
        Step::Read(50),
        Step::Read(50),
        typed("\n"),
        Step::Read(9),
    ]);
    check(&[
        with(|termios| termios.local |= LocalFlags::ECHOPRT),
        typed("ab\x7f"),
        without_local(LocalFlags::ICANON),
        typed("x"),
    ]);
    check(&[typed("a\x16"), raw(1, 0), with(|_| {}), typed("\x7f\n"), Step::Read(50), Step::Read(50)]);
}

#[test]
fn discarding_settings_and_flushes_throw_input_away() {
    let raw = match raw(1, 0) {
        Step::Set(termios) => Step::SetDiscarding(termios),
        step => step,
    };
    check(&[
        typed("line\npart"),
        Step::FlushInput,
        typed("\x7fx\n"),
        Step::Read(9),
        typed("one\ntwo"),
        raw,
        Step::Read(9),
        typed("three"),
        Step::FlushOutput,
        Step::Read(9),
    ]);
}

#[test]
fn the_stop_and_start_characters_hold_and_release_output_and_echo() {
    for flags in [InputFlags::IXON, InputFlags::IXON | InputFlags::IXANY] {
        check(&[
            with(|termios| termios.input |= flags),
            typed("a\x13"),
            written("held"),
            typed("bc\t\x7f\n"),
            typed("\x11"),
            written("free"),
            typed("\x13\x13d"),
            typed("\x03"),
            written("after a signal"),
            typed("\x13"),
            raw(1, 0),
            written("without IXON"),
        ]);
    }
}

#[test]
fn output_held_by_a_program_is_released_by_a_program_only() {
    check(&[
        Step::Flow(Flow::HoldOutput),
        written("held"),
        typed("\x11"),
        written("still held"),
        Step::Flow(Flow::ReleaseOutput),
        written("free"),
        typed("\x13"),
        Step::Flow(Flow::ReleaseOutput),
        written("held by the character"),
        Step::Flow(Flow::HoldInput),
        Step::Flow(Flow::ReleaseInput),
    ]);
}

#[test]
fn signal_characters_send_signals_and_flush_unless_told_not_to() {
    for (byte, extra) in [
        (0x03, LocalFlags::empty()),
        (0x1c, LocalFlags::empty()),
        (0x1a, LocalFlags::empty()),
        (0x03, LocalFlags::NOFLSH),
        (0x1a, LocalFlags::NOFLSH),
    ] {
        check(&[
            with(|termios| termios.local |= extra),
            typed("line\npart"),
            typed([byte]),
            typed("rest\n"),
            Step::Read(50),
            Step::Read(50),
        ]);
    }
    check(&[without_local(LocalFlags::ISIG), typed("a\x03\x1c\x1ab\n"), Step::Read(9)]);
}

#[test]
fn output_is_processed_as_asked() {
    type O = OutputFlags;
    for flags in [
        O::empty(),
        O::OPOST,
        O::OPOST | O::ONLCR,
        O::OPOST | O::OCRNL,
        O::OPOST | O::OCRNL | O::ONLRET,
        O::OPOST | O::ONOCR,
        O::OPOST | O::ONLRET | O::XTABS,
        O::OPOST | O::XTABS | O::ONLCR,
        O::OPOST | O::OLCUC | O::XTABS,
        O::ONLCR | O::XTABS,
    ] {
        check(&[
            with(|termios| termios.output = flags),
            written(b"\rab\tc\x08\x08\td\n\te\r\r\n\x01\x7f\t\xe9\xdf\xff\xf7\tend"),
            typed("x\ty\x7f\x7f\x7f\tz\x15\n"),
            typed("ab\tc"),
            written("xyz\nw"),
            typed("\x7f\x7f\tend\x15\n"),
        ]);
    }
    let utf8 = with(|termios| {
        termios.input |= InputFlags::IUTF8;
        termios.output |= O::XTABS;
    });
    check(&[utf8, written("\u{20ac}\u{e9}\tend\n")]);
}

#[test]
fn a_line_longer_than_the_buffer_loses_its_middle_and_can_still_end() {
    let long: Vec<u8> = (0..5000_u32).map(|index| b'a' + (index % 26) as u8).collect();
    check(&[
        Step::Set(silent()),
        typed(&long),
        typed("\x7f\x7fXY\x7fZ"),
        typed("\n"),
        typed("next\n"),
        Step::Read(5000),
        Step::Read(5000),
        Step::Read(5000),
    ]);
}

#[test]
fn input_that_finds_the_queue_full_waits_outside() {
    let long: Vec<u8> = (0..5000_u32).map(|index| b'a' + (index % 26) as u8).collect();
    check(&[raw(1, 0), typed(&long), Step::Read(100), Step::Read(4000), Step::Read(5000), Step::Read(5000)]);
    let lines: Vec<u8> = (0..5000_u32).map(|index| if index % 100 == 99 { b'\n' } else { b'x' }).collect();
    for discard in [Step::FlushInput, Step::SetDiscarding(silent())] {
        check(&[
            Step::Set(silent()),
            typed(&lines),
            Step::Read(50),
            Step::Read(200),
            Step::Read(200),
            discard,
            typed("x\n"),
            Step::Read(200),
        ]);
    }
}
