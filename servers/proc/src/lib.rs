//! The process server: processes, threads, wait and exit, signals, sessions, futexes and the time programs ask for.
//!
//! It owns the process table and everything that hangs on it. It must never wait: what takes time (a copy of an
//! address space, a page of a program, a terminal) is a stored continuation (`jobs`), and what programs wait for is a
//! parked call (`thread`). It knows no file and maps no page: vm owns memory, the kernel owns descriptors.
//!
//! # Parent and child
//!
//! The protocol between a parent that waits and a child that ends is what this server exists for. There is one owner
//! of the table, and every event is one step of it, so the races that wait and exit are known for cannot be written
//! down here. What remains is to say what each step does.
//!
//! ```text
//!          conceive            publish             stop               last thread held
//! (nothing) ─────────► Embryo ─────────► Running ─────────► Stopping ─────────► Stopped
//!                        │ undo            │ ▲                  │ proceed           │ proceed
//!                        ▼                 │ └──────────────────┴───────────────────┘
//!                    (nothing)             │                  SIGCONT or SIGKILL was sent
//!                                          │ end_process
//!                                          ▼
//!                                        Dying   while its last writes are under way, a second at most
//!                                          │ finish
//!                             ┌────────────┴────────────┐
//!                             ▼ its parent wants to know ▼ it does not: auto-reap
//!                           Zombie                   (nothing)
//!                             │ reap, by a wait
//!                             ▼
//!                         (nothing)
//! ```
//!
//! | transition | where | what it does |
//! |---|---|---|
//! | conceive | `fork` | The number is taken, the group entered: a signal to the group reaches the embryo. |
//! | publish | `fork` | The child enters its parent's family, its thread starts, the fork is answered. |
//! | undo | `fork` | vm or the kernel refused, or the maker is gone: all that was made is taken back. |
//! | stop | `signal::deliver` | A thread takes a stop signal and is held; all others are called in. |
//! | last thread held | `stop` | The stop is news for the parent, and SIGCHLD unless SA_NOCLDSTOP. |
//! | proceed | `stop` | Held threads go on; after SIGCONT the continue replaces the stop as news. |
//! | end_process | `exit` | exit_group, the last thread's exit, a fatal signal. The first settles the status. |
//! | finish | `exit` | In one step everything below, and then the parent is told. |
//! | auto-reap | `exit` | SIGCHLD ignored, SA_NOCLDWAIT, or init: no status, nothing added to its usage. |
//! | reap | `wait`, `exit` | A wait took the news: usage moves to the parent, the number is free. |
//!
//! To finish is to kill the task, which closes its descriptors; to answer its calls; to give its space up; to let a
//! vfork parent go on; to release its session's terminal; and to have its children adopted, zombies with their news,
//! by the nearest living sub-reaper above or by init. (The children of a thread that ends alone go to another thread
//! of its process.)
//!
//! What holds after every step, and is checked after every step of the random tests. `tests/model` visits every state
//! of a model of it, against which those tests hold this server:
//!
//! - A status is moved out once, in the step that answers a wait of the process that is the parent then. WNOWAIT
//!   copies it. A wait that a signal or a kill has ended takes nothing.
//! - No wait is parked while a child has news for it: whatever makes news offers them to the oldest wait that wants
//!   them (`offer`). No wait is parked that nothing could answer: whatever takes a child out of its class answers
//!   ECHILD (`disappoint`), and ECHILD is given for no other reason.
//! - Every process but init has a living parent; nobody is the child of a zombie.
//! - A number names nothing else while a process (zombies included), thread, group or session has it.
//! - Whoever learns of an end, by wait, SIGCHLD, a pidfd or EOF on a pipe, finds all of it done.
//!
//! Process 1 is this server itself: it has no thread, cannot be signalled, and reaps at once what it adopts.
//!
//! A process whose first thread is traced tells its tracer of its end first, and its parent when the tracer has been
//! told (`trace`).
//!
//! # Threads come in
//!
//! A thread is never changed while it runs. To signal, stop or end it, the server has it called in
//! (`ThreadInterrupt`): the kernel takes it out of the call it waits in, and before it would next run its program it
//! makes an attention call here. What the thread then does is decided in `signal::deliver`, with its registers at
//! rest and its memory readable through that call. Being stopped is that call being held. An answer that ends a call
//! always follows the interrupt of its thread, so that the thread cannot slip out in between.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod call;
mod credentials;
mod dump;
mod exec;
mod exit;
mod family;
mod fault;
mod fork;
mod futex;
mod group;
mod id;
mod ids;
mod image;
mod info;
mod jobs;
mod limits;
mod memory;
mod pidfd;
mod prctl;
mod process;
mod report;
mod rites;
mod schedule;
#[cfg(feature = "seeded-bug")]
mod seeded_bug;
mod shared;
mod signal;
mod spawn;
mod status;
mod stop;
mod terminal;
mod thread;
mod time;
mod timers;
mod trace;
mod turn;
mod usage;
mod wait;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use libipc::abi::{CallId, Handle, Tag};
use libipc::linux::errno::EINVAL;
use libipc::proto::process::{self as protocol, Request as Asking};
use libipc::proto::space;
use libipc::server::{Boot, Call, Effects, Env, Event, Message, Request, Rows, Server, TIMER_BIT, Table};
use serde::{Deserialize, Serialize};

use crate::id::{INIT, INIT_THREAD, Pgid, Pid, Tid};
use crate::image::{Program, Random, Strings};
use crate::process::{Group, Life, Process, Sessions};
use crate::shared::Shared;
use crate::signal::action::Actions;
use crate::thread::Thread;
use crate::time::Timer;
use crate::turn::{Refusal, Turn};

/// The process server.
#[derive(Serialize, Deserialize)]
pub struct Proc {
    vm: Handle,
    tty: Handle,
    vfs: Handle,
    /// This server's own number, by which the kernel names its sessions.
    number: u32,
    /// The number of the server of /proc; 0 for none.
    procfs: u32,
    epoch_s: u64,
    random: Random,
    host: Vec<u8>,
    domain: Vec<u8>,

    processes: Rows<Pid, Process>,
    threads: Rows<Tid, Thread>,
    /// Groups and sessions follow from the processes' rows.
    #[serde(skip)]
    groups: BTreeMap<Pgid, Group>,
    #[serde(skip)]
    sessions: Sessions,
    last_pid: u32,
    sequence: u64,
    /// The process whose end ends the machine.
    first: Option<Pid>,

    /// Address spaces in use, by vm's badge: the handle of each.
    spaces: Shared<Handle>,
    actions: Shared<Actions>,
    programs: Shared<Program>,

    /// Whose the parked calls are.
    calls: BTreeMap<CallId, Tid>,
    futexes: futex::Futexes,
    timers: BTreeSet<(u64, Timer)>,
    armed_ns: u64,
    jobs: BTreeMap<Tag, jobs::Job>,
    pidfds: pidfd::Pidfds,
    signal_files: signal::descriptor::SignalFiles,
    /// Traced threads that have ended.
    departed: trace::Departures,
    last_ticket: u64,
    last_tag: u64,
    last_badge: u64,
    load: report::Load,
    /// There is hardly any room for more processes and threads.
    #[serde(skip)]
    crowded: bool,
}

impl Server for Proc {
    const SCHEMA: u32 = 3;

    fn new(boot: &Boot) -> Proc {
        let init = Process { life: Life::Running, ..Process::embryo(INIT, INIT, INIT_THREAD, 0, 0) };
        let mut proc = Proc {
            vm: boot.server("vm"),
            tty: boot.server("tty"),
            vfs: boot.server("vfs"),
            number: boot.number,
            procfs: boot.numbers.get("procfs").copied().unwrap_or(0),
            epoch_s: boot.epoch_s,
            random: Random(boot.seed),
            host: b"naiad".to_vec(),
            domain: Vec::new(),
            processes: Rows::from_iter([(INIT, init)]),
            threads: Rows::new(),
            groups: BTreeMap::new(),
            sessions: BTreeMap::new(),
            last_pid: INIT.0,
            sequence: 0,
            first: None,
            spaces: Shared::default(),
            actions: Shared::default(),
            programs: Shared::default(),
            calls: BTreeMap::new(),
            futexes: futex::Futexes::default(),
            timers: BTreeSet::new(),
            armed_ns: u64::MAX,
            jobs: BTreeMap::new(),
            pidfds: BTreeMap::new(),
            signal_files: BTreeMap::new(),
            departed: BTreeMap::new(),
            last_ticket: 0,
            last_tag: 0,
            last_badge: 0,
            load: report::Load::default(),
            crowded: false,
        };
        proc.enter_group(INIT);
        proc
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        let mut turn = Turn::new(env);
        let outcome = match event {
            Event::Start => Ok(()),
            Event::Call(call) => self.call(call, &mut turn),
            Event::Answer { tag, answer } => self.answered(*tag, answer, &mut turn),
            Event::Done { tag, result } => {
                self.done(*tag, *result, &mut turn);
                Ok(())
            }
            Event::Notify { bits } => {
                self.notified(*bits, &mut turn);
                Ok(())
            }
            Event::Cancel { call } => {
                self.cancel(*call, &mut turn);
                Ok(())
            }
            Event::LastClose { badge, owner } => {
                self.closed(badge.0, *owner, &mut turn);
                Ok(())
            }
            // This server watches no descriptors.
            Event::Watch { .. } | Event::Watched { .. } | Event::Unclaimed { .. } => Ok(()),
            Event::Lost { handle } => self.vanished(*handle, &mut turn),
        };
        if outcome == Err(Refusal::Again) {
            return Effects::again();
        }
        self.post_signal_files(&mut turn);
        self.arm(&mut turn);
        turn.out
    }

    fn crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }

    fn restored(&mut self) {
        let pids: Vec<Pid> = self.processes.keys().copied().collect();
        pids.iter().for_each(|pid| self.enter_group(*pid));
        for pid in pids.iter().filter(|pid| **pid != INIT) {
            let child = &self.processes[pid];
            let (parent, member) = (child.parent, child.member());
            if child.is_visible()
                && let Some(parent) = self.processes.get_mut(&parent)
            {
                parent.family.admit(&member);
            }
        }
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        let (spaces, actions, programs) = (&mut self.spaces, &mut self.actions, &mut self.programs);
        alloc::vec![&mut self.processes, &mut self.threads, spaces.table(), actions.table(), programs.table()]
    }
}

impl Proc {
    fn call(&mut self, call: &Call, turn: &mut Turn) -> Result<(), Refusal> {
        match &call.request {
            Request::Foreign(foreign) => self.foreign(call, foreign, turn),
            Request::Attention { restart, occasion } => self.attention(call, *restart, *occasion, turn),
            Request::Fault { kind, words } => self.exception(call, *kind, *words, turn),
            Request::Native(message) => self.native(call, message, turn),
        }
    }

    fn native(&mut self, call: &Call, message: &Message, turn: &mut Turn) -> Result<(), Refusal> {
        match message.label {
            protocol::EXEC => return self.exec(call, message, turn),
            space::SIGNAL => return self.memory_fault(call, message.words, turn),
            protocol::BACKGROUND => self.background(call, message, turn),
            protocol::REQUEST => self.request(call, message, turn),
            protocol::FILE_LIMIT => self.file_too_large(call, turn),
            protocol::HOST_NAME => {
                let payload = self.host.clone();
                turn.out.reply(call.id, Message { payload, ..Message::default() });
            }
            protocol::LIMITS | protocol::GROUPS | protocol::DESCRIPTORS => {
                let answer = self.report_part(message.label, message.words, turn);
                turn.out.reply(call.id, answer);
            }
            _ => {
                turn.out.reply(call.id, Message::label(EINVAL as u32));
            }
        }
        Ok(())
    }

    /// What vfs, procfs and root ask.
    fn request(&mut self, call: &Call, message: &Message, turn: &mut Turn) {
        let answer = match message.decode() {
            Ok(Asking::Spawn { exec, argv, env, exit_on_end }) => {
                let strings = Strings { arguments: argv, environment: env }.after(&exec.prefix);
                return self.spawn(call, &message.handles, &exec, &strings, exit_on_end, turn);
            }
            Ok(Asking::Pids) => self.report_pids(0),
            Ok(Asking::PidsAfter { pid }) => self.report_pids(pid),
            Ok(Asking::Process { pid }) => self.report_process(pid, turn),
            Ok(Asking::Load) => self.report_load(turn),
            Err(_) => protocol::Answer::Failed(EINVAL),
        };
        turn.out.reply(call.id, Message::typed(0, &answer));
    }

    fn notified(&mut self, bits: u64, turn: &mut Turn) {
        if bits & TIMER_BIT != 0 {
            self.ring(turn);
        }
        if bits & 1 << protocol::TERMINAL_BIT != 0 {
            self.fetch_events(turn);
        }
    }
}
