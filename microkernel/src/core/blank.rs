//! What stands in the free places of the arenas: objects that mean nothing.

use libipc::abi::upgrade::ImageFigures;
use libipc::abi::{Badge, Frame, Readiness, TaskWord, UserRegisters};

use super::account::{Account, Faulted};
use super::arena::{Blank, Id, Link, List};
use super::device::Devices;
use super::object::*;
use super::quota::Holdings;
use super::sweep::Epoch;
use super::watchdog::Watched;
use crate::window::Window;

impl Blank for Chunk {
    const BLANK: Chunk = Chunk { slots: [HandleSlot::EMPTY; CHUNK_SLOTS as usize], taken: 0 };
}

impl Blank for Table {
    const BLANK: Table = Table { users: 0, lowest_free: 0, bound: 0, first: Chunk::BLANK, rows: [None; 32] };
}

impl Blank for Directories {
    const BLANK: Directories = Directories { users: 0, sessions: [None; 2], umask: 0 };
}

impl Blank for Task {
    const BLANK: Task = Task {
        personality: Personality::Native,
        space: Id::NOTHING,
        table: Id::NOTHING,
        directories: None,
        words: [0; TaskWord::COUNT as usize],
        first_thread: None,
        cpu_ns: 0,
        peak_pages: 0,
        server: None,
        maker: None,
    };
}

impl Blank for Server {
    const BLANK: Server = Server {
        task: Id::NOTHING,
        table: Id::NOTHING,
        number: 0,
        thread: None,
        state: ServerState::Embryo,
        incarnation: 0,
        deaths: [0; 2],
        buffer: FrameRange::EMPTY,
        message: Window::NONE,
        arena: FrameRange::EMPTY,
        journal: None,
        segments: [Segment::EMPTY; SEGMENTS as usize],
        entry: 0,
        stack: 0,
        calls: List::EMPTY,
        events: List::EMPTY,
        closes: List::EMPTY,
        watched: List::EMPTY,
        bits: 0,
        deadline: u64::MAX,
        devices: Devices::NONE,
        first_free: 0,
        epoch: Epoch::FIRST,
        doom: None,
        struck: None,
        died_ns: None,
        restart_ns: 0,
        received: 0,
        waiting: false,
        digest: None,
        fell: None,
        began_at: 0,
        patience_ns: u64::MAX,
        watched_at: Watched::NONE,
        account: Account::NONE,
        falls: (0, 0),
        holdings: Holdings::UNLIMITED,
        image: ImageFigures { schema: 0, pages: 0 },
        upgrades: 0,
        verdict: None,
    };
}

impl Blank for Thread {
    const BLANK: Thread = Thread {
        registers: UserRegisters::ZERO,
        entry: Entry::Interrupt,
        task: Id::NOTHING,
        state: ThreadState::Embryo,
        tid: 0,
        priority: 0,
        server: None,
        top: Frame(0),
        stopped: true,
        attention: Attention::empty(),
        restart: 0,
        link: Link::NONE,
        cpu_ns: 0,
        slice_ns: 0,
        sibling: (None, None),
        faulted: Faulted::NONE,
        who: 0,
        handling: 0,
    };
}

impl Blank for Space {
    const BLANK: Space = Space::new(Frame(0), Id::NOTHING, Badge(0));
}

impl Blank for Session {
    const BLANK: Session = Session {
        server: Id::NOTHING,
        server_number: 0,
        badge: Badge(0),
        object: 0,
        holders: 0,
        owned: None,
        tells_close: false,
        closes_again: false,
        status: 0,
        readiness: Readiness::empty(),
        position: 0,
        watchers: None,
        link: Link::NONE,
    };
}

impl Blank for Watcher {
    const BLANK: Watcher = Watcher {
        by: WatchedBy::Call(Id::NOTHING),
        session: None,
        wanted: Readiness::empty(),
        siblings: (None, None),
        next: None,
        tells_again: false,
        link: Link::NONE,
    };
}

impl Blank for Call {
    const BLANK: Call = Call {
        kind: CallKind::Native,
        phase: Phase::Queued,
        signals: 0,
        faulting: false,
        rewritten: false,
        handle_count: 0,
        label: 0,
        number: 0,
        task: Id::NOTHING,
        thread: None,
        parent: None,
        server: Id::NOTHING,
        session: None,
        tag: 0,
        words: [0; 4],
        buffer: None,
        payload_len: 0,
        handles: [Object::None; 4],
        reserved: [None; 2],
        watches: None,
        sequence: 0,
        since: 0,
        cause: 0,
        origin: 0,
        link: Link::NONE,
    };
}
