//! The programs of the workload, each a script in the assembler's words.

use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::Reg;
use Arg::N;

/// The first program.
pub fn init() -> Vec<u8> {
    let mut a = Assembler::new();
    a.set(Reg::R15, N(1));
    let text = a.text("hello from the simulator\n");
    a.told(nr::WRITE, &[N(1), N(text), N(25)]);
    a.fork(N(1), |a| {
        a.told(nr::GETPPID, &[]);
        a.exit(N(7));
    });
    a.wait(Arg::R(Reg::Rax));
    a.exit(N(0));
    a.finish()
}
