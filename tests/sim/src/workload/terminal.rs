//! The terminal: lines that are typed, as they are and letter by letter.

use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::{Code, Reg};
use Arg::N;

const TCGETS: u64 = 0x5401;
const TCSETS: u64 = 0x5402;
/// Where `struct termios` has its local flags, and those that are turned off.
const LOCAL_FLAGS: u64 = 12;
const ICANON: u64 = 2;
const ECHO: u64 = 8;

/// What somebody at the terminal waits to see, and types then.
pub(super) const DIALOGUE: [(&str, &str); 3] = [
    ("a line?\r\n", "first line\n"),
    ("two lines?\r\n", "more\nand mmore\x7f\x7f\n"),
    ("letters?\r\n", "xyz"),
];

/// Asks, reads, and tells what was typed. Without echo, which would come between others' lines.
pub fn terminal(a: &mut Assembler, _: u64) {
    let (attributes, buffer) = (a.room(64), a.room(64));
    a.told(nr::IOCTL, &[N(0), N(TCGETS), N(attributes)]);
    clear(a, attributes, ECHO);
    for (question, lines) in [("a line?", 1), ("two lines?", 2)] {
        ask(a, question);
        a.repeat(Reg::Rbx, lines, |a| {
            a.told(nr::READ, &[N(0), N(buffer), N(64)]);
            a.digest(N(buffer), 8);
        });
    }
    clear(a, attributes, ICANON);
    ask(a, "letters?");
    a.repeat(Reg::Rbx, 3, |a| {
        a.told(nr::READ, &[N(0), N(buffer), N(1)]);
        a.digest(N(buffer), 8);
    });
}

/// Asks something. To what cannot be asked nobody types an answer.
fn ask(a: &mut Assembler, question: &str) {
    super::say(a, question);
    a.end_if_refused();
}

/// Turns a local flag off that is on.
fn clear(a: &mut Assembler, attributes: u64, flag: u64) {
    a.set(Reg::R9, N(attributes));
    a.emit(Code::LoadByte, [Reg::R8, Reg::R9, Reg::R9], LOCAL_FLAGS);
    a.emit(Code::Add, [Reg::R8, Reg::R8, Reg::R8], flag.wrapping_neg());
    a.emit(Code::StoreByte, [Reg::R8, Reg::R9, Reg::R9], LOCAL_FLAGS);
    a.told(nr::IOCTL, &[N(0), N(TCSETS), N(attributes)]);
}
