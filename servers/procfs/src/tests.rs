//! procfs by its protocol: names, sessions, reading in pieces, and the control files.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use libipc::abi::upgrade::Verdict;
use libipc::abi::{Badge, CallId, Doom, Injection, KernelError, Moment};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::{Answer, Credentials, Found, From, Operation as Ask, Request as Req, Stop};
use libipc::proto::process::{self, ProcessInfo};
use libipc::proto::space;
use libipc::server::UPGRADED_BIT;
use libipc::server::testing::{Figures, Script, boot, step};
use libipc::server::{Caller, Effect, Foreign, ForeignReply};

use super::*;
use crate::tree::{Kind, Node};

/// Process 7 of user 5 with threads 7 and 9, process 12 of root, both without an address space.
pub(crate) fn oracle(server: Handle, message: &Message) -> Result<Message, KernelError> {
    if server == Handle(1) {
        let answer = space::Answer::Memory { total: 1000, free: 600, cached: 100 };
        return Ok(Message::typed(0, &answer));
    }
    if message.label == process::HOST_NAME {
        return Ok(Message { payload: b"pond".to_vec(), ..Message::default() });
    }
    let answer = match message.decode::<process::Request>() {
        Ok(process::Request::Pids) => process::Answer::Pids { pids: vec![7, 12] },
        Ok(process::Request::Process { pid: 7 }) => process::Answer::Process(ProcessInfo {
            pid: 7,
            parent: 1,
            state: b'S',
            name: b"sh".to_vec(),
            exe: b"/bin/sh".to_vec(),
            threads: vec![9, 7],
            uids: [5; 3],
            gids: [50; 3],
            command_line: b"sh\0-c\0ls\0".to_vec(),
            environment: b"HOME=/\0".to_vec(),
            ..ProcessInfo::default()
        }),
        Ok(process::Request::Process { pid: 1 }) => {
            process::Answer::Process(ProcessInfo { pid: 1, state: b'S', ..ProcessInfo::default() })
        }
        Ok(process::Request::Process { pid: 12 }) => {
            process::Answer::Process(ProcessInfo { pid: 12, state: b'Z', ..ProcessInfo::default() })
        }
        Ok(process::Request::Process { .. }) => process::Answer::Failed(ESRCH),
        Ok(process::Request::Load) => {
            process::Answer::Load { averages: [7, 123, 0], running: 2, threads: 30, last_pid: 12 }
        }
        _ => return Ok(Message::label(EINVAL as u32)),
    };
    Ok(Message::typed(0, &answer))
}

/// Room for images.
const ARENA_BYTES: u64 = 200_000;

pub(crate) struct Bench {
    pub procfs: Procfs,
    pub script: Script,
    sessions: BTreeMap<Handle, Badge>,
}

impl Bench {
    pub fn new() -> Bench {
        let names = ["tty", "vfs"];
        let block = Boot {
            number: 4,
            tasks: names.iter().zip(70..).map(|(name, task)| ((*name).into(), Handle(task))).collect(),
            numbers: names.iter().zip(8..).map(|(name, number)| ((*name).into(), number)).collect(),
            epoch_s: 1000,
            arena_bytes: ARENA_BYTES,
            ..boot("procfs", &["proc", "vm"])
        };
        let mut script = Script::default();
        script.oracle = oracle;
        Bench { procfs: Procfs::new(&block), script, sessions: BTreeMap::new() }
    }

    fn ask(&mut self, request: Req) -> Answer {
        let mut message = request.message();
        message.words = [7, 9, 0, 0];
        let event = Event::Call(self.script.native(message));
        let effects = step(&mut self.procfs, &event, &mut self.script);
        let (tag, badge) = match &effects.list[..] {
            [Effect::Reply { message, .. }] => return message.decode().unwrap(),
            [
                Effect::Park { .. },
                Effect::Try { tag, operation: Operation::SessionCreate { badge, .. } },
                ..,
            ] => (*tag, *badge),
            other => panic!("{other:?}"),
        };
        let effects = step(&mut self.procfs, &Event::Done { tag, result: Ok(0) }, &mut self.script);
        let [Effect::Reply { message, .. }] = &effects.list[..] else { panic!() };
        self.sessions.insert(message.handles[0], badge);
        message.decode().unwrap()
    }

    fn at(&mut self, path: &str, operation: Ask) -> Answer {
        self.walk(path, 0, operation, true)
    }

    fn walk(&mut self, path: &str, uid: u32, operation: Ask, follow: bool) -> Answer {
        let credentials = Credentials { uid, gid: uid, umask: 0, ..Credentials::default() };
        self.ask(Req {
            from: From::Root(0),
            path: path.into(),
            barrier: None,
            covers: vec![],
            follow,
            credentials,
            operation,
            program: None,
        })
    }

    /// vfs's request to open a file for reading.
    pub fn open_request(&mut self, path: &str) -> Event {
        let request = Req {
            from: From::Root(0),
            path: path.into(),
            barrier: None,
            covers: vec![],
            follow: true,
            credentials: Credentials { uid: 0, gid: 0, umask: 0, groups: Vec::new() },
            operation: Ask::Open { flags: 0, mode: 0 },
            program: None,
        };
        Event::Call(self.script.native(request.message()))
    }

    pub fn open(&mut self, path: &str, flags: u32) -> Result<Badge, i32> {
        match self.at(path, Ask::Open { flags, mode: 0 }) {
            Answer::Found(Found::Opened { .. }) => Ok(*self.sessions.last_key_value().unwrap().1),
            Answer::Failed(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    pub fn linux(
        &mut self,
        badge: Badge,
        position: u64,
        status: u32,
        number: u32,
        words: [u64; 6],
    ) -> (ForeignReply, Effects) {
        let foreign = Foreign { number, arguments: words, ..Foreign::default() };
        let mut call = self.script.call(Caller::default(), badge.0, Request::Foreign(foreign));
        (call.position, call.status) = (position, status);
        let effects = step(&mut self.procfs, &Event::Call(call), &mut self.script);
        let reply = effects.list.iter().find_map(|effect| match effect {
            Effect::ReplyForeign { reply, .. } => Some(reply.clone()),
            _ => None,
        });
        (reply.unwrap_or_default(), effects)
    }

    /// Reads a whole file in pieces of seven bytes.
    fn read(&mut self, path: &str) -> Vec<u8> {
        let badge = self.open(path, 0).unwrap();
        let (mut text, mut position) = (vec![], 0);
        loop {
            let (reply, effects) = self.linux(badge, position, 0, 0, [3, 0x100, 7, 0, 0, 0]);
            position = reply.position.unwrap();
            match effects.list.first() {
                Some(Effect::CopyOut { bytes, address: 0x100, .. }) => {
                    assert_eq!(reply.result, bytes.len() as i64);
                    text.extend(bytes);
                }
                _ => {
                    assert_eq!(reply.result, 0);
                    return text;
                }
            }
        }
    }

    /// The names of a directory, read with a buffer for one or two at a time.
    fn names(&mut self, path: &str) -> Vec<String> {
        let badge = self.open(path, O_DIRECTORY).unwrap();
        let (mut names, mut position) = (vec![], 0);
        loop {
            let (reply, _) = self.linux(badge, position, 0, 217, [3, 0x100, 60, 0, 0, 0]);
            if reply.result == 0 {
                return names;
            }
            let bytes = &reply.outputs[0].bytes;
            let mut at = 0;
            while at < bytes.len() {
                let length = usize::from(bytes[at + 16]);
                let name = bytes[at + 19..at + length].split(|byte| *byte == 0).next().unwrap();
                names.push(String::from_utf8(name.to_vec()).unwrap());
                at += length;
            }
            position = reply.position.unwrap();
        }
    }
}

fn stat_of(answer: Answer) -> libipc::linux::Stat {
    match answer {
        Answer::Found(Found::Stat(stat)) => stat,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_fixed_name_is_found_and_shown() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.names("sys/kernel"),
        [".", "..", "core_pattern", "hostname", "osrelease", "ostype", "pid_max", "random"]
    );
    assert_eq!(bench.names("naiad/servers"), [".", "..", "tty", "vfs"]);
    assert_eq!(bench.names("7/task"), [".", "..", "7", "9"]);
    let root = bench.names("");
    assert_eq!(root[root.len() - 2..], ["7", "12"]);
    let process = bench.names("7").into_iter().map(|name| alloc::format!("7/{name}"));
    for path in root.into_iter().filter(|name| name != "..").chain(process) {
        assert!(matches!(bench.walk(&path, 0, Ask::Stat, false), Answer::Found(Found::Stat(_))), "{path}");
    }
}

#[test]
fn a_process_belongs_to_its_user_and_is_gone_when_it_ends() {
    let mut bench = Bench::new();
    let stat = stat_of(bench.at("7/stat", Ask::Stat));
    assert_eq!((stat.uid, stat.gid, stat.size, stat.mode & 0o777), (5, 50, 0, 0o444));
    assert_eq!(stat.dev, libipc::server::files::device_number(4, 0));
    assert_eq!(stat_of(bench.at("uptime", Ask::Stat)).uid, 0);
    for path in ["8", "8/stat", "07", "7/nothing", "7/task/8", "naiad/servers/blk", "7/cwd"] {
        assert_eq!(bench.at(path, Ask::Stat), Answer::Failed(ENOENT), "{path}");
    }
    assert_eq!(bench.at("uptime/", Ask::Stat), Answer::Failed(ENOTDIR));
    assert_eq!(bench.at("uptime/x", Ask::Stat), Answer::Failed(ENOTDIR));
}

#[test]
fn links_lead_to_the_caller_and_to_its_program() {
    let mut bench = Bench::new();
    let stop = |target: &str, rest: &str, directory: Node| {
        Answer::Stopped(Stop::Symlink {
            directory: directory.number(),
            target: target.into(),
            rest: rest.into(),
        })
    };
    assert_eq!(bench.at("self/stat", Ask::Stat), stop("7", "stat", Node::ROOT));
    assert_eq!(bench.at("thread-self", Ask::Stat), stop("7/task/9", "", Node::ROOT));
    let process = Node { kind: Kind::Process, id: 7, tid: 0 };
    assert_eq!(bench.at("7/exe", Ask::Stat), stop("/bin/sh", "", process));
    let text = |text: &str| Answer::Found(Found::Text(text.into()));
    assert_eq!(bench.walk("7/exe", 5, Ask::ReadLink, false), text("/bin/sh"));
    assert_eq!(bench.walk("7/exe", 6, Ask::ReadLink, false), Answer::Failed(EACCES));
    assert_eq!(bench.walk("12/exe", 0, Ask::ReadLink, false), Answer::Failed(ENOENT), "a zombie");
    assert_eq!(bench.walk("self", 0, Ask::ReadLink, false), text("7"));
    assert_eq!(bench.walk("stat", 0, Ask::ReadLink, false), Answer::Failed(EINVAL));
    assert_eq!(bench.walk("self", 0, Ask::Open { flags: O_NOFOLLOW, mode: 0 }, false), Answer::Failed(ELOOP));
}

#[test]
fn init_which_has_no_files_stands_in_the_root_directory() {
    let mut bench = Bench::new();
    let root = Answer::Found(Found::Text(b"/".to_vec()));
    assert_eq!(bench.walk("1/cwd", 0, Ask::ReadLink, false), root);
    assert_eq!(bench.walk("1/root", 0, Ask::ReadLink, false), root);
    assert_eq!(bench.walk("1/root", 5, Ask::ReadLink, false), Answer::Failed(EACCES));
    let process = Node { kind: Kind::Process, id: 1, tid: 0 };
    let (directory, rest) = (process.number(), b"etc".to_vec());
    let stop = Stop::Symlink { directory, target: b"/".to_vec(), rest };
    assert_eq!(bench.at("1/cwd/etc", Ask::Stat), Answer::Stopped(stop));
}

#[test]
fn a_walk_stops_above_the_root_at_covers_and_at_the_barrier() {
    let mut bench = Bench::new();
    let above = Answer::Stopped(Stop::Above { volume: 0, rest: b"x".to_vec() });
    assert_eq!(bench.at("sys/../../x", Ask::Stat), above);
    let sys = Node { kind: Kind::Sys, id: 0, tid: 0 };
    let mut request = Req {
        from: From::Node(sys.number()),
        path: b"../uptime".to_vec(),
        barrier: Some(sys.number()),
        covers: vec![],
        follow: true,
        credentials: Credentials::default(),
        operation: Ask::Stat,
        program: None,
    };
    assert_eq!(bench.ask(request.clone()), Answer::Failed(ENOENT));
    request.barrier = None;
    assert!(matches!(bench.ask(request.clone()), Answer::Found(Found::Stat(_))));
    let (from, path) = (From::Root(0), b"sys/vm".to_vec());
    let covered = Answer::Stopped(Stop::Covered { node: sys.number(), rest: b"vm".to_vec() });
    assert_eq!(bench.ask(Req { from, path, covers: vec![sys.number()], ..request.clone() }), covered);
    assert_eq!(bench.ask(Req { from: From::Root(1), ..request.clone() }), Answer::Failed(ENODEV));
    assert_eq!(bench.ask(Req { from: From::Node(0), ..request }), Answer::Failed(ENOENT));
}

#[test]
fn paths_of_directories_are_told() {
    let mut bench = Bench::new();
    for path in ["", "sys/kernel/random", "7/task/9", "naiad/servers/tty"] {
        assert_eq!(bench.at(path, Ask::PathOf), Answer::Found(Found::Text(path.into())));
    }
}

#[test]
fn names_cannot_be_changed() {
    let mut bench = Bench::new();
    for (operation, errno) in [
        (Ask::MakeDirectory { mode: 0 }, EPERM),
        (Ask::Unlink, EPERM),
        (Ask::SetMode(0o777), EPERM),
        (Ask::Truncate(0), EPERM),
        (Ask::Rename { directory: 1, name: b"x".to_vec(), flags: 0 }, EPERM),
        (Ask::Open { flags: O_CREAT | O_EXCL, mode: 0 }, EEXIST),
    ] {
        assert_eq!(bench.at("uptime", operation), Answer::Failed(errno));
    }
    assert_eq!(bench.at("new", Ask::Open { flags: O_CREAT | O_EXCL, mode: 0 }), Answer::Failed(EACCES));
    assert_eq!(bench.at("", Ask::RemoveDirectory), Answer::Failed(EBUSY));
    assert!(matches!(bench.at("sys/new", Ask::Parent), Answer::Found(Found::Parent { .. })));
}

#[test]
fn an_open_file_says_the_same_however_it_is_read() {
    let mut bench = Bench::new();
    assert_eq!(bench.read("7/cmdline"), b"sh\0-c\0ls\0");
    assert_eq!(bench.read("sys/kernel/hostname"), b"pond\n");
    let badge = bench.open("uptime", 0).unwrap();
    let all = |bench: &mut Bench, number, words| match bench.linux(badge, 0, 0, number, words).1.list.first()
    {
        Some(Effect::CopyOut { bytes, .. }) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    let before = all(&mut bench, 0, [3, 1, 100, 0, 0, 0]);
    bench.script.now += 5_000_000_000;
    assert_eq!(all(&mut bench, 0, [3, 1, 100, 0, 0, 0]), before);
    assert_eq!(all(&mut bench, 17, [3, 1, 100, 2, 0, 0]), before[2..]);
    assert_ne!(bench.read("uptime"), before);
    let read_at = bench.script.call(
        Caller::default(),
        badge.0,
        Request::Native(Message::words(fs::READ_AT, [1, 4, 0, 0])),
    );
    let effects = step(&mut bench.procfs, &Event::Call(read_at), &mut bench.script);
    assert!(matches!(&effects.list[0], Effect::Reply { message, .. } if message.payload == before[1..5]));
}

#[test]
fn sessions_answer_what_linux_answers() {
    let mut bench = Bench::new();
    let file = bench.open("uptime", 0).unwrap();
    let directory = bench.open("", O_DIRECTORY).unwrap();
    let mut result = |badge, status, number, words| bench.linux(badge, 3, status, number, words).0.result;
    assert_eq!(result(file, 0, 8, [3, 10, 0, 0, 0, 0]), 10);
    assert_eq!(result(file, 0, 8, [3, u64::MAX, 1, 0, 0, 0]), 2);
    assert_eq!(result(file, 0, 16, [3, 0x5401, 0, 0, 0, 0]), -i64::from(ENOTTY));
    assert_eq!(result(file, 0, 217, [3, 0, 100, 0, 0, 0]), -i64::from(ENOTDIR));
    assert_eq!(result(directory, 0, 217, [3, 0, 10, 0, 0, 0]), -i64::from(EINVAL));
    assert_eq!(result(directory, 0, 0, [3, 0, 10, 0, 0, 0]), -i64::from(EISDIR));
    assert_eq!(result(file, 0, 1, [3, 0, 1, 0, 0, 0]), -i64::from(EBADF));
    assert_eq!(result(file, O_WRONLY, 1, [3, 0, 1, 0, 0, 0]), -i64::from(EIO));
    assert_eq!(result(file, O_PATH, 0, [3, 0, 1, 0, 0, 0]), -i64::from(EBADF));
    assert_eq!(result(file, 0, 9999, [0; 6]), -i64::from(ENOSYS));
    assert_eq!(result(Badge(99), 0, 0, [0; 6]), -i64::from(EBADF));
    let (reply, _) = bench.linux(file, 0, 0, 5, [3, 0x200, 0, 0, 0, 0]);
    assert_eq!((reply.result, reply.outputs[0].bytes.len()), (0, 144));
    let closed =
        step(&mut bench.procfs, &Event::LastClose { badge: file, owner: Handle(100) }, &mut bench.script);
    assert_eq!(closed, Effects::one(Effect::Do(Operation::Close { handle: Handle(100) })));
    assert_eq!(bench.linux(file, 0, 0, 0, [0; 6]).0.result, -i64::from(EBADF));
}

#[test]
fn files_open_only_as_their_bits_say() {
    let mut bench = Bench::new();
    let mut open = |path: &str, uid, flags| match bench.walk(path, uid, Ask::Open { flags, mode: 0 }, true) {
        Answer::Found(Found::Opened { .. }) => 0,
        Answer::Failed(errno) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(open("7/environ", 5, O_RDONLY), 0);
    assert_eq!(open("7/environ", 6, O_RDONLY), EACCES);
    assert_eq!(open("uptime", 5, O_RDWR), EACCES);
    assert_eq!(open("sys", 0, O_RDWR), EISDIR);
    assert_eq!(open("uptime", 5, O_DIRECTORY), ENOTDIR);
    assert_eq!(open("uptime", 5, O_PATH | O_RDWR), 0);
    assert_eq!(open("naiad/servers/tty/ctl", 5, O_WRONLY), EACCES);
}

const KILLED_NOW: Doom = Doom { moment: Moment::Traps(0), fault: Injection::Kill };

#[test]
fn a_server_is_crashed_after_the_write_is_answered() {
    let mut bench = Bench::new();
    let badge = bench.open("naiad/servers/tty/ctl", O_WRONLY | O_TRUNC).unwrap();
    bench.script.memory.insert(0x100, b"crash\nother\n".to_vec());
    bench.script.miss_next = true;
    assert!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x100, 6, 0, 0, 0]).1.again);
    let (reply, effects) = bench.linux(badge, 0, O_WRONLY, 1, [3, 0x100, 6, 0, 0, 0]);
    assert_eq!(reply.result, 6);
    assert_eq!(effects.list[1], Effect::Do(Operation::Crash { task: Handle(70), doom: KILLED_NOW }));
    assert_eq!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x106, 5, 0, 0, 0]).0.result, -i64::from(EINVAL));
    assert_eq!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x900, 5, 0, 0, 0]).0.result, -i64::from(EFAULT));
    assert_eq!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x100, 500, 0, 0, 0]).0.result, -i64::from(EINVAL));
}

#[test]
fn the_pattern_of_cores_is_what_was_written_last_and_runs_no_program() {
    let mut bench = Bench::new();
    assert_eq!(bench.read("sys/kernel/core_pattern"), b"core\n");
    let badge = bench.open("sys/kernel/core_pattern", O_WRONLY | O_TRUNC).unwrap();
    bench.script.memory.insert(0x100, b"/tmp/%e.%p\n|/bin/tool".to_vec());
    assert_eq!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x100, 11, 0, 0, 0]).0.result, 11);
    assert_eq!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x10b, 10, 0, 0, 0]).0.result, -i64::from(EINVAL));
    assert_eq!(bench.linux(badge, 0, O_WRONLY, 1, [3, 0x100, 129, 0, 0, 0]).0.result, -i64::from(EINVAL));
    assert_eq!(bench.read("sys/kernel/core_pattern"), b"/tmp/%e.%p\n");
}

/// Opens a file of the server `tty` for writing.
fn opened(bench: &mut Bench, name: &str) -> Badge {
    bench.open(&alloc::format!("naiad/servers/tty/{name}"), O_WRONLY | O_TRUNC).unwrap()
}

/// A bench on which an image of 100,000 bytes is in the arena, and the badges of `image` and `ctl`.
fn image_written() -> (Bench, Badge, Badge) {
    let mut bench = Bench::new();
    let (image, ctl) = (opened(&mut bench, "image"), opened(&mut bench, "ctl"));
    let (reply, effects) = bench.linux(image, 0, O_WRONLY, 1, [3, 0x1000, 100_000, 0, 0, 0]);
    assert_eq!((reply.result, reply.position), (100_000, Some(100_000)));
    let copies: Vec<_> = effects
        .list
        .iter()
        .filter_map(|effect| match effect {
            Effect::ToArena { address, offset, length, .. } => Some((*address, *offset, *length)),
            _ => None,
        })
        .collect();
    assert_eq!(copies, [(0x1000, 0, 65_536), (0x1000 + 65_536, 65_536, 100_000 - 65_536)]);
    bench.script.memory.insert(0x100, b"upgrade\n".to_vec());
    (bench, image, ctl)
}

fn ask_for_upgrade(bench: &mut Bench, ctl: Badge) -> Effects {
    bench.linux(ctl, 0, O_WRONLY, 1, [3, 0x100, 8, 0, 0, 0]).1
}

fn handed_in(effects: &Effects) -> (CallId, u64) {
    match effects.list[..] {
        [
            Effect::Park { call, .. },
            Effect::Try { operation: Operation::Upgrade { task: Handle(70), length }, tag: UPGRADE_TAG },
        ] => (call, length),
        ref other => panic!("{other:?}"),
    }
}

/// The kernel says that the upgrade is over.
fn over(bench: &mut Bench, verdict: Verdict) -> Effects {
    const VERDICTS: [Figures; 2] = [
        |_, _| Ok([(Verdict::Done as u64) << 8, 0, 0, 0]),
        |_, _| Ok([(Verdict::Schema as u64) << 8, 0, 0, 0]),
    ];
    bench.script.figures = Some(VERDICTS[usize::from(verdict != Verdict::Done)]);
    step(&mut bench.procfs, &Event::Notify { bits: UPGRADED_BIT }, &mut bench.script)
}

fn result(effects: &Effects) -> (CallId, i64) {
    match &effects.list[..] {
        [Effect::ReplyForeign { call, reply }] => (*call, reply.result),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_upgrades_a_server_waits_for_the_end_and_is_told_what_came_of_it() {
    for (verdict, wanted) in [(Verdict::Done, 8), (Verdict::Schema, -i64::from(EOPNOTSUPP))] {
        let (mut bench, _, ctl) = image_written();
        let (call, length) = handed_in(&ask_for_upgrade(&mut bench, ctl));
        assert_eq!(length, 100_000);
        let begun = Event::Done { tag: UPGRADE_TAG, result: Ok(0) };
        assert!(step(&mut bench.procfs, &begun, &mut bench.script).list.is_empty());
        assert_eq!(result(&over(&mut bench, verdict)), (call, wanted));
        // The image is used up: the next upgrade goes back to the one the server booted from.
        assert_eq!(handed_in(&ask_for_upgrade(&mut bench, ctl)).1, 0);
    }
}

#[test]
fn while_a_server_is_upgraded_nobody_changes_the_image_or_upgrades_another() {
    let (mut bench, image, ctl) = image_written();
    handed_in(&ask_for_upgrade(&mut bench, ctl));
    let busy = -i64::from(EBUSY);
    assert_eq!(bench.linux(image, 0, O_WRONLY, 1, [3, 0x1000, 5, 0, 0, 0]).0.result, busy);
    assert_eq!(bench.linux(ctl, 0, O_WRONLY, 1, [3, 0x100, 8, 0, 0, 0]).0.result, busy);
}

#[test]
fn an_upgrade_that_the_kernel_does_not_take_is_an_error_to_who_asked() {
    let (mut bench, _, ctl) = image_written();
    for (error, errno) in [(KernelError::NoRight, EPERM), (KernelError::WrongState, EBUSY)] {
        let (call, _) = handed_in(&ask_for_upgrade(&mut bench, ctl));
        let refused = Event::Done { tag: UPGRADE_TAG, result: Err(error) };
        let effects = step(&mut bench.procfs, &refused, &mut bench.script);
        assert_eq!(result(&effects), (call, -i64::from(errno)));
    }
}

#[test]
fn who_does_not_want_to_wait_for_an_upgrade_goes_and_the_upgrade_goes_on() {
    let (mut bench, _, ctl) = image_written();
    let (call, _) = handed_in(&ask_for_upgrade(&mut bench, ctl));
    let cancelled = step(&mut bench.procfs, &Event::Cancel { call }, &mut bench.script);
    assert_eq!(result(&cancelled), (call, -i64::from(EINTR)));
    assert_eq!(bench.linux(ctl, 0, O_WRONLY, 1, [3, 0x100, 8, 0, 0, 0]).0.result, -i64::from(EBUSY));
    assert!(over(&mut bench, Verdict::Done).list.is_empty());
    handed_in(&ask_for_upgrade(&mut bench, ctl));
}

#[test]
fn an_image_is_written_from_its_beginning_on_and_is_no_larger_than_the_arena() {
    let (mut bench, image, _) = image_written();
    let write = |bench: &mut Bench, position, length| {
        bench.linux(image, position, O_WRONLY, 1, [3, 0x1000, length, 0, 0, 0]).0.result
    };
    assert_eq!(write(&mut bench, 7, 5), -i64::from(EINVAL), "there is a gap, or what is there is changed");
    assert_eq!(write(&mut bench, 100_000, 5), 5);
    assert_eq!(write(&mut bench, 100_005, ARENA_BYTES), -i64::from(EFBIG));
    assert_eq!(write(&mut bench, 0, u64::MAX), -i64::from(EFBIG));
    assert_eq!(bench.linux(image, 0, 0, 1, [3, 0x1000, 5, 0, 0, 0]).0.result, -i64::from(EBADF));
}

#[test]
fn a_used_up_quota_is_an_error_to_the_opener() {
    let mut bench = Bench::new();
    let request = Req {
        from: From::Root(0),
        path: b"uptime".to_vec(),
        barrier: None,
        covers: vec![],
        follow: true,
        credentials: Credentials::default(),
        operation: Ask::Open { flags: 0, mode: 0 },
        program: None,
    };
    let event = Event::Call(bench.script.native(request.message()));
    let effects = step(&mut bench.procfs, &event, &mut bench.script);
    let Some(Effect::Try { tag, .. }) = effects.list.last() else { panic!() };
    let done = Event::Done { tag: *tag, result: Err(KernelError::Quota) };
    let effects = step(&mut bench.procfs, &done, &mut bench.script);
    let [Effect::Reply { message, .. }] = &effects.list[..] else { panic!() };
    assert_eq!(message.decode(), Ok(Answer::Failed(ENFILE)));
    assert!(bench.procfs.opens.is_empty());
}
