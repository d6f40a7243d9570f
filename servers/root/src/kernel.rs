//! Root's system calls, by name.

use alloc::vec::Vec;

use libipc::abi::crash::{Disposition, Fall, Remedy};
use libipc::abi::delivery::{CROWDED, DELIVERY_OFFSET, Delivery, Kind, PAYLOAD_OFFSET};
use libipc::abi::syscall::Syscall;
use libipc::abi::upgrade::{Stage, Step};
use libipc::abi::{Frame, Handle, KernelError, Owned, PAGE_SIZE, PAYLOAD_MAX, Protection, Rights};
use libipc::manifest::{Quotas, ServerEntry};
use libipc::server::boot::STACK_TOP;
use libipc::server::effect::PageMap;
use libipc::server::env::TaskFigure;
use libipc::server::handles::HandleSlots;
use libipc::server::map_pages;
use libipc::sys::Traps;
use zerocopy::FromBytes;

use crate::policy::Death;
use crate::supervise::State;
use crate::upgrade::Installed;

/// Root's own task; its space has the slot before it.
pub const OWN_TASK: Handle = Handle(1);
const FIRST_FREE: u32 = 2;
/// Most frames zeroed in one trap.
const ZEROED_MAX: u32 = 256;
/// Most pages of an image copied in one trap.
const IMAGE_PAGES_MAX: u32 = 64;

/// What memory of a server is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Its message buffer.
    Buffer = 0,
    /// Its arena.
    Arena = 1,
    /// Its journal.
    Journal = 2,
    /// Its snapshots.
    Snapshots = 3,
    /// Frames it may use as it likes.
    Own = 4,
    /// What servers die of is kept there. It is of no server in particular.
    Reproducers = 5,
}

/// What root was woken by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Notification bits.
    pub bits: u64,
    /// Nanoseconds since boot.
    pub now_ns: u64,
    /// How full the journal is, in thousandths.
    pub journal_fill: u32,
}

/// The kernel as root uses it.
pub struct Kernel<T> {
    pub(crate) traps: T,
    slots: HandleSlots,
}

type Done = Result<(), KernelError>;

impl<T: Traps> Kernel<T> {
    pub fn new(traps: T) -> Kernel<T> {
        Kernel { traps, slots: HandleSlots::new(FIRST_FREE) }
    }

    fn call(&mut self, call: Syscall, arguments: [u64; 5]) -> Result<u64, KernelError> {
        let [a0, a1, a2, a3, a4] = arguments;
        self.traps.trap(call, [a0, a1, a2, a3, a4, 0]).map(|values| values[0])
    }

    fn act(&mut self, call: Syscall, arguments: [u64; 5]) -> Done {
        self.call(call, arguments).map(|_| ())
    }

    fn payload(&mut self, bytes: &[u8]) {
        let from = PAYLOAD_OFFSET as usize;
        let length = bytes.len().min(PAYLOAD_MAX as usize);
        self.traps.buffer()[from..from + length].copy_from_slice(&bytes[..length]);
    }

    pub fn log(&mut self, text: &str) {
        self.payload(text.as_bytes());
        let _ = self.act(Syscall::Log, [text.len().min(PAYLOAD_MAX as usize) as u64, 0, 0, 0, 0]);
    }

    pub fn power_off(&mut self, status: u32) {
        let _ = self.act(Syscall::PowerOff, [u64::from(status), 0, 0, 0, 0]);
    }

    /// Waits for notification bits; anything else that might come is nothing to root.
    pub fn receive(&mut self) -> News {
        if self.act(Syscall::Receive, [0; 5]).is_err() {
            return News::default();
        }
        let from = DELIVERY_OFFSET as usize;
        match Delivery::read_from_prefix(&self.traps.buffer()[from..]) {
            Ok((delivery, _)) => News {
                bits: if delivery.kind == Kind::Notify as u32 { delivery.words[0] } else { 0 },
                now_ns: delivery.now,
                journal_fill: delivery.fill & !CROWDED,
            },
            Err(_) => News::default(),
        }
    }

    /// Sets the timer, which posts `TIMER_BIT`; `u64::MAX` stops it.
    pub fn set_timer(&mut self, deadline_ns: u64) {
        let _ = self.act(Syscall::TimerSet, [deadline_ns, 0, 0, 0, 0]);
    }

    /// What this incarnation starts from; the first starts from nothing.
    pub fn restore(&mut self) -> Option<State> {
        let mut snapshot = Vec::new();
        loop {
            let length = self.call(Syscall::SnapshotRead, [snapshot.len() as u64, 0, 0, 0, 0]).unwrap_or(0);
            if length == 0 {
                return postcard::from_bytes(&snapshot).ok();
            }
            let from = PAYLOAD_OFFSET as usize;
            snapshot.extend_from_slice(&self.traps.buffer()[from..from + length as usize]);
        }
    }

    /// Makes a snapshot the one to start from.
    pub fn write_snapshot(&mut self, snapshot: &[u8]) -> Done {
        for part in snapshot.chunks(PAYLOAD_MAX as usize) {
            self.payload(part);
            self.act(Syscall::SnapshotWrite, [part.len() as u64, 0, 0, 0, 0])?;
        }
        self.act(Syscall::SnapshotCommit, [libipc::server::shell::digest(snapshot), 0, 0, 0, 0])
    }

    /// Tells the digest of root's state, so that every replay is checked against it.
    pub fn tell_digest(&mut self, digest: u64) {
        let _ = self.act(Syscall::Digest, [digest, 0, 0, 0, 0]);
    }

    pub fn new_space(&mut self, badge: u64, top: Frame) -> Result<Handle, KernelError> {
        let space = self.slots.take();
        self.act(Syscall::SpaceCreate, [u64::from(space.0), badge, u64::from(top.0), 0, 0]).map(|()| space)
    }

    pub fn map(&mut self, space: Handle, tables: &[Frame], pages: &[PageMap]) -> Done {
        map_pages(&mut self.traps, space, tables, pages).map(|_| ())
    }

    pub fn zero(&mut self, first: Frame, count: u32) -> Done {
        let mut done = 0;
        while done < count {
            let part = (count - done).min(ZEROED_MAX);
            self.act(Syscall::FrameZero, [u64::from(first.0 + done), u64::from(part), 0, 0, 0])?;
            done += part;
        }
        Ok(())
    }

    pub fn copy(&mut self, from: Frame, to: Frame) -> Done {
        self.act(Syscall::FrameCopy, [u64::from(from.0) | u64::from(to.0) << 32, 0, 0, 0, 0])
    }

    pub fn write(&mut self, frame: Frame, offset: u32, bytes: &[u8]) -> Done {
        self.payload(bytes);
        self.act(Syscall::FrameWrite, [u64::from(frame.0), u64::from(offset), bytes.len() as u64, 0, 0])
    }

    /// The beginning of a frame.
    pub fn read(&mut self, frame: Frame, length: u32) -> Result<Vec<u8>, KernelError> {
        let length = self.call(Syscall::FrameRead, [u64::from(frame.0), 0, u64::from(length), 0, 0])?;
        let from = PAYLOAD_OFFSET as usize;
        Ok(self.traps.buffer()[from..from + length.min(u64::from(PAYLOAD_MAX)) as usize].to_vec())
    }

    pub fn unmap(&mut self, space: Handle, address: u64, pages: u32) -> Done {
        self.act(Syscall::Unmap, [u64::from(space.0), address, u64::from(pages), 0, 0])
    }

    pub fn new_server(&mut self, space: Handle, number: u32, journaled: bool) -> Result<Handle, KernelError> {
        let task = self.slots.take();
        let arguments = [u64::from(task.0), u64::from(space.0), u64::from(number), u64::from(journaled), 0];
        self.act(Syscall::ServerCreate, arguments).map(|()| task)
    }

    pub fn give(&mut self, task: Handle, purpose: Purpose, first: Frame, count: u32) -> Done {
        let arguments = [u64::from(task.0), purpose as u64, u64::from(first.0), u64::from(count), 0];
        self.act(Syscall::ServerMemory, arguments)
    }

    pub fn segment(&mut self, task: Handle, address: u64, pages: u32, pristine: Frame, bytes: u32) -> Done {
        let arguments =
            [u64::from(task.0), address, u64::from(pages), u64::from(pristine.0), u64::from(bytes)];
        self.act(Syscall::ServerSegment, arguments)
    }

    /// A restart does not fill what is at this address any more.
    pub fn forget_segment(&mut self, task: Handle, address: u64) -> Done {
        self.act(Syscall::ServerSegment, [u64::from(task.0), address, 0, 0, 0])
    }

    pub fn grant(&mut self, task: Handle, into: Handle, handle: Handle, rights: Rights) -> Done {
        let arguments =
            [u64::from(task.0), u64::from(into.0), u64::from(handle.0), u64::from(rights.bits()), 0];
        self.act(Syscall::ServerGrant, arguments)
    }

    pub fn grant_ports(&mut self, task: Handle, first: u16, count: u16) -> Done {
        self.act(Syscall::ServerDevice, [u64::from(task.0), 0, u64::from(first), u64::from(count), 0])
    }

    pub fn grant_irq(&mut self, task: Handle, irq: u8) -> Done {
        self.act(Syscall::ServerDevice, [u64::from(task.0), 1, u64::from(irq), 0, 0])
    }

    pub fn grant_function(&mut self, task: Handle, address: u16) -> Done {
        self.act(Syscall::ServerDevice, [u64::from(task.0), 2, u64::from(address), 0, 0])
    }

    /// Limits what a server may own.
    pub fn quotas(&mut self, task: Handle, quotas: &Quotas) -> Done {
        Owned::ALL.into_iter().try_for_each(|kind| {
            let share = u64::from(quotas.of(kind));
            self.act(Syscall::ServerQuota, [u64::from(task.0), kind as u64, share, 0, 0])
        })
    }

    pub fn personality(&mut self, index: u32, task: Handle) -> Done {
        self.act(Syscall::Personality, [u64::from(index), u64::from(task.0), 0, 0, 0])
    }

    pub fn start(&mut self, task: Handle, image: &Installed, entry: &ServerEntry) -> Done {
        let patience_ns = u64::from(entry.watchdog_ms) * 1_000_000;
        let (task, priority, figures) = (u64::from(task.0), u64::from(entry.priority), image.figures());
        let arguments = [task, image.entry, STACK_TOP, priority, patience_ns, figures.to_word()];
        self.traps.trap(Syscall::ServerStart, arguments).map(|_| ())
    }

    /// Starts a server's next incarnation there.
    pub fn restart(&mut self, task: Handle, entry: u64) -> Done {
        self.act(Syscall::ServerRestart, [u64::from(task.0), entry, 0, 0, 0])
    }

    /// How far a server's upgrade has come, if there is one.
    pub fn upgrade_stage(&mut self, task: Handle) -> Option<Stage> {
        Stage::from_number(self.figure(task, TaskFigure::Upgrade)[0] & 0xff)
    }

    /// Bytes of the image that was handed in for a server.
    pub fn upgrade_bytes(&mut self, task: Handle) -> u64 {
        self.figure(task, TaskFigure::Upgrade)[3]
    }

    /// Copies pages of the image that was handed in.
    pub fn upgrade_image(&mut self, offset: u64, into: Frame, count: u32) -> Done {
        self.act(Syscall::UpgradeImage, [offset, u64::from(into.0), u64::from(count), 0, 0])
    }

    /// Copies so many pages of the image that was handed in, from its beginning.
    pub fn take_image(&mut self, into: Frame, pages: u32) -> Done {
        (0..pages).step_by(IMAGE_PAGES_MAX as usize).try_for_each(|done| {
            let count = (pages - done).min(IMAGE_PAGES_MAX);
            self.upgrade_image(u64::from(done) * PAGE_SIZE, Frame(into.0 + done), count)
        })
    }

    /// Goes on with an upgrade: how far it has come.
    pub fn upgrade_step(&mut self, step: Step) -> Result<Option<Stage>, KernelError> {
        let [step, verdict, image] = step.to_words();
        self.call(Syscall::UpgradeStep, [step, verdict, image, 0, 0]).map(Stage::from_number)
    }

    /// Gives a dead server up: its clients are answered errors.
    pub fn abandon(&mut self, task: Handle) -> Done {
        self.act(Syscall::ServerAbandon, [u64::from(task.0), 0, 0, 0, 0])
    }

    /// How a server died, and how far it has come.
    pub fn death(&mut self, task: Handle) -> Death {
        let fall = self.figure(task, TaskFigure::Fall);
        let [received, ..] = self.figure(task, TaskFigure::Activity);
        Death { fall: Fall::from_values(fall), received }
    }

    /// Disposes of the event that a dead server died of: what was done with it.
    pub fn dispose(&mut self, task: Handle, remedy: Remedy) -> Result<Option<Disposition>, KernelError> {
        self.call(Syscall::ServerDispose, [u64::from(task.0), remedy as u64, 0, 0, 0])
            .map(Disposition::from_number)
    }

    pub fn incarnation(&mut self, task: Handle) -> u64 {
        self.figure(task, TaskFigure::Incarnation)[0]
    }

    pub fn is_dead(&mut self, task: Handle) -> bool {
        self.figure(task, TaskFigure::Incarnation)[1] != 0
    }

    fn figure(&mut self, task: Handle, what: TaskFigure) -> [u64; 5] {
        let values = self.traps.trap(Syscall::TaskInfo, [u64::from(task.0), what as u64, 0, 0, 0, 0]);
        values.unwrap_or([0; 5])
    }

    pub fn port_in(&mut self, port: u16) -> u32 {
        self.call(Syscall::PortIn, [u64::from(port), 4, 0, 0, 0]).map_or(u32::MAX, |value| value as u32)
    }

    pub fn port_out(&mut self, port: u16, value: u32) {
        let _ = self.act(Syscall::PortOut, [u64::from(port), 4, u64::from(value), 0, 0]);
    }
}

/// Readable and writable.
pub const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);
