//! Work that goes on at another server or in the kernel: what to do when the answer comes. A job names its process by
//! number and its call by token, and looks both up again: either may be gone by then.

use alloc::boxed::Box;

use libipc::abi::{KernelError, Tag};
use libipc::linux::errno::{EAGAIN, EIO, ENOMEM};
use libipc::proto::space::Answer;
use libipc::server::Message;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::exec::{ExecJob, GatherJob};
use crate::fork::ForkJob;
use crate::pidfd::PidfdJob;
use crate::signal::frame::USER_END;
use crate::spawn::SpawnJob;
use crate::trace::PokeJob;
use crate::turn::{Refusal, Turn};

/// What an answer or outcome is for. The stages of one undertaking stand in their order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Job {
    /// fork: vm copies the space.
    ForkSpace(ForkJob),
    /// fork: the kernel makes the thread, and a process's task.
    ForkThread(ForkJob),
    /// fork: the kernel makes the session of the child's pidfd.
    ForkPidfd(ForkJob),
    /// fork: the kernel gives it to the maker.
    ForkDescriptor(ForkJob),
    /// execve: vm takes a part of the arguments and environment.
    ExecStrings(Box<GatherJob>),
    /// execve: vm builds the space.
    ExecSpace(ExecJob),
    /// execve by another thread than the first: the kernel makes a first thread.
    ExecThread(ExecJob),
    /// First program: vm builds the space.
    SpawnSpace(SpawnJob),
    /// First program: the kernel makes the task.
    SpawnTask(SpawnJob),
    /// First program: the kernel makes the thread.
    SpawnThread(SpawnJob),
    /// pidfd_open: the kernel makes the session.
    Pidfd(PidfdJob),
    /// ptrace: vm writes a word of a stopped thread.
    Poke(PokeJob),
    /// tty hands its events over.
    Events,
    /// tty releases the terminal of a session.
    SessionEnded,
}

impl Proc {
    /// Remembers a job under a tag of its own.
    pub(crate) fn start(&mut self, job: Job) -> Tag {
        self.last_tag += 1;
        let tag = Tag(self.last_tag);
        self.jobs.insert(tag, job);
        tag
    }

    /// Another server has answered.
    pub(crate) fn answered(
        &mut self,
        tag: Tag,
        answer: &Result<Message, KernelError>,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        if let Some(Job::ExecStrings(job)) = self.jobs.get(&tag) {
            let job = job.clone();
            return self.exec_strings(tag, *job, strings_answer(answer), turn);
        }
        if let Some(Job::Poke(job)) = self.jobs.get(&tag) {
            return self.poked(tag, *job, answer, turn);
        }
        match self.jobs.remove(&tag) {
            Some(Job::ForkSpace(job)) => self.fork_space(job, space_answer(answer), turn),
            Some(Job::ExecSpace(job)) => self.exec_space(job, space_answer(answer), turn),
            Some(Job::SpawnSpace(job)) => self.spawn_space(job, space_answer(answer), turn),
            Some(Job::Events) => self.take_events(answer, turn),
            Some(Job::SessionEnded) => {
                let foreground = answer.as_ref().map_or(0, |answer| answer.words[0]);
                self.session_released(foreground as u32, turn);
            }
            // The rest are operations of the kernel, which do not end in an answer.
            _ => {}
        }
        Ok(())
    }

    /// The kernel has carried out an operation, or refused it.
    pub(crate) fn done(&mut self, tag: Tag, result: Result<u64, KernelError>, turn: &mut Turn) {
        let made = result.map(|_| ()).map_err(|_| EAGAIN);
        match self.jobs.remove(&tag) {
            Some(Job::ForkThread(job)) => self.fork_thread(job, made, turn),
            Some(Job::ForkPidfd(job)) => self.fork_pidfd(job, made, turn),
            Some(Job::ForkDescriptor(job)) => self.fork_descriptor(job, result.map_err(|_| EAGAIN), turn),
            Some(Job::ExecThread(job)) => self.exec_thread(job, made, turn),
            Some(Job::SpawnTask(job)) => self.spawn_task(job, made, turn),
            Some(Job::SpawnThread(job)) => self.spawn_thread(job, made, turn),
            Some(Job::Pidfd(job)) => self.pidfd_made(job, made, turn),
            _ => {}
        }
    }
}

/// A space that vm has made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MadeSpace {
    /// vm's badge for it.
    pub space: u64,
    /// The space.
    pub handle: libipc::abi::Handle,
    /// Where its program starts and its stack pointer; zero for a copy.
    pub start: (u64, u64),
    /// Where the shared object is that every program has; zero for a copy.
    pub vdso: u64,
}

impl MadeSpace {
    /// Whether a program's thread can be started where it says; a file may name any address.
    pub fn can_start(&self) -> bool {
        self.start.0 < USER_END && self.start.1 < USER_END
    }
}

/// vm's answer about strings it was to keep: an errno when it could not.
fn strings_answer(answer: &Result<Message, KernelError>) -> Result<(), i32> {
    match answer.as_ref().map_err(|_| ENOMEM)?.decode() {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Failed(errno)) => Err(errno),
        _ => Err(EIO),
    }
}

/// vm's answer about a new space: the space, or an errno.
fn space_answer(answer: &Result<Message, KernelError>) -> Result<MadeSpace, i32> {
    let message = answer.as_ref().map_err(|_| ENOMEM)?;
    let handle = message.handles.first().copied();
    match (message.decode(), handle) {
        (Ok(Answer::Space { space }), Some(handle)) => {
            Ok(MadeSpace { space, handle, start: (0, 0), vdso: 0 })
        }
        (Ok(Answer::Image { space, entry, stack, vdso }), Some(handle)) => {
            Ok(MadeSpace { space, handle, start: (entry, stack), vdso })
        }
        (Ok(Answer::Failed(errno)), _) => Err(errno),
        _ => Err(EIO),
    }
}
