//! execve(2): the space is built aside; then, in one step, the other threads end, the process gets the space, and the
//! calling thread goes on in it. Up to that step a refusal leaves everything as it was.
//!
//! The call arrives from vfs, which has resolved the name. A thread other than the first becomes the first: it is
//! given a new kernel thread under the process's number, since a thread's number never changes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::{CallId, Handle, Tag, UserRegisters};
use libipc::linux::errno::{EAGAIN, EINVAL, ENOEXEC, ESRCH};
use libipc::linux::signal::SIGCHLD;
use libipc::proto::process::Exec;
use libipc::proto::space::{self, Build};
use libipc::server::effect::{CopyStart, Operation};
use libipc::server::{Call, Message};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::image::{Gather, Identity, Program, build_message};
use crate::jobs::{Job, MadeSpace};
use crate::memory::UserMemory;
use crate::signal::AlternateStack;
use crate::signal::frame::fresh_fpu;
use crate::status::Status;
use crate::thread::{On, Thread};
use crate::turn::{Refusal, Turn};

/// Most bytes of a thread's name.
pub const NAME_MAX: usize = 15;

/// A program being loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecJob {
    call: CallId,
    tid: Tid,
    pid: Pid,
    program: Program,
    name: Vec<u8>,
    set_uid: Option<u32>,
    set_gid: Option<u32>,
    /// The file sessions that came with the call.
    files: Vec<Handle>,
    space: u64,
    handle: Handle,
    start: (u64, u64),
    /// The new first thread, when another one executes.
    thread: Handle,
}

/// A program whose arguments and environment are being read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatherJob {
    job: ExecJob,
    /// What is to be built when they are all there.
    build: Build,
    gather: Gather,
    /// What vm knows them by.
    key: u64,
}

/// The name of a program's first thread: the last component of its path.
pub fn name_of(path: &[u8]) -> Vec<u8> {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    last.iter().copied().take(NAME_MAX).collect()
}

impl Proc {
    /// An execve that vfs has resolved.
    pub(crate) fn exec(&mut self, call: &Call, message: &Message, turn: &mut Turn) -> Result<(), Refusal> {
        match self.begin_exec(call, message, turn) {
            Err(Refusal::Errno(errno)) => {
                message.handles.iter().for_each(|handle| turn.close(*handle));
                turn.result(call.id, -i64::from(errno));
                Ok(())
            }
            other => other,
        }
    }

    fn begin_exec(&mut self, call: &Call, message: &Message, turn: &mut Turn) -> Result<(), Refusal> {
        let exec: Exec = message.decode().map_err(|_| Refusal::Errno(EINVAL))?;
        let tid = Tid(call.caller.tid);
        let pid = self.threads.get(&tid).map(|thread| thread.pid).ok_or(Refusal::Errno(ESRCH))?;
        let process = self.processes.get(&pid).filter(|process| !process.is_ending());
        let process = process.ok_or(Refusal::Errno(EAGAIN))?;
        let privileged = !process.settings.no_new_privileges;
        let (set_uid, set_gid) = (exec.set_uid.filter(|_| privileged), exec.set_gid.filter(|_| privileged));
        let own = &process.credentials;
        let ids = [own.uid, set_uid.unwrap_or(own.euid), own.gid, set_gid.unwrap_or(own.egid)];
        let secure = ids[0] != ids[1] || ids[2] != ids[3];
        let identity = Identity { ids, secure, limits: process.limits.of_memory() };
        let mut memory = UserMemory::new(call.id);
        let (mut gather, first) = Gather::new(&exec, identity.limits.stack)?;
        let piece = gather.read(&mut memory, turn.env, first)?;
        let mut program = Program { path: exec.path.clone(), ..Program::default() };
        program.remember(&piece);
        let build = self.build(&exec, identity);
        let job = ExecJob {
            call: call.id,
            tid,
            pid,
            program,
            name: name_of(&exec.filename),
            set_uid,
            set_gid,
            files: message.handles.clone(),
            space: 0,
            handle: Handle::NONE,
            start: (0, 0),
            thread: Handle::NONE,
        };
        self.park(tid, call.id, On::Server, turn);
        let [argc, envc] = gather.counts;
        let whole = Build { argc, envc, strings: piece.concat(), ..build.clone() };
        match build_message(whole, &message.handles).ok().filter(|_| gather.is_complete()) {
            Some(build) => {
                let tag = self.start(Job::ExecSpace(job));
                turn.out.send(self.vm, tag, build);
            }
            None => {
                let key = self.random.next().max(1);
                self.send_strings(GatherJob { job, build, gather, key }, piece, turn);
            }
        }
        Ok(())
    }

    /// A part of the strings goes to vm, before the request to build.
    fn send_strings(&mut self, job: GatherJob, [arguments, environment]: [Vec<u8>; 2], turn: &mut Turn) {
        let strings = space::Request::Strings { key: job.key, arguments, environment };
        let tag = self.start(Job::ExecStrings(Box::new(job)));
        turn.out.send(self.vm, tag, Message::typed(space::REQUEST, &strings));
    }

    /// vm has a part of the strings, or could not keep it. The job stands until its next part has been read.
    pub(crate) fn exec_strings(
        &mut self,
        tag: Tag,
        mut job: GatherJob,
        kept: Result<(), i32>,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let next = match kept {
            Ok(()) if !self.executor_waits(&job.job) => Err(Refusal::Errno(EAGAIN)),
            Ok(()) if job.gather.is_complete() => Ok(None),
            Ok(()) => {
                let mut memory = UserMemory::new(job.job.call);
                let piece = job.gather.read(&mut memory, turn.env, Vec::new());
                // The last piece may have ended with the last string; then there was nothing left but the end.
                piece.map(|piece| Some(piece).filter(|piece| piece.iter().any(|part| !part.is_empty())))
            }
            Err(errno) => Err(Refusal::Errno(errno)),
        };
        if next == Err(Refusal::Again) {
            return Err(Refusal::Again);
        }
        self.jobs.remove(&tag);
        let built = next.and_then(|piece| match piece {
            Some(piece) => Ok(Some(piece)),
            None => {
                let [argc, envc] = job.gather.counts;
                let build = build_message(Build { argc, envc, ..job.build.clone() }, &job.job.files)?;
                let tag = self.start(Job::ExecSpace(job.job.clone()));
                let words = [job.key, 0, 0, 0];
                turn.out.send(self.vm, tag, Message { words, ..build });
                Ok(None)
            }
        });
        match built {
            Ok(None) => {}
            Ok(Some(piece)) => {
                job.job.program.remember(&piece);
                self.send_strings(job, piece, turn);
            }
            Err(refusal) => {
                let forget =
                    space::Request::Strings { key: job.key, arguments: Vec::new(), environment: Vec::new() };
                turn.out.tell(self.vm, Message::typed(space::REQUEST, &forget));
                job.job.files.iter().for_each(|handle| turn.close(*handle));
                let errno = if let Refusal::Errno(errno) = refusal { errno } else { EAGAIN };
                self.refuse_exec(&job.job, errno, turn);
            }
        }
        Ok(())
    }

    /// Whether the thread still waits in the call, and its process is not about to end.
    fn executor_waits(&self, job: &ExecJob) -> bool {
        let alive = self.processes.get(&job.pid).is_some_and(|process| !process.is_ending());
        alive && self.calls.get(&job.call) == Some(&job.tid)
    }

    /// vm has built the space, or could not.
    pub(crate) fn exec_space(&mut self, job: ExecJob, made: Result<MadeSpace, i32>, turn: &mut Turn) {
        job.files.iter().for_each(|handle| turn.close(*handle));
        let made = match made {
            Ok(made) => made,
            Err(errno) => return self.refuse_exec(&job, errno, turn),
        };
        let mut job = ExecJob { space: made.space, handle: made.handle, start: made.start, ..job };
        job.program.is_at(&made);
        if !made.can_start() {
            return self.abandon_exec(&job, ENOEXEC, turn);
        }
        if !self.executor_waits(&job) {
            return self.abandon_exec(&job, EAGAIN, turn);
        }
        let task = self.processes.get(&job.pid).map(|process| process.task);
        let Some(task) = task.filter(|_| job.tid.0 != job.pid.0) else {
            return self.commit_exec(job, turn);
        };
        let into = turn.env.new_handle();
        let tid = job.pid.0;
        let tag = self.start(Job::ExecThread(ExecJob { thread: into, ..job }));
        turn.out.attempt(
            tag,
            Operation::ThreadCreate { into, task, tid, source: Handle::NONE, start: CopyStart::default() },
        );
    }

    /// The kernel has made a first thread, or could not.
    pub(crate) fn exec_thread(&mut self, job: ExecJob, made: Result<(), i32>, turn: &mut Turn) {
        match made {
            Ok(()) if self.executor_waits(&job) => self.commit_exec(job, turn),
            Ok(()) => {
                turn.act(Operation::ThreadEnd { thread: job.thread });
                turn.close(job.thread);
                self.abandon_exec(&job, EAGAIN, turn);
            }
            Err(errno) => self.abandon_exec(&job, errno, turn),
        }
    }

    /// The program stays as it is.
    fn refuse_exec(&mut self, job: &ExecJob, errno: i32, turn: &mut Turn) {
        if self.calls.get(&job.call) == Some(&job.tid) {
            self.finish_wait(job.tid, -i64::from(errno), Vec::new(), turn);
        }
    }

    fn abandon_exec(&mut self, job: &ExecJob, errno: i32, turn: &mut Turn) {
        self.destroy_space(job.space, job.handle, turn);
        self.refuse_exec(job, errno, turn);
    }

    /// The point of no return.
    fn commit_exec(&mut self, job: ExecJob, turn: &mut Turn) {
        self.end_other_threads(&job, turn);
        let first = Tid(job.pid.0);
        let Some(process) = self.processes.get_mut(&job.pid) else { return };
        let (task, left, vfork) = (process.task, process.space, process.vfork_parent.take());
        turn.act(Operation::TaskExec { task, space: job.handle });
        self.spaces.insert(job.space, job.handle);
        process.space = job.space;
        process.executed = true;
        let program = core::mem::replace(&mut process.program, 0);
        self.programs.release(program);
        process.program = self.programs.add(job.program.clone());
        self.leave_space(left, turn);
        self.release_vfork(vfork, job.pid, turn);
        self.reset_signals(job.pid);
        self.drop_named_timers(job.pid);
        self.gain_privileges(&job, turn);
        self.change(job.pid, turn, |process| process.exit_signal = SIGCHLD);
        self.start_program(first, job.start, turn);
        if let Some(thread) = self.threads.get_mut(&first) {
            thread.name = job.name;
        }
        self.note_exec(first, job.tid, turn);
        if self.calls.get(&job.call) == Some(&first) {
            self.finish_wait(first, 0, Vec::new(), turn);
        } else {
            turn.result(job.call, 0);
            self.set_going(first, turn);
        }
        self.check_stopped(job.pid, turn);
    }

    /// Ends all threads but the one that executes, which becomes the first.
    fn end_other_threads(&mut self, job: &ExecJob, turn: &mut Turn) {
        let Some(process) = self.processes.get(&job.pid) else { return };
        let first = Tid(job.pid.0);
        let others: Vec<Tid> = process.threads.iter().copied().filter(|tid| *tid != job.tid).collect();
        let makers = others.iter().copied().chain([job.tid]).filter(|tid| *tid != first);
        let children: Vec<Pid> = makers.flat_map(|tid| process.family.children_of(tid)).collect();
        for tid in others {
            if tid != first {
                self.depart(tid, Some(Status::exited(0)), turn);
            }
            self.end_silently(tid, turn);
        }
        if job.tid != first && self.threads.contains_key(&job.tid) {
            let trace = self.inherit_trace(job.tid, first);
            let Some(old) = self.threads.get(&job.tid).cloned() else { return };
            // Its call stays to be answered: the answer goes nowhere, but frees it.
            self.release(job.tid);
            self.end_silently(job.tid, turn);
            let thread =
                Thread { tid: first, handle: job.thread, waiting: None, called: false, trace, ..old };
            self.threads.insert(first, thread);
            if let Some(process) = self.processes.get_mut(&job.pid) {
                process.threads.insert(first);
            }
        }
        for child in children {
            self.change(child, turn, |child| child.creator = first);
        }
    }

    /// Ends a thread that exec leaves behind: nobody is told.
    fn end_silently(&mut self, tid: Tid, turn: &mut Turn) {
        if let Some(thread) = self.threads.get(&tid) {
            turn.act(Operation::ThreadEnd { thread: thread.handle });
        }
        self.remove_thread(tid, turn);
    }

    /// Handlers, the alternate stack and the marks for the thread's end were the old program's.
    fn reset_signals(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let kept = self.actions.get(process.actions).map(|actions| actions.after_exec()).unwrap_or_default();
        self.actions.release(process.actions);
        process.actions = self.actions.add(kept);
        if let Some(thread) = self.threads.get_mut(&Tid(pid.0)) {
            thread.alternate = AlternateStack::default();
            (thread.clear_tid, thread.robust_list, thread.set_tid) = (0, 0, 0);
            (thread.saved_mask, thread.resume, thread.carried) = (None, None, 0);
        }
    }

    /// Set-id bits take effect.
    fn gain_privileges(&mut self, job: &ExecJob, turn: &mut Turn) {
        let Some(process) = self.processes.get_mut(&job.pid) else { return };
        process.credentials.after_exec(job.set_uid, job.set_gid);
        process.settings.dumpable = 1;
        process.settings.keep_capabilities = false;
        if job.set_uid.is_some() || job.set_gid.is_some() {
            process.settings.dumpable = 0;
            process.settings.parent_death_signal = 0;
            self.set_words(job.pid, turn);
        }
    }

    /// Gives a thread the state in which a program starts.
    pub(crate) fn start_program(&mut self, tid: Tid, (entry, stack): (u64, u64), turn: &mut Turn) {
        let Some(thread) = self.threads.get(&tid).map(|thread| thread.handle) else { return };
        let registers = UserRegisters { rip: entry, rsp: stack, ..UserRegisters::default() };
        turn.act(Operation::ThreadSetRegisters {
            thread,
            registers: Box::new(registers),
            fpu: Some(fresh_fpu()),
        });
    }
}
