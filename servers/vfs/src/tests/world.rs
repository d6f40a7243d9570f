//! The world vfs is tested in: three file servers, a terminal server, a process server, and a program that calls.

use alloc::{borrow::ToOwned, collections::BTreeMap, collections::BTreeSet, vec, vec::Vec};

use libipc::abi::delivery::Named;
use libipc::abi::foreign::{Input, LINUX};
use libipc::abi::{Badge, CallId, Handle};
use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::O_PATH;
use libipc::manifest::{Mount, Session};
use libipc::proto::config::VfsConfig;
use libipc::proto::fs::Wants;
use libipc::proto::{fs, proc_tree, process};
use libipc::server::testing::{Script, boot, step};
use libipc::server::{
    Boot, Call, Caller, Effect, Event, Foreign, ForeignReply, Message, Names, Operation, Request, Server,
};

use super::model::{Content, Model};
use crate::Vfs;

pub const SERVERS: [&str; 5] = ["proc", "procfs", "tmpfs", "tty", "ufs"];

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    Reply(ForeignReply),
    Forwarded(Handle, Message),
    Parked,
}

pub struct World {
    pub vfs: Vfs,
    pub script: Script,
    pub models: BTreeMap<Handle, Model>,
    /// Sessions that vfs was given, and what they stand for.
    pub sessions: BTreeMap<Handle, (u32, Badge, u64)>,
    /// Those of them it still holds.
    pub held: BTreeSet<Handle>,
    pub directories: [Named; 2],
    pub caller: Caller,
    pub log: Vec<Operation>,
    /// Messages to others than file servers.
    pub messages: Vec<(&'static str, Message)>,
    /// What proc answers a Spawn with.
    pub spawn_answer: process::Answer,
    next_handle: u32,
}

pub fn number(name: &str) -> u32 {
    10 + SERVERS.iter().position(|server| *server == name).unwrap() as u32
}

pub fn mount(at: &str, server: &str, source: Option<&str>) -> Mount {
    Mount { at: at.into(), server: server.into(), source: source.map(Into::into), flags: BTreeSet::new() }
}

pub fn session() -> Session {
    Session {
        path: b"/bin/sh".to_vec(),
        argv: vec![b"sh".to_vec()],
        env: vec![b"HOME=/".to_vec()],
        rows: 24,
        cols: 80,
        exit_on_end: true,
    }
}

pub fn block(mounts: Vec<Mount>) -> Boot {
    let config = libipc::manifest::encode(&VfsConfig { mounts, session: session() }).unwrap();
    let numbers = SERVERS.iter().map(|name| ((*name).to_owned(), number(name))).collect();
    Boot { numbers, config, epoch_s: 1000, ..boot("vfs", &SERVERS) }
}

pub fn directory() -> Content {
    Content::Directory(BTreeMap::new(), 0)
}

/// A 64-bit ELF image with one program header, or two when it names a linker (at that offset of the file).
pub fn elf(linker: Option<(&str, usize)>) -> Vec<u8> {
    let mut bytes = vec![0u8; 64 + 2 * 56];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[18] = 62;
    bytes[20] = 1;
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = if linker.is_some() { 2 } else { 1 };
    bytes[64] = 1;
    if let Some((path, at)) = linker {
        bytes[120] = 3;
        bytes[128..136].copy_from_slice(&(at as u64).to_le_bytes());
        bytes[152..160].copy_from_slice(&(path.len() as u64 + 1).to_le_bytes());
        bytes.resize(at.max(bytes.len()), 0);
        bytes.extend(path.as_bytes());
        bytes.push(0);
    }
    bytes
}

impl World {
    /// The files before start: `/` on ufs, `/tmp`, `/dev` on tmpfs, `/proc`.
    pub fn files() -> BTreeMap<Handle, Model> {
        let mut ufs = Model::new(number("ufs"));
        for path in ["bin", "tmp", "dev", "proc", "usr", "usr/lib"] {
            ufs.put(0, path, directory(), 0o755);
        }
        ufs.put(0, "bin/sh", Content::File(elf(None)), 0o755);
        ufs.put(0, "usr/file", Content::File(vec![]), 0o644);
        let mut tmpfs = Model::new(number("tmpfs"));
        tmpfs.put(0, "note", Content::File(vec![]), 0o644);
        tmpfs.put(1, "null", Content::Special(mode::S_IFCHR, 1 << 8 | 3), 0o666);
        tmpfs.put(1, "tty", Content::Special(mode::S_IFCHR, 5 << 8), 0o666);
        tmpfs.put(1, "disk", Content::Special(mode::S_IFBLK, 8 << 8), 0o660);
        tmpfs.put(1, "pipe", Content::Special(mode::S_IFIFO, 0), 0o666);
        let mut procfs = Model::new(number("procfs"));
        procfs.put(0, "self", Content::Link(b"7".to_vec()), 0o777);
        procfs.put(0, "7", directory(), 0o555);
        [ufs, tmpfs, procfs].into_iter().map(|model| (Handle(model.number - 10), model)).collect()
    }

    /// A world with nothing started.
    pub fn unstarted(mounts: Vec<Mount>) -> World {
        World {
            vfs: Vfs::new(&block(mounts)),
            script: Script::default(),
            models: World::files(),
            sessions: BTreeMap::new(),
            held: BTreeSet::new(),
            directories: [Named::default(); 2],
            caller: Caller { pid: 7, tid: 8, pgid: 6, sid: 5, umask: 0o022, ..Caller::default() },
            log: vec![],
            messages: vec![],
            spawn_answer: process::Answer::Spawned(1),
            next_handle: 1000,
        }
    }

    /// A world in which the first program runs.
    pub fn new() -> World {
        let mut world = World::unstarted(vec![
            mount("/", "ufs", Some("disk0")),
            mount("/tmp", "tmpfs", None),
            mount("/dev", "tmpfs", None),
            mount("/proc", "procfs", None),
        ]);
        world.run(&Event::Start);
        assert_eq!(world.log, [], "the world starts");
        let (_, spawn) =
            world.messages.iter().find(|(_, message)| message.label == process::REQUEST).unwrap();
        let root = world.named(spawn.handles[2]);
        world.directories = [root, root];
        world.messages.clear();
        world
    }

    pub fn model(&mut self, name: &str) -> &mut Model {
        self.models.get_mut(&Handle(number(name) - 10)).unwrap()
    }

    pub fn named(&self, handle: Handle) -> Named {
        let (server, badge, node) = self.sessions[&handle];
        Named { server: u64::from(server), badge: badge.0, object: node | 1 << 32 }
    }

    /// Lets vfs take an event and all the answers that follow from it; gives the effects that are not questions.
    pub fn run(&mut self, event: &Event) -> Vec<Effect> {
        let mut events = vec![event.clone()];
        let mut left = vec![];
        while let Some(event) = events.pop() {
            let effects = step(&mut self.vfs, &event, &mut self.script);
            assert!(!effects.again);
            for effect in effects.list {
                match effect {
                    Effect::Send { to, tag, message } => {
                        let answer = Ok(self.serve(to, &message));
                        events.insert(0, Event::Answer { tag, answer });
                    }
                    Effect::Forward { call, to, message } if message.label == fs::REQUEST => {
                        match self.serve_program(call, to, &message) {
                            Ok(answer) => left.push(answer),
                            Err(back) => {
                                let call = Call { id: call, ..self.script.native(back) };
                                let call = Call { caller: self.caller, ..call };
                                events.insert(0, Event::Call(call));
                            }
                        }
                    }
                    Effect::Do(Operation::Close { handle }) => {
                        assert!(self.held.remove(&handle), "{handle:?} is closed twice, or was never held");
                    }
                    Effect::Do(operation @ (Operation::Log { .. } | Operation::PowerOff { .. })) => {
                        self.log.push(operation);
                    }
                    other => left.push(other),
                }
            }
        }
        left
    }

    fn session(&mut self, server: u32, badge: Badge, node: u64) -> Handle {
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        self.sessions.insert(handle, (server, badge, node));
        self.held.insert(handle);
        handle
    }

    fn serve(&mut self, to: Handle, message: &Message) -> Message {
        if let Some((server, _, node)) = self.sessions.get(&to) {
            assert_eq!(message.label, fs::READ_AT);
            let model = &self.models[&Handle(server - 10)];
            let Content::File(data) = &model.nodes[node].content else {
                return Message::label(EISDIR as u32);
            };
            let [start, length] = [message.words[0] as usize, message.words[1] as usize];
            let end = data.len().min(start + length);
            let payload = data.get(start..end).unwrap_or_default().to_vec();
            return Message { words: [node | 1 << 32, 0, 0, 0], payload, ..Message::default() };
        }
        let name = SERVERS[to.0 as usize];
        let model_answers = matches!(message.label, fs::REQUEST | fs::SYNC | fs::MOUNT | fs::UNMOUNT);
        if !model_answers || !self.models.contains_key(&to) {
            self.messages.push((name, message.clone()));
        }
        match (message.label, self.models.contains_key(&to)) {
            (fs::REQUEST, true) => self.serve_request(to, message),
            (fs::MOUNT, true) => {
                self.models.get_mut(&to).unwrap().read_only.push(message.words[0] as u32);
                Message::default()
            }
            (fs::OPEN_DEVICE, _) => {
                let badge = Badge(self.next_handle.into());
                let handle = self.session(to.0 + 10, badge, message.words[0]);
                Message::default().with_handles(&[handle])
            }
            (process::REQUEST, _) if name == "proc" => Message::typed(0, &self.spawn_answer),
            (proc_tree::SET_MOUNTS | fs::UNMOUNT | fs::SYNC, _) => Message::default(),
            _ => Message::label(EINVAL as u32),
        }
    }

    fn serve_request(&mut self, to: Handle, message: &Message) -> Message {
        let model = self.models.get_mut(&to).unwrap();
        let (answer, opened) = model.serve(&fs::Request::from_message(message).unwrap());
        let mut reply = Message::typed(0, &answer);
        if let Some(node) = opened {
            let badge = Badge(u64::from(self.next_handle));
            model.sessions.insert(badge, node);
            reply.handles = vec![self.session(to.0 + 10, badge, node)];
        }
        reply
    }

    /// A program that was handed on: how the file server answers it, or the message with which it comes back.
    fn serve_program(&mut self, call: CallId, to: Handle, message: &Message) -> Result<Effect, Message> {
        let request = fs::Request::from_message(message).unwrap();
        let program = request.program.as_ref().expect("a program waits");
        let model = self.models.get_mut(&to).unwrap();
        let (answer, opened) = model.serve(&request);
        let (answer, opened) = match (&answer, &request.operation) {
            (fs::Answer::Found(fs::Found::Opened { stat, .. }), fs::Operation::Open { flags, .. })
                if stat.is(mode::S_IFLNK) && flags & O_PATH == 0 =>
            {
                (fs::Answer::Failed(ELOOP), None)
            }
            _ => (answer, opened),
        };
        if let Some(node) = opened {
            let badge = Badge(u64::from(self.next_handle));
            model.sessions.insert(badge, node);
            let handle = self.session(to.0 + 10, badge, node);
            // It is the program's, not vfs's.
            self.held.remove(&handle);
            let Wants::Descriptor(slot) = program.wants else { panic!("{program:?}") };
            let close_on_exec = request.closes_on_exec();
            let install = vec![handle];
            let reply =
                ForeignReply { result: slot.into(), install, close_on_exec, ..ForeignReply::default() };
            return Ok(Effect::ReplyForeign { call, reply });
        }
        match program.answer(&answer) {
            Some(reply) => Ok(Effect::ReplyForeign { call, reply }),
            None => Err(request.handed_back(&answer)),
        }
    }

    /// Makes a Linux call; `texts` are its string inputs in order, as the table says they are gathered.
    pub fn call(&mut self, number: u32, arguments: [u64; 6], texts: &[&str]) -> End {
        let inputs: Vec<_> = texts.iter().map(|text| Some(text.as_bytes().to_vec())).collect();
        self.call_with(number, arguments, inputs, [Named::default(); 2])
    }

    pub fn call_with(
        &mut self,
        number: u32,
        arguments: [u64; 6],
        inputs: Vec<Option<Vec<u8>>>,
        named: [Named; 2],
    ) -> End {
        let row = &LINUX[number as usize];
        let taken = row.inputs.iter().filter(|input| !matches!(input, Input::None)).count();
        assert!(inputs.len() <= taken, "{} takes {taken} inputs", row.name);
        let mut given: [Option<Vec<u8>>; 2] = [None, None];
        given.iter_mut().zip(inputs).for_each(|(slot, input)| *slot = input);
        let foreign = Foreign {
            number,
            arguments,
            inputs: given,
            names: Some(Box::new(Names { named, directories: self.directories })),
            slots: [3, 0],
            passed: None,
        };
        let call = self.script.call(self.caller, 0, Request::Foreign(foreign));
        let id = call.id;
        let effects = self.run(&Event::Call(call));
        assert_eq!(self.held, BTreeSet::new(), "vfs keeps sessions");
        let ends: Vec<End> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::ReplyForeign { call, reply } if call == id => Some(End::Reply(reply)),
                Effect::Forward { call, to, message } if call == id => Some(End::Forwarded(to, message)),
                _ => None,
            })
            .collect();
        assert!(ends.len() <= 1, "a call is answered once: {ends:?}");
        ends.into_iter().next().unwrap_or(End::Parked)
    }

    /// The result register of a call.
    pub fn result(&mut self, number: u32, arguments: [u64; 6], texts: &[&str]) -> i64 {
        match self.call(number, arguments, texts) {
            End::Reply(reply) => reply.result,
            other => panic!("{other:?}"),
        }
    }

    /// stat(2) or lstat(2): server and inode number, or minus errno.
    pub fn look(&mut self, path: &str, follow: bool) -> Result<(u32, u64), i32> {
        match self.call(if follow { 4 } else { 6 }, [0, 0x1000, 0, 0, 0, 0], &[path]) {
            End::Reply(reply) if reply.result == 0 => {
                let word =
                    |at: usize| u64::from_le_bytes(reply.outputs[0].bytes[at..at + 8].try_into().unwrap());
                Ok(((word(0) >> 20) as u32, word(8)))
            }
            End::Reply(reply) => Err(-reply.result as i32),
            other => panic!("{other:?}"),
        }
    }

    /// chdir(2) or chroot(2) for the program.
    pub fn stand(&mut self, number: u32, path: &str) -> i64 {
        match self.call(number, [0; 6], &[path]) {
            End::Reply(reply) => {
                if let [handle] = reply.install[..] {
                    let which = if number == 161 { 1 } else { 0 };
                    assert_eq!(usize::from(reply.directory), which + 1);
                    self.directories[which] = self.named(handle);
                }
                reply.result
            }
            other => panic!("{other:?}"),
        }
    }

    /// getcwd(2).
    pub fn cwd(&mut self) -> Result<Vec<u8>, i32> {
        match self.call(79, [0x1000, 300, 0, 0, 0, 0], &[]) {
            End::Reply(reply) if reply.result > 0 => {
                let mut path = reply.outputs[0].bytes.clone();
                assert_eq!((path.pop(), path.len() as i64 + 1), (Some(0), reply.result));
                Ok(path)
            }
            End::Reply(reply) => Err(-reply.result as i32),
            other => panic!("{other:?}"),
        }
    }
}
