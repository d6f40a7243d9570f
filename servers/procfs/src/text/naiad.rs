//! Files about the servers and the kernel: `/proc/naiad`.

use alloc::{borrow::ToOwned, format, string::String, vec, vec::Vec};
use core::fmt;

use libipc::abi::Handle;
use libipc::abi::foreign::{LINUX, LINUX_CALLS};
use libipc::abi::upgrade::{ImageFigures, Stage, Verdict};
use libipc::linux::errno::*;
use libipc::server::Env;
use libipc::server::env::{Statistic, TaskFigure};

use super::{NS_PER_S, PAGE_KIB, table};
use crate::Procfs;

/// Most calls of the kernel's arena that are looked at.
const WAITS_MAX: u64 = 4096;
/// The kinds of kernel objects that are counted, in the order of the kernel's numbers.
const OBJECTS: [&str; 11] = [
    "tasks",
    "threads",
    "spaces",
    "tables",
    "slot chunks",
    "sessions",
    "calls",
    "watchers",
    "directories",
    "buffers",
    "handles",
];

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn seconds(ns: u64) -> String {
    format!("{}.{:03}", ns / NS_PER_S, ns % NS_PER_S / 1_000_000)
}

/// What the kernel tells of a server.
struct Figures {
    incarnation: u64,
    dead: bool,
    /// Deaths from outside, and by its own fault.
    deaths: [u64; 2],
    messages: u64,
    cpu_ns: u64,
    /// Bytes of its journal: used, in all.
    journal: [u64; 2],
    /// From its last death until it was live again.
    restart_ns: u64,
    /// Snapshots made, and how long they took.
    snapshots: [u64; 2],
    /// Recoveries that were not exact, and what was found to be nobody's after them.
    epoch: [u64; 2],
    /// Bytes that are set aside for it, restarts included.
    set_aside: u64,
    /// Handles, sessions, calls.
    holdings: [u64; 3],
    /// The image it runs in, and how it came there.
    image: Image,
}

/// What the kernel tells of a server's image.
struct Image {
    figures: ImageFigures,
    /// How often the server was upgraded.
    upgrades: u64,
    /// How far the upgrade under way has come.
    stage: Option<Stage>,
    /// What came of the last one.
    verdict: Option<Verdict>,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageFigures { schema, pages } = self.figures;
        write!(f, "{} KiB, schema {schema}, upgraded {} times", u64::from(pages) * PAGE_KIB, self.upgrades)?;
        match (self.stage, self.verdict) {
            (Some(stage), _) => write!(f, "; under way: {stage}"),
            (None, Some(verdict)) if verdict != Verdict::Done => write!(f, "; the last {verdict}"),
            _ => Ok(()),
        }
    }
}

fn figures(task: Handle, env: &mut dyn Env) -> Option<Figures> {
    let [incarnation, state, outside, itself] = env.task_info(task, TaskFigure::Incarnation).ok()?;
    let [messages, cpu_ns, used, size] = env.task_info(task, TaskFigure::Activity).ok()?;
    let [handles, sessions, calls, _] = env.task_info(task, TaskFigure::Holdings).ok()?;
    let [restart_ns, snapshots, snapshots_ns, set_aside] = env.task_info(task, TaskFigure::Recovery).ok()?;
    let [epoch, ended, ..] = env.task_info(task, TaskFigure::Epoch).ok()?;
    let [progress, image, upgrades, _] = env.task_info(task, TaskFigure::Upgrade).ok()?;
    Some(Figures {
        incarnation,
        dead: state != 0,
        deaths: [outside, itself],
        messages,
        cpu_ns,
        journal: [used, size],
        restart_ns,
        snapshots: [snapshots, snapshots_ns],
        epoch: [epoch, ended],
        set_aside,
        holdings: [handles, sessions, calls],
        image: Image {
            figures: ImageFigures::from_word(image),
            upgrades,
            stage: Stage::from_number(progress & 0xff),
            verdict: Verdict::from_number(progress >> 8),
        },
    })
}

impl Procfs {
    /// One line per server; what the kernel does not tell is left out.
    fn per_server(
        &self,
        head: &[&str],
        env: &mut dyn Env,
        cells: impl Fn(&str, &Figures) -> Vec<String>,
    ) -> String {
        let mut rows = vec![row(head)];
        for (name, task) in &self.tasks {
            if let Some(figures) = figures(*task, env) {
                rows.push(cells(name, &figures));
            }
        }
        table(&rows)
    }

    /// `/proc/naiad/incarnations`.
    pub(super) fn incarnations(&self, env: &mut dyn Env) -> String {
        self.per_server(&["server", "incarnation", "state"], env, |name, figures| {
            let state = if figures.dead { "dead" } else { "running" };
            vec![name.to_owned(), format!("{}", figures.incarnation), state.to_owned()]
        })
    }

    /// `/proc/naiad/crashes`: how often servers died, and what they died of again. On the host, the command in the last
    /// column runs a file of `/proc/naiad/reproducers`.
    pub(super) fn crashes(&self, env: &mut dyn Env) -> String {
        let mut text = self.per_server(&["server", "killed", "crashed"], env, |name, figures| {
            let [outside, itself] = figures.deaths.map(|count| format!("{count}"));
            vec![name.to_owned(), outside, itself]
        });
        let mut rows = vec![row(&[
            "crash",
            "server",
            "incarnation",
            "message",
            "event",
            "died of",
            "done",
            "on the host",
        ])];
        rows.extend(self.crash_rows(env));
        if rows.len() > 1 {
            text.push('\n');
            text.push_str(&table(&rows));
        }
        text
    }

    /// `/proc/naiad/servers/NAME/status`.
    pub(super) fn server_status(&self, number: u32, env: &mut dyn Env) -> Result<String, i32> {
        let name = self.server_name(number).ok_or(ENOENT)?;
        let task = self.tasks.get(name).copied().ok_or(ENOENT)?;
        let figures = figures(task, env).ok_or(EIO)?;
        let [outside, itself] = figures.deaths;
        let [used, size] = figures.journal;
        let [snapshots, snapshots_ns] = figures.snapshots;
        let [epoch, ended] = figures.epoch;
        let [handles, sessions, calls] = figures.holdings;
        Ok(format!(
            "name:         {name}\n\
             state:        {}\n\
             incarnation:  {}\n\
             deaths:       {} ({outside} from outside, {itself} of its own)\n\
             messages:     {}\n\
             cpu:          {} s\n\
             journal:      {used} of {size} bytes\n\
             snapshots:    {snapshots} in {snapshots_ns} ns\n\
             restart:      {} ns\n\
             epoch:        {epoch}, {ended} objects ended that were nobody's\n\
             set aside:    {} KiB\n\
             image:        {}\n\
             holds:        {handles} handles, {sessions} sessions, {calls} calls\n",
            if figures.dead { "dead" } else { "running" },
            figures.incarnation,
            outside + itself,
            figures.messages,
            seconds(figures.cpu_ns),
            figures.restart_ns,
            figures.set_aside / 1024,
            figures.image,
        ))
    }

    /// `/proc/naiad/waits`: every call that is not answered yet, the oldest first.
    pub(super) fn waits(&self, env: &mut dyn Env) -> String {
        let mut waits: Vec<Wait> = Vec::new();
        for index in 0..WAITS_MAX {
            let figures = env.statistic(Statistic::Waits, index);
            match figures {
                [u64::MAX, ..] => break,
                [0, 0, 0, 0] => {}
                figures => waits.push(Wait::of(figures)),
            }
        }
        waits.sort_by_key(|wait| wait.since_ns);
        let mut rows = vec![row(&["who", "waits for", "call", "state", "seconds", ""])];
        for wait in &waits {
            let who = match wait.pid {
                0 => self.server_name(wait.caller).unwrap_or("?").to_owned(),
                pid if pid == wait.caller => format!("process {pid}"),
                pid => format!("process {pid}, thread {}", wait.caller),
            };
            // A server's call carries a protocol's label, a program's the number of a Linux call.
            let known = (wait.pid != 0).then(|| LINUX.get(wait.label as usize)).flatten();
            rows.push(vec![
                who,
                self.server_name(wait.server).unwrap_or("?").to_owned(),
                known.map_or_else(|| format!("{:#x}", wait.label), |row| row.name.to_owned()),
                if wait.held { "held" } else { "queued" }.to_owned(),
                seconds(env.now().saturating_sub(wait.since_ns)),
                if wait.is_in_circle(&waits) { "DEADLOCK" } else { "" }.to_owned(),
            ]);
        }
        table(&rows)
    }

    /// A server's name by its number.
    pub(crate) fn server_name(&self, number: u32) -> Option<&str> {
        self.numbers.iter().find(|(_, known)| **known == number).map(|(name, _)| name.as_str())
    }
}

/// A call that is not answered yet.
struct Wait {
    /// Who is to answer.
    server: u32,
    /// It is at work on it.
    held: bool,
    /// The caller is a server that does nothing else meanwhile.
    stands: bool,
    /// The caller's process; 0 for a server.
    pid: u32,
    /// Its thread, or the server.
    caller: u32,
    label: u64,
    since_ns: u64,
}

impl Wait {
    fn of([server, who, label, since_ns]: [u64; 4]) -> Wait {
        let (held, stands) = (server >> 32 & 1 != 0, server >> 33 & 1 != 0);
        Wait {
            server: server as u32,
            held,
            stands,
            pid: (who >> 32) as u32,
            caller: who as u32,
            label,
            since_ns,
        }
    }

    /// Whether whom it waits for waits in the end for the caller. Each server waits for one other at most.
    fn is_in_circle(&self, all: &[Wait]) -> bool {
        let mut at = self.server;
        for _ in all {
            if self.stands && at == self.caller {
                return true;
            }
            match all.iter().find(|wait| wait.stands && wait.caller == at) {
                Some(next) => at = next.server,
                None => return false,
            }
        }
        false
    }
}

/// `/proc/naiad/counters`: what the kernel counts.
pub(super) fn counters(env: &mut dyn Env) -> String {
    let [idle_ns, now_ns, switches, traps] = env.statistic(Statistic::Cpu, 0);
    let [frames, kernel_frames, mapped, tables] = env.statistic(Statistic::Frames, 0);
    let mut rows = vec![
        vec!["uptime".to_owned(), seconds(now_ns)],
        vec!["idle".to_owned(), seconds(idle_ns)],
        vec!["context switches".to_owned(), format!("{switches}")],
        vec!["traps".to_owned(), format!("{traps}")],
        vec!["frames".to_owned(), format!("{frames}")],
        vec!["frames of the kernel".to_owned(), format!("{kernel_frames}")],
        vec!["mapped frames".to_owned(), format!("{mapped}")],
        vec!["page tables".to_owned(), format!("{tables}")],
    ];
    for (kind, name) in OBJECTS.iter().enumerate() {
        let [used, capacity, ..] = env.statistic(Statistic::Objects, kind as u64);
        rows.push(vec![(*name).to_owned(), format!("{used} of {capacity}")]);
    }
    table(&rows)
}

/// `/proc/naiad/enosys`: Linux calls that programs made and that are not there.
pub(super) fn enosys(env: &mut dyn Env) -> String {
    let mut rows = vec![row(&["number", "call", "count"])];
    for (number, call) in (0..LINUX_CALLS).zip(&LINUX) {
        match env.statistic(Statistic::Enosys, number.into()) {
            [0, ..] => {}
            [u64::MAX, ..] => break,
            [count, ..] => rows.push(vec![format!("{number}"), call.name.to_owned(), format!("{count}")]),
        }
    }
    table(&rows)
}
