//! What is left of a server that has died by itself: its registers and the used end of its stack, as an ELF core file
//! (core(5)) that a debugger opens beside the server's image. The newest few are kept, in memory that root has set
//! aside. Its memory at large is not: what led to the death is in the journal.

use libipc::abi::trace::{LEFT_MAX, Left};
use libipc::abi::{Frame, KernelError, PAGE_SIZE, Protection, UserRegisters};

use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// Most that are kept.
const KEPT_MAX: usize = LEFT_MAX;
/// Most pages of stack in one.
const STACK_PAGES: u64 = 16;
/// Bytes of headers and notes, before the stack.
const HEAD_BYTES: u64 = PAGE_SIZE;
/// Frames for one.
const FRAMES: u64 = 1 + STACK_PAGES;
/// Where the note with the registers begins: behind an ELF header and two program headers, and four bytes on, so that
/// what it describes lies on a whole number of words.
const NOTE_AT: u64 = 64 + 2 * 56 + 4;
/// The note's header, its name, and `struct elf_prstatus`.
const NOTE_BYTES: u64 = 12 + 8 + STATUS_BYTES;
const STATUS_BYTES: u64 = 336;
const HEAD_WORDS: usize = ((NOTE_AT + NOTE_BYTES) / 8) as usize;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Core {
    /// Counted from 1.
    serial: u32,
    /// The server's number.
    number: u32,
    incarnation: u32,
    /// Its length.
    bytes: u64,
}

/// Those that are kept.
#[derive(Debug, Default)]
pub struct Remains {
    memory: FrameRange,
    kept: [Option<Core>; KEPT_MAX],
    count: u32,
}

impl Remains {
    /// Takes what it needs off memory that has been set aside, and leaves the rest. A little memory is left alone.
    pub(crate) fn take(&mut self, memory: FrameRange) -> FrameRange {
        let wanted = (FRAMES * KEPT_MAX as u64) as u32;
        if memory.count < 2 * wanted {
            return memory;
        }
        self.memory = FrameRange { count: wanted, ..memory };
        FrameRange { first: Frame(memory.first.0 + wanted), count: memory.count - wanted }
    }

    fn place(&self, serial: u32) -> u64 {
        serial as u64 % KEPT_MAX as u64 * FRAMES * PAGE_SIZE
    }

    /// Where the core with this number lies, and its length, if it is of that server.
    pub(crate) fn find(&self, serial: u32, number: u32) -> Result<(u64, u64), KernelError> {
        let mut kept = self.kept.iter().flatten();
        let core = kept.find(|core| (core.serial, core.number) == (serial, number));
        let core = core.ok_or(KernelError::BadArgument)?;
        Ok((self.memory.physical() + self.place(serial), core.bytes))
    }

    /// Figures about the core at a place; see `Statistic::Core`.
    pub(crate) fn figures(&self, index: u64) -> Outcome {
        let Some(place) = usize::try_from(index).ok().and_then(|index| self.kept.get(index)) else {
            return Ok([u64::MAX, 0, 0, 0, 0]);
        };
        let figures = |core: &Core| {
            let who = u64::from(core.serial) | u64::from(core.number) << 32;
            [who, u64::from(core.incarnation), core.bytes, 0, 0]
        };
        Ok(place.as_ref().map_or([0; 5], figures))
    }
}

impl<M: Machine> Kernel<M> {
    /// Keeps what is left of a server, whose memory is still there. The number it is kept under; 0 when there is no
    /// memory for such.
    pub(crate) fn keep_core(&mut self, id: ServerId, signal: u8) -> u32 {
        let Some(&Server { task, number, incarnation, stack, thread, struck, .. }) = self.servers.get(id)
        else {
            return 0;
        };
        let registers = thread.and_then(|thread| self.threads.get(thread)).map(|thread| thread.registers);
        let root = self.tasks.get(task).and_then(|task| self.spaces.get(task.space)).map(|space| space.root);
        let (Some(mut registers), Some(root)) = (registers, root) else { return 0 };
        // A fault that was put into its way befell it where it was, unless it has called something since.
        if let Some((at, _)) = struck.filter(|(_, pointer)| *pointer == registers.rsp) {
            registers.rip = at;
        }
        if self.remains.memory.count == 0 {
            return 0;
        }
        self.remains.count += 1;
        let serial = self.remains.count;
        let (memory, place) = (self.remains.memory, self.remains.place(serial));
        let to = memory.physical() + place + HEAD_BYTES;
        // A stack that has overflowed ends a page higher than its pointer stands.
        let pointer = registers.rsp & !(PAGE_SIZE - 1);
        let overflown = self.translate(root, pointer, Protection::READ).is_none();
        let first = if overflown { pointer.saturating_add(PAGE_SIZE) } else { pointer };
        let mut pages = 0;
        while pages < STACK_PAGES
            && first + pages * PAGE_SIZE < stack
            && let Some(from) = self.translate(root, first + pages * PAGE_SIZE, Protection::READ)
        {
            self.machine.copy(from, to + pages * PAGE_SIZE, PAGE_SIZE);
            pages += 1;
        }
        let words = head(&registers, number, signal, (first, pages * PAGE_SIZE));
        let head = self.machine.bytes(memory, place, HEAD_BYTES);
        for (place, word) in head.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let core = Core { serial, number, incarnation, bytes: HEAD_BYTES + pages * PAGE_SIZE };
        self.remains.kept[serial as usize % KEPT_MAX] = Some(core);
        let left = Left {
            serial,
            server: number,
            incarnation: incarnation.into(),
            place: memory.physical() + place,
            lengths: [core.bytes, 0, 0],
            ..Left::default()
        };
        self.trace.ring.leave_core(serial as usize % KEPT_MAX, left);
        serial
    }
}

/// All that comes before the stack: ELF header, program headers, and the registers as Linux's `NT_PRSTATUS` has them.
fn head(r: &UserRegisters, number: u32, signal: u8, (address, bytes): (u64, u64)) -> [u64; HEAD_WORDS] {
    /// "\x7fELF", 64 bits, little-endian, version 1; ET_CORE, x86-64, version 1; where the program headers are.
    const ELF: [u64; 6] = [0x0001_0102_464c_457f, 0, 4 | 62 << 16 | 1 << 32, 0, 64, 0];
    /// Bytes of this header, of a program header, and how many of those there are.
    const SIZES: [u64; 2] = [64 << 32 | 56 << 48, 2];
    const NOTE: [u64; 7] = [4, NOTE_AT, 0, 0, NOTE_BYTES, 0, 4];
    const LOAD: u64 = 1 | 6 << 32;
    let signal = u64::from(signal);
    let stack = [LOAD, HEAD_BYTES, address, 0, bytes, bytes, PAGE_SIZE];
    // The name's length; the description's, and NT_PRSTATUS; the name.
    let note = [5 << 32, STATUS_BYTES | 1 << 32, u64::from_le_bytes(*b"CORE\0\0\0\0")];
    // Signal and code; errno and signal; those pending and blocked; process, parent, group and session; four times.
    let status = [signal, signal << 32, 0, 0, u64::from(number), 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let registers = [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        u64::MAX,
        r.rip,
        0x33,
        r.rflags,
        r.rsp,
        0x2b,
        r.fs_base,
        r.gs_base,
    ];
    let parts: [&[u64]; 7] = [&ELF, &SIZES, &NOTE, &stack, &note, &status, &registers];
    let mut words = [0; HEAD_WORDS];
    for (place, word) in words.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *word;
    }
    words
}
