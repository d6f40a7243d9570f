//! fork(2), vfork(2), clone(2), clone3(2): built aside, published in one step.
//!
//! The child's row is there from the start as an embryo, so that its number is taken and a signal to its group
//! reaches it; nobody can name it or wait for it before the step that starts its thread. A refusal on the way undoes
//! it all.

use alloc::vec::Vec;

use libipc::abi::syscall::descriptor_slot;
use libipc::abi::{CallId, Handle, TaskWord};
use libipc::linux::errno::{E2BIG, EAGAIN, EINVAL, EMFILE, EPERM};
use libipc::linux::signal::{NSIG, SIGCHLD};
use libipc::proto::space;
use libipc::server::effect::{CopyStart, Inherit, Operation, Output};
use libipc::server::{ForeignReply, Message};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::jobs::{Job, MadeSpace};
use crate::memory::word_at;
use crate::process::{Life, Process, Settings};
use crate::signal::AlternateStack;
use crate::signal::frame::USER_END;
use crate::thread::{On, Thread};
use crate::trace::Follow;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PTRACE: u64 = 0x2000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_DETACHED: u64 = 0x40_0000;
const CLONE_UNTRACED: u64 = 0x80_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// New namespaces of every kind, and placement in a cgroup: Naiad has neither.
const CLONE_NEW: u64 = CLONE_NEWNS | 0x80 | 0x200_0000 | 0x7c00_0000 | 0x2_0000_0000;
/// The exit signal in the flags of clone(2).
const CSIGNAL: u64 = 0xff;

/// Bytes of the first version of `struct clone_args`.
const CLONE_ARGS_BYTES: usize = 64;
/// Bytes of the versions known here.
const CLONE_ARGS_KNOWN: usize = 88;

/// What is to be made, as clone3(2) says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct CloneArgs {
    flags: u64,
    exit_signal: u64,
    /// The child's stack pointer; 0 to go on with the parent's.
    stack: u64,
    tls: u64,
    parent_tid: u64,
    child_tid: u64,
    /// Where the number of the child's pidfd goes.
    pidfd: u64,
}

impl CloneArgs {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Whether the maker waits until the child executes a program or ends.
    fn suspends(&self) -> bool {
        self.has(CLONE_VFORK) && !self.has(CLONE_THREAD)
    }

    /// What the child is to its maker's tracer.
    fn follow(&self) -> Follow {
        Follow {
            vfork: self.suspends(),
            exit_signal: self.exit_signal as u8,
            traced: self.has(CLONE_PTRACE),
            untraced: self.has(CLONE_UNTRACED),
        }
    }

    /// How the child's thread begins.
    fn start(&self) -> CopyStart {
        CopyStart {
            stack: (self.stack != 0).then_some(self.stack),
            tls: self.has(CLONE_SETTLS).then_some(self.tls),
        }
    }

    /// Refuses what Linux refuses.
    fn check(&self) -> Result<(), Refusal> {
        let thread_alone = self.has(CLONE_THREAD) && !self.has(CLONE_SIGHAND);
        let actions_alone = self.has(CLONE_SIGHAND) && !self.has(CLONE_VM);
        let contradiction = self.has(CLONE_SIGHAND) && self.has(CLONE_CLEAR_SIGHAND);
        // A descriptor of a thread that is not its process's first is not offered.
        let unknown = self.has(CLONE_NEW) || self.has(CLONE_PIDFD) && self.has(CLONE_THREAD | CLONE_DETACHED);
        if thread_alone || actions_alone || contradiction || unknown {
            return errno(EINVAL);
        }
        if self.has(CLONE_SETTLS) && self.tls >= USER_END {
            return errno(EPERM);
        }
        Ok(())
    }
}

/// The number of the child's pidfd, for its maker.
fn pidfd_piece(job: &ForkJob) -> Vec<Output> {
    let number = job.pidfd.map(|(_, number)| number.to_le_bytes().to_vec());
    number.map_or_else(Vec::new, |bytes| piece(job.args.pidfd, bytes))
}

/// A child being made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForkJob {
    args: CloneArgs,
    call: CallId,
    parent: Tid,
    /// The child's number, process or thread.
    number: u32,
    space: u64,
    /// The maker's task, until the child has one.
    task: Handle,
    thread: Handle,
    /// Badge and number of the child's pidfd.
    pidfd: Option<(u64, u32)>,
}

impl Proc {
    pub(crate) fn fork(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        self.make(asked, CloneArgs { exit_signal: u64::from(SIGCHLD), ..CloneArgs::default() }, turn)
    }

    pub(crate) fn vfork(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let flags = CLONE_VFORK | CLONE_VM;
        self.make(asked, CloneArgs { flags, exit_signal: u64::from(SIGCHLD), ..CloneArgs::default() }, turn)
    }

    pub(crate) fn clone(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let flags = asked.word(0) & 0xffff_ffff;
        let args = CloneArgs {
            flags: flags & !CSIGNAL,
            exit_signal: flags & CSIGNAL,
            stack: asked.word(1),
            parent_tid: asked.word(2),
            child_tid: asked.word(3),
            tls: asked.word(4),
            pidfd: asked.word(2),
        };
        if args.has(CLONE_PIDFD) && args.has(CLONE_PARENT_SETTID) {
            // Both would be stored at one address.
            return errno(EINVAL);
        }
        self.make(asked, args, turn)
    }

    pub(crate) fn clone3(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let size = asked.word(1);
        if size < CLONE_ARGS_BYTES as u64 {
            return errno(EINVAL);
        }
        let bytes = asked.needed(0)?;
        let news = bytes.iter().skip(CLONE_ARGS_KNOWN).any(|byte| *byte != 0);
        if size > libipc::abi::PAGE_SIZE || news {
            return errno(E2BIG);
        }
        let word = |index: usize| word_at(bytes, 8 * index);
        let (flags, exit_signal, stack, stack_size) = (word(0), word(4), word(5), word(6));
        let chosen_numbers = word(8) != 0 || word(9) != 0;
        let half_a_stack = (stack == 0) != (stack_size == 0);
        let signal_of_thread = exit_signal != 0 && flags & (CLONE_THREAD | CLONE_PARENT) != 0;
        if flags & (CLONE_DETACHED | CSIGNAL) != 0
            || exit_signal > u64::from(NSIG)
            || signal_of_thread
            || half_a_stack
            || chosen_numbers
        {
            return errno(EINVAL);
        }
        let args = CloneArgs {
            flags,
            exit_signal,
            stack: stack.wrapping_add(stack_size),
            child_tid: word(2),
            parent_tid: word(3),
            tls: word(7),
            pidfd: word(1),
        };
        self.make(asked, args, turn)
    }

    fn make(&mut self, asked: &Asked, args: CloneArgs, turn: &mut Turn) -> Outcome {
        let Some(parent) = self.processes.get(&asked.pid) else { return errno(EAGAIN) };
        args.check()?;
        if parent.is_ending() || self.crowded {
            return errno(EAGAIN);
        }
        let (space, task) = (parent.space, parent.task);
        let number = self.take_number().ok_or(Refusal::Errno(EAGAIN))?;
        let (call, parent, thread) = (asked.id, asked.tid, Handle::NONE);
        let job = ForkJob { args, call, parent, number, space, task, thread, pidfd: None };
        self.park(asked.tid, asked.id, On::Server, turn);
        if args.has(CLONE_THREAD) {
            self.make_thread(job, turn);
            return Ok(Reply::Later);
        }
        self.conceive(asked, &job, turn);
        if args.has(CLONE_VM) {
            self.spaces.hold(space);
            self.make_task(job, turn);
        } else {
            let message = Message::typed(space::REQUEST, &space::Request::Fork { space });
            let tag = self.start(Job::ForkSpace(job));
            turn.out.send(self.vm, tag, message);
        }
        Ok(Reply::Later)
    }

    /// The child's row: everything it has from its parent.
    fn conceive(&mut self, asked: &Asked, job: &ForkJob, turn: &mut Turn) {
        let (args, pid) = (job.args, Pid(job.number));
        let Some(maker) = self.processes.get(&asked.pid) else { return };
        let sibling = args.has(CLONE_PARENT);
        let (parent, creator) = if sibling { (maker.parent, maker.creator) } else { (maker.pid, asked.tid) };
        let exit_signal = if sibling { maker.exit_signal } else { args.exit_signal as u8 };
        let shared = args.has(CLONE_SIGHAND).then_some(maker.actions);
        let mut inherited = self.actions.get(maker.actions).cloned().unwrap_or_default();
        if args.has(CLONE_CLEAR_SIGHAND) {
            inherited = inherited.after_exec();
        }
        let actions = match shared {
            Some(actions) => {
                self.actions.hold(actions);
                actions
            }
            None => self.actions.add(inherited),
        };
        self.programs.hold(maker.program);
        self.sequence += 1;
        let settings = Settings { subreaper: false, parent_death_signal: 0, ..maker.settings.clone() };
        let child = Process {
            pgid: maker.pgid,
            sid: maker.sid,
            exit_signal,
            actions,
            program: maker.program,
            credentials: maker.credentials.clone(),
            limits: maker.limits.clone(),
            settings,
            ..Process::embryo(pid, parent, creator, self.sequence, turn.env.now())
        };
        self.processes.insert(pid, child);
        self.enter_group(pid);
    }

    /// vm has copied the space, or could not.
    pub(crate) fn fork_space(&mut self, job: ForkJob, made: Result<MadeSpace, i32>, turn: &mut Turn) {
        match made {
            Ok(made) => {
                self.spaces.insert(made.space, made.handle);
                self.make_task(ForkJob { space: made.space, ..job }, turn);
            }
            Err(errno) => self.undo(ForkJob { space: 0, task: Handle::NONE, ..job }, errno, turn),
        }
    }

    fn make_task(&mut self, job: ForkJob, turn: &mut Turn) {
        let job = ForkJob { task: Handle::NONE, ..job };
        let handle = self.spaces.get(job.space).copied();
        let (Some(space), Some(source), true) = (handle, self.source_of(&job), self.maker_waits(&job)) else {
            return self.undo(job, EAGAIN, turn);
        };
        let Some(parent) = self.family_of(&job).map(|(parent, _)| parent) else {
            return self.undo(job, EAGAIN, turn);
        };
        let (task, thread) = (turn.env.new_handle(), turn.env.new_handle());
        let inherit = Inherit {
            share_descriptors: job.args.has(CLONE_FILES),
            share_directories: job.args.has(CLONE_FS),
        };
        let (number, parent, start) = (job.number, parent.0, job.args.start());
        let tag = self.start(Job::ForkThread(ForkJob { task, thread, ..job }));
        let fork = Operation::TaskFork { task, thread, space, source, inherit, number, parent, start };
        turn.out.attempt(tag, fork);
    }

    fn make_thread(&mut self, job: ForkJob, turn: &mut Turn) {
        let Some(source) = self.source_of(&job) else {
            return self.undo(job, EAGAIN, turn);
        };
        let into = turn.env.new_handle();
        let (task, tid, start) = (job.task, job.number, job.args.start());
        let tag = self.start(Job::ForkThread(ForkJob { thread: into, ..job }));
        turn.out.attempt(tag, Operation::ThreadCreate { into, task, tid, source, start });
    }

    /// The maker's thread.
    fn source_of(&self, job: &ForkJob) -> Option<Handle> {
        self.threads.get(&job.parent).map(|thread| thread.handle)
    }

    /// The child's parent, and the thread it belongs to there. With CLONE_PARENT they are its maker's, which may have
    /// been orphaned since it asked.
    fn family_of(&self, job: &ForkJob) -> Option<(Pid, Tid)> {
        let maker = self.processes.get(&self.threads.get(&job.parent)?.pid)?;
        Some(if job.args.has(CLONE_PARENT) { (maker.parent, maker.creator) } else { (maker.pid, job.parent) })
    }

    /// The kernel has made the thread, and a process's task with it, or could not.
    pub(crate) fn fork_thread(&mut self, job: ForkJob, made: Result<(), i32>, turn: &mut Turn) {
        match made {
            Ok(()) if job.args.has(CLONE_PIDFD) => {
                let (badge, create) = self.pidfd_for(Pid(job.number), 0, turn);
                let tag = self.start(Job::ForkPidfd(ForkJob { pidfd: Some((badge, 0)), ..job }));
                turn.out.attempt(tag, create);
            }
            Ok(()) => self.publish(job, turn),
            Err(errno) => {
                self.undo(ForkJob { task: Handle::NONE, thread: Handle::NONE, ..job }, errno, turn);
            }
        }
    }

    /// The kernel has made the session of the child's pidfd, or could not: the maker gets it as a descriptor.
    pub(crate) fn fork_pidfd(&mut self, job: ForkJob, made: Result<(), i32>, turn: &mut Turn) {
        let badge = job.pidfd.map_or(0, |(badge, _)| badge);
        let maker = self.threads.get(&job.parent).and_then(|thread| self.processes.get(&thread.pid));
        let task = maker.map(|maker| maker.task).filter(|_| made.is_ok() && self.maker_waits(&job));
        let handle = self.pidfd_owner(badge);
        let Some(task) = task else {
            self.forget_pidfd(badge);
            if made.is_ok() {
                turn.close(handle);
            }
            return self.undo(ForkJob { pidfd: None, ..job }, EAGAIN, turn);
        };
        let tag = self.start(Job::ForkDescriptor(job));
        let slot = descriptor_slot::LOWEST;
        turn.out.attempt(tag, Operation::DescriptorSet { task, slot, handle, close_on_exec: true });
    }

    /// The maker has the pidfd, or may not have one more descriptor. This is the last that can fail: the outcome
    /// comes before any other event, so the maker still waits.
    pub(crate) fn fork_descriptor(&mut self, job: ForkJob, slot: Result<u64, i32>, turn: &mut Turn) {
        let badge = job.pidfd.map_or(0, |(badge, _)| badge);
        match slot {
            Ok(slot) => self.publish(ForkJob { pidfd: Some((badge, slot as u32)), ..job }, turn),
            Err(_) => {
                let owner = self.pidfd_owner(badge);
                self.forget_pidfd(badge);
                turn.close(owner);
                self.undo(ForkJob { pidfd: None, ..job }, EMFILE, turn);
            }
        }
    }

    /// Whether the maker still waits in the call, and its process is not about to end.
    fn maker_waits(&self, job: &ForkJob) -> bool {
        let Some(thread) = self.threads.get(&job.parent) else { return false };
        let alive = self.processes.get(&thread.pid).is_some_and(|process| !process.is_ending());
        alive && thread.waiting.as_ref().is_some_and(|waiting| waiting.call == job.call)
    }

    /// The child is complete: from this step on it runs and everybody can see it.
    fn publish(&mut self, job: ForkJob, turn: &mut Turn) {
        let maker = self.threads.get(&job.parent).filter(|_| self.maker_waits(&job));
        let Some(maker) = maker else { return self.undo(job, EAGAIN, turn) };
        let args = job.args;
        let (tid, owner) = (Tid(job.number), maker.pid);
        let pid = if args.has(CLONE_THREAD) { owner } else { Pid(job.number) };
        let new_stack = args.has(CLONE_VM) && !args.has(CLONE_VFORK);
        let thread = Thread {
            name: maker.name.clone(),
            blocked: maker.blocked,
            alternate: if new_stack { AlternateStack::default() } else { maker.alternate },
            clear_tid: if args.has(CLONE_CHILD_CLEARTID) { args.child_tid } else { 0 },
            set_tid: if args.has(CLONE_CHILD_SETTID) { args.child_tid } else { 0 },
            ..Thread::new(tid, pid, job.thread)
        };
        self.threads.insert(tid, thread);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.threads.insert(tid);
        }
        if !args.has(CLONE_THREAD) {
            self.give_birth(&job, owner, pid, turn);
        }
        let event = self.follow(job.parent, tid, args.follow());
        self.set_going(tid, turn);
        if !args.has(CLONE_THREAD) {
            self.plan_cpu_check(pid, turn);
        }
        self.answer_maker(&job, pid, event, turn);
    }

    /// Starts a new thread, by way of this server when there is something for it to do first.
    pub(crate) fn set_going(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(thread) = self.threads.get(&tid) else { return };
        let handle = thread.handle;
        let stopping = self.processes.get(&thread.pid).is_some_and(|process| process.is_stopping());
        if thread.set_tid != 0 || stopping || self.has_signal(tid) {
            self.interrupt(tid, turn);
        }
        turn.act(Operation::ThreadStart { thread: handle });
    }

    /// The embryo becomes a process: a child of its parent, with what its maker is now.
    fn give_birth(&mut self, job: &ForkJob, maker: Pid, pid: Pid, turn: &mut Turn) {
        let Some(maker) = self.processes.get(&maker) else { return };
        let (pgid, sid) = (maker.pgid, maker.sid);
        let (credentials, limits) = (maker.credentials.clone(), maker.limits.clone());
        if self.processes.get(&pid).is_some_and(|child| child.pgid != pgid) {
            self.move_to_group(pid, pgid, sid, turn);
        }
        let family = self.family_of(job);
        let Some(child) = self.processes.get_mut(&pid) else { return };
        if let Some(family) = family {
            (child.parent, child.creator) = family;
        }
        child.life = Life::Running;
        (child.credentials, child.limits) = (credentials, limits);
        (child.task, child.space) = (job.task, job.space);
        if job.args.suspends() {
            child.vfork_parent = Some((job.parent, job.call));
        }
        let (parent, member) = (child.parent, child.member());
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.family.admit(&member);
        }
    }

    /// Answers the call, or lets the maker wait on for its vfork child.
    fn answer_maker(&mut self, job: &ForkJob, pid: Pid, event: Option<u8>, turn: &mut Turn) {
        let address = if job.args.has(CLONE_PARENT_SETTID) { job.args.parent_tid } else { 0 };
        let mut outputs = piece(address, job.number.to_le_bytes().to_vec());
        outputs.extend(pidfd_piece(job));
        if job.args.suspends() {
            for output in outputs {
                turn.copy_out(job.call, output.address, output.bytes);
            }
            if event.is_some() {
                return self.stop_in_vfork(job.parent, job.call, pid, turn);
            }
            if let Some(waiting) = self.threads.get_mut(&job.parent).and_then(|it| it.waiting.as_mut()) {
                waiting.on = On::Vfork { child: pid };
            }
            // A signal that ends the maker may have been passed over while the child was made.
            if self.is_doomed(job.parent) {
                self.cancel(job.call, turn);
            }
            return;
        }
        if let Some(event) = event {
            self.note_event(job.parent, event, u64::from(job.number), turn);
        }
        self.finish_wait(job.parent, i64::from(job.number), outputs, turn);
    }

    /// Takes back what has been made so far, and tells the caller why.
    fn undo(&mut self, job: ForkJob, errno: i32, turn: &mut Turn) {
        if job.thread != Handle::NONE {
            turn.act(Operation::ThreadEnd { thread: job.thread });
            turn.close(job.thread);
        }
        if !job.args.has(CLONE_THREAD) {
            if job.task != Handle::NONE {
                turn.act(Operation::TaskKill { task: job.task });
                turn.close(job.task);
            }
            self.leave_space(job.space, turn);
            if let Some(child) = self.processes.remove(&Pid(job.number)) {
                self.leave_group(child.pid, child.pgid, child.life);
                self.orphan_pidfds(&child);
                self.actions.release(child.actions);
                self.programs.release(child.program);
            }
        }
        if self.calls.get(&job.call) == Some(&job.parent)
            && let Some(waiting) = self.release(job.parent)
        {
            let reply = ForeignReply { result: -i64::from(errno), ..ForeignReply::default() };
            turn.out.foreign(waiting.call, reply);
        }
    }

    /// Sets all words of a process's task that the kernel answers calls from.
    pub(crate) fn set_words(&self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        let credentials = &process.credentials;
        let descriptors = process.limits.get(crate::limits::Resource::Descriptors).0;
        let words: Vec<(TaskWord, u64)> = alloc::vec![
            (TaskWord::Pid, u64::from(pid.0)),
            (TaskWord::ParentPid, u64::from(process.parent.0)),
            (TaskWord::Pgid, u64::from(process.pgid.0)),
            (TaskWord::Sid, u64::from(process.sid.0)),
            (TaskWord::Uid, u64::from(credentials.uid)),
            (TaskWord::EffectiveUid, u64::from(credentials.euid)),
            (TaskWord::Gid, u64::from(credentials.gid)),
            (TaskWord::EffectiveGid, u64::from(credentials.egid)),
            (TaskWord::DescriptorLimit, descriptors),
        ];
        for (word, value) in words {
            turn.act(Operation::TaskWord { task: process.task, word, value });
        }
    }
}
