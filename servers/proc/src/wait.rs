//! wait4(2) and waitid(2): a wait is a parked continuation, and news of a child is moved out once.
//!
//! A wait looks at the table, and is answered, refused or parked in the same step. When a child gets news, or leaves
//! the set a parked wait is about, the step that does it also answers the waits concerned: nobody is woken to look
//! again. So two waiters never see the same zombie, and none sleeps on while there is something for it.

use alloc::{vec, vec::Vec};

use libipc::linux::errno::{EAGAIN, EBADF, ECHILD, EINVAL, ESRCH};
use libipc::linux::signal::{CLD_CONTINUED, CLD_STOPPED, SIGCHLD, SIGCONT};
use libipc::server::Output;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::family::{Class, Target};
use crate::id::{Pgid, Pid, Tid};
use crate::process::{News, Process};
use crate::status::{CONTINUED_WORD, stopped_word};
use crate::thread::{On, Waiting};
use crate::trace::Told;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};
use crate::usage::Usage;

/// Not a program's option: instead of waiting the call fails with EAGAIN.
const OR_AGAIN: u32 = 1 << 28;
const WNOHANG: u32 = 1;
const WSTOPPED: u32 = 2;
const WEXITED: u32 = 4;
const WCONTINUED: u32 = 8;
const WNOWAIT: u32 = 0x0100_0000;
const WNOTHREAD: u32 = 0x2000_0000;
const WALL: u32 = 0x4000_0000;
const WCLONE: u32 = 0x8000_0000;
const WHOSE: u32 = WNOTHREAD | WALL | WCLONE;

const P_ALL: i32 = 0;
const P_PID: i32 = 1;
const P_PGID: i32 = 2;
const P_PIDFD: i32 = 3;

/// Where the answer of a wait goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Form {
    /// wait4(2): status word; the pid is the result.
    Word {
        /// Address of the status; 0 for nowhere.
        status: u64,
    },
    /// waitid(2): siginfo; the result is 0.
    Info {
        /// Address of the siginfo; 0 for nowhere.
        info: u64,
    },
}

/// What a wait asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitFor {
    /// Which children.
    pub target: Target,
    /// WNOHANG, WEXITED, … and whose children count.
    options: u32,
    /// Which thread waits.
    pub tid: Tid,
    /// The order in which waits came: the oldest is answered first.
    pub ticket: u64,
    form: Form,
    rusage: u64,
}

impl WaitFor {
    /// Whether children of a class are what it waits for, now or when they end.
    pub fn accepts(&self, class: &Class) -> bool {
        let kind = self.options & WALL != 0 || class.clone == (self.options & WCLONE != 0);
        let whose = self.options & WNOTHREAD == 0 || class.creator == self.tid;
        let group = match self.target {
            Target::Group(pgid) => class.pgid == pgid,
            Target::Any | Target::Process(_) => true,
        };
        kind && whose && group && (!class.zombie || self.options & WEXITED != 0)
    }

    /// Whether a child is one of those it waits for.
    fn concerns(&self, child: &Process) -> bool {
        let named = match self.target {
            Target::Process(pid) => child.pid == pid,
            Target::Any | Target::Group(_) => true,
        };
        named && self.accepts(&child.member().class)
    }

    /// Whether a child has news that it asked for.
    pub fn wants(&self, child: &Process) -> bool {
        let kind = match child.news {
            Some(News::Exited(_)) => WEXITED,
            Some(News::Stopped(_)) => WSTOPPED,
            Some(News::Continued) => WCONTINUED,
            None => 0,
        };
        self.options & kind != 0 && self.concerns(child)
    }

    /// Whether it is about a thread that its process traces.
    pub fn accepts_tracee(&self, tid: Tid, pgid: Pgid, tracer: Tid, ended: bool) -> bool {
        let named = match self.target {
            Target::Any => true,
            Target::Process(pid) => pid.0 == tid.0,
            Target::Group(group) => group == pgid,
        };
        let whose = self.options & WNOTHREAD == 0 || tracer == self.tid;
        named && whose && (!ended || self.options & WEXITED != 0)
    }

    pub(crate) fn consumes(&self) -> bool {
        self.options & WNOWAIT == 0
    }

    /// The answer about a child.
    fn answer(&self, child: &Process, news: News) -> (i64, Vec<Output>) {
        let (word, code, status) = match news {
            News::Exited(status) => (status.word(), status.si_code(), status.si_status()),
            News::Stopped(signal) => (stopped_word(signal), CLD_STOPPED, u32::from(signal)),
            News::Continued => (CONTINUED_WORD, CLD_CONTINUED, u32::from(SIGCONT)),
        };
        let (number, uid, ended) = (child.pid.0, child.credentials.uid, child.is_zombie());
        self.tell(&Told { number, uid, word, code, status, ended }, ended_usage(child))
    }

    /// The answer with these news.
    fn tell(&self, told: &Told, usage: Usage) -> (i64, Vec<Output>) {
        let mut outputs = match self.form {
            Form::Word { status } => piece(status, told.word.to_le_bytes().to_vec()),
            Form::Info { info } => {
                let who = (told.number, told.uid);
                piece(info, info_bytes(u32::from(SIGCHLD), told.code as u32, who, told.status))
            }
        };
        outputs.extend(piece(self.rusage, usage.to_bytes()));
        let result = if matches!(self.form, Form::Word { .. }) { i64::from(told.number) } else { 0 };
        (result, outputs)
    }

    /// The answer of WNOHANG when no child has news.
    fn nothing_yet(&self) -> Reply {
        match self.form {
            Form::Word { .. } => Reply::Value(0),
            Form::Info { info } => Reply::Pieces(0, piece(info, info_bytes(0, 0, (0, 0), 0))),
        }
    }
}

/// What a child has used, if it has ended.
fn ended_usage(child: &Process) -> Usage {
    if child.is_zombie() { child.usage.plus(child.children_usage) } else { Usage::default() }
}

/// The fields of `siginfo_t` that waitid(2) fills.
fn info_bytes(signal: u32, code: u32, (pid, uid): (u32, u32), status: u32) -> Vec<u8> {
    [signal, 0, code, 0, pid, uid, status].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What a wait finds.
enum Found {
    Ready(Pid),
    Traced(Tid),
    NotYet,
    Nobody,
}

impl Proc {
    pub(crate) fn wait4(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let options = asked.unsigned(2);
        if options & !(WNOHANG | WSTOPPED | WCONTINUED | WHOSE) != 0 {
            return errno(EINVAL);
        }
        let target = match asked.int(0) {
            i32::MIN => return errno(ESRCH),
            -1 => Target::Any,
            0 => Target::Group(self.own_group(asked.pid)),
            pid if pid < 0 => Target::Group(Pgid(pid.unsigned_abs())),
            pid => Target::Process(Pid(pid.unsigned_abs())),
        };
        let form = Form::Word { status: asked.word(1) };
        self.wait(asked, target, options | WEXITED, form, asked.word(3), turn)
    }

    pub(crate) fn waitid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let options = asked.unsigned(3);
        let what = WEXITED | WSTOPPED | WCONTINUED;
        if options & !(WNOHANG | WNOWAIT | what | WHOSE) != 0 || options & what == 0 {
            return errno(EINVAL);
        }
        let id = asked.int(1);
        let target = match asked.int(0) {
            P_ALL => Target::Any,
            P_PID if id > 0 => Target::Process(Pid(id.unsigned_abs())),
            P_PGID if id == 0 => Target::Group(self.own_group(asked.pid)),
            P_PGID if id > 0 => Target::Group(Pgid(id.unsigned_abs())),
            P_PIDFD if id >= 0 => match self.named_by_descriptor(asked, 0) {
                Some(Some(pid)) => Target::Process(pid),
                Some(None) => return errno(ECHILD),
                None => return errno(EBADF),
            },
            _ => return errno(EINVAL),
        };
        let form = Form::Info { info: asked.word(2) };
        if asked.int(0) == P_PIDFD
            && options & WNOHANG == 0
            && self.is_nonblocking(asked, asked.unsigned(1), turn)
        {
            return self.wait(asked, target, options | OR_AGAIN, form, asked.word(4), turn);
        }
        self.wait(asked, target, options, form, asked.word(4), turn)
    }

    fn own_group(&self, pid: Pid) -> Pgid {
        self.processes.get(&pid).map(|process| process.pgid).unwrap_or_default()
    }

    fn wait(
        &mut self,
        asked: &Asked,
        target: Target,
        options: u32,
        form: Form,
        rusage: u64,
        turn: &mut Turn,
    ) -> Outcome {
        self.last_ticket += 1;
        let wait = WaitFor { target, options, tid: asked.tid, ticket: self.last_ticket, form, rusage };
        match self.look(asked.pid, &wait) {
            Found::Ready(child) => {
                let (result, outputs) = self.report(&wait, child).ok_or(Refusal::Errno(ECHILD))?;
                self.told(&wait, child, turn);
                Ok(Reply::Pieces(result, outputs))
            }
            Found::Traced(tid) => {
                let (result, outputs) = self.report_tracee(&wait, tid).ok_or(Refusal::Errno(ECHILD))?;
                self.told_of_tracee(&wait, tid, turn);
                Ok(Reply::Pieces(result, outputs))
            }
            Found::Nobody => errno(ECHILD),
            Found::NotYet if options & WNOHANG != 0 => Ok(wait.nothing_yet()),
            Found::NotYet if options & OR_AGAIN != 0 => errno(EAGAIN),
            Found::NotYet => {
                self.park(asked.tid, asked.id, On::Child(wait), turn);
                Ok(Reply::Later)
            }
        }
    }

    /// Looks for the oldest child with the news a wait asks for, and else for a traced thread.
    fn look(&self, parent: Pid, wait: &WaitFor) -> Found {
        let Some(process) = self.processes.get(&parent) else { return Found::Nobody };
        let found = self.look_at_children(process, wait);
        if process.tracees.is_empty() || matches!(found, Found::Ready(_)) {
            return found;
        }
        let mut concerned = process.tracees.iter().filter(|tid| self.concerns_tracee(wait, **tid)).peekable();
        let any = concerned.peek().is_some();
        match concerned.find(|tid| self.news_of_tracee(**tid).is_some()) {
            Some(tid) => Found::Traced(*tid),
            None if any => Found::NotYet,
            None => found,
        }
    }

    fn look_at_children(&self, process: &Process, wait: &WaitFor) -> Found {
        let parent = process.pid;
        if let Target::Process(pid) = wait.target {
            let child = self.processes.get(&pid).filter(|child| child.parent == parent && child.is_visible());
            return match child {
                Some(child) if wait.wants(child) => Found::Ready(pid),
                Some(child) if wait.concerns(child) => Found::NotYet,
                _ => Found::Nobody,
            };
        }
        let wanted = |pid: &Pid| self.processes.get(pid).is_some_and(|child| wait.wants(child));
        match process.family.with_news(wait.target).find(wanted) {
            Some(pid) => Found::Ready(pid),
            None if process.family.has_candidate(wait) => Found::NotYet,
            None => Found::Nobody,
        }
    }

    /// The answer for a wait from a child that has news.
    fn report(&self, wait: &WaitFor, child: Pid) -> Option<(i64, Vec<Output>)> {
        let child = self.processes.get(&child)?;
        Some(wait.answer(child, child.news?))
    }

    /// The answer for a wait from a traced thread that has news.
    fn report_tracee(&self, wait: &WaitFor, tid: Tid) -> Option<(i64, Vec<Output>)> {
        let told = self.news_of_tracee(tid)?;
        let ended = self.processes.get(&Pid(tid.0)).filter(|_| told.ended);
        Some(wait.tell(&told, ended.map(ended_usage).unwrap_or_default()))
    }

    /// Offers the news of a traced thread to the waits of its tracer, the oldest first, until one has taken them.
    pub(crate) fn offer_tracee(&mut self, tracer: Pid, tid: Tid, turn: &mut Turn) {
        while self.news_of_tracee(tid).is_some()
            && let Some(process) = self.processes.get(&tracer)
        {
            let parked =
                process.threads.iter().filter_map(|waiter| Some((*waiter, *self.parked_wait(*waiter)?)));
            let first = parked
                .filter(|(_, wait)| self.concerns_tracee(wait, tid))
                .min_by_key(|(_, wait)| wait.ticket);
            let Some((waiter, wait)) = first else { return };
            let Some((result, outputs)) = self.report_tracee(&wait, tid) else { return };
            self.finish_wait(waiter, result, outputs, turn);
            self.told_of_tracee(&wait, tid, turn);
        }
    }

    /// A child's news have been told: the only place where a status leaves the table for a program.
    fn told(&mut self, wait: &WaitFor, child: Pid, turn: &mut Turn) {
        if !wait.consumes() {
            return;
        }
        match self.processes.get(&child).map(|process| process.is_zombie()) {
            Some(true) => self.reap(child, turn),
            Some(false) => self.change(child, turn, |process| process.news = None),
            None => {}
        }
    }

    /// Offers a child's news to the waits of its parent, the oldest first, until one has taken them.
    pub(crate) fn offer(&mut self, child: Pid, turn: &mut Turn) {
        while let Some((tid, wait)) = self.first_waiter(child) {
            let Some((result, outputs)) = self.report(&wait, child) else { return };
            self.finish_wait(tid, result, outputs, turn);
            self.told(&wait, child, turn);
        }
    }

    /// The oldest parked wait that a child's news would answer.
    fn first_waiter(&self, child: Pid) -> Option<(Tid, WaitFor)> {
        let child = self.processes.get(&child)?;
        let family = &self.processes.get(&child.parent)?.family;
        if child.news.is_none() || family.nobody_waits() {
            return None;
        }
        let targets = [Target::Any, Target::Process(child.pid), Target::Group(child.pgid)];
        let first = |target: Target| {
            let mut waiters = family.waiters(target);
            waiters.find(|(_, tid)| self.parked_wait(*tid).is_some_and(|wait| wait.wants(child)))
        };
        let (_, tid) = targets.into_iter().filter_map(first).min()?;
        self.parked_wait(tid).map(|wait| (tid, *wait))
    }

    fn parked_wait(&self, tid: Tid) -> Option<&WaitFor> {
        match self.threads.get(&tid)?.waiting.as_ref()? {
            Waiting { on: On::Child(wait), .. } => Some(wait),
            _ => None,
        }
    }

    /// Changes a child, and offers what news it then has.
    pub(crate) fn change(&mut self, child: Pid, turn: &mut Turn, change: impl FnOnce(&mut Process)) {
        if self.update(child, turn, change) {
            self.offer(child, turn);
        }
    }

    /// Changes a child, and with it what its parent's waits can hope for. Answers whether a wait may want it that did
    /// not before.
    pub(crate) fn update(&mut self, child: Pid, turn: &mut Turn, change: impl FnOnce(&mut Process)) -> bool {
        let Some(process) = self.processes.get_mut(&child) else { return false };
        let before = process.member();
        change(process);
        let (parent, after) = (process.parent, process.member());
        if before == after || !process.is_visible() {
            return after.news;
        }
        let Some(process) = self.processes.get_mut(&parent) else { return false };
        let last = process.family.dismiss(&before);
        process.family.admit(&after);
        if last {
            self.disappoint(parent, before.class.pgid, None, turn);
        }
        if before.class != after.class {
            self.disappoint(parent, before.class.pgid, Some(child), turn);
        }
        after.news
    }

    /// Answers ECHILD to the waits that can no longer be answered otherwise, after a child has left its class, or
    /// its family altogether.
    pub(crate) fn disappoint(&mut self, parent: Pid, pgid: Pgid, child: Option<Pid>, turn: &mut Turn) {
        let Some(process) = self.processes.get(&parent) else { return };
        if process.family.nobody_waits() {
            return;
        }
        let targets = match child {
            Some(child) => vec![Target::Process(child)],
            None => vec![Target::Any, Target::Group(pgid)],
        };
        let waiters = targets.into_iter().flat_map(|target| process.family.waiters(target));
        let hopeless: Vec<Tid> = waiters
            .map(|(_, tid)| tid)
            .filter(|tid| {
                let wait = self.parked_wait(*tid);
                wait.is_some_and(|wait| matches!(self.look(parent, wait), Found::Nobody))
            })
            .collect();
        for tid in hopeless {
            self.finish_wait(tid, -i64::from(ECHILD), Vec::new(), turn);
        }
    }
}
