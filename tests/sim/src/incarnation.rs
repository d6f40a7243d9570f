//! Incarnations of servers: the real server crates in their real shell, each on a stack of its own, from which they
//! trap into the emulated kernel and come back when it resumes their thread.
//!
//! One runs at a time, until its next trap. One that the kernel has ended is dropped where it stands, which unwinds
//! it; nothing of it but its effects in the kernel is left, as on the machine.

use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use libipc::abi::syscall::{Syscall, THEN_RECEIVE};
use libipc::abi::{Frame, KernelError};
use libipc::server::boot::RootBoot;
use libipc::server::shell::Shell;
use libipc::server::{Boot, Effects, Env, Event, Saved, Server, Table};
use libipc::sys::{BUFFER_BYTES, Trapped, Traps};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::devices::SimDisk;
use crate::patience;
use crate::random::Random;

/// Bytes of stack of an incarnation.
const STACK_BYTES: usize = 1 << 20;

/// A message buffer on its way between a server and its emulated memory.
pub type Buffer = Box<[u8; BUFFER_BYTES]>;

/// A trap that a server makes.
pub struct Request {
    /// The call's number, with [`THEN_RECEIVE`] or without.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// What its message buffer holds.
    pub buffer: Buffer,
    /// The bytes of its own memory that the call copies from.
    pub source: Vec<u8>,
}

/// What a trap brings.
pub struct Reply {
    /// Its values or error.
    pub trapped: Trapped,
    /// The message buffer after it.
    pub buffer: Buffer,
    /// A wild write into the server's state, before its next message.
    pub wild: Option<Random>,
}

/// A server's thread. What comes out of it is a trap, or nothing when it loops.
type Thread = Coroutine<Reply, Option<Request>, Infallible>;
/// The way out of it.
pub(crate) type Gate = Yielder<Reply, Option<Request>>;

/// The way from a server into the emulated kernel.
struct Trap<'g> {
    gate: &'g Gate,
    buffer: Option<Buffer>,
    wild: Option<Random>,
}

impl Trap<'_> {
    fn enter(&mut self, number: u64, arguments: [u64; 6]) -> Trapped {
        let mut source = Vec::new();
        if number & !THEN_RECEIVE == Syscall::LeaseWrite as u64 {
            // SAFETY: the shell passes a slice that it borrows over the trap, as address and length.
            source = unsafe {
                std::slice::from_raw_parts(arguments[2] as *const u8, arguments[3] as usize).to_vec()
            };
        }
        let buffer = self.buffer.take().expect("the buffer is here between traps");
        patience::end();
        let reply = self.gate.suspend(Some(Request { number, arguments, buffer, source }));
        patience::begin(self.gate);
        self.buffer = Some(reply.buffer);
        self.wild = reply.wild.or(self.wild);
        reply.trapped
    }
}

impl Traps for Trap<'_> {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        self.enter(call as u64, arguments)
    }

    fn trap_then_receive(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        self.enter(call as u64 | THEN_RECEIVE, arguments)
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        self.buffer.as_mut().expect("the buffer is here between traps")
    }
}

/// What an incarnation starts from.
pub enum Start {
    /// Root: the words the kernel left, and the archive.
    Root(RootBoot, Arc<[u8]>),
    /// Another server: its boot block, and the image it starts in.
    Server(Boot, Version),
}

/// Which code an image stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// The server's, as it is.
    Booted = 1,
    /// The same, but with a state of another schema; it reads the one before, too.
    Next = 2,
    /// One that says it reads them all, and does not live to see it.
    Misfit = 3,
}

impl Version {
    /// The version whose states have this schema.
    pub fn of(schema: u32) -> Option<Version> {
        [Version::Booted, Version::Next, Version::Misfit]
            .into_iter()
            .find(|version| version.schema() == schema)
    }

    /// The schema of its states.
    pub fn schema(self) -> u32 {
        self as u32
    }
}

/// The next version of a server: it counts the states that it took over.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(bound = "")]
struct Next<S: Server> {
    taken_over: u64,
    server: S,
}

impl<S: Server> Server for Next<S> {
    const SCHEMA: u32 = S::SCHEMA + 1;
    const OLDEST_SCHEMA: u32 = S::SCHEMA;

    fn new(boot: &Boot) -> Next<S> {
        Next { taken_over: 0, server: S::new(boot) }
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        self.server.step(event, env)
    }

    fn crowded(&mut self, crowded: bool) {
        self.server.crowded(crowded);
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.server.is_free(frame)
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        self.server.tables()
    }

    fn restored(&mut self) {
        self.server.restored();
    }

    fn restore(schema: u32, saved: &mut Saved<'_>) -> Option<Next<S>> {
        if schema == Self::SCHEMA {
            return saved.read(Self::tables);
        }
        S::restore(schema, saved).map(|server| Next { taken_over: 1, server })
    }
}

/// A server between two of its traps.
pub struct Incarnation {
    /// It is there until the end.
    thread: Option<Thread>,
    /// It was left in the midst of a step.
    loops: bool,
}

thread_local! {
    /// Stacks of incarnations that have ended.
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        if let Some(mut thread) = self.thread.take() {
            match self.loops {
                // SAFETY: what is on its stack is forgotten, never used again.
                true => unsafe { thread.force_reset() },
                false => thread.force_unwind(),
            }
            STACKS.with_borrow_mut(|stacks| stacks.push(thread.into_stack()));
        }
    }
}

/// Why an incarnation came to no trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// It ended by itself.
    Panicked,
    /// It loops.
    Loops,
}

fn serve<S: Server>(boot: &Boot, version: Version, trap: Trap<'_>) -> Infallible {
    match version {
        Version::Booted => run(Shell::<S, _>::start(boot, trap)),
        Version::Next => run(Shell::<Next<S>, _>::start(boot, trap)),
        Version::Misfit => panic!("an image that cannot start"),
    }
}

fn run<S: Server>(mut shell: Shell<S, Trap<'_>>) -> Infallible {
    loop {
        shell.serve_one();
        if let Some(mut random) = shell.traps.wild.take() {
            write_over(&mut shell, &mut random);
        }
    }
}

/// A wild write into what a server remembers. A state is structures, pointers and values; in its serialised form, one
/// that no longer decodes is one whose structure has been hit: the server faults when it follows it.
fn write_over<S: Server, T: Traps>(shell: &mut Shell<S, T>, random: &mut Random) {
    let (kept, server) = (encoded(&shell.kept), encoded(&shell.server));
    let bytes = (kept.len() + server.len()) as u64;
    if random.below(bytes) < kept.len() as u64 {
        shell.kept = damaged(kept, random);
    } else {
        shell.server = damaged(server, random);
        shell.server.restored();
    }
    shell.save_whole();
}

fn encoded(state: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(state).expect("a state always encodes")
}

fn damaged<S: DeserializeOwned>(mut state: Vec<u8>, random: &mut Random) -> S {
    random.damage(&mut state);
    postcard::from_bytes(&state).expect("a wild write has hit a pointer")
}

fn run_root(trap: Trap<'_>, words: &RootBoot, archive: &[u8]) -> Infallible {
    let mut root = root::begin(trap, words, archive);
    loop {
        root.serve_one();
        let (traps, state) = root.insides();
        if let Some(mut random) = traps.wild.take() {
            *state = damaged(encoded(state), &mut random);
        }
    }
}

fn serve_by_name(boot: &Boot, version: Version, trap: Trap<'_>) -> Infallible {
    match boot.name.as_str() {
        "vm" => serve::<vm::Vm>(boot, version, trap),
        "blk" => serve::<blk::Driver<SimDisk>>(boot, version, trap),
        "logfile" => serve::<logfile::Logfile>(boot, version, trap),
        "tty" => serve::<tty::Tty>(boot, version, trap),
        "tmpfs" => serve::<tmpfs::Tmpfs>(boot, version, trap),
        "ufs" => serve::<ufs::Ufs>(boot, version, trap),
        "proc" => serve::<proc::Proc>(boot, version, trap),
        "procfs" => serve::<procfs::Procfs>(boot, version, trap),
        "vfs" => serve::<vfs::Vfs>(boot, version, trap),
        name => panic!("a server `{name}` is not known here"),
    }
}

impl Incarnation {
    /// A new one, which has not run yet. Its first resumption brings the message buffer alone.
    pub fn new(start: Start) -> Incarnation {
        let stack = STACKS.with_borrow_mut(Vec::pop);
        let stack =
            stack.unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("there is memory for a stack"));
        let thread = Thread::with_stack(stack, move |gate: &Gate, first: Reply| {
            patience::begin(gate);
            let trap = Trap { gate, buffer: Some(first.buffer), wild: None };
            match start {
                Start::Root(words, archive) => run_root(trap, &words, &archive),
                Start::Server(boot, version) => serve_by_name(&boot, version, trap),
            }
        });
        Incarnation { thread: Some(thread), loops: false }
    }

    /// Runs it to its next trap.
    ///
    /// # Errors
    /// It panicked, or loops.
    pub fn resume(&mut self, reply: Reply) -> Result<Request, Stopped> {
        let thread = self.thread.as_mut().filter(|_| !self.loops).ok_or(Stopped::Loops)?;
        let resumed = catch_unwind(AssertUnwindSafe(|| thread.resume(reply)));
        patience::over();
        match resumed {
            Ok(CoroutineResult::Yield(Some(request))) => Ok(request),
            Ok(CoroutineResult::Yield(None)) => {
                self.loops = true;
                Err(Stopped::Loops)
            }
            Ok(CoroutineResult::Return(never)) => match never {},
            Err(_) => Err(Stopped::Panicked),
        }
    }
}

/// What a trap brought, from the registers it left.
pub fn trapped(registers: &libipc::abi::UserRegisters) -> Trapped {
    let r = registers;
    KernelError::from_number(r.rax).map_or(Ok([r.rdi, r.rsi, r.rdx, r.r10, r.r8]), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_loops_does_not_keep_its_host_thread() {
        let thread = Thread::new(|gate: &Gate, _: Reply| {
            patience::begin(gate);
            loop {
                std::hint::spin_loop();
            }
        });
        let mut looping = Incarnation { thread: Some(thread), loops: false };
        let reply = || Reply { trapped: Ok([0; 5]), buffer: Box::new([0; BUFFER_BYTES]), wild: None };
        assert_eq!(looping.resume(reply()).err(), Some(Stopped::Loops));
        assert_eq!(looping.resume(reply()).err(), Some(Stopped::Loops), "it is not resumed");
    }
}
