//! The kernel's part in making tasks and threads.

use libipc::abi::KernelError::{self, Quota};
use libipc::abi::{Handle, TaskWord};
use libipc::server::effect::Operation;

use super::{Task, Thread, World};
use crate::signal::frame::USER_END;

impl World {
    pub(super) fn make(&mut self, operation: Operation) -> Result<(), KernelError> {
        match operation {
            Operation::TaskCreate { into, space, parent, .. } => {
                assert!(
                    self.spaces.values().any(|handle| *handle == space),
                    "a task in a space that is gone"
                );
                if self.refuse.contains("task") {
                    return Err(Quota);
                }
                let words = self.tasks.get(&parent).map(|parent| parent.words.clone()).unwrap_or_default();
                self.tasks.insert(into, Task { words, alive: true });
            }
            Operation::TaskFork { task, thread, space, source, number, parent, start, inherit } => {
                if self.refuse.contains("thread") {
                    return Err(Quota);
                }
                let old = self.threads[&source].task;
                self.make(Operation::TaskCreate { into: task, space, parent: old, inherit })?;
                let words = &mut self.tasks.get_mut(&task).unwrap().words;
                words.insert(TaskWord::Pid, u64::from(number));
                words.insert(TaskWord::ParentPid, u64::from(parent));
                let copy = Operation::ThreadCreate { into: thread, task, tid: number, source, start };
                self.make(copy)?;
            }
            Operation::ThreadCreate { into, task, tid, source, start } => {
                if self.refuse.contains("thread") {
                    return Err(Quota);
                }
                assert!(self.tasks[&task].alive);
                let mut registers = self.script.threads.get(&source).copied().unwrap_or_default();
                if source != Handle::NONE {
                    registers.rax = 0;
                    registers.rsp = start.stack.unwrap_or(registers.rsp);
                    registers.fs_base = start.tls.unwrap_or(registers.fs_base);
                    assert!(registers.fs_base < USER_END);
                }
                self.script.threads.insert(into, registers);
                let fresh = Thread {
                    task,
                    tid,
                    started: false,
                    ended: false,
                    attention: false,
                    after_call: false,
                    each_call: false,
                    entering: None,
                    call: None,
                    restart: 0,
                };
                self.threads.insert(into, fresh);
            }
            other => panic!("that makes no task or thread: {other:?}"),
        }
        Ok(())
    }
}
