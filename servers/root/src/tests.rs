//! Root over a kernel that follows a script: servers die, and root's traps are noted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::string::String;

use libipc::abi::crash::{Disposition, Fall, Fault};
use libipc::abi::delivery::{DELIVERY_OFFSET, Delivery, Kind, PAYLOAD_OFFSET};
use libipc::abi::syscall::Syscall;
use libipc::abi::upgrade::{Stage, Verdict};
use libipc::abi::{Frame, Handle, KernelError, PAGE_SIZE, PAYLOAD_MAX, Protection};
use libipc::server::TIMER_BIT;
use libipc::server::boot::{IMAGE_ADDRESS, IMAGE_BYTES};
use libipc::server::env::TaskFigure;
use libipc::server::image::{ABI_VERSION, Note};
use libipc::sys::{BUFFER_BYTES, Trapped, Traps};
use zerocopy::IntoBytes;

use crate::image::{Identity, Image, Part};
use crate::kernel::Kernel;
use crate::policy::History;
use crate::supervise::{Charge, Root, State};
use crate::upgrade::Installed;

const SERVER: u32 = 4;
const TASK: Handle = Handle(9);
const SPACE: Handle = Handle(8);
/// Where images may lie.
const IMAGES: (Frame, u32) = (Frame(1000), 100);

/// What happens, in order: a server's death, the timer at some time, or an upgrade that has come so far.
enum News {
    Death(Fall),
    Timer(u64),
    Upgrade(Stage),
}

/// The end of a script.
struct Over;

struct Script {
    news: VecDeque<News>,
    now_ns: u64,
    fall: [u64; 5],
    dead: bool,
    stage: Option<Stage>,
    /// How far an upgrade comes when the server is told to save its state.
    saved: Option<Stage>,
    /// The image that was handed in.
    file: Vec<u8>,
    /// What was last copied out of it.
    copied: Vec<u8>,
    /// A map that is refused.
    refused: Option<u64>,
    made: Rc<RefCell<Vec<(Syscall, u64)>>>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Script {
    fn receive(&mut self) {
        let bits = match self.news.pop_front() {
            Some(News::Death(fall)) => {
                self.fall = fall.to_values();
                self.dead = true;
                1 << SERVER
            }
            Some(News::Upgrade(stage)) => {
                self.dead = matches!(stage, Stage::Stopped | Stage::Failed);
                self.stage = Some(stage);
                1 << SERVER
            }
            Some(News::Timer(now_ns)) => {
                self.now_ns = now_ns;
                TIMER_BIT
            }
            None => std::panic::resume_unwind(Box::new(Over)),
        };
        let mut delivery = Delivery { kind: Kind::Notify as u32, now: self.now_ns, ..Delivery::default() };
        delivery.words[0] = bits;
        let at = DELIVERY_OFFSET as usize;
        self.buffer[at..at + size_of::<Delivery>()].copy_from_slice(delivery.as_bytes());
    }
}

impl Script {
    fn figure(&self, what: u64) -> [u64; 5] {
        match what {
            what if what == TaskFigure::Fall as u64 => self.fall,
            what if what == TaskFigure::Incarnation as u64 => [1, self.dead.into(), 0, 0, 0],
            what if what == TaskFigure::Upgrade as u64 => {
                [self.stage.map_or(0, |stage| stage as u64), 0, 0, self.file.len() as u64, 0]
            }
            _ => [0; 5],
        }
    }

    /// The calls by which an image is looked at and put in.
    fn upgrade(&mut self, call: Syscall, [first, second, third, ..]: [u64; 6]) -> Trapped {
        let note = match call {
            Syscall::UpgradeImage => {
                let bytes = self.file.get(first as usize..).unwrap_or_default();
                let pages = (third * PAGE_SIZE) as usize;
                self.copied = bytes[..bytes.len().min(pages)].to_vec();
                self.copied.resize(pages, 0);
                return Ok([0; 5]);
            }
            Syscall::FrameRead => {
                assert!(third <= u64::from(PAYLOAD_MAX));
                let from = PAYLOAD_OFFSET as usize;
                self.buffer[from..from + third as usize].copy_from_slice(&self.copied[..third as usize]);
                return Ok([third, 0, 0, 0, 0]);
            }
            Syscall::FrameZero | Syscall::FrameCopy | Syscall::FrameWrite => return Ok([0; 5]),
            Syscall::Map => {
                let at = PAYLOAD_OFFSET as usize;
                u64::from_le_bytes(self.buffer[at..at + 8].try_into().unwrap())
            }
            Syscall::UpgradeStep => first | second << 8,
            _ => second,
        };
        self.made.borrow_mut().push((call, note));
        if call == Syscall::Map && self.refused == Some(note) {
            return Err(KernelError::NeedTable);
        }
        Ok([self.saved.map_or(0, |stage| stage as u64), 0, 0, 0, 0])
    }
}

impl Traps for Script {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        match call {
            Syscall::Receive => self.receive(),
            Syscall::TaskInfo => return Ok(self.figure(arguments[1])),
            Syscall::Log => {}
            Syscall::UpgradeImage | Syscall::FrameRead | Syscall::UpgradeStep => {
                return self.upgrade(call, arguments);
            }
            Syscall::FrameZero | Syscall::FrameCopy | Syscall::FrameWrite => {
                return self.upgrade(call, arguments);
            }
            Syscall::Map | Syscall::Unmap | Syscall::ServerSegment => return self.upgrade(call, arguments),
            Syscall::TimerSet | Syscall::PowerOff => {
                self.made.borrow_mut().push((call, arguments[0]));
            }
            call => {
                assert_eq!(arguments[0], u64::from(TASK.0), "{call:?}");
                self.dead = call == Syscall::ServerAbandon;
                self.made.borrow_mut().push((call, arguments[1]));
            }
        }
        Ok([Disposition::Refused as u64, 0, 0, 0, 0])
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

/// A death of an event, with nobody waiting.
fn death(event: u64, disposable: bool) -> News {
    News::Death(Fall {
        fault: Fault::Exception,
        event,
        place: 1,
        disposable,
        former: false,
        mendable: false,
        culprit: 7,
        waiting: 0,
    })
}

/// Where the image that the server runs in starts.
const ENTRY: u64 = IMAGE_ADDRESS + 0x10;

/// An image with a page of code and one of data, at these pages of the room for images.
fn image(name: &str, schemas: (u32, u32), code: u64, data: u64) -> Image {
    let part = |page, file_page, protection| Part {
        address: IMAGE_ADDRESS + page * PAGE_SIZE,
        pages: 1,
        file_page,
        file_bytes: 100,
        protection,
    };
    let parts = vec![
        part(code, 1, Protection::READ | Protection::EXECUTE),
        part(data, 2, Protection::READ | Protection::WRITE),
    ];
    let identity = Identity { name: name.into(), machine: elf::abi::EM_X86_64, abi: ABI_VERSION, schemas };
    Image { entry: IMAGE_ADDRESS + code * PAGE_SIZE + 0x10, parts, identity }
}

/// The same as a file, with its note on the fourth page.
fn file(image: &Image) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    file.resize(16, 0);
    let identity = &image.identity;
    [elf::abi::ET_EXEC, identity.machine, 1, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // The section headers are where nobody looks for them.
    [image.entry, 64, 0xffff_ffff].iter().for_each(|word| file.extend(word.to_le_bytes()));
    let count = image.parts.len() as u16 + 1;
    [0, 0, 64, 56, count, 64, 3, 1].iter().for_each(|half| file.extend(half.to_le_bytes()));
    let name = std::str::from_utf8(&identity.name).unwrap();
    let mut note = Note::new(name, identity.schemas.0, identity.schemas.1);
    note.abi = identity.abi;
    let mut header = |kind: u32, flags: u32, [offset, address, bytes]: [u64; 3]| {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        [offset, address, address, bytes, bytes, PAGE_SIZE]
            .iter()
            .for_each(|word| file.extend(word.to_le_bytes()));
    };
    for part in &image.parts {
        let flags = if part.protection.contains(Protection::EXECUTE) { 5 } else { 6 };
        let offset = u64::from(part.file_page) * PAGE_SIZE;
        header(elf::abi::PT_LOAD, flags, [offset, part.address, part.file_bytes.into()]);
    }
    header(elf::abi::PT_NOTE, 4, [3 * PAGE_SIZE, 0, size_of::<Note>() as u64]);
    file.resize(3 * PAGE_SIZE as usize, 0);
    file.extend(note.as_bytes());
    file
}

/// A script with nothing in it, and the server that it is about.
fn scene(news: impl IntoIterator<Item = News>) -> (Script, Charge) {
    let script = Script {
        news: news.into_iter().collect(),
        now_ns: 0,
        fall: [0; 5],
        dead: false,
        stage: None,
        saved: Some(Stage::Saving),
        file: Vec::new(),
        copied: Vec::new(),
        refused: None,
        made: Rc::default(),
        buffer: Box::new([0; BUFFER_BYTES]),
    };
    let charge = Charge {
        name: String::from("vfs"),
        number: SERVER,
        task: TASK,
        space: SPACE,
        vital: false,
        history: History::default(),
        due_ns: None,
        gone: false,
        booted: Installed::new(&image("vfs", (1, 1), 0, 1), Frame(10), Frame(20)),
        image: Installed::new(&image("vfs", (1, 1), 0, 1), Frame(10), Frame(20)),
        other: None,
    };
    (script, charge)
}

/// What root does about all this.
fn played((script, charge): (Script, Charge)) -> Vec<(Syscall, u64)> {
    let made = script.made.clone();
    let state = State { servers: vec![charge], images: IMAGES };
    let mut root = Root::new(Kernel::new(script), state);
    let end = catch_unwind(AssertUnwindSafe(|| -> () {
        loop {
            root.serve_one()
        }
    }));
    let end = end.unwrap_err();
    assert!(end.is::<Over>(), "{:?}", end.downcast_ref::<String>());
    made.take()
}

/// The same about news of a server that the machine can or cannot do without.
fn done(news: impl IntoIterator<Item = News>, vital: bool) -> Vec<(Syscall, u64)> {
    let (script, charge) = scene(news);
    played((script, Charge { vital, ..charge }))
}

const RESTART: (Syscall, u64) = (Syscall::ServerRestart, 0);

#[test]
fn a_dead_server_runs_again() {
    assert_eq!(done([death(5, true)], false), [RESTART]);
}

#[test]
fn an_event_that_kills_again_is_disposed_of_before_its_server_runs_again() {
    let wanted = [RESTART, (Syscall::ServerDispose, 0), RESTART];
    assert_eq!(done([death(5, true), death(5, true)], false), wanted);
}

#[test]
fn a_server_that_cannot_be_helped_is_given_up_and_with_a_vital_one_the_machine_stops() {
    let deaths = || [death(5, false), death(5, false), death(5, false)];
    let given_up = [RESTART, RESTART, (Syscall::ServerAbandon, 0)];
    assert_eq!(done(deaths(), false), given_up);
    assert_eq!(done(deaths(), true), [&given_up[..], &[(Syscall::PowerOff, 126)]].concat());
}

#[test]
fn in_a_storm_a_server_runs_again_when_the_timer_says_so() {
    let deaths = (1..=7).map(|event| death(event, true));
    let made = done(deaths.chain([News::Timer(10), News::Timer(1_000_000)]), false);
    let (restarts, rest) = made.split_at(6);
    assert_eq!(restarts, [RESTART; 6]);
    let timer = (Syscall::TimerSet, 1_000_000);
    assert_eq!(rest, [timer, timer, RESTART], "the first tick is too early");
}

const SAVE: (Syscall, u64) = (Syscall::UpgradeStep, 0);
const TRY: (Syscall, u64) = (Syscall::UpgradeStep, 1);

fn end(verdict: Verdict) -> (Syscall, u64) {
    (Syscall::UpgradeStep, 2 | (verdict as u64) << 8)
}

/// One image, with code and data at these pages, goes, and another comes.
fn exchanged(out: [u64; 2], into: [u64; 2]) -> Vec<(Syscall, u64)> {
    let [code, data] = out.map(|page| IMAGE_ADDRESS + page * PAGE_SIZE);
    let [new_code, new_data] = into.map(|page| IMAGE_ADDRESS + page * PAGE_SIZE);
    vec![
        (Syscall::Unmap, code),
        (Syscall::Unmap, data),
        (Syscall::ServerSegment, data),
        (Syscall::Map, new_code),
        (Syscall::ServerSegment, new_data),
        (Syscall::Map, new_data),
    ]
}

const NEW_ENTRY: u64 = IMAGE_ADDRESS + 2 * PAGE_SIZE + 0x10;

fn handed_in(new: &Image, news: impl IntoIterator<Item = News>) -> (Script, Charge) {
    let (script, charge) = scene(news);
    (Script { file: file(new), ..script }, charge)
}

#[test]
fn a_server_that_has_saved_its_state_goes_on_in_the_new_image() {
    let new = image("vfs", (2, 1), 2, 3);
    let news = [Stage::Asked, Stage::Stopped, Stage::Live].map(News::Upgrade);
    let wanted = [
        vec![SAVE],
        exchanged([0, 1], [2, 3]),
        vec![TRY, (Syscall::ServerRestart, NEW_ENTRY), end(Verdict::Done)],
    ];
    assert_eq!(played(handed_in(&new, news)), wanted.concat());
}

#[test]
fn a_new_image_that_fails_on_trial_makes_room_for_the_old_one() {
    let new = image("vfs", (1, 1), 2, 3);
    let news = [Stage::Asked, Stage::Stopped, Stage::Failed].map(News::Upgrade);
    let wanted = [
        vec![SAVE],
        exchanged([0, 1], [2, 3]),
        vec![TRY, (Syscall::ServerRestart, NEW_ENTRY)],
        exchanged([2, 3], [0, 1]),
        vec![end(Verdict::Failed), (Syscall::ServerRestart, ENTRY)],
    ];
    assert_eq!(played(handed_in(&new, news)), wanted.concat());
}

#[test]
fn an_image_that_cannot_be_mapped_makes_room_for_the_old_one() {
    let (mut script, charge) =
        handed_in(&image("vfs", (1, 1), 2, 3), [Stage::Asked, Stage::Stopped].map(News::Upgrade));
    script.refused = Some(IMAGE_ADDRESS + 3 * PAGE_SIZE);
    let wanted = [
        vec![SAVE],
        exchanged([0, 1], [2, 3]),
        exchanged([2, 3], [0, 1]),
        vec![end(Verdict::Failed), (Syscall::ServerRestart, ENTRY)],
    ];
    assert_eq!(played((script, charge)), wanted.concat());
}

#[test]
fn a_server_that_was_given_up_goes_on_in_a_new_image_at_once() {
    let deaths = (0..3).map(|_| death(5, false));
    let (script, charge) =
        handed_in(&image("vfs", (1, 1), 2, 3), deaths.chain([News::Upgrade(Stage::Asked)]));
    let made = played((Script { saved: Some(Stage::Stopped), ..script }, charge));
    let wanted = [
        vec![RESTART, RESTART, (Syscall::ServerAbandon, 0), SAVE],
        exchanged([0, 1], [2, 3]),
        vec![TRY, (Syscall::ServerRestart, NEW_ENTRY)],
    ];
    assert_eq!(made, wanted.concat());
}

#[test]
fn a_server_given_up_stays_so_when_an_image_is_refused() {
    let deaths = (0..3).map(|_| death(5, false));
    let asked = deaths.chain([News::Upgrade(Stage::Asked)]);
    let made = played(handed_in(&image("ufs", (1, 1), 2, 3), asked));
    assert_eq!(made[2..], [(Syscall::ServerAbandon, 0), end(Verdict::OtherServer)]);
}

#[test]
fn without_an_image_a_server_goes_back_to_the_one_it_booted_from() {
    let (script, mut charge) = scene([Stage::Asked, Stage::Stopped].map(News::Upgrade));
    charge.image = Installed::new(&image("vfs", (1, 1), 2, 3), Frame(10), Frame(20));
    let wanted = [vec![SAVE], exchanged([2, 3], [0, 1]), vec![TRY, (Syscall::ServerRestart, ENTRY)]].concat();
    assert_eq!(played((script, charge)), wanted);
}

/// What is said of an image that was handed in.
fn verdict_on(file: Vec<u8>) -> Option<Verdict> {
    let (script, charge) = scene([News::Upgrade(Stage::Asked)]);
    let made = played((Script { file, ..script }, charge));
    assert_eq!(made.len(), 1, "{made:?}");
    Verdict::from_number(made[0].1 >> 8)
}

#[test]
fn an_image_that_cannot_take_over_is_refused_and_why() {
    let with = |change: &dyn Fn(&mut Image)| {
        let mut new = image("vfs", (1, 1), 2, 3);
        change(&mut new);
        verdict_on(file(&new))
    };
    assert_eq!(with(&|_| {}), None, "this one is taken");
    assert_eq!(with(&|new| new.identity.name = b"ufs".to_vec()), Some(Verdict::OtherServer));
    assert_eq!(with(&|new| new.identity.machine = elf::abi::EM_386), Some(Verdict::WrongMachine));
    assert_eq!(with(&|new| new.identity.abi = 99), Some(Verdict::OtherAbi));
    assert_eq!(with(&|new| new.identity.schemas = (3, 2)), Some(Verdict::Schema));
    assert_eq!(with(&|new| new.identity.schemas = (0, 0)), Some(Verdict::Schema), "an older one");
    assert_eq!(with(&|new| new.parts[0].address = IMAGE_ADDRESS + IMAGE_BYTES), Some(Verdict::TooLarge));
    assert_eq!(with(&|new| new.parts[1].address = new.parts[0].address), Some(Verdict::NotAnImage));
    assert_eq!(with(&|new| new.entry = new.parts[1].address), Some(Verdict::NotAnImage));
    assert_eq!(with(&|new| new.parts[1].file_page = 9), Some(Verdict::NotAnImage), "it is cut off");
    let room = u64::from(IMAGES.1) * PAGE_SIZE;
    let long = |bytes: u64| {
        let mut file = file(&image("vfs", (1, 1), 2, 3));
        file.resize(bytes as usize, 0);
        verdict_on(file)
    };
    assert_eq!(long(room), Some(Verdict::NoRoom));
    assert_eq!(long(IMAGE_BYTES + 2 * PAGE_SIZE), Some(Verdict::TooLarge));
    for bytes in [&b"#!/bin/sh\n"[..], &[0x7f, b'E', b'L', b'F'], &[0; 10_000]] {
        assert_eq!(verdict_on(bytes.to_vec()), Some(Verdict::NotAnImage));
    }
    let mut nameless = file(&image("vfs", (1, 1), 2, 3));
    nameless[3 * PAGE_SIZE as usize..].fill(0);
    assert_eq!(verdict_on(nameless), Some(Verdict::NotAnImage));
}
