//! The first program: made from nothing, under process 1, which is this server itself.

use alloc::vec::Vec;

use libipc::abi::syscall::descriptor_slot;
use libipc::abi::{CallId, Handle};
use libipc::linux::errno::{EAGAIN, EINVAL, ENOEXEC};
use libipc::proto::process::{Answer, Exec};
use libipc::proto::space::Build;
use libipc::server::effect::{CopyStart, Inherit, Operation, Reason};
use libipc::server::{Call, Message};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::exec::name_of;
use crate::id::{INIT, INIT_THREAD, Pid, Tid};
use crate::image::{Identity, Program, Strings, build_message};
use crate::jobs::{Job, MadeSpace};
use crate::limits::Limits;
use crate::process::{Life, Process};
use crate::thread::Thread;
use crate::turn::{Refusal, Turn};

/// The first program being made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpawnJob {
    call: CallId,
    pid: Pid,
    program: Program,
    name: Vec<u8>,
    exit_on_end: bool,
    /// Program, interpreter, root directory, terminal.
    files: Vec<Handle>,
    space: u64,
    start: (u64, u64),
    task: Handle,
    thread: Handle,
}

impl Proc {
    /// [`libipc::proto::process::Request::Spawn`].
    pub(crate) fn spawn(
        &mut self,
        call: &Call,
        files: &[Handle],
        exec: &Exec,
        strings: &Strings,
        exit_on_end: bool,
        turn: &mut Turn,
    ) {
        if let Err(refusal) = self.begin_spawn(call, files, exec, strings, exit_on_end, turn) {
            files.iter().for_each(|handle| turn.close(*handle));
            let errno = if let Refusal::Errno(errno) = refusal { errno } else { EAGAIN };
            turn.out.reply(call.id, Message::typed(0, &Answer::Failed(errno)));
        }
    }

    fn begin_spawn(
        &mut self,
        call: &Call,
        files: &[Handle],
        exec: &Exec,
        strings: &Strings,
        exit_on_end: bool,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let [program, interpreter, _, _] = *files else { return Err(Refusal::Errno(EINVAL)) };
        let identity = Identity { ids: [0; 4], secure: false, limits: Limits::default().of_memory() };
        let images = if exec.interpreter.is_some() { &[program, interpreter][..] } else { &[program] };
        let build = Build {
            argc: strings.arguments.len() as u32,
            envc: strings.environment.len() as u32,
            strings: strings.joined(),
            ..self.build(exec, identity)
        };
        let build = build_message(build, images)?;
        let pid = Pid(self.take_number().ok_or(Refusal::Errno(EAGAIN))?);
        self.sequence += 1;
        let embryo = Process::embryo(pid, INIT, INIT_THREAD, self.sequence, turn.env.now());
        self.processes.insert(pid, embryo);
        self.enter_group(pid);
        let job = SpawnJob {
            call: call.id,
            pid,
            program: strings.program(&exec.path),
            name: name_of(&exec.filename),
            exit_on_end,
            files: files.to_vec(),
            space: 0,
            start: (0, 0),
            task: Handle::NONE,
            thread: Handle::NONE,
        };
        turn.park(call.id, Reason::Server);
        let tag = self.start(Job::SpawnSpace(job));
        turn.out.send(self.vm, tag, build);
        Ok(())
    }

    /// vm has built the space, or could not.
    pub(crate) fn spawn_space(&mut self, job: SpawnJob, made: Result<MadeSpace, i32>, turn: &mut Turn) {
        let made = match made {
            Ok(made) => made,
            Err(errno) => return self.abandon_spawn(&job, errno, turn),
        };
        self.spaces.insert(made.space, made.handle);
        if !made.can_start() {
            return self.abandon_spawn(&SpawnJob { space: made.space, ..job }, ENOEXEC, turn);
        }
        let into = turn.env.new_handle();
        let mut job = SpawnJob { space: made.space, start: made.start, task: into, ..job };
        job.program.is_at(&made);
        let tag = self.start(Job::SpawnTask(job));
        let (space, parent, inherit) = (made.handle, Handle::NONE, Inherit::default());
        turn.out.attempt(tag, Operation::TaskCreate { into, space, parent, inherit });
    }

    /// The kernel has made the task, or could not.
    pub(crate) fn spawn_task(&mut self, job: SpawnJob, made: Result<(), i32>, turn: &mut Turn) {
        if let Err(errno) = made {
            return self.abandon_spawn(&SpawnJob { task: Handle::NONE, ..job }, errno, turn);
        }
        let into = turn.env.new_handle();
        let (task, tid) = (job.task, job.pid.0);
        let tag = self.start(Job::SpawnThread(SpawnJob { thread: into, ..job }));
        turn.out.attempt(
            tag,
            Operation::ThreadCreate { into, task, tid, source: Handle::NONE, start: CopyStart::default() },
        );
    }

    /// The kernel has made the thread, or could not.
    pub(crate) fn spawn_thread(&mut self, job: SpawnJob, made: Result<(), i32>, turn: &mut Turn) {
        if let Err(errno) = made {
            return self.abandon_spawn(&job, errno, turn);
        }
        let tid = Tid(job.pid.0);
        let actions = self.actions.add(Default::default());
        let program = self.programs.add(job.program.clone());
        let Some(process) = self.processes.get_mut(&job.pid) else { return };
        process.life = Life::Running;
        process.threads.insert(tid);
        (process.task, process.space) = (job.task, job.space);
        (process.actions, process.program) = (actions, program);
        let member = process.member();
        self.threads.insert(tid, Thread { name: job.name.clone(), ..Thread::new(tid, job.pid, job.thread) });
        if let Some(init) = self.processes.get_mut(&INIT) {
            init.family.admit(&member);
        }
        if job.exit_on_end {
            self.first = Some(job.pid);
        }
        self.set_words(job.pid, turn);
        if let [_, _, root, terminal] = *job.files.as_slice() {
            let directories = [(descriptor_slot::CWD, root), (descriptor_slot::ROOT, root)];
            let descriptors = [0, 1, 2].map(|slot| (slot, terminal));
            for (slot, handle) in directories.into_iter().chain(descriptors) {
                turn.act(Operation::DescriptorSet { task: job.task, slot, handle, close_on_exec: false });
            }
        }
        job.files.iter().for_each(|handle| turn.close(*handle));
        self.start_program(tid, job.start, turn);
        self.set_going(tid, turn);
        turn.out.reply(job.call, Message::typed(0, &Answer::Spawned(job.pid.0)));
    }

    fn abandon_spawn(&mut self, job: &SpawnJob, errno: i32, turn: &mut Turn) {
        if job.task != Handle::NONE {
            turn.act(Operation::TaskKill { task: job.task });
            turn.close(job.task);
        }
        self.leave_space(job.space, turn);
        job.files.iter().for_each(|handle| turn.close(*handle));
        if let Some(embryo) = self.processes.remove(&job.pid) {
            self.leave_group(embryo.pid, embryo.pgid, embryo.life);
        }
        turn.out.reply(job.call, Message::typed(0, &Answer::Failed(errno)));
    }
}
