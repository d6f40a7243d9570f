//! One machine, one run: the real kernel core over emulated memory, the real servers in their incarnations, programs on
//! the simulator's processor, and one loop that runs whatever the kernel says, until the machine is switched off.
//!
//! Everything that happens follows from the [`Plan`]: its seed decides slices, delays of the disk and what a trap
//! costs; its crashes decide who dies when. There is no other source of time or chance.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Once};

use anyhow::{Context, Result};
use libipc::abi::delivery::BUFFER_PAGES;
use libipc::abi::syscall::{Syscall, THEN_RECEIVE};
use libipc::abi::trace::{Filter, Names, file_header};
use libipc::abi::{Frame, PAGE_SIZE, Protection};
use libipc::archive::Archive;
use libipc::manifest::Manifest;
use libipc::server::Boot;
use libipc::server::boot::{BOOT_ADDRESS, BOOT_PAGES, HEAP_ADDRESS, RootBoot};
use libipc::sys::BUFFER_BYTES;
use microkernel::arch::emulated::{self, Blank, Emulated};
use microkernel::core::boot::Memory;
use microkernel::core::host::{Fate, Used, Wait};
use microkernel::core::jitter::Jitter;
use microkernel::core::load::{Layout, load_root};
use microkernel::core::machine::Machine;
use microkernel::core::object::{FrameRange, ThreadId};
use microkernel::core::{Kernel, Resume, Trap};
use zerocopy::FromBytes;

use crate::cpu::{self, Notes, translate};
use crate::devices::{self, Plugged};
use crate::image;
use crate::incarnation::{Buffer, Incarnation, Reply, Request, Start, Stopped, Version, trapped};
use crate::oracle::describe_wait;
use crate::plan::{Cause, Plan, Progress, Upgrade};
use crate::random::Random;
use crate::trace::Trace;

mod faults;
mod upgrade;

use faults::Curse;
pub use faults::Moments;

/// Frames of the machine: 32 MiB.
const FRAMES: u32 = 8192;
/// What an instruction of a program takes.
const INSTRUCTION_NS: u64 = 10;
/// What a server's step up to its next trap takes at least, and by how much more at most.
const TRAP_NS: (u64, u64) = (200, 1000);
/// What the disk takes for a command at least, and by how much more at most.
const DISK_NS: (u64, u64) = (20_000, 180_000);
/// A run that makes more traps than this has gone astray.
const TRAPS_MAX: u64 = 5_000_000;
/// As has one that takes longer than this.
const TIME_MAX_NS: u64 = 600_000_000_000;
/// The instruction pointer of a server's thread whose incarnation has begun; no image starts there.
const BEGUN: u64 = 1;
/// Root's number, and in the manifest the first.
pub const ROOT: u32 = 1;

/// What every run of a workload starts from.
#[derive(Clone)]
pub struct Setup {
    /// Names of the servers, the first being number 1.
    pub names: Vec<String>,
    /// The boot archive.
    pub archive: Arc<[u8]>,
    /// The disk.
    pub volume: Arc<[u8]>,
    /// The disk for the log.
    pub log: Arc<[u8]>,
    /// What somebody at the terminal waits to see, and types then.
    pub dialogue: Vec<(&'static str, &'static str)>,
}

impl Setup {
    /// A system of these servers whose first program is at this path of the disk.
    ///
    /// # Errors
    /// No boot archive can be made of it.
    pub fn new(
        manifest: &Manifest,
        program: &str,
        volume: Arc<[u8]>,
        dialogue: Vec<(&'static str, &'static str)>,
    ) -> Result<Setup> {
        let names = manifest.servers.iter().map(|server| server.name.clone()).collect();
        let archive = image::archive(manifest, program)?.into();
        Ok(Setup { names, archive, volume, log: image::log(), dialogue })
    }

    /// A server's name.
    pub fn name(&self, number: u32) -> &str {
        let place = number.checked_sub(1).map(|place| place as usize);
        place.and_then(|place| self.names.get(place)).map_or("nobody", String::as_str)
    }

    /// A server's number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|own| own == name).map(|place| place as u32 + 1)
    }
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The machine was switched off with this status.
    Off(u32),
    /// Everybody waits, and nothing will ever happen.
    Hang,
    /// It went on without end.
    Endless,
    /// Power failed, as the plan said.
    PowerCut,
    /// The machine did not even start.
    NoStart(String),
    /// The kernel itself, or the simulator, panicked.
    Panic(String),
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What programs told.
    pub notes: Notes,
    /// What came out of the serial port.
    pub output: Vec<u8>,
    /// Kernel objects in use at the end.
    pub used: Used,
    /// Who still waited then.
    pub waits: Vec<Wait>,
    /// The console log, and what servers said when they panicked.
    pub log: String,
    /// Traps by each server, the first being number 1.
    pub traps: Vec<u64>,
    /// Messages received by each server.
    pub messages: Vec<u64>,
    /// Deaths of each server: from outside and by itself.
    pub deaths: Vec<[u32; 2]>,
    /// Snapshots made by each server.
    pub snapshots: Vec<u64>,
    /// How many crashes of the plan came about, by cause.
    pub crashes: [u32; Cause::COUNT],
    /// At which moments they did.
    pub moments: Moments,
    /// The traps at which each server made its snapshots.
    pub commits: Vec<Vec<u64>>,
    /// How often each server was upgraded.
    pub upgrades: Vec<u32>,
    /// Images that could not start, and were to.
    pub misfits: u32,
    /// Where the first trap after the start of the first program lies, by server: traps before are of the start.
    pub booted: Vec<u64>,
    /// Nanoseconds of simulated time.
    pub time_ns: u64,
    /// What is on the disk for the log when the machine is without power.
    pub log_disk: Arc<[u8]>,
    /// Every trap of every server, a line each, if the plan asks for it.
    pub trace: String,
    /// What the kernel has traced, as a file, if the plan asks for it.
    pub records: Vec<u8>,
}

impl Outcome {
    /// One of which nothing is known but how it ended.
    pub fn ended(setup: &Setup, end: End) -> Outcome {
        let servers = setup.names.len();
        Outcome {
            end,
            notes: Notes::new(),
            output: Vec::new(),
            used: Used::default(),
            waits: Vec::new(),
            log: String::new(),
            traps: vec![0; servers],
            messages: vec![0; servers],
            deaths: vec![[0; 2]; servers],
            snapshots: vec![0; servers],
            crashes: [0; Cause::COUNT],
            moments: Moments::default(),
            commits: vec![Vec::new(); servers],
            upgrades: vec![0; servers],
            misfits: 0,
            booted: vec![0; servers],
            time_ns: 0,
            log_disk: setup.log.clone(),
            trace: String::new(),
            records: Vec::new(),
        }
    }
}

thread_local! {
    /// What the last panic in an incarnation said.
    static LAST_WORDS: RefCell<Option<String>> = const { RefCell::new(None) };
    /// An incarnation runs: its panic is the system's, not the simulator's.
    static INSIDE: RefCell<bool> = const { RefCell::new(false) };
    /// Memory of kernel and machine for the next run.
    static SPARE: RefCell<Option<(Memory, Blank)>> = const { RefCell::new(None) };
}

/// Panics of servers are events of the simulation: they are kept, not printed.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if INSIDE.with_borrow(|inside| *inside) {
                LAST_WORDS.set(Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
    });
}

/// A server's incarnation and its message buffer.
struct Host {
    incarnation: Incarnation,
    buffer: Option<Buffer>,
    memory: FrameRange,
    /// Its last trap was to bring a message.
    receives: bool,
    /// It loops for ever.
    hangs: bool,
    /// It faults when it has done nearly all about the message that it has.
    falls: bool,
    /// A wild write into its state is to come.
    wild: Option<Random>,
}

struct World<'a> {
    setup: &'a Setup,
    seed: u64,
    plan: Progress<'a>,
    /// Servers sweep after each recovery.
    sweeps: bool,
    upgrades: &'a [Upgrade],
    misfits: u32,
    kernel: Kernel<Emulated>,
    hosts: BTreeMap<u32, Host>,
    curse: Option<Curse>,
    /// A server whose snapshot is damaged as it dies.
    torn: Option<(u32, Random)>,
    /// Places of programs' threads whose last trap was a call.
    calling: BTreeSet<u32>,
    notes: Notes,
    random: Random,
    traps: Vec<u64>,
    moments: Moments,
    commits: Vec<Vec<u64>>,
    booted: Option<Vec<u64>>,
    all_traps: u64,
    said: String,
    trace: Option<Trace>,
    /// The kernel's trace, and how far it has been taken.
    records: (Vec<u8>, u64),
}

/// Runs a machine from power-on to its end.
pub fn run(setup: &Setup, plan: &Plan) -> Outcome {
    keep_panics_quiet();
    let spare = SPARE.take().unwrap_or_else(|| (emulated::memory(FRAMES), Blank::default()));
    let (mut kernel, free) = emulated::kernel_over(spare.0, spare.1);
    kernel.jitter = Jitter::from_seed(plan.seed);
    kernel.seed = plan.seed;
    kernel.epoch_s = 1_000_000_000;
    kernel.machine.devices = Some(Box::new(Plugged));
    kernel.set_trace(plan.trace, Filter::default());
    devices::with(|bus| {
        bus.power_on([&setup.volume, &setup.log], DISK_NS, plan.seed);
        bus.sit_down(&setup.dialogue);
    });
    let mut world = World {
        setup,
        seed: plan.seed,
        plan: Progress::new(plan),
        sweeps: plan.sweeps,
        upgrades: &plan.upgrades,
        misfits: 0,
        kernel,
        hosts: BTreeMap::new(),
        curse: None,
        torn: None,
        calling: BTreeSet::new(),
        notes: Notes::new(),
        random: Random::new(plan.seed),
        traps: vec![0; setup.names.len()],
        moments: Moments::default(),
        commits: vec![Vec::new(); setup.names.len()],
        booted: None,
        all_traps: 0,
        said: String::new(),
        trace: plan.trace.then(Trace::default),
        records: (Vec::new(), 0),
    };
    let end = match world.load(free) {
        Ok(()) => world.run(),
        Err(error) => End::NoStart(format!("{error:#}")),
    };
    world.finish(end)
}

impl World<'_> {
    /// Puts the archive into memory, and root behind the kernel.
    fn load(&mut self, free: FrameRange) -> Result<()> {
        let bytes = &self.setup.archive;
        let pages = (bytes.len() as u64).div_ceil(PAGE_SIZE) as u32;
        let first = Frame(free.first.0 + free.count - pages);
        let place = FrameRange { first, count: pages };
        self.kernel.machine.bytes(place, 0, bytes.len() as u64).copy_from_slice(bytes);
        let archive = Archive::new(bytes)?;
        let layout = Layout { free, archive: first, archive_bytes: bytes.len() as u64 };
        load_root(&mut self.kernel, &archive, layout).map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn run(&mut self) -> End {
        let mut resume = self.kernel.trap(Trap::Timer);
        loop {
            if self.plan.came(Cause::Power) {
                return End::PowerCut;
            }
            if self.all_traps > TRAPS_MAX || self.kernel.machine.time_ns > TIME_MAX_NS {
                return End::Endless;
            }
            self.all_traps += 1;
            let (records, position) = &mut self.records;
            self.kernel.take_trace(position, records);
            let trap = match (resume, self.due()) {
                (Resume::Off { status, .. }, _) => return End::Off(status),
                (_, Some(trap)) => trap,
                (Resume::Idle, None) => match self.sleep() {
                    Some(trap) => trap,
                    None => return End::Hang,
                },
                (Resume::Thread(thread), None) => {
                    match self.kernel.threads.get(thread).is_some_and(|state| state.server.is_some()) {
                        true => self.serve(thread),
                        false => match self.compute(thread) {
                            Some(trap) => trap,
                            None => continue,
                        },
                    }
                }
            };
            resume = self.kernel.trap(trap);
            if let Some((number, mut random)) = self.torn.take() {
                random.damage(self.kernel.snapshot(number));
            }
        }
    }

    fn pass(&mut self, time_ns: u64) {
        self.kernel.machine.time_ns += time_ns;
        let now = self.kernel.machine.time_ns;
        devices::with(|bus| bus.now = now);
    }

    /// An interrupt whose time has come.
    fn due(&mut self) -> Option<Trap> {
        let machine = &mut self.kernel.machine;
        if machine.time_ns >= machine.timer_ns {
            machine.timer_ns = u64::MAX;
            return Some(Trap::Timer);
        }
        devices::with(|bus| bus.interrupt()).map(Trap::Interrupt)
    }

    /// Nobody wants to run: goes on to the next interrupt, if there will be one.
    fn sleep(&mut self) -> Option<Trap> {
        let machine = &self.kernel.machine;
        let next = devices::with(|bus| bus.next_event()).unwrap_or(u64::MAX).min(machine.timer_ns);
        if next == u64::MAX {
            return None;
        }
        self.pass(next.saturating_sub(self.kernel.machine.time_ns));
        self.due()
    }

    /// Lets a program run to its next trap, or to the next interrupt.
    fn compute(&mut self, thread: ThreadId) -> Option<Trap> {
        self.booted.get_or_insert_with(|| self.traps.clone());
        if self.ends_of_error(thread) {
            return Some(Trap::Call);
        }
        let machine = &self.kernel.machine;
        let until = machine.timer_ns.min(devices::with(|bus| bus.next_event()).unwrap_or(u64::MAX));
        let budget = (until.saturating_sub(machine.time_ns) / INSTRUCTION_NS).clamp(1, 1 << 16);
        let (used, trap) = cpu::run(&mut self.kernel, thread, budget, &mut self.notes);
        self.pass(used * INSTRUCTION_NS);
        if trap == Some(Trap::Call) {
            self.calling.insert(thread.index());
        }
        trap
    }

    /// Lets a server run to its next trap.
    fn serve(&mut self, thread: ThreadId) -> Trap {
        let (number, ..) = self.kernel.describe(thread);
        let cost = TRAP_NS.0 + self.random.below(TRAP_NS.1);
        self.pass(cost);
        let broken = Trap::Exception { vector: 6, code: 0 };
        let Some(state) = self.kernel.threads.get(thread) else { return broken };
        if state.registers.rip != BEGUN && self.begin(thread, number).is_err() {
            return broken;
        }
        let Some(host) = self.hosts.get_mut(&number) else { return broken };
        if host.hangs {
            return self.loop_on();
        }
        let registers = self.kernel.threads.get(thread).map(|state| state.registers).unwrap_or_default();
        host.receives &= trapped(&registers).is_ok();
        let mut buffer = host.buffer.take().unwrap_or_else(|| Box::new([0; BUFFER_BYTES]));
        let memory = self.kernel.machine.bytes(host.memory, 0, BUFFER_BYTES as u64);
        buffer.copy_from_slice(memory);
        if let Some(trace) = &mut self.trace {
            trace.brought(number, &registers);
        }
        INSIDE.set(true);
        let made =
            host.incarnation.resume(Reply { trapped: trapped(&registers), buffer, wild: host.wild.take() });
        INSIDE.set(false);
        match made {
            Ok(request) => self.enter(thread, number, request),
            Err(Stopped::Loops) => {
                host.hangs = true;
                self.loop_on()
            }
            Err(Stopped::Panicked) => {
                self.hosts.remove(&number);
                let words = LAST_WORDS.take().unwrap_or_default();
                self.said += &format!("{} panicked: {words}\n", self.setup.name(number));
                broken
            }
        }
    }

    /// The kernel has started a thread anew: a new incarnation takes the place of the last.
    fn begin(&mut self, thread: ThreadId, number: u32) -> Result<()> {
        let state = self.kernel.threads.get_mut(thread).context("a thread that is resumed is there")?;
        state.registers.rip = BEGUN;
        let top = state.top;
        let mut block = vec![0; (BOOT_PAGES * PAGE_SIZE) as usize];
        for (page, part) in (0..).zip(block.chunks_mut(PAGE_SIZE as usize)) {
            let address = BOOT_ADDRESS + page * PAGE_SIZE;
            let frame = translate(&mut self.kernel.machine, top, address, Protection::READ);
            let frame = frame.context("a boot block is mapped")?;
            part.copy_from_slice(self.kernel.machine.bytes(FrameRange::one(frame), 0, PAGE_SIZE));
        }
        let start = if number == ROOT {
            let (words, _) = RootBoot::read_from_prefix(&block).ok().context("root has its words")?;
            Start::Root(words, self.setup.archive.clone())
        } else {
            let version = self.version(top).context("an image has a note")?;
            self.misfits += u32::from(version == Version::Misfit);
            Start::Server(Boot::from_block(&block).context("a boot block can be read")?, version)
        };
        let Fate { buffer: memory, incarnation, .. } =
            self.kernel.fate(number).context("a server is known")?;
        if self.sweeps && incarnation > 1 {
            self.kernel.have_swept(number);
        }
        debug_assert_eq!(memory.count, BUFFER_PAGES);
        let host = Host {
            incarnation: Incarnation::new(start),
            buffer: None,
            memory,
            receives: false,
            hangs: false,
            falls: false,
            wild: None,
        };
        // The last incarnation ends here, wherever it stood.
        self.hosts.insert(number, host);
        Ok(())
    }

    /// A server has made a trap: its registers and memory as the kernel finds them; and whether it dies of it.
    fn enter(&mut self, thread: ThreadId, number: u32, request: Request) -> Trap {
        let Request { number: call, mut arguments, buffer, source } = request;
        let count = &mut self.traps[number as usize - 1];
        *count += 1;
        let count = *count;
        let receives = call & !THEN_RECEIVE == Syscall::Receive as u64 || call & THEN_RECEIVE != 0;
        let received =
            self.hosts.get_mut(&number).is_some_and(|host| mem::replace(&mut host.receives, receives));
        let cursed = self.curse.filter(|_| received && self.is_cursed(number)).map(|curse| curse.cause);
        if let Some(host) = self.hosts.get_mut(&number) {
            host.hangs |= cursed == Some(Cause::Hang);
            host.falls |= cursed == Some(Cause::Late);
            if host.hangs {
                return self.loop_on();
            }
            if cursed == Some(Cause::Poison) || host.falls && receives {
                self.hosts.remove(&number);
                return Trap::Exception { vector: 6, code: 0 };
            }
        }
        self.hand_in(number, count);
        let mut buffer = buffer;
        if call == Syscall::SnapshotCommit as u64 {
            self.commits[number as usize - 1].push(count);
        }
        if let Some(cause) = self.plan.trap(number, count)
            && let Some(trap) = self.strike(cause, thread, (number, count, call), &mut buffer)
        {
            return trap;
        }
        let top = self.kernel.threads.get(thread).map_or(Frame(0), |state| state.top);
        if call & !THEN_RECEIVE == Syscall::LeaseWrite as u64 {
            arguments[2] = HEAP_ADDRESS;
            self.stage(top, &source);
        }
        if let Some(trace) = &mut self.trace {
            let fate = self.kernel.fate(number).unwrap_or_default();
            let who = (self.setup.name(number), fate.incarnation, fate.replays);
            trace.made(self.kernel.machine.time_ns, number, who, count, call, &arguments);
        }
        if let Some(host) = self.hosts.get_mut(&number) {
            self.kernel.machine.bytes(host.memory, 0, BUFFER_BYTES as u64).copy_from_slice(&buffer[..]);
            host.buffer = Some(buffer);
        }
        if let Some(state) = self.kernel.threads.get_mut(thread) {
            let r = &mut state.registers;
            r.rax = call;
            [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = arguments;
        }
        Trap::Call
    }

    /// Puts bytes of a server's memory on the host where the kernel will look for them: into its emulated heap.
    fn stage(&mut self, top: Frame, bytes: &[u8]) {
        for (page, part) in (0..).zip(bytes.chunks(PAGE_SIZE as usize)) {
            let address = HEAP_ADDRESS + page * PAGE_SIZE;
            let frame = translate(&mut self.kernel.machine, top, address, Protection::WRITE);
            if let Some(frame) = frame {
                let memory = self.kernel.machine.bytes(FrameRange::one(frame), 0, part.len() as u64);
                memory.copy_from_slice(part);
            }
        }
    }

    fn finish(self, end: End) -> Outcome {
        let World { setup, kernel, hosts, notes, traps, booted, plan, said, trace, records, .. } = self;
        let World { moments, commits, misfits, .. } = self;
        let (mut traced, mut position) = records;
        kernel.take_trace(&mut position, &mut traced);
        let servers = traps.len() as u32;
        INSIDE.set(true);
        drop(hosts);
        INSIDE.set(false);
        let fates: Vec<_> =
            (1..=traps.len() as u32).map(|number| kernel.fate(number).unwrap_or_default()).collect();
        let hangs = matches!(end, End::Hang | End::Endless);
        let waits = kernel.outstanding_calls().filter(|_| hangs).map(|wait| describe_wait(setup, &wait));
        let said = said + &waits.collect::<String>();
        let log = String::from_utf8_lossy(&kernel.machine.log).into_owned() + &said;
        let outcome = Outcome {
            end,
            notes,
            output: devices::with(|bus| bus.output().to_vec()),
            log_disk: devices::with(|bus| bus.power_off().into()),
            used: kernel.used(),
            waits: kernel.outstanding_calls().collect(),
            log,
            booted: booted.unwrap_or_else(|| traps.clone()),
            traps,
            messages: fates.iter().map(|fate| fate.received).collect(),
            deaths: fates.iter().map(|fate| fate.deaths).collect(),
            snapshots: fates.iter().map(|fate| fate.snapshots).collect(),
            crashes: plan.done,
            moments,
            commits,
            upgrades: (1..=servers).map(|number| kernel.upgrades(number).0).collect(),
            misfits,
            time_ns: kernel.machine.time_ns,
            records: trace.as_ref().map(|_| as_file(setup, &traced)).unwrap_or_default(),
            trace: trace.map(Trace::finish).unwrap_or_default(),
        };
        let (memory, machine) = kernel.into_memory();
        SPARE.set(Some((memory, machine.into_blank())));
        outcome
    }
}

/// Records of the kernel as a file.
fn as_file(setup: &Setup, records: &[u8]) -> Vec<u8> {
    let names = Names::new(setup.names.iter().map(String::as_str));
    let mut file = file_header(&names, "the simulator", u64::from(FRAMES) * PAGE_SIZE);
    file.extend_from_slice(records);
    file
}
