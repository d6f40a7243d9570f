//! Random settings, random typing and random requests, done to both terminals.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::both::{Both, Step};
use tty::ioctl::Flow;
use tty::termios::{ControlChar, InputFlags, LocalFlags, OutputFlags, Termios};

fn flags<T: bitflags::Flags<Bits = u32> + Copy + std::fmt::Debug + 'static>(
    all: &'static [T],
) -> impl Strategy<Value = T> {
    subsequence(all.to_vec(), 0..=all.len()).prop_map(|chosen| {
        let mut flags = T::empty();
        for flag in chosen {
            flags.insert(flag);
        }
        flags
    })
}

/// Settings of every kind the line discipline acts on, mostly with the usual control characters.
fn termios() -> impl Strategy<Value = Termios> {
    use {InputFlags as I, LocalFlags as L, OutputFlags as O};
    const INPUT: &[I] = &[
        I::PARMRK,
        I::ISTRIP,
        I::INLCR,
        I::IGNCR,
        I::ICRNL,
        I::IUCLC,
        I::IXON,
        I::IXANY,
        I::IMAXBEL,
        I::IUTF8,
    ];
    const OUTPUT: &[O] = &[O::OPOST, O::OLCUC, O::ONLCR, O::OCRNL, O::ONOCR, O::ONLRET, O::XTABS];
    const LOCAL: &[L] = &[
        L::ISIG,
        L::ICANON,
        L::ECHO,
        L::ECHOE,
        L::ECHOK,
        L::ECHONL,
        L::NOFLSH,
        L::ECHOCTL,
        L::ECHOPRT,
        L::ECHOKE,
        L::IEXTEN,
    ];
    let local =
        prop_oneof![flags(LOCAL), flags(LOCAL).prop_map(|flags| flags | L::ICANON | L::ECHO | L::ECHOE)];
    let chars = [
        ControlChar::Erase,
        ControlChar::Kill,
        ControlChar::EndOfFile,
        ControlChar::EndOfLine,
        ControlChar::EndOfLine2,
        ControlChar::Stop,
        ControlChar::Reprint,
    ];
    let changed = proptest::option::of((select(chars.to_vec()), select(b"\0;z\t\x80\xff\x01".to_vec())));
    (flags(INPUT), flags(OUTPUT), local, changed, 0..5_u8, 0..2_u8).prop_map(
        |(input, output, local, changed, min, time)| {
            let mut termios = Termios { input, output, local, ..Termios::default() };
            termios.set_char(ControlChar::Min, min);
            termios.set_char(ControlChar::Time, time);
            if let Some((which, byte)) = changed {
                termios.set_char(which, byte);
            }
            if local.contains(L::ECHOPRT) && !local.contains(L::ECHOCTL) {
                // A fault of Linux's, see the known differences.
                termios.set_char(ControlChar::LiteralNext, 0);
            }
            termios
        },
    )
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => select(b"aZ_ .\xe9\xc3\xa9\xe2\x82\xac".to_vec()),
        2 => select(b"\t\t\n\r\x01;z".to_vec()),
        3 => select(b"\x7f\x7f\x15\x17\x16\x12\x04\n".to_vec()),
        1 => select(b"\x03\x1c\x1a\x13\x11".to_vec()),
        1 => any::<u8>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(byte(), 1..12).prop_map(Step::Type),
        3 => prop::collection::vec(byte(), 1..12).prop_map(Step::Write),
        4 => prop_oneof![0..6_u32, Just(100)].prop_map(Step::Read),
        2 => termios().prop_map(Step::Set),
        1 => termios().prop_map(Step::SetDiscarding),
        1 => prop_oneof![Just(Step::FlushInput), Just(Step::FlushOutput)],
        1 => select(vec![Flow::HoldOutput, Flow::ReleaseOutput, Flow::HoldInput]).prop_map(Step::Flow),
    ]
}

/// The seed is fixed so that a run on the same kernel ends the same way; `PTY_CASES` asks for more cases and
/// `PTY_SEED` for others.
#[test]
fn whatever_happens_to_a_terminal_both_show_and_return_the_same() {
    let number = |name: &str, usual: u64| match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => usual,
    };
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&number("PTY_SEED", 1).to_le_bytes());
    let config =
        Config { cases: number("PTY_CASES", 60) as u32, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let script = (termios(), prop::collection::vec(step(), 1..16));
    let result = runner.run(&script, |(termios, mut steps)| {
        steps.insert(0, Step::Set(termios));
        Both::compare(&steps).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
