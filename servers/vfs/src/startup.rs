//! The start of the system: the manifest's mounts in their order, then the first program with its terminal.
//!
//! What goes wrong here goes wrong for good: it is said in plain words on the log, and the machine ends with status
//! 127, as a shell does when it cannot find a program.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use libipc::abi::Handle;
use libipc::linux::Stat;
use libipc::linux::errno::*;
use libipc::linux::open::{O_DIRECTORY, O_PATH, O_RDWR};
use libipc::manifest::{Mount as MountEntry, MountFlag};
use libipc::proto::fs::Operation as FsOperation;
use libipc::proto::process;
use libipc::server::{Caller, Effects, Message, Operation};

use crate::Vfs;
use crate::row::{Expects, Outcome, Purpose, Row, Spawn, Target};
use crate::settle::open_device_message;
use crate::walk::{Aim, Walk};
use crate::who::{Place, Who};

/// What the machine ends with when it cannot be started.
const STATUS: u32 = 127;
/// The device number of `/dev/ttyS0`.
const SERIAL: u64 = 4 << 8 | 64;
/// Its path, from the root.
const SERIAL_PATH: &[u8] = b"dev/ttyS0";
/// The first program's process id, which is also its group's and its session's: proc's own init is 1.
const FIRST_PROGRAM: u32 = 2;

impl Vfs {
    /// Begins with the first mount.
    pub(crate) fn start(&mut self) -> Effects {
        if self.config.as_ref().is_none_or(|config| config.mounts.is_empty()) {
            return give_up("the manifest names no mounts or cannot be read");
        }
        self.next_at_start()
    }

    /// The next mount, or the first program when all are there.
    pub(crate) fn next_at_start(&mut self) -> Effects {
        let Some(config) = self.config.clone() else { return Effects::none() };
        match (config.mounts.get(self.mounts.show().len()), self.mounts.namespace()) {
            (Some(entry), _) => self.mount_at_start(entry),
            (None, None) => Effects::none(),
            (None, Some(namespace)) => {
                let who = Who::system(namespace.place());
                let mut effects = self.tell_mounts();
                effects.append(self.exec_first(who, &config.session.path));
                effects
            }
        }
    }

    fn mount_at_start(&mut self, entry: &MountEntry) -> Effects {
        // Until there is a namespace, nothing is walked to.
        let root = self.mounts.namespace().map_or(Place::volume(0, 0), |mount| mount.place());
        let who = Who::system(root);
        let target = Target { at: root, path: entry.at.trim_start_matches('/').as_bytes().to_vec() };
        let kind =
            crate::KINDS.iter().find(|(_, server)| *server == entry.server).map_or("", |(kind, _)| *kind);
        let source = entry.source.as_deref().unwrap_or(kind).as_bytes();
        let read_only = entry.flags.contains(&MountFlag::Ro);
        match self.mounting(kind, source, target, read_only) {
            Ok(mut mounting) => {
                mounting.at = Some(entry.at.clone().into_bytes());
                let walk = Walk::new(root, b"", true, Aim::Do(FsOperation::Stat));
                let row = Row { call: None, who, walk, expects: Expects::Found, purpose: Purpose::Nothing };
                self.mount_begin(row, mounting)
            }
            Err(errno) => give_up(&cannot_mount(source, entry.at.as_bytes(), errno)),
        }
    }

    /// The program is found: opens the directory it starts in.
    pub(crate) fn spawn_open(&mut self, mut row: Row, spawn: Spawn) -> Effects {
        let operation = FsOperation::Open { flags: O_PATH | O_DIRECTORY, mode: 0 };
        row.walk = Walk::new(row.who.root.place, b"", true, Aim::Do(operation));
        row.purpose = Purpose::Spawn(Box::new(spawn));
        self.advance(row)
    }

    /// The node of the console is found, or there is none: opens the console, whose files are that node's.
    pub(crate) fn spawn_terminal(&mut self, mut row: Row, node: Option<Stat>) -> Effects {
        let Some(tty) = self.server("tty") else { return self.fail(row, ENXIO) };
        row.expects = Expects::Session;
        let node = node.filter(|node| node.rdev == SERIAL);
        let node = node.unwrap_or_else(|| Stat { rdev: SERIAL, ..Stat::default() });
        // Opened in the first program's name, so that it becomes the controlling terminal of its session.
        let leader =
            Caller { pid: FIRST_PROGRAM, pgid: FIRST_PROGRAM, sid: FIRST_PROGRAM, ..Caller::default() };
        self.send(row, tty, open_device_message(&node, O_RDWR, &leader))
    }

    /// Looks for the console, then hands all to proc.
    pub(crate) fn spawn_step(&mut self, mut row: Row, mut spawn: Spawn, handle: Handle) -> Effects {
        spawn.handles.push(handle);
        if row.expects == Expects::Found {
            row.purpose = Purpose::Spawn(Box::new(spawn));
            row.walk = Walk::new(row.who.root.place, SERIAL_PATH, true, Aim::Do(FsOperation::Stat));
            return self.advance(row);
        }
        let (Some(config), Some(proc)) = (self.config.clone(), self.server("proc")) else {
            return self.fail(row, ENXIO);
        };
        let session = config.session;
        let request = process::Request::Spawn {
            exec: spawn.exec,
            argv: session.argv,
            env: session.env,
            exit_on_end: session.exit_on_end,
        };
        let message = Message::typed(process::REQUEST, &request).with_handles(&spawn.handles);
        row.expects = Expects::Bytes;
        row.purpose = Purpose::Spawned;
        let mut effects = self.send(row, proc, message);
        let mut closed: Vec<Handle> = Vec::new();
        for handle in spawn.handles {
            // The program stands for its linker when it has none.
            if !closed.contains(&handle) {
                effects.act(Operation::Close { handle });
                closed.push(handle);
            }
        }
        effects
    }

    /// proc has started the program, or says why not.
    pub(crate) fn spawned(&mut self, row: Row, outcome: &Outcome) -> Effects {
        let Outcome::Bytes(_, answer) = outcome else { return self.fail(row, EIO) };
        match postcard::from_bytes(answer) {
            Ok(process::Answer::Spawned(_)) => Effects::none(),
            Ok(process::Answer::Failed(errno)) => self.fail(row, errno),
            _ => self.fail(row, EIO),
        }
    }

    /// Ends the machine because something vfs does at start has failed.
    pub(crate) fn start_failed(&self, row: &Row, errno: i32) -> Effects {
        let session = self.config.as_ref().map(|config| lossy(&config.session.path)).unwrap_or_default();
        give_up(&match &row.purpose {
            Purpose::Mount(mounting) => {
                cannot_mount(&mounting.source, mounting.at.as_deref().unwrap_or(b"/"), errno)
            }
            Purpose::Exec(_) => format!("cannot start {session}: {}", words(errno)),
            Purpose::Spawn(_) => {
                format!("cannot open the root directory and the console for {session}: {}", words(errno))
            }
            _ => format!("the process server cannot start {session}: {}", words(errno)),
        })
    }
}

fn cannot_mount(source: &[u8], at: &[u8], errno: i32) -> String {
    format!("cannot mount {} at {}: {}", lossy(source), lossy(at), words(errno))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn give_up(reason: &str) -> Effects {
    let mut effects = Effects::none();
    effects.act(Operation::Log { text: format!("vfs: {reason}\n").into_bytes() });
    effects.act(Operation::PowerOff { status: STATUS, reboot: false });
    effects
}

/// What can go wrong at start, in words.
fn words(errno: i32) -> String {
    let text = match errno {
        EPERM => "not permitted",
        ENOENT => "no such file or directory",
        EIO => "the device or its server failed",
        ENXIO => "no such device",
        ENOEXEC => "not a program for this machine",
        ENOMEM => "not enough memory",
        EACCES => "permission denied; it may not be executable",
        ENOTBLK => "the source is not a disk (disk0, disk1 …)",
        EBUSY => "it is mounted already",
        ENODEV => "no server has file systems of this kind",
        ENOTDIR => "not a directory",
        EINVAL => "the volume is not of this kind, or cannot be used so",
        EROFS => "the file system is read-only",
        ELOOP => "too many symbolic links or interpreters",
        E2BIG => "arguments and environment are too long",
        _ => return format!("error {errno}"),
    };
    text.into()
}
