//! A scripted outside, for testing a server on the host: step events against it and look at the effects.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};
use core::ops::Range;

use super::env::{Descriptor, Env, LeaseError, Statistic, TaskFigure, ThreadState};
use super::event::{Call, Caller, Event, Foreign, Request};
use super::handles::HandleSlots;
use super::message::Message;
use super::{Boot, Effects, Server};
use crate::abi::delivery::Named;
use crate::abi::journal::{Source, sum};
use crate::abi::{Badge, CallId, Frame, Handle, KernelError, PAGE_SIZE, Readiness, UserRegisters};

/// What is told of a task.
pub type Figures = fn(Handle, TaskFigure) -> Result<[u64; 4], KernelError>;

/// An answer to [`Env::ask`], computed from the question.
pub type Oracle = fn(Handle, &Message) -> Result<Message, KernelError>;

/// What stands behind a server's input and output ports.
pub trait Ports {
    /// Reads a port of so many bytes.
    fn read(&mut self, port: u16, width: u8) -> u32;
}

/// Values that ports give, in order; then, there is nothing.
impl Ports for BTreeMap<u16, Vec<u32>> {
    fn read(&mut self, port: u16, _: u8) -> u32 {
        match self.get_mut(&port) {
            Some(values) if !values.is_empty() => values.remove(0),
            _ => 0xff,
        }
    }
}

/// The outside as a test scripts it.
pub struct Script<P = BTreeMap<u16, Vec<u32>>> {
    /// The time, ns since boot.
    pub now: u64,
    /// Caller memory by address; what is not here is a bad address.
    pub memory: BTreeMap<u64, Vec<u8>>,
    /// When set, the next read of caller memory misses once.
    pub miss_next: bool,
    /// Pages of caller memory that are not there yet, by their numbers.
    pub missing: BTreeSet<u64>,
    /// The arena.
    pub arena: Vec<u8>,
    /// Frames with contents.
    pub frames: BTreeMap<Frame, Vec<u8>>,
    /// Registers of threads.
    pub threads: BTreeMap<Handle, UserRegisters>,
    /// Readiness of the callers' descriptors.
    pub readiness: BTreeMap<u32, Readiness>,
    /// The callers' descriptors: those that messages may bring along, and those that came so.
    pub descriptors: BTreeMap<u32, Named>,
    /// Sessions of callers that the server has become a holder of, by its handles.
    pub taken: BTreeMap<Handle, Named>,
    /// The descriptors behind kept watches, by the watch: 1000 and the cookie.
    pub watches: BTreeMap<u64, u32>,
    /// Every server's boot block, snapshot and journal.
    pub histories: [Vec<u8>; 3],
    /// Snapshots that every server has made.
    pub snapshots_made: u64,
    /// The digest that every server has told.
    pub digest: Option<u64>,
    /// What is told of tasks, in place of the histories.
    pub figures: Option<Figures>,
    /// What is told of the whole system.
    pub statistics: fn(Statistic, u64) -> [u64; 4],
    /// When set, nothing is said about tasks.
    pub task_error: Option<KernelError>,
    /// What lower servers answer.
    pub oracle: Oracle,
    /// What stands behind the ports.
    pub ports: P,
    handles: HandleSlots,
    next_call: u64,
}

impl Default for Script {
    fn default() -> Script {
        Script::with_ports(BTreeMap::new())
    }
}

impl<P> Script<P> {
    /// An outside with nothing in it but this behind its ports.
    pub fn with_ports(ports: P) -> Script<P> {
        Script {
            now: 0,
            memory: BTreeMap::new(),
            miss_next: false,
            missing: BTreeSet::new(),
            arena: vec![0; 1 << 20],
            frames: BTreeMap::new(),
            threads: BTreeMap::new(),
            readiness: BTreeMap::new(),
            descriptors: BTreeMap::new(),
            taken: BTreeMap::new(),
            watches: BTreeMap::new(),
            histories: [Vec::new(), Vec::new(), Vec::new()],
            snapshots_made: 1,
            digest: None,
            figures: None,
            statistics: |_, _| [0; 4],
            task_error: None,
            oracle: |_, _| Err(KernelError::PeerDead),
            ports,
            handles: HandleSlots::new(100),
            next_call: 1,
        }
    }
}

impl<P: Ports> Env for Script<P> {
    fn now(&self) -> u64 {
        self.now
    }

    fn new_handle(&mut self) -> Handle {
        self.handles.take()
    }

    fn read_user(&mut self, _: CallId, address: u64, length: u32) -> Result<Vec<u8>, LeaseError> {
        let pages =
            address / PAGE_SIZE..=address.saturating_add(length.max(1).into()).saturating_sub(1) / PAGE_SIZE;
        if core::mem::take(&mut self.miss_next) || self.missing.range(pages).next().is_some() {
            return Err(LeaseError::NotResident);
        }
        let (start, bytes) = self.memory.range(..=address).next_back().ok_or(LeaseError::BadAddress)?;
        let skip = (address - start) as usize;
        bytes.get(skip..skip + length as usize).map(<[u8]>::to_vec).ok_or(LeaseError::BadAddress)
    }

    fn ask(&mut self, server: Handle, message: &Message) -> Result<Message, KernelError> {
        (self.oracle)(server, message)
    }

    fn read_arena(&mut self, offset: u64, length: u32) -> Vec<u8> {
        self.arena[offset as usize..offset as usize + length as usize].to_vec()
    }

    fn read_frame(&mut self, frame: Frame, offset: u32, length: u32) -> Vec<u8> {
        let zeroes = vec![0; 4096];
        let bytes = self.frames.get(&frame).unwrap_or(&zeroes);
        bytes[offset as usize..(offset + length) as usize].to_vec()
    }

    fn thread(&mut self, thread: Handle) -> Result<ThreadState, KernelError> {
        let registers = *self.threads.get(&thread).ok_or(KernelError::BadHandle)?;
        Ok(ThreadState { registers, fpu: vec![0; 512] })
    }

    fn task_info(&mut self, task: Handle, what: TaskFigure) -> Result<[u64; 4], KernelError> {
        if let Some(error) = self.task_error {
            return Err(error);
        }
        if let Some(figures) = self.figures {
            return figures(task, what);
        }
        let [_, snapshot, journal] = self.histories.each_ref().map(|section| section.len() as u64);
        Ok(match what {
            TaskFigure::History => [self.snapshots_made, snapshot, journal, 1],
            TaskFigure::Digest => [self.digest.unwrap_or(0), 1, self.digest.is_some().into(), 0],
            _ => [0; 4],
        })
    }

    fn journal_sum(
        &mut self,
        _: Handle,
        source: Source,
        part: Range<u64>,
        start: u64,
    ) -> Result<u64, KernelError> {
        let bytes = self.histories[source.section as usize].get(part.start as usize..part.end as usize);
        bytes.map(|bytes| sum(start, bytes)).ok_or(KernelError::BadArgument)
    }

    fn statistic(&mut self, what: Statistic, index: u64) -> [u64; 4] {
        (self.statistics)(what, index)
    }

    fn watch(&mut self, _: CallId, descriptor: u32, wanted: Readiness) -> Result<Readiness, KernelError> {
        self.readiness.get(&descriptor).map(|ready| *ready & wanted).ok_or(KernelError::BadHandle)
    }

    fn keep_watch(
        &mut self,
        _: CallId,
        descriptor: u32,
        cookie: u64,
        wanted: Readiness,
    ) -> Result<(Readiness, u64), KernelError> {
        let ready = *self.readiness.get(&descriptor).ok_or(KernelError::BadHandle)?;
        if ready.contains(Readiness::ALWAYS) {
            return Err(KernelError::WrongKind);
        }
        let watch = 1000 + cookie;
        self.watches.insert(watch, descriptor);
        Ok((ready & (wanted | Readiness::ERR | Readiness::HUP), watch))
    }

    fn change_watch(&mut self, watch: u64, wanted: Readiness) -> Result<Readiness, KernelError> {
        let descriptor = self.watches.get(&watch).ok_or(KernelError::BadHandle)?;
        let ready = self.readiness.get(descriptor).copied().unwrap_or(Readiness::HUP);
        Ok(ready & (wanted | Readiness::ERR | Readiness::HUP))
    }

    fn descriptor(&mut self, _: Handle, slot: u32) -> Result<Descriptor, KernelError> {
        let (slot, named) = self.descriptors.range(slot..).next().ok_or(KernelError::BadArgument)?;
        Ok(Descriptor { slot: *slot, named: *named, status: 0, close_on_exec: false, position: 0 })
    }

    fn take_descriptor(&mut self, _: CallId, descriptor: u32) -> Result<(Handle, Descriptor), KernelError> {
        let named = *self.descriptors.get(&descriptor).ok_or(KernelError::BadHandle)?;
        let handle = self.handles.take();
        self.taken.insert(handle, named);
        let status = crate::linux::open::O_RDWR;
        Ok((handle, Descriptor { slot: descriptor, named, status, close_on_exec: false, position: 0 }))
    }

    fn give_descriptor(&mut self, _: CallId, handle: Handle, _: bool) -> Result<u32, KernelError> {
        let named = *self.taken.get(&handle).ok_or(KernelError::BadHandle)?;
        let slot = (0..).find(|slot| !self.descriptors.contains_key(slot)).ok_or(KernelError::SlotInUse)?;
        self.descriptors.insert(slot, named);
        Ok(slot)
    }

    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        self.ports.read(port, width)
    }
}

impl<P> Script<P> {
    /// A call with a fresh id.
    pub fn call(&mut self, caller: Caller, badge: u64, request: Request) -> Call {
        let id = CallId(self.next_call);
        self.next_call += 1;
        Call { id, caller, badge: Badge(badge), position: 0, status: 0, request }
    }

    /// A Linux call with a fresh id.
    pub fn linux(&mut self, caller: Caller, number: u32, arguments: [u64; 6]) -> Call {
        self.call(caller, 0, Request::Foreign(Foreign { number, arguments, ..Foreign::default() }))
    }

    /// A native call with a fresh id.
    pub fn native(&mut self, message: Message) -> Call {
        self.call(Caller::default(), 0, Request::Native(message))
    }
}

/// Steps a server with an event, checking what the shell checks: `again` changes nothing, and that the state survives
/// being serialised.
///
/// # Panics
/// When the server breaks either rule.
pub fn step<S: Server>(server: &mut S, event: &Event, script: &mut Script<impl Ports>) -> Effects {
    let before = postcard::to_allocvec(server).expect("state encodes");
    let effects = server.step(event, script);
    let after = postcard::to_allocvec(server).expect("state encodes");
    if effects.again {
        assert!(
            effects.list.is_empty() && before == after,
            "a step that wants the event again has changed something"
        );
    }
    let copy: S = postcard::from_bytes(&after).expect("state decodes");
    assert!(
        postcard::to_allocvec(&copy).expect("state encodes") == after,
        "the state does not survive a snapshot"
    );
    effects
}

/// A boot block that lets the server call those named, with handles 0, 1, 2 …
pub fn boot(name: &str, servers: &[&str]) -> Boot {
    let servers = servers.iter().enumerate();
    Boot {
        name: name.into(),
        number: 1,
        servers: servers.map(|(index, name)| ((*name).into(), Handle(index as u32))).collect(),
        first_free: 50,
        heap_bytes: 8 << 20,
        arena_bytes: 1 << 20,
        ..Boot::default()
    }
}
