//! Traces that no machine has made: for tests, and to see how the forms bear many messages.
//!
//! They tell of a shell that starts programs, which open, read and write files, one after the other. Servers die now
//! and then. What is told follows from the number of rounds alone.

use libipc::abi::delivery::{FaultKind, Kind};
use libipc::abi::journal::Header;
use libipc::abi::syscall::Info;
use libipc::abi::syscall::Syscall;
use libipc::abi::trace::{Event, Names, To, Who, file_header};
use libipc::proto::{block, fs};

/// The servers, by number from 1 on.
pub const SERVERS: [&str; 7] = ["root", "vm", "blk", "tty", "ufs", "proc", "vfs"];

const VM: u32 = 2;
const BLK: u32 = 3;
const TTY: u32 = 4;
const UFS: u32 = 5;
const PROC: u32 = 6;
const VFS: u32 = 7;

/// The shell's process.
const SHELL: u32 = 10;

/// Writes records.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    now: u64,
    next: u64,
    /// Whence times differ.
    state: u64,
}

/// A record about to be written.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u16,
    /// The error.
    pub error: u8,
    /// Who acts.
    pub who: Who,
    /// About which call.
    pub call: u64,
    /// Because of which.
    pub cause: u64,
    /// As many as its number has, the others being zero.
    pub arguments: &'a [u64],
    /// Its values.
    pub values: &'a [u64],
    /// Its payload.
    pub payload: &'a [u8],
}

impl Entry<'_> {
    /// A record of an event.
    pub fn event(event: Event, who: Who) -> Entry<'static> {
        Entry {
            number: event as u16,
            error: 0,
            who,
            call: 0,
            cause: 0,
            arguments: &[],
            values: &[],
            payload: &[],
        }
    }

    /// A record of a server's call, made while it serves another.
    pub fn native(call: Syscall, server: u32, cause: u64) -> Entry<'static> {
        Entry { number: call as u16, cause, ..Entry::event(Event::Pad, Who::Server(server)) }
    }
}

impl Default for Writer {
    fn default() -> Writer {
        let header = file_header(&Names::new(SERVERS), "naiad, made up", 256 << 20);
        Writer { bytes: header, now: 1_000_000, next: 0, state: 1 }
    }
}

impl Writer {
    /// The name of a new call.
    pub fn id(&mut self) -> u64 {
        self.next += 1;
        self.next << 32 | self.next & 0xff
    }

    /// Adds a record, a little later than the one before.
    pub fn add(&mut self, entry: Entry<'_>) {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.now += 100 + (self.state >> 54);
        let count = libipc::abi::trace::arguments(entry.number).unwrap_or(0);
        let header = Header {
            number: entry.number,
            error: entry.error,
            values: entry.values.len() as u8,
            payload: entry.payload.len() as u32,
        };
        let mut words = vec![header.pack(), self.now, entry.who.to_word(), entry.call, entry.cause];
        words.extend((0..count).map(|index| entry.arguments.get(index).copied().unwrap_or(0)));
        words.extend_from_slice(entry.values);
        self.bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
        self.bytes.extend_from_slice(entry.payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Lets time go by.
    pub fn wait(&mut self, ns: u64) {
        self.now += ns;
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// A program's call that goes to a server at once, or (0) to nobody.
    fn linux(&mut self, pid: u32, name: &str, server: u32, arguments: &[u64], payload: &[u8]) -> u64 {
        let number = u64::from(crate::linux::number(name).unwrap_or(0));
        let to = if server == 0 { 0 } else { To::AT_ONCE | u64::from(server) };
        let call = if server == 0 { 0 } else { self.id() };
        let mut words = vec![number | to << 32];
        words.extend_from_slice(arguments);
        let who = Who::Program { pid, tid: pid };
        let values: &[u64] = if server == 0 { &[arguments[0]] } else { &[] };
        self.add(Entry { call, arguments: &words, values, payload, ..Entry::event(Event::Linux, who) });
        call
    }

    /// What the kernel gathered reaches the server.
    fn deliver(&mut self, server: u32, call: u64, text: &[u8]) {
        let arguments = [Kind::Foreign as u64, 0, 0, 0, text.len() as u64];
        let who = Who::Server(server);
        self.add(Entry {
            call,
            cause: call,
            arguments: &arguments,
            payload: text,
            ..Entry::event(Event::Delivered, who)
        });
    }

    fn answer(&mut self, server: u32, call: u64, result: i64) {
        let arguments = [call, 0, result as u64];
        self.add(Entry { call, arguments: &arguments, ..Entry::native(Syscall::ReplyForeign, server, call) });
    }

    /// A server asks another and has its answer.
    fn ask(&mut self, from: (u32, u64), to: u32, label: u32, words: [u64; 4], error: u32) {
        let (server, cause) = from;
        let call = self.id();
        let info = Info { label, ..Info::default() }.pack();
        let arguments = [1, info, words[0], words[1], words[2], words[3]];
        let values = [To::AT_ONCE | u64::from(to)];
        self.add(Entry {
            call,
            arguments: &arguments,
            values: &values,
            ..Entry::native(Syscall::Send, server, cause)
        });
        let bits = [u64::from(to), 1];
        self.wait(2_000);
        self.add(Entry { arguments: &bits, ..Entry::event(Event::Notified, Who::Kernel) });
        let info = Info { label: error, payload_len: 4096, handles: 0 }.pack();
        let arguments = [call, info];
        self.add(Entry {
            call,
            arguments: &arguments,
            payload: &[7; 128],
            ..Entry::native(Syscall::Reply, to, call)
        });
        let arguments = [Kind::Answer as u64, 1];
        self.add(Entry {
            call,
            cause,
            arguments: &arguments,
            ..Entry::event(Event::Delivered, Who::Server(server))
        });
    }

    fn open(&mut self, pid: u32, path: &str, result: i64) {
        let call = self.linux(pid, "openat", VFS, &[-100i64 as u64, 0x7fff_0000, 0o2000000], &[]);
        self.deliver(VFS, call, path.as_bytes());
        let request = fs::Request {
            from: fs::From::Root(0),
            path: path.trim_start_matches('/').as_bytes().to_vec(),
            barrier: None,
            covers: vec![],
            follow: true,
            credentials: fs::Credentials::default(),
            operation: fs::Operation::Open { flags: 0o2000000, mode: 0 },
            program: None,
        };
        let payload = request.message().payload;
        let info = Info { label: fs::REQUEST, payload_len: payload.len() as u32, handles: 0 }.pack();
        let kept = &payload[..payload.len().min(128)];
        let arguments = [call, 5, info, u64::from(pid), u64::from(pid)];
        let values = [To::AT_ONCE | u64::from(UFS)];
        let forward = Entry::native(Syscall::Forward, VFS, call);
        self.add(Entry { call, arguments: &arguments, values: &values, payload: kept, ..forward });
        self.ask((UFS, call), BLK, block::READ, [0, 128, 8, 0], 0);
        if result >= 0 {
            self.add(Entry { call, arguments: &[call], ..Entry::native(Syscall::ReplyOpen, UFS, call) });
            let arguments = [result as u64];
            self.add(Entry {
                call,
                cause: call,
                arguments: &arguments,
                ..Entry::event(Event::Result, Who::Server(UFS))
            });
        } else {
            self.answer(UFS, call, result);
        }
    }

    fn read(&mut self, pid: u32, bytes: u64) {
        let call = self.linux(pid, "read", UFS, &[3, 0x5000, bytes], &[]);
        let fault = self.id();
        let to = To::AT_ONCE | u64::from(VM);
        let arguments = [FaultKind::Page as u64, 0x5000, 2, 0, to];
        let who = Who::Program { pid, tid: pid };
        self.add(Entry {
            call: fault,
            cause: call,
            arguments: &arguments,
            ..Entry::event(Event::Fault, who)
        });
        self.add(Entry { arguments: &[9, 1], ..Entry::native(Syscall::FrameZero, VM, fault) });
        self.add(Entry { call: fault, arguments: &[fault], ..Entry::native(Syscall::Reply, VM, fault) });
        let arguments = [call, 0x5000, 0x9000, bytes];
        self.add(Entry { call, arguments: &arguments, ..Entry::native(Syscall::LeaseWrite, UFS, call) });
        self.answer(UFS, call, bytes as i64);
    }

    /// A server dies of what it was doing, and what it held goes to its next incarnation.
    fn crash(&mut self, pid: u32, incarnation: u64) {
        let call = self.linux(pid, "fstat", UFS, &[3, 0x6000], &[]);
        let server = u64::from(UFS);
        let arguments = [server, 2, 6, 0x40_1000, incarnation];
        self.add(Entry { arguments: &arguments, ..Entry::event(Event::ServerDied, Who::Kernel) });
        self.wait(50_000);
        let arguments = [server, incarnation + 1];
        self.add(Entry { arguments: &arguments, ..Entry::event(Event::ServerStarted, Who::Kernel) });
        self.add(Entry { arguments: &arguments, ..Entry::event(Event::ServerLive, Who::Kernel) });
        self.add(Entry { call, arguments: &[server], ..Entry::event(Event::Redelivered, Who::Kernel) });
        self.answer(UFS, call, 0);
    }

    /// The shell starts a program and waits for it; inside, the program does its rounds.
    fn program(&mut self, pid: u32, path: &str, rounds: core::ops::Range<u32>) {
        let shell = Who::Program { pid: SHELL, tid: SHELL };
        let fork = self.linux(SHELL, "fork", PROC, &[], &[]);
        let arguments = [u64::from(pid), u64::from(pid)];
        self.add(Entry {
            cause: fork,
            arguments: &arguments,
            ..Entry::event(Event::ThreadMade, Who::Server(PROC))
        });
        self.answer(PROC, fork, pid.into());
        let wait = self.linux(SHELL, "wait4", PROC, &[u64::MAX, 0x7000, 0, 0], &[]);
        let exec = self.linux(pid, "execve", VFS, &[0x8000, 0x8100, 0x8200], &[]);
        self.deliver(VFS, exec, path.as_bytes());
        self.add(Entry {
            cause: exec,
            arguments: &[pid.into()],
            ..Entry::event(Event::Exec, Who::Server(PROC))
        });
        self.answer(VFS, exec, 0);
        for round in rounds {
            self.open(pid, "/etc/services", 3);
            self.read(pid, 4096);
            self.linux(pid, "getpid", 0, &[pid.into()], &[]);
            self.open(pid, &format!("/etc/missing{}", round % 10), -2);
            let write = self.linux(pid, "write", TTY, &[1, 0x4000, 6], b"hello\n");
            if round % 50 == 7 {
                self.wait(300_000);
            }
            self.answer(TTY, write, 6);
            if round % 500 == 20 {
                self.crash(pid, u64::from(round / 500));
            }
            self.linux(pid, "close", 0, &[0], &[]);
        }
        self.linux(pid, "exit_group", PROC, &[0], &[]);
        let arguments = [u64::from(pid), u64::from(pid), 1_000];
        self.add(Entry { arguments: &arguments, ..Entry::event(Event::ThreadEnded, Who::Server(PROC)) });
        self.add(Entry { arguments: &[pid.into()], ..Entry::event(Event::ProcessEnded, Who::Server(PROC)) });
        self.answer(PROC, wait, pid.into());
        let ended = self.linux(SHELL, "rt_sigaction", PROC, &[17, 0, 0, 8], &[]);
        self.add(Entry { call: ended, cause: ended, arguments: &[0], ..Entry::event(Event::Result, shell) });
    }
}

/// A trace of so many rounds; each is about twenty records.
pub fn trace(rounds: u32) -> Vec<u8> {
    const ROUNDS: u32 = 100;
    let mut writer = Writer::default();
    writer.add(Entry::event(Event::Filter, Who::Kernel));
    for (number, first) in (0..rounds).step_by(ROUNDS as usize).enumerate() {
        let path = ["/bin/ls", "/usr/bin/wc"][number % 2];
        writer.program(SHELL + 1 + number as u32, path, first..rounds.min(first + ROUNDS));
    }
    // The shell waits for what is typed next.
    writer.linux(SHELL, "poll", VFS, &[0x7fff_0000, 1, u64::MAX], &[]);
    writer.finish()
}
