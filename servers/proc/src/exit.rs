//! The end of threads and processes, and what the survivors inherit.
//!
//! A process ends in one step, once its last writes to its memory are done: its task is killed (which closes its
//! descriptors), its children go to another, and only then is its parent told. So whoever learns of the end finds
//! all of it done.

use alloc::vec::Vec;

use libipc::abi::{CallId, Handle, TaskWord};
use libipc::linux::signal::{SI_USER, SIGCHLD, SIGCONT, SIGHUP, SIGKILL};
use libipc::proto::space;
use libipc::proto::terminal;
use libipc::server::Message;
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{INIT, INIT_THREAD, Pid, Tid};
use crate::jobs::Job;
use crate::process::{Life, News};
use crate::signal::{Aim, SigInfo};
use crate::status::Status;
use crate::thread::On;
use crate::time::Timer;
use crate::turn::{Asked, Outcome, Reply, Turn};

/// The call through which a thread or process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Via {
    /// The call.
    pub call: CallId,
    /// The thread that made it.
    pub tid: Tid,
    /// A system call, and not an attention or fault call.
    pub foreign: bool,
}

impl Via {
    /// Answers the call; when its thread is gone the answer only frees it.
    pub fn answer(self, turn: &mut Turn) {
        if self.foreign { turn.result(self.call, 0) } else { turn.go_on(self.call) }
    }
}

impl Proc {
    pub(crate) fn exit(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let status = Status::exited(asked.int(0));
        let via = Via { call: asked.id, tid: asked.tid, foreign: true };
        let Some(process) = self.processes.get(&asked.pid) else { return Reply::DONE };
        if process.is_ending() {
            self.park(asked.tid, asked.id, On::Server, turn);
            return Ok(Reply::Later);
        }
        let alone = process.threads.len() == 1;
        if self.stops_before_end(asked.tid, asked.id, None, status, turn) {
            return Ok(Reply::Later);
        }
        if alone {
            self.end_process(asked.pid, status, Some(via), turn)?;
            return Ok(Reply::Later);
        }
        let writes = self.last_writes(asked.id, &[asked.tid], turn)?;
        if writes.is_empty() {
            self.end_thread(via, status, turn);
        } else {
            self.begin_rites(via, &writes, status, turn);
        }
        Ok(Reply::Later)
    }

    pub(crate) fn exit_group(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let status = Status::exited(asked.int(0));
        let via = Via { call: asked.id, tid: asked.tid, foreign: true };
        if self.is_dumping(asked.tid) {
            self.end_dump(asked.pid, Some(via), asked.int(0) == 0, turn)?;
        } else if self.processes.get(&asked.pid).is_some_and(|process| process.is_ending()) {
            self.park(asked.tid, asked.id, On::Server, turn);
        } else if !self.stops_before_end(asked.tid, asked.id, None, status, turn) {
            self.end_process(asked.pid, status, Some(via), turn)?;
        }
        Ok(Reply::Later)
    }

    /// Ends a process: at once, or after its last writes when a call is there to make them through.
    pub(crate) fn end_process(
        &mut self,
        pid: Pid,
        status: Status,
        via: Option<Via>,
        turn: &mut Turn,
    ) -> Result<(), crate::turn::Refusal> {
        let Some(process) = self.processes.get(&pid) else {
            via.into_iter().for_each(|via| via.answer(turn));
            return Ok(());
        };
        let tids: Vec<Tid> = process.threads.iter().copied().collect();
        if let Some(via) = via {
            let writes = self.last_writes(via.call, &tids, turn)?;
            if !writes.is_empty() {
                self.set_life(pid, Life::Dying { status });
                self.set_grace(pid, turn);
                self.begin_rites(via, &writes, status, turn);
                self.interrupt_all(pid, turn);
                return Ok(());
            }
        }
        self.finish(pid, status, turn);
        via.into_iter().for_each(|via| via.answer(turn));
        Ok(())
    }

    /// A task or a thread is gone that nobody has ended, or a descriptor whose close nobody has told of.
    pub(crate) fn vanished(&mut self, handle: Handle, turn: &mut Turn) -> Result<(), crate::turn::Refusal> {
        let of_task = self.processes.values().find(|process| process.task == handle && !process.is_zombie());
        let of_thread = || self.threads.values().find(|thread| thread.handle == handle);
        match of_task.map(|process| process.pid).or_else(|| of_thread().map(|thread| thread.pid)) {
            Some(pid) => {
                let status = self.killed_by(pid, SIGKILL, false);
                self.end_process(pid, status, None, turn)
            }
            None => {
                let signal_file = self.signal_files.iter().find(|(_, file)| file.owner == handle);
                let pidfd = || self.pidfds.iter().find(|(_, pidfd)| pidfd.owner == handle);
                let badge = signal_file.map(|(badge, _)| *badge).or_else(|| pidfd().map(|(badge, _)| *badge));
                badge.into_iter().for_each(|badge| self.closed(badge, handle, turn));
                Ok(())
            }
        }
    }

    /// Ends one thread; its process with it, if that was all that was left of it or was waiting for it.
    pub(crate) fn end_thread(&mut self, via: Via, status: Status, turn: &mut Turn) {
        let Some(pid) = self.threads.get(&via.tid).map(|thread| thread.pid) else { return via.answer(turn) };
        let Some(process) = self.processes.get(&pid) else { return via.answer(turn) };
        let writing = |tid: &Tid| self.threads.get(tid).is_some_and(|thread| thread.rites.is_some());
        let end = match process.life {
            Life::Dying { status } if !process.threads.iter().any(writing) => Some(status),
            _ if process.threads.len() == 1 => Some(status),
            _ => None,
        };
        match end {
            Some(status) => self.finish(pid, status, turn),
            None => {
                if let Some(handle) = self.threads.get(&via.tid).map(|thread| thread.handle) {
                    turn.act(Operation::ThreadEnd { thread: handle });
                }
                self.depart(via.tid, (via.tid.0 != pid.0).then_some(status), turn);
                self.remove_thread(via.tid, turn);
                self.inherit_children(pid, via.tid, turn);
                self.retarget(pid, turn);
                self.check_stopped(pid, turn);
            }
        }
        via.answer(turn);
    }

    /// Forgets a thread that the kernel has ended.
    pub(crate) fn remove_thread(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(thread) = self.threads.get(&tid) else { return };
        let (held, pid) = (thread.is_held(), thread.pid);
        self.drop_wait(tid, turn);
        let Some(thread) = self.threads.remove(&tid) else { return };
        turn.close(thread.handle);
        if let Some(process) = self.processes.get_mut(&thread.pid) {
            process.threads.remove(&tid);
            if held {
                process.held = process.held.saturating_sub(1);
            }
        }
        self.release_tracees(tid, pid, turn);
    }

    /// The children of a thread that has ended belong to another of its process; those that asked for it get their
    /// parent-death signal, which in Linux is about the thread.
    fn inherit_children(&mut self, pid: Pid, tid: Tid, turn: &mut Turn) {
        let Some(heir) = self.first_thread(pid) else { return };
        let Some(process) = self.processes.get(&pid) else { return };
        for child in process.family.children_of(tid).collect::<Vec<_>>() {
            self.change(child, turn, |child| child.creator = heir);
            self.tell_of_parents_death(pid, child, turn);
        }
    }

    fn tell_of_parents_death(&mut self, parent: Pid, child: Pid, turn: &mut Turn) {
        let signal = self.processes.get(&child).map_or(0, |child| child.settings.parent_death_signal);
        let uid = self.processes.get(&parent).map_or(0, |parent| parent.credentials.uid);
        if signal != 0 {
            self.send(Aim::Process(child), SigInfo::user(signal, SI_USER, parent.0, uid), turn);
        }
    }

    /// The end of a process, all of it but the telling.
    pub(crate) fn finish(&mut self, pid: Pid, status: Status, turn: &mut Turn) {
        let usage = self.usage_of(pid, turn);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.usage = usage;
        process.dump = None;
        let (task, space, vfork) = (process.task, process.space, process.vfork_parent.take());
        let (grace_ns, threads) = (process.grace_ns.take(), process.threads.clone());
        if let Some(deadline_ns) = grace_ns {
            self.timers.remove(&(deadline_ns, Timer::Grace(pid)));
        }
        self.drop_timers(pid);
        turn.act(Operation::TaskKill { task });
        self.set_life(pid, Life::Dying { status });
        let traced: Vec<Tid> = threads
            .iter()
            .copied()
            .filter(|tid| self.threads.get(tid).is_some_and(|it| it.trace.is_some()))
            .collect();
        for tid in traced {
            self.depart(tid, None, turn);
        }
        for tid in threads {
            self.remove_thread(tid, turn);
        }
        turn.close(task);
        self.leave_space(space, turn);
        self.release_vfork(vfork, pid, turn);
        self.forget_program(pid);
        self.give_away_children(pid, turn);
        self.leave_session(pid, turn);
        self.tell_tracers_of_end(pid, status, turn);
        self.tell_parent_of_end(pid, status, turn);
        // When this is the last nobody is left who could be waited for, whoever was the first.
        if self.first.is_some_and(|first| first == pid || self.processes.len() == 1) {
            turn.act(Operation::PowerOff { status: status.shell(), reboot: false });
        }
    }

    /// One process less uses an address space; the last has vm destroy it.
    pub(crate) fn leave_space(&mut self, space: u64, turn: &mut Turn) {
        if let Some(handle) = self.spaces.release(space) {
            self.destroy_space(space, handle, turn);
        }
    }

    /// Has vm destroy a space that no task uses.
    pub(crate) fn destroy_space(&mut self, space: u64, handle: Handle, turn: &mut Turn) {
        let message = Message::typed(space::REQUEST, &space::Request::Destroy { space });
        turn.out.tell(self.vm, message);
        turn.close(handle);
    }

    /// Lets the thread go on that waits in vfork(2) for this child's exec or end.
    pub(crate) fn release_vfork(&mut self, parent: Option<(Tid, CallId)>, child: Pid, turn: &mut Turn) {
        if let Some((tid, call)) = parent
            && self.calls.get(&call) == Some(&tid)
            && !self.end_vfork_in_stop(tid, child)
        {
            self.note_vfork_done(tid, child, turn);
            self.finish_wait(tid, i64::from(child.0), Vec::new(), turn);
        }
    }

    /// What a zombie no longer has: its table of actions and the strings of its program (the name stays).
    fn forget_program(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.task = Handle::NONE;
        process.space = 0;
        process.pending = crate::signal::Pending::default();
        let actions = core::mem::take(&mut process.actions);
        self.actions.release(actions);
    }

    /// Gives a dead process's children to who takes orphans; zombies among them are told of anew.
    fn give_away_children(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        let children: Vec<Pid> = process.family.children().collect();
        if children.is_empty() {
            return;
        }
        let heir = self.reaper_for(pid);
        let creator = if heir == INIT { Some(INIT_THREAD) } else { self.first_thread(heir) };
        let (pgid, sid) = (process.pgid, process.sid);
        for child in children {
            let anchored = self.processes.get(&child).is_some_and(|child| child.sid == sid);
            self.adopt(child, heir, creator.unwrap_or(INIT_THREAD), turn);
            self.tell_of_parents_death(pid, child, turn);
            match self.processes.get(&child).map(|child| (child.life, child.pgid)) {
                Some((Life::Zombie { status }, _)) => self.tell_parent_of_end(child, status, turn),
                Some((_, group)) if group != pgid && anchored => self.wake_if_orphaned(group, turn),
                _ => {}
            }
        }
    }

    /// The process that takes a process's orphans: the nearest living ancestor that is a sub-reaper, or init.
    fn reaper_for(&self, pid: Pid) -> Pid {
        let mut ancestor = self.processes.get(&pid).map(|process| process.parent);
        while let Some(process) = ancestor.and_then(|pid| self.processes.get(&pid)) {
            if process.settings.subreaper && !process.is_ending() {
                return process.pid;
            }
            if process.pid == INIT {
                break;
            }
            ancestor = Some(process.parent);
        }
        INIT
    }

    /// Moves a child to another parent.
    fn adopt(&mut self, child: Pid, heir: Pid, creator: Tid, turn: &mut Turn) {
        let Some(process) = self.processes.get_mut(&child) else { return };
        let (old, before) = (process.parent, process.member());
        process.parent = heir;
        process.creator = creator;
        // Whoever takes an orphan is told of its end as of any child's.
        process.exit_signal = SIGCHLD;
        let (after, task) = (process.member(), process.task);
        if task != Handle::NONE {
            let value = u64::from(heir.0);
            turn.act(Operation::TaskWord { task, word: TaskWord::ParentPid, value });
        }
        if let Some(parent) = self.processes.get_mut(&old) {
            parent.family.dismiss(&before);
        }
        if let Some(parent) = self.processes.get_mut(&heir) {
            parent.family.admit(&after);
        }
        if !after.class.zombie {
            self.offer(child, turn);
        }
    }

    /// A session leader's end: its terminal is released.
    fn leave_session(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (pgid, sid) = (process.pgid, process.sid);
        let parent = self.processes.get(&process.parent);
        let anchor = parent.is_some_and(|parent| parent.pgid != pgid && parent.sid == sid);
        if process.leads_session() {
            let words = [u64::from(process.sid.0), 0, 0, 0];
            let tag = self.start(Job::SessionEnded);
            turn.out.send(self.tty, tag, Message::words(terminal::SESSION_ENDED, words));
        }
        if anchor {
            self.wake_if_orphaned(pgid, turn);
        }
    }

    /// tty has released the terminal of a session that lost its leader: the foreground group is told to go.
    pub(crate) fn session_released(&mut self, foreground: u32, turn: &mut Turn) {
        if foreground != 0 {
            let pgid = crate::id::Pgid(foreground);
            self.signal_group(pgid, SIGHUP, turn);
            self.signal_group(pgid, SIGCONT, turn);
        }
    }

    /// A dead process becomes a zombie for its parent to reap, or vanishes if its parent does not want to know.
    ///
    /// The signal comes before the answer to a wait, so that a thread that is told by both takes the signal on its
    /// way out of the wait; and after the row has changed, so that a handler that waits finds the child.
    pub(crate) fn tell_parent_of_end(&mut self, pid: Pid, status: Status, turn: &mut Turn) {
        if self.depart_first(pid, status, turn) {
            return;
        }
        let Some(process) = self.processes.get(&pid) else { return };
        let (parent, signal) = (process.parent, process.exit_signal);
        let (mut forget, mut ignored) = (parent == INIT, false);
        if signal == SIGCHLD
            && let Some(actions) = self.actions_of(parent)
        {
            (forget, ignored) = actions.forgets_children();
        }
        if !forget {
            self.update(pid, turn, |process| {
                process.life = Life::Zombie { status };
                process.news = Some(News::Exited(status));
            });
        }
        if signal != 0 && !ignored {
            self.send_about_child(signal, pid, status.si_code(), status.si_status(), turn);
        }
        self.post_pidfds(pid, turn);
        if forget {
            self.bury(pid, turn);
        } else {
            self.offer(pid, turn);
        }
    }

    /// Reaps a zombie for its parent: the only way in which what it used reaches anybody.
    pub(crate) fn reap(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        let (parent, usage) = (process.parent, process.usage.plus(process.children_usage));
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children_usage = parent.children_usage.plus(usage);
        }
        self.bury(pid, turn);
    }

    /// Removes a process from the table, and the last trace of it from its parent's waits.
    fn bury(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.remove(&pid) else { return };
        self.programs.release(process.program);
        self.leave_group(pid, process.pgid, process.life);
        self.orphan_pidfds(&process);
        let last = self
            .processes
            .get_mut(&process.parent)
            .is_some_and(|parent| parent.family.dismiss(&process.member()));
        if last {
            self.disappoint(process.parent, process.pgid, None, turn);
        }
        self.disappoint(process.parent, process.pgid, Some(pid), turn);
    }
}
