//! Programs for the simulator's processor, put together in Rust: an assembler with the few structures that scripts
//! need (repeat, fork, wait), and the ELF file that comes out.
//!
//! Registers: system calls take theirs; rbx, rbp, r12 to r14 are the script's own; r15 is the name under which a
//! process tells what it saw, which a fork makes anew from its parent's.

use libipc::linux::errno::EAGAIN;
use libipc::server::image::Note;
use zerocopy::IntoBytes;

use crate::cpu::{Code, INSTRUCTION_BYTES, Instruction, Reg};

/// Where the code of every program is loaded.
pub const CODE_ADDRESS: u64 = 0x40_1000;
/// Where its data is.
const DATA_ADDRESS: u64 = 0x80_0000;
/// Most code.
const CODE_BYTES_MAX: u64 = DATA_ADDRESS - CODE_ADDRESS;
const PAGE: u64 = 4096;
/// By how much a child's name is larger than its parent's.
const NAMES_PER_PROCESS: u64 = 61;

/// The status of a process that could not fork.
pub const REFUSED: u64 = 99;

/// An argument of a system call.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A number.
    N(u64),
    /// What a register holds.
    R(Reg),
    /// The eight bytes at an address.
    At(u64),
}

/// A place in the code that is jumped to.
#[derive(Clone, Copy, Debug)]
pub struct Label(usize);

/// A program being put together.
pub struct Assembler {
    code: Vec<Instruction>,
    /// Where labels are, once they are.
    labels: Vec<Option<u64>>,
    /// Instructions whose number is a label's place.
    jumps: Vec<(usize, Label)>,
    data: Vec<u8>,
    bss_bytes: u64,
}

impl Default for Assembler {
    fn default() -> Assembler {
        Assembler::new()
    }
}

/// Bytes of data that every program keeps for `pair`, `status` and the like.
const DATA_BYTES_MAX: u64 = 64 * 1024;

impl Assembler {
    /// A program without instructions.
    pub fn new() -> Assembler {
        Assembler { code: Vec::new(), labels: Vec::new(), jumps: Vec::new(), data: Vec::new(), bss_bytes: 0 }
    }

    /// Adds an instruction.
    pub fn emit(&mut self, code: Code, registers: [Reg; 3], number: u64) {
        self.code.push(Instruction { code, registers, number });
    }

    /// Adds a jump or a call to a label.
    pub fn jump(&mut self, code: Code, a: Reg, b: Reg, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(code, [a, b, a], 0);
    }

    /// A label that is nowhere yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(CODE_ADDRESS + self.code.len() as u64 * INSTRUCTION_BYTES);
    }

    /// Loads the address of a label.
    pub fn address_of(&mut self, register: Reg, label: Label) {
        self.jump(Code::Set, register, register, label);
    }

    /// The address of these bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.data.len();
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        assert!(self.data.len() as u64 <= DATA_BYTES_MAX, "too much data");
        DATA_ADDRESS + at as u64
    }

    /// The address of a string.
    pub fn text(&mut self, text: &str) -> u64 {
        self.bytes(&[text.as_bytes(), &[0]].concat())
    }

    /// The address of these words.
    pub fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    /// The address of fresh zeroed memory.
    pub fn room(&mut self, bytes: u64) -> u64 {
        let at = self.bss_bytes;
        self.bss_bytes += bytes.next_multiple_of(8);
        DATA_ADDRESS + DATA_BYTES_MAX + at
    }

    /// register = argument
    pub fn set(&mut self, register: Reg, value: Arg) {
        match value {
            Arg::N(number) => self.emit(Code::Set, [register; 3], number),
            Arg::R(from) => self.emit(Code::Add, [register, from, from], 0),
            Arg::At(address) => {
                self.emit(Code::Set, [register; 3], address);
                self.emit(Code::Load, [register; 3], 0);
            }
        }
    }

    /// A system call; its result is in rax. Arguments are set in order, so a register among them must not be one
    /// that an earlier argument takes.
    pub fn call(&mut self, number: u64, arguments: &[Arg]) {
        const PLACES: [Reg; 6] = [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::R10, Reg::R8, Reg::R9];
        for (place, argument) in PLACES.into_iter().zip(arguments) {
            self.set(place, *argument);
        }
        self.set(Reg::Rax, Arg::N(number));
        self.emit(Code::System, [Reg::Rax; 3], 0);
    }

    /// A system call whose result the oracle is told.
    pub fn told(&mut self, number: u64, arguments: &[Arg]) {
        self.call(number, arguments);
        self.note(Reg::Rax);
    }

    /// Tells the oracle what is in a register.
    pub fn note(&mut self, register: Reg) {
        self.emit(Code::Note, [register; 3], 0);
    }

    /// Tells the oracle the eight bytes at an address.
    pub fn note_at(&mut self, address: u64) {
        self.set(Reg::R8, Arg::At(address));
        self.note(Reg::R8);
    }

    /// Tells the oracle the low four bytes at an address.
    pub fn note_half(&mut self, address: u64) {
        self.set(Reg::R9, Arg::N(address));
        self.set(Reg::R8, Arg::N(0));
        for byte in (0..4).rev() {
            self.emit(Code::LoadByte, [Reg::R10, Reg::R9, Reg::R9], byte);
            self.emit(Code::Scale, [Reg::R8, Reg::R8, Reg::R10], 256);
        }
        self.note(Reg::R8);
    }

    /// The eight bytes at an address = a register.
    pub fn keep(&mut self, register: Reg, address: u64) {
        self.set(Reg::R11, Arg::N(address));
        self.emit(Code::Store, [register, Reg::R11, Reg::R11], 0);
    }

    /// Tells the oracle a digest of the words at an address: so many, at least one.
    pub fn digest(&mut self, address: Arg, words: u64) {
        self.set(Reg::R9, address);
        self.set(Reg::R8, Arg::N(0));
        self.repeat(Reg::R10, words, |a| {
            a.emit(Code::Load, [Reg::R11, Reg::R9, Reg::R9], 0);
            a.emit(Code::Mix, [Reg::R8, Reg::R11, Reg::R11], 0);
            a.emit(Code::Add, [Reg::R9, Reg::R9, Reg::R9], 8);
        });
        self.note(Reg::R8);
    }

    /// Fills so many words at an address with numbers that follow from a seed.
    pub fn fill(&mut self, address: Arg, words: u64, seed: Arg) {
        self.set(Reg::R9, address);
        self.set(Reg::R8, seed);
        self.repeat(Reg::R10, words, |a| {
            a.emit(Code::Mix, [Reg::R8, Reg::R10, Reg::R10], 0);
            a.emit(Code::Store, [Reg::R8, Reg::R9, Reg::R9], 0);
            a.emit(Code::Add, [Reg::R9, Reg::R9, Reg::R9], 8);
        });
    }

    /// Does something so many times; the register counts down to 1.
    pub fn repeat(&mut self, counter: Reg, times: u64, body: impl FnOnce(&mut Assembler)) {
        let start = self.label();
        let end = self.label();
        self.set(counter, Arg::N(times));
        self.place(start);
        self.jump(Code::JumpZero, counter, counter, end);
        body(self);
        self.emit(Code::Add, [counter, counter, counter], u64::MAX);
        self.jump(Code::Jump, counter, counter, start);
        self.place(end);
    }

    /// Forks. The child, under the `number`th name of its parent, does the body and ends with status 0; the parent
    /// has its process id in rax.
    pub fn fork(&mut self, number: Arg, child: impl FnOnce(&mut Assembler)) {
        let (begin, parent) = (self.label(), self.label());
        self.set(Reg::R14, number);
        self.call(nr::FORK, &[]);
        self.end_if_refused();
        self.jump(Code::JumpZero, Reg::Rax, Reg::Rax, begin);
        self.jump(Code::Jump, Reg::Rax, Reg::Rax, parent);
        self.place(begin);
        self.emit(Code::Scale, [Reg::R15, Reg::R15, Reg::R14], NAMES_PER_PROCESS);
        child(self);
        self.exit(Arg::N(0));
        self.place(parent);
    }

    /// Ends the process if the last call failed: what it was to do with its child or thread cannot be done.
    pub fn end_if_refused(&mut self) {
        let (refused, on) = (self.label(), self.label());
        self.jump(Code::JumpNegative, Reg::Rax, Reg::Rax, refused);
        self.jump(Code::Jump, Reg::Rax, Reg::Rax, on);
        self.place(refused);
        self.exit(Arg::N(REFUSED));
        self.place(on);
    }

    /// Waits at a futex, whose call has these arguments. A word that is not what it was is no error; any other error
    /// ends the process, as it does with the C library.
    pub fn futex_wait(&mut self, arguments: &[Arg]) {
        let (failed, on) = (self.label(), self.label());
        self.call(nr::FUTEX, arguments);
        self.jump(Code::JumpNegative, Reg::Rax, Reg::Rax, failed);
        self.jump(Code::Jump, Reg::Rax, Reg::Rax, on);
        self.place(failed);
        self.emit(Code::Add, [Reg::Rax; 3], EAGAIN.unsigned_abs().into());
        self.jump(Code::JumpZero, Reg::Rax, Reg::Rax, on);
        self.exit(Arg::N(REFUSED));
        self.place(on);
    }

    /// Waits for a child, whose id is in a register, and tells its status.
    pub fn wait(&mut self, pid: Arg) {
        let status = self.room(8);
        self.call(nr::WAIT4, &[pid, Arg::N(status), Arg::N(0), Arg::N(0)]);
        self.note_half(status);
    }

    /// Ends the process.
    pub fn exit(&mut self, status: Arg) {
        self.call(nr::EXIT_GROUP, &[status]);
    }

    /// The program as a file.
    pub fn finish(mut self) -> Vec<u8> {
        for (place, label) in &self.jumps {
            self.code[*place].number = self.labels[label.0].expect("every label is placed");
        }
        let code: Vec<u8> = self.code.iter().flat_map(|instruction| instruction.to_bytes()).collect();
        assert!((code.len() as u64) < CODE_BYTES_MAX, "too much code");
        let data_at = PAGE + (code.len() as u64).next_multiple_of(PAGE);
        let mut file = elf_header(&[
            Load {
                kind: elf::abi::PT_LOAD,
                flags: 5,
                offset: 0,
                address: CODE_ADDRESS - PAGE,
                file_bytes: PAGE + code.len() as u64,
                bytes: PAGE + code.len() as u64,
            },
            Load {
                kind: elf::abi::PT_LOAD,
                flags: 6,
                offset: data_at,
                address: DATA_ADDRESS,
                file_bytes: self.data.len() as u64,
                bytes: DATA_BYTES_MAX + self.bss_bytes,
            },
        ]);
        file.resize(PAGE as usize, 0);
        file.extend_from_slice(&code);
        file.resize(data_at as usize, 0);
        file.extend_from_slice(&self.data);
        file
    }
}

/// A part of an ELF file, loadable or a note.
struct Load {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    bytes: u64,
}

/// The headers of a static program that starts at [`CODE_ADDRESS`].
fn elf_header(loads: &[Load]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    file.resize(16, 0);
    let halves = |file: &mut Vec<u8>, halves: &[u16]| {
        halves.iter().for_each(|half| file.extend_from_slice(&half.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, words: &[u64]| {
        words.iter().for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
    };
    halves(&mut file, &[elf::abi::ET_EXEC, elf::abi::EM_X86_64, 1, 0]);
    words(&mut file, &[CODE_ADDRESS, 64, 0]);
    halves(&mut file, &[0, 0, 64, 56, loads.len() as u16, 0, 0, 0]);
    for load in loads {
        file.extend_from_slice(&load.kind.to_le_bytes());
        file.extend_from_slice(&load.flags.to_le_bytes());
        words(&mut file, &[load.offset, load.address, load.address, load.file_bytes, load.bytes, PAGE]);
    }
    file
}

/// Pages of a stub that are only read.
pub const STUB_CODE_PAGES: u32 = 2;
/// Where the note lies in a stub.
const STUB_NOTE: u64 = 0x800;

/// What stands for a server's image, whose code is on the host: a page of headers with the note, which is loaded before
/// a page that stands for code, and a page of data.
pub fn stub(note: &Note) -> Vec<u8> {
    let (kind, flags) = (elf::abi::PT_LOAD, 5);
    let code_bytes = u64::from(STUB_CODE_PAGES) * PAGE;
    let code = Load {
        kind,
        flags,
        offset: 0,
        address: CODE_ADDRESS - PAGE,
        file_bytes: code_bytes,
        bytes: code_bytes,
    };
    let (offset, address) = (code_bytes, CODE_ADDRESS - PAGE + code_bytes);
    let data = Load { kind, flags: 6, offset, address, file_bytes: 8, bytes: PAGE };
    let note_bytes = size_of::<Note>() as u64;
    let place = Load {
        kind: elf::abi::PT_NOTE,
        flags: 4,
        offset: STUB_NOTE,
        address: CODE_ADDRESS - PAGE + STUB_NOTE,
        file_bytes: note_bytes,
        bytes: note_bytes,
    };
    let mut file = elf_header(&[code, data, place]);
    file.resize(STUB_NOTE as usize, 0);
    file.extend_from_slice(note.as_bytes());
    file.resize(code_bytes as usize + 8, 0);
    file
}

/// The note of the stub whose first page this is.
pub fn note_of(page: &[u8]) -> Option<Note> {
    Note::read(page.get(STUB_NOTE as usize..)?)
}

/// Numbers of the Linux system calls that scripts make.
#[allow(missing_docs)]
pub mod nr {
    macro_rules! numbers {
        ($($name:ident $number:literal)*) => { $(pub const $name: u64 = $number;)* };
    }
    numbers! {
        READ 0 WRITE 1 OPEN 2 CLOSE 3 STAT 4 FSTAT 5 POLL 7 LSEEK 8 MMAP 9 MPROTECT 10 MUNMAP 11 BRK 12
        SIGACTION 13 SIGPROCMASK 14 SIGRETURN 15 IOCTL 16 PREAD64 17 PIPE 22 SCHED_YIELD 24 DUP 32 DUP2 33 PAUSE 34
        NANOSLEEP 35 GETPID 39 SOCKETPAIR 53 CLONE 56 FORK 57 EXECVE 59 EXIT 60 WAIT4 61 KILL 62 FCNTL 72 FSYNC 74
        FTRUNCATE 77 GETCWD 79 CHDIR 80 RENAME 82 MKDIR 83 RMDIR 84 LINK 86 UNLINK 87 SYMLINK 88 READLINK 89
        GETPPID 110 SETSID 112 SIGSUSPEND 130 MKNOD 133 GETTID 186 FUTEX 202 GETDENTS64 217 EXIT_GROUP 231
    }
}
