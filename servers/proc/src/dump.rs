//! The end of a process that leaves a core file.
//!
//! It writes the file itself: the thread that failed goes on in the shared object that every program has
//! (`vdso/src/dump.rs`), on memory of its own, while the others stand still; it makes calls like any program, so the
//! file is made with the process's own rights, limits and directory, and this server waits for nothing. What it cannot
//! know, the registers as they were, it asks for here. When it exits the process ends as was settled. SIGKILL, and a
//! fault on the way, end it at once, without the file.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::UserRegisters;
use libipc::linux::errno::EPERM;
use libipc::server::ThreadState;
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::exit::Via;
use crate::id::{Pid, Tid};
use crate::limits::Resource;
use crate::memory::{word_at, words};
use crate::process::{Life, Process};
use crate::signal::frame::fresh_fpu;
use crate::signal::{Entry, SigInfo};
use crate::status::Status;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

/// Where an ELF header says at which address the object is entered.
const ENTRY_AT: u64 = 24;
/// Kinds of notes (elf.h), in a core of a program.
const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_SIGINFO: u32 = 0x5349_4749;
/// The longest of the names and command lines in such notes.
const NAME_BYTES: usize = 16;
const COMMAND_BYTES: usize = 80;

/// A core file that is being written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dump {
    /// The thread that failed, and writes.
    pub tid: Tid,
    /// Its registers when it failed.
    registers: UserRegisters,
    /// Its FXSAVE state then.
    #[serde(with = "libipc::bytes")]
    fpu: Vec<u8>,
    /// The signal that ends the process.
    info: SigInfo,
}

impl Proc {
    /// Whether a process that dies of a signal with a core may leave one.
    pub(crate) fn may_leave_core(&self, pid: Pid) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|process| process.limits.get(Resource::Core).0 > 0 && process.settings.dumpable == 1)
    }

    /// Whether this thread writes its process's core.
    pub(crate) fn is_dumping(&self, tid: Tid) -> bool {
        let process = self.threads.get(&tid).and_then(|thread| self.processes.get(&thread.pid));
        process.and_then(|process| process.dump.as_deref()).is_some_and(|dump| dump.tid == tid)
    }

    /// Lets a thread that has come in, or failed, write the core of its process. Whether it does.
    pub(crate) fn begin_dump(
        &mut self,
        entry: &Entry,
        info: SigInfo,
        turn: &mut Turn,
    ) -> Result<bool, Refusal> {
        let Some(process) = self.processes.get(&entry.pid).filter(|process| process.dump.is_none()) else {
            return Ok(false);
        };
        let Some(program) = self.programs.get(process.program).filter(|program| program.vdso != 0) else {
            return Ok(false);
        };
        let header = turn.env.read_user(entry.call, program.vdso + ENTRY_AT, 8);
        let start = match header.map_err(Refusal::from) {
            Err(Refusal::Again) => return Err(Refusal::Again),
            Err(_) => return Ok(false),
            Ok(bytes) => program.vdso.wrapping_add(word_at(&bytes, 0)),
        };
        let stack = program.stack;
        let Some(thread) = self.threads.get(&entry.tid).map(|thread| thread.handle) else { return Ok(false) };
        let Ok(ThreadState { registers, fpu }) = turn.env.thread(thread) else { return Ok(false) };
        let status = Status::killed(info.signal, false);
        self.arrive(entry, turn);
        self.set_calls(entry.tid, false, turn);
        self.set_step(entry.tid, false, turn);
        let dump = Box::new(Dump { tid: entry.tid, registers, fpu, info });
        let Some(process) = self.processes.get_mut(&entry.pid) else { return Ok(false) };
        process.dump = Some(dump);
        let others: Vec<Tid> = process.threads.iter().copied().filter(|tid| *tid != entry.tid).collect();
        self.set_life(entry.pid, Life::Dying { status });
        for other in others.iter().filter_map(|tid| self.threads.get(tid)) {
            turn.act(Operation::ThreadStop { thread: other.handle });
        }
        let registers =
            UserRegisters { rip: start, rdi: stack, rsp: registers.rsp, ..UserRegisters::default() };
        let registers = Box::new(registers);
        turn.act(Operation::ThreadSetRegisters { thread, registers, fpu: Some(fresh_fpu()) });
        turn.go_on(entry.call);
        Ok(true)
    }

    /// The core is written, or cannot be: the process ends at last.
    pub(crate) fn end_dump(
        &mut self,
        pid: Pid,
        via: Option<Via>,
        written: bool,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let dump = self.processes.get(&pid).and_then(|process| process.dump.as_deref());
        let Some(signal) = dump.map(|dump| dump.info.signal) else { return Ok(()) };
        self.end_process(pid, Status::killed(signal, written), via, turn)
    }

    /// SIGKILL: no core, and no more waiting.
    pub(crate) fn kill_dump(&mut self, pid: Pid, turn: &mut Turn) {
        let dump = self.processes.get(&pid).and_then(|process| process.dump.as_deref());
        if let Some(signal) = dump.map(|dump| dump.info.signal) {
            self.finish(pid, Status::killed(signal, false), turn);
        }
    }

    /// What a core says of one thread, the writer first; of none behind the last. It is told only to the writer.
    pub(crate) fn core_notes(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let Some(process) = self.processes.get(&asked.pid) else { return errno(EPERM) };
        let Some(dump) = process.dump.as_deref().filter(|dump| dump.tid == asked.tid) else {
            return errno(EPERM);
        };
        let others = process.threads.iter().copied().filter(|tid| *tid != dump.tid);
        let index = usize::try_from(asked.word(1)).unwrap_or(usize::MAX);
        let notes = match index.checked_sub(1) {
            None => self.first_notes(process, dump),
            Some(index) => {
                let other = others.into_iter().nth(index).and_then(|tid| self.threads.get(&tid));
                let Some(other) = other else { return Reply::DONE };
                let state = turn.env.thread(other.handle).map_err(|_| Refusal::Errno(EPERM))?;
                let mut notes = Vec::new();
                note(&mut notes, NT_PRSTATUS, &status_of(process, other.tid, &state.registers, None));
                note(&mut notes, NT_FPREGSET, &state.fpu);
                notes
            }
        };
        if notes.len() as u64 > asked.word(3) {
            return Reply::DONE;
        }
        let length = notes.len() as i64;
        turn.copy_out(asked.id, asked.word(2), notes);
        Ok(Reply::Value(length))
    }

    fn first_notes(&self, process: &Process, dump: &Dump) -> Vec<u8> {
        let mut notes = Vec::new();
        note(&mut notes, NT_PRSTATUS, &status_of(process, dump.tid, &dump.registers, Some(&dump.info)));
        note(&mut notes, NT_PRPSINFO, &self.process_info(process));
        note(&mut notes, NT_SIGINFO, &dump.info.to_bytes());
        note(&mut notes, NT_FPREGSET, &dump.fpu);
        notes
    }

    /// `struct elf_prpsinfo`.
    fn process_info(&self, process: &Process) -> Vec<u8> {
        let mut bytes = [0, b'R', 0, process.settings.nice as u8, 0, 0, 0, 0].to_vec();
        bytes.extend([0; 8]);
        let ids = [process.credentials.uid, process.credentials.gid];
        let numbers = [process.pid.0, process.parent.0, process.pgid.0, process.sid.0];
        ids.iter().chain(&numbers).for_each(|number| bytes.extend(number.to_le_bytes()));
        let name = self.threads.get(&Tid(process.pid.0)).map(|first| first.name.clone()).unwrap_or_default();
        field(&mut bytes, name, NAME_BYTES);
        let line = self.programs.get(process.program).map(|program| program.command_line.clone());
        let mut line = line.unwrap_or_default();
        line.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
        field(&mut bytes, line, COMMAND_BYTES);
        bytes
    }
}

/// A text in a field of fixed length, which ends with a NUL.
fn field(bytes: &mut Vec<u8>, mut text: Vec<u8>, length: usize) {
    text.truncate(length - 1);
    text.resize(length, 0);
    bytes.extend(text);
}

/// `struct elf_prstatus`: of the writer with the signal.
fn status_of(process: &Process, tid: Tid, r: &UserRegisters, info: Option<&SigInfo>) -> Vec<u8> {
    const CODE: u64 = 0x33;
    const DATA: u64 = 0x2b;
    const NO_CALL: u64 = u64::MAX;
    let signal = info.map_or(0, |info| info.signal);
    let mut bytes = Vec::new();
    let [code, errno] = info.map_or([0; 2], |info| [info.code, info.errno]);
    [i32::from(signal), code, errno].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes.extend(u32::from(signal).to_le_bytes());
    // Pending and blocked signals.
    bytes.extend([0; 16]);
    let numbers = [tid.0, process.parent.0, process.pgid.0, process.sid.0];
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    // Times.
    bytes.extend([0; 64]);
    bytes.extend(words(&[
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx, r.rsi,
        r.rdi, NO_CALL, r.rip, CODE, r.rflags, r.rsp, DATA, r.fs_base, r.gs_base, 0, 0, 0, 0,
    ]));
    // The state of the FPU is there.
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// A note as ELF has it, its parts padded to four bytes.
fn note(notes: &mut Vec<u8>, kind: u32, description: &[u8]) {
    [5, description.len() as u32, kind].iter().for_each(|word| notes.extend(word.to_le_bytes()));
    notes.extend(b"CORE\0\0\0\0");
    notes.extend(description);
    notes.resize(notes.len().next_multiple_of(4), 0);
}
