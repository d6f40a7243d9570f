//! A kernel, file servers and a process server for testing vm: it carries out every effect, refuses what the real
//! kernel would refuse, and checks that vm's picture of spaces, frames and handles is the true one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use libipc::abi::delivery::{FaultKind, Named};
use libipc::abi::{Badge, CallId, Frame, Handle, KernelError, Protection};
use libipc::linux::open::S_MAPPABLE;
use libipc::proto::fs::PAGE_IN;
use libipc::proto::space::{Answer, REQUEST, Request as Ask, SIGNAL};
use libipc::server::testing::{Script, boot, step};
use libipc::server::{Caller, Effect, Effects, Event, Foreign, Message, Names, Operation, Request, Server};

use crate::Vm;

pub const PAGE: u64 = 4096;
/// The server number of the test's file server.
pub const FILES: u64 = 7;
const FIRST_FRAME: u32 = 256;
const PROC: Handle = Handle(0);

/// A space as the kernel has it.
#[derive(Default)]
struct KernelSpace {
    badge: u64,
    root: Frame,
    tables: BTreeMap<(u8, u64), Frame>,
    pages: BTreeMap<u64, (Frame, Protection)>,
}

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Native(Message),
    Linux(i64),
    Forwarded(Handle, Message),
}

/// What came of an access: the frame, or a signal and its code.
pub type Access = Result<Frame, (u64, i32)>;

pub struct Machine {
    pub vm: Vm,
    pub script: Script,
    total: u32,
    contents: BTreeMap<Frame, Vec<u8>>,
    spaces: BTreeMap<Handle, KernelSpace>,
    sessions: BTreeMap<Handle, (u64, u64)>,
    replies: BTreeMap<CallId, Reply>,
    copied: BTreeMap<CallId, Vec<u8>>,
    /// Files by object number: their lengths in bytes.
    pub files: BTreeMap<u64, u64>,
    /// Pages that the file server has been asked for.
    pub fetched: Vec<u64>,
    /// How many spaces may still be made.
    pub space_quota: u32,
    /// The status flags of the files that programs map.
    pub status: u32,
    /// Operations carried out, by what they were.
    pub operations: BTreeMap<&'static str, u64>,
    /// The most effects that one step had.
    pub longest: usize,
}

/// The byte of a test file at an offset; never 0.
pub fn file_byte(object: u64, offset: u64) -> u8 {
    ((object * 37 + offset / PAGE * 11 + offset % 97) % 255 + 1) as u8
}

impl Machine {
    pub fn new(frames: u32, vdso: &[u8]) -> Machine {
        let mut boot = boot("vm", &["proc"]);
        boot.frames = vec![(Frame(FIRST_FRAME), frames)];
        boot.config = vdso.to_vec();
        boot.counter = (0x77, 1 << 32);
        let mut machine = Machine {
            vm: Vm::new(&boot),
            script: Script::default(),
            total: frames,
            contents: BTreeMap::new(),
            spaces: BTreeMap::new(),
            sessions: BTreeMap::new(),
            replies: BTreeMap::new(),
            copied: BTreeMap::new(),
            files: BTreeMap::new(),
            fetched: Vec::new(),
            space_quota: u32::MAX,
            status: S_MAPPABLE,
            operations: BTreeMap::new(),
            longest: 0,
        };
        machine.run(&Event::Start);
        machine
    }

    pub fn free(&self) -> u32 {
        self.vm.memory.frames.free()
    }

    pub fn count(&self, operation: &str) -> u64 {
        self.operations.get(operation).copied().unwrap_or(0)
    }

    /// A frame of a file server's arena.
    pub fn lend(&mut self, number: u32) -> Frame {
        let frame = Frame(number);
        assert!(frame.0 < FIRST_FRAME);
        self.contents.insert(frame, vec![0; PAGE as usize]);
        frame
    }

    /// A counted holder of a session of a file, as the kernel would put it into vm's hands.
    pub fn session(&mut self, object: u64) -> Handle {
        use libipc::server::Env;
        let handle = self.script.new_handle();
        self.sessions.insert(handle, (FILES, object));
        handle
    }

    fn run(&mut self, event: &Event) {
        let effects: Effects = step(&mut self.vm, event, &mut self.script);
        assert!(!effects.again, "vm reads no memory of callers");
        self.longest = self.longest.max(effects.list.len());
        let mut done = Vec::new();
        for effect in effects.list {
            match effect {
                Effect::Reply { call, message } => self.reply(call, Reply::Native(message)),
                Effect::ReplyForeign { call, reply } => self.reply(call, Reply::Linux(reply.result)),
                Effect::Forward { call, to, message } => self.reply(call, Reply::Forwarded(to, message)),
                Effect::Park { .. } => {}
                Effect::CopyOut { call, bytes, .. } => self.copied.entry(call).or_default().extend(bytes),
                Effect::Do(operation) => self.carry_out(operation).expect("an operation that cannot fail"),
                Effect::Try { tag, operation } => {
                    let result = self.carry_out(operation).map(|()| 0);
                    done.push(Event::Done { tag, result });
                }
                other => panic!("vm has no use for {other:?}"),
            }
        }
        for event in done {
            self.run(&event);
        }
    }

    fn reply(&mut self, call: CallId, reply: Reply) {
        assert!(self.replies.insert(call, reply).is_none(), "answered twice");
    }

    /// A frame that is written is idle; only a tracer's words go to pages that are shown.
    fn writable(&self, frame: Frame, bytes: &[u8]) -> Result<(), KernelError> {
        if bytes.len() <= 8 { Ok(()) } else { self.idle(frame) }
    }

    fn carry_out(&mut self, operation: Operation) -> Result<(), KernelError> {
        let name = match &operation {
            Operation::SpaceCreate { .. } => "create",
            Operation::SpaceDestroy { .. } => "destroy",
            Operation::Map { .. } => "map",
            Operation::Unmap { .. } => "unmap",
            Operation::Protect { .. } => "protect",
            Operation::FrameZero { .. } => "zero",
            Operation::FrameCopy { .. } => "copy",
            Operation::FrameWrite { .. } => "write",
            Operation::Close { .. } => "close",
            Operation::Log { .. } => "log",
            other => panic!("vm has no use for {other:?}"),
        };
        *self.operations.entry(name).or_default() += 1;
        match operation {
            Operation::SpaceCreate { into, badge, frame } => {
                if self.space_quota == 0 {
                    return Err(KernelError::Quota);
                }
                self.space_quota -= 1;
                self.idle(frame)?;
                let space = KernelSpace { badge: badge.0, root: frame, ..KernelSpace::default() };
                assert!(self.spaces.insert(into, space).is_none(), "the slot is in use");
            }
            Operation::SpaceDestroy { space } => {
                let space = self.spaces.get_mut(&space).ok_or(KernelError::BadHandle)?;
                *space = KernelSpace { badge: u64::MAX, ..KernelSpace::default() };
            }
            Operation::Close { handle } => {
                let closed = self.sessions.remove(&handle).is_some()
                    || self.spaces.remove(&handle).is_some_and(|space| space.badge == u64::MAX);
                assert!(closed, "{handle:?} is not open, or a space that is not destroyed");
            }
            Operation::Map { space, tables, pages } => self.map(space, tables, pages)?,
            Operation::Unmap { space, address, pages } => {
                let space = self.spaces.get_mut(&space).ok_or(KernelError::BadHandle)?;
                space.pages.retain(|at, _| !(address..address + pages * PAGE).contains(at));
            }
            Operation::Protect { space, address, pages, protection } => {
                assert!(!protection.is_empty());
                check_protection(protection)?;
                let space = self.spaces.get_mut(&space).ok_or(KernelError::BadHandle)?;
                for (_, (_, allowed)) in space.pages.range_mut(address..address + pages * PAGE) {
                    *allowed = protection;
                }
            }
            Operation::FrameZero { frame } => {
                self.idle(frame)?;
                self.contents.insert(frame, vec![0; PAGE as usize]);
            }
            Operation::FrameCopy { from, to } => {
                self.idle(to)?;
                let bytes = self.contents.get(&from).expect("a frame with known contents is copied").clone();
                self.contents.insert(to, bytes);
            }
            Operation::FrameWrite { frame, offset, bytes } => {
                self.writable(frame, &bytes)?;
                let whole = offset == 0 && bytes.len() as u64 == PAGE;
                let contents = match whole {
                    true => self.contents.entry(frame).or_insert_with(|| vec![0; PAGE as usize]),
                    false => self.contents.get_mut(&frame).expect("the rest of the frame is known"),
                };
                contents[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
            }
            Operation::Log { text } => assert!(text.ends_with(b"\n")),
            other => panic!("vm has no use for {other:?}"),
        }
        Ok(())
    }

    /// The frame is vm's, and neither mapped nor a table.
    fn idle(&self, frame: Frame) -> Result<(), KernelError> {
        let (mapped, table) = self.usage(frame);
        if !(FIRST_FRAME..FIRST_FRAME + self.total).contains(&frame.0) {
            return Err(KernelError::NoRight);
        }
        if mapped || table { Err(KernelError::FrameInUse) } else { Ok(()) }
    }

    fn usage(&self, frame: Frame) -> (bool, bool) {
        let live = || self.spaces.values().filter(|space| space.badge != u64::MAX);
        let mapped = live().any(|space| space.pages.values().any(|(mapped, _)| *mapped == frame));
        let table =
            live().any(|space| space.root == frame || space.tables.values().any(|table| *table == frame));
        (mapped, table)
    }

    fn map(
        &mut self,
        space: Handle,
        tables: Vec<Frame>,
        pages: Vec<libipc::server::effect::PageMap>,
    ) -> Result<(), KernelError> {
        assert!(tables.len() <= 64 && (1..512).contains(&pages.len()));
        tables.iter().try_for_each(|frame| self.idle(*frame))?;
        for page in &pages {
            assert!(!page.protection.is_empty() && page.address.is_multiple_of(PAGE));
            check_protection(page.protection)?;
            assert!(!self.usage(page.frame).1, "a table is mapped");
            assert!(self.contents.contains_key(&page.frame), "a frame with stale contents is mapped");
        }
        for table in &tables {
            self.contents.remove(table);
        }
        let mut tables = tables.into_iter();
        let space = self.spaces.get_mut(&space).ok_or(KernelError::BadHandle)?;
        for page in pages {
            for shift in [39u8, 30, 21] {
                if let alloc::collections::btree_map::Entry::Vacant(entry) =
                    space.tables.entry((shift, page.address >> shift))
                {
                    entry.insert(tables.next().ok_or(KernelError::NeedTable)?);
                }
            }
            space.pages.insert(page.address, (page.frame, page.protection));
        }
        assert!(tables.next().is_none(), "more tables than needed");
        Ok(())
    }

    /// Carries a request of another server out.
    pub fn ask(&mut self, request: &Ask, word: u64, handles: &[Handle]) -> (Answer, Vec<Handle>) {
        let mut message = Message::typed(REQUEST, request).with_handles(handles);
        message.words[0] = word;
        let Reply::Native(reply) = self.native(message) else { panic!("not answered") };
        assert_eq!(reply.label, 0);
        assert!(reply.payload.len() <= 8192, "the answer does not fit");
        (reply.decode().unwrap(), reply.handles)
    }

    pub fn native(&mut self, message: Message) -> Reply {
        let call = self.script.native(message);
        let id = call.id;
        self.run(&Event::Call(call));
        self.replies.remove(&id).expect("answered")
    }

    /// A Linux call of a program.
    pub fn linux(&mut self, space: u64, number: u32, arguments: [u64; 6]) -> i64 {
        self.foreign(space, Foreign { number, arguments, ..Foreign::default() }).0
    }

    /// mmap of a file.
    pub fn map_file(&mut self, space: u64, object: u64, mut arguments: [u64; 6]) -> i64 {
        arguments[4] = 3;
        let named = [Named { server: FILES, badge: 1, object }, Named::default()];
        let passed = Some(self.session(object));
        let names = Some(Box::new(Names { named, ..Names::default() }));
        self.foreign(space, Foreign { number: 9, arguments, names, passed, ..Foreign::default() }).0
    }

    /// A Linux call, and what it copied to its caller.
    pub fn foreign(&mut self, space: u64, foreign: Foreign) -> (i64, Vec<u8>) {
        let caller = Caller { pid: 1, tid: 1, space, ..Caller::default() };
        let mut call = self.script.call(caller, 0, Request::Foreign(foreign));
        call.status = self.status;
        let id = call.id;
        self.run(&Event::Call(call));
        let Some(Reply::Linux(result)) = self.replies.remove(&id) else { panic!("not answered") };
        (result, self.copied.remove(&id).unwrap_or_default())
    }

    /// A fault as the kernel reports it.
    pub fn fault(&mut self, space: u64, address: u64, access: Protection, copying: bool) -> Reply {
        let words = [address, u64::from(access.bits()), 0x1234, u64::from(copying)];
        let caller = Caller { pid: 1, tid: 1, space, ..Caller::default() };
        let call = self.script.call(caller, 0, Request::Fault { kind: FaultKind::Page, words });
        let id = call.id;
        self.run(&Event::Call(call));
        self.replies.remove(&id).expect("answered")
    }

    /// What the hardware would do.
    fn translate(&self, badge: u64, address: u64, access: Protection) -> Option<Frame> {
        let space = self.spaces.values().find(|space| space.badge == badge)?;
        let (frame, allowed) = space.pages.get(&(address & !(PAGE - 1)))?;
        allowed.contains(access).then_some(*frame)
    }

    /// An access of a program, with all faults that it takes.
    pub fn access(&mut self, space: u64, address: u64, access: Protection) -> Access {
        for _ in 0..6 {
            if let Some(frame) = self.translate(space, address, access) {
                return Ok(frame);
            }
            match self.fault(space, address, access, false) {
                Reply::Native(message) => assert_eq!(message.label, 0),
                Reply::Forwarded(PROC, message) => {
                    assert_eq!((message.label, message.words[2]), (SIGNAL, address));
                    return Err((message.words[0], message.words[1] as i32));
                }
                Reply::Forwarded(session, message) => self.page_in(session, &message),
                Reply::Linux(_) => panic!("a fault is no Linux call"),
            }
        }
        panic!("faults at {address:x} without end");
    }

    /// What a file server does with a forwarded fault.
    fn page_in(&mut self, session: Handle, message: &Message) {
        assert_eq!(message.label, PAGE_IN);
        let (_, object) = *self.sessions.get(&session).expect("an open session");
        let [number, first, count, _] = message.words;
        assert!((1..=16).contains(&count));
        let length = self.files.get(&object).copied().unwrap_or(0);
        for page in first..first + count {
            let bytes = (page * PAGE..length.min((page + 1) * PAGE)).map(|offset| file_byte(object, offset));
            let data: Vec<u8> = bytes.collect();
            if data.is_empty() && page != first {
                break;
            }
            self.fetched.push(page);
            self.ask(&Ask::Supply { object: number, page, data }, 0, &[]);
        }
    }

    pub fn read(&mut self, space: u64, address: u64) -> Result<u8, (u64, i32)> {
        let frame = self.access(space, address, Protection::READ)?;
        Ok(self.contents[&frame][(address % PAGE) as usize])
    }

    pub fn write(&mut self, space: u64, address: u64, byte: u8) -> Result<(), (u64, i32)> {
        let frame = self.access(space, address, Protection::WRITE)?;
        self.contents.get_mut(&frame).unwrap()[(address % PAGE) as usize] = byte;
        Ok(())
    }

    pub fn fork(&mut self, space: u64) -> Option<u64> {
        let (answer, handles) = self.ask(&Ask::Fork { space }, 0, &[]);
        let Answer::Space { space } = answer else { return None };
        assert_eq!(handles.len(), 1);
        Some(space)
    }

    pub fn destroy(&mut self, space: u64) {
        assert_eq!(self.ask(&Ask::Destroy { space }, 0, &[]).0, Answer::Done);
    }

    /// How many frames the kernel has in use of which vm says that they are free.
    pub fn frames_both_free_and_used(&self) -> usize {
        let all = (FIRST_FRAME..FIRST_FRAME + self.total).map(Frame);
        all.filter(|frame| self.vm.is_free(*frame) == (self.idle(*frame).is_err())).count()
    }

    /// Nobody has the space any more.
    pub fn unclaim(&mut self, space: u64) {
        self.run(&Event::Unclaimed { space: Badge(space) });
    }

    /// Checks that what vm believes of spaces, frames and handles is so.
    pub fn check(&self) {
        let mut holders: BTreeMap<Frame, u32> = BTreeMap::new();
        let mut handles = BTreeSet::new();
        for (badge, space) in self.vm.spaces.iter() {
            let kernel = &self.spaces[&space.handle];
            assert_eq!(kernel.badge, *badge);
            handles.insert(space.handle);
            let mapped = space.pages.iter().filter(|(_, page)| !page.mapped.is_empty());
            let believed: BTreeMap<u64, _> =
                mapped.map(|(number, page)| (number * PAGE, (page.frame, page.mapped))).collect();
            assert_eq!(believed, kernel.pages, "space {badge}");
            let tables: BTreeSet<Frame> = space.tables.frames().collect();
            assert_eq!(tables, kernel.tables.values().copied().chain([kernel.root]).collect());
            for (number, page) in &space.pages {
                assert!(space.regions.find(number * PAGE).is_some(), "a page outside all regions");
                *holders.entry(page.frame).or_default() += 1;
            }
            for table in tables {
                *holders.entry(table).or_default() += 1;
            }
            self.check_mappers(*badge);
        }
        for number in 1..1000 {
            let Some(object) = self.vm.memory.objects.get(number) else { continue };
            handles.extend(object.session.into_iter().chain(object.running));
            let mapped = self.vm.memory.objects.mappers(number).next().is_some();
            assert_eq!(object.session.is_some(), object.file.is_some() && mapped);
            for cached in object.pages.values() {
                *holders.entry(cached.frame).or_default() += 1;
            }
        }
        let open: BTreeSet<Handle> = self.spaces.keys().chain(self.sessions.keys()).copied().collect();
        assert_eq!(handles, open, "handles are lost or closed too early");
        holders.retain(|frame, _| frame.0 >= FIRST_FRAME);
        for (frame, count) in &holders {
            assert_eq!(self.vm.memory.frames.holders(*frame), *count, "{frame:?}");
        }
        assert_eq!(self.free() + holders.len() as u32, self.total, "frames are lost");
        let mut restored: Vm = postcard::from_bytes(&postcard::to_allocvec(&self.vm).unwrap()).unwrap();
        restored.restored();
        restored.crowded(self.vm.memory.crowded);
        assert!(restored == self.vm, "what is not saved does not follow from what is");
    }

    fn check_mappers(&self, badge: u64) {
        let mut spent: BTreeMap<u64, u64> = BTreeMap::new();
        for (object, pages) in self.vm.spaces[&badge].objects() {
            *spent.entry(object).or_default() += pages;
        }
        for (object, pages) in spent {
            assert!(self.vm.memory.objects.mappers(object).any(|mapper| mapper == (badge, pages)));
        }
    }
}

fn check_protection(protection: Protection) -> Result<(), KernelError> {
    let both = Protection::WRITE | Protection::EXECUTE;
    if protection.contains(both) { Err(KernelError::BadArgument) } else { Ok(()) }
}
