//! The operations on tasks and threads, as the miniature kernel carries them out.

use libipc::abi::syscall::{When, descriptor_slot};
use libipc::abi::{CallId, Handle};
use libipc::server::effect::Operation;

use super::{Event, World};
use crate::signal::frame::USER_END;

impl World {
    pub(super) fn operate(&mut self, operation: Operation) -> Result<(), libipc::abi::KernelError> {
        use libipc::abi::KernelError::Quota;
        match operation {
            Operation::TaskCreate { .. } | Operation::TaskFork { .. } | Operation::ThreadCreate { .. } => {
                return self.make(operation);
            }
            Operation::TaskWord { task, word, value } => {
                let task = self.tasks.get_mut(&task).filter(|task| task.alive).expect("a living task");
                assert!(u32::try_from(value).is_ok(), "a word has 32 bits");
                task.words.insert(word, value);
            }
            Operation::TaskExec { task, .. } => assert!(self.tasks[&task].alive),
            Operation::TaskKill { task } => self.kill(task),
            Operation::ThreadEnd { thread } => self.end(thread),
            Operation::ThreadSetRegisters { thread, registers, .. } => {
                assert!(!self.threads[&thread].ended, "registers of a thread that is dead");
                assert!(
                    [registers.rip, registers.fs_base, registers.gs_base].iter().all(|it| *it < USER_END)
                );
                self.script.threads.insert(thread, *registers);
            }
            Operation::ThreadStart { thread } => {
                self.threads.get_mut(&thread).unwrap().started = true;
                self.about_to_run(thread);
            }
            Operation::ThreadStop { thread } => {
                self.threads.get_mut(&thread).expect("a thread that lives").started = false;
            }
            Operation::ThreadInterrupt { thread, when: When::Now } => self.interrupt(thread),
            Operation::ThreadInterrupt { thread, when } => {
                let thread = self.threads.get_mut(&thread).expect("a thread");
                match when {
                    When::AfterCall => thread.after_call = true,
                    each => thread.each_call = each == When::EachCall,
                }
            }
            Operation::TimerSet { deadline_ns } => self.timer = deadline_ns,
            Operation::PowerOff { status, reboot } => self.power = Some((status, reboot)),
            Operation::DescriptorSet { slot: descriptor_slot::LOWEST, .. }
                if self.refuse.contains("descriptor") =>
            {
                return Err(Quota);
            }
            Operation::DescriptorSet { task, slot, handle, .. } => {
                self.descriptors.push((task, slot, handle))
            }
            Operation::SessionReady { session, readiness } => {
                self.readiness.insert(session, readiness);
            }
            Operation::Close { .. } | Operation::SessionCreate { .. } => {}
            other => panic!("not an operation of this server: {other:?}"),
        }
        Ok(())
    }

    pub(super) fn kill(&mut self, task: Handle) {
        assert!(
            std::mem::replace(&mut self.tasks.get_mut(&task).unwrap().alive, false),
            "a task is killed twice"
        );
        let threads: Vec<Handle> = self
            .threads
            .iter()
            .filter(|(_, it)| it.task == task && !it.ended)
            .map(|(handle, _)| *handle)
            .collect();
        threads.into_iter().for_each(|thread| self.end(thread));
    }

    pub(super) fn end(&mut self, handle: Handle) {
        let thread = self.threads.get_mut(&handle).unwrap();
        assert!(!std::mem::replace(&mut thread.ended, true), "a thread is ended twice");
        let Some(call) = thread.call else { return };
        self.script.threads.remove(&handle);
        if !self.withdraw(call) {
            self.queue.push_back(Event::Cancel { call });
        } else {
            self.calls.remove(&call);
        }
    }

    /// Takes a call back that no server has received.
    fn withdraw(&mut self, call: CallId) -> bool {
        let queued = |event: &Event| matches!(event, Event::Call(it) if it.id == call);
        let Some(index) = self.queue.iter().position(queued) else { return false };
        self.queue.remove(index);
        true
    }

    fn interrupt(&mut self, handle: Handle) {
        let thread = self.threads.get_mut(&handle).expect("a thread");
        assert!(!thread.ended, "a dead thread is interrupted");
        thread.attention = true;
        let Some(call) = thread.call else { return self.about_to_run(handle) };
        let open = self.calls.get_mut(&call).unwrap();
        if !open.foreign || std::mem::replace(&mut open.cancelled, true) {
            return;
        }
        let number = u64::from(open.number);
        if !self.withdraw(call) {
            self.queue.push_back(Event::Cancel { call });
            return;
        }
        self.calls.remove(&call);
        let thread = self.threads.get_mut(&handle).unwrap();
        (thread.call, thread.restart) = (None, 3 | number << 8);
        self.about_to_run(handle);
    }
}
