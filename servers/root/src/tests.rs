//! Root over a kernel that follows a script: servers die, and root's traps are noted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::string::String;

use libipc::abi::Handle;
use libipc::abi::crash::{Disposition, Fall, Fault};
use libipc::abi::delivery::{DELIVERY_OFFSET, Delivery, Kind};
use libipc::abi::syscall::Syscall;
use libipc::server::TIMER_BIT;
use libipc::server::env::TaskFigure;
use libipc::sys::{BUFFER_BYTES, Trapped, Traps};
use zerocopy::IntoBytes;

use crate::kernel::Kernel;
use crate::policy::History;
use crate::supervise::{Charge, supervise};

const SERVER: u32 = 4;
const TASK: Handle = Handle(9);

/// What happens, in order: a server's death, or the timer at some time.
enum News {
    Death(Fall),
    Timer(u64),
}

/// The end of a script.
struct Over;

struct Script {
    news: VecDeque<News>,
    now_ns: u64,
    fall: [u64; 5],
    made: Rc<RefCell<Vec<(Syscall, u64)>>>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Script {
    fn receive(&mut self) {
        let bits = match self.news.pop_front() {
            Some(News::Death(fall)) => {
                self.fall = fall.to_values();
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

impl Traps for Script {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        match call {
            Syscall::Receive => self.receive(),
            Syscall::TaskInfo if arguments[1] == TaskFigure::Fall as u64 => return Ok(self.fall),
            Syscall::TaskInfo | Syscall::Log => {}
            Syscall::TimerSet | Syscall::PowerOff => {
                self.made.borrow_mut().push((call, arguments[0]));
            }
            call => {
                assert_eq!(arguments[0], u64::from(TASK.0), "{call:?}");
                self.made.borrow_mut().push((call, 0));
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
        culprit: 7,
        waiting: 0,
    })
}

/// What root does about all this to a server that the machine can or cannot do without.
fn done(news: impl IntoIterator<Item = News>, vital: bool) -> Vec<(Syscall, u64)> {
    let made = Rc::new(RefCell::new(Vec::new()));
    let script = Script {
        news: news.into_iter().collect(),
        now_ns: 0,
        fall: [0; 5],
        made: made.clone(),
        buffer: Box::new([0; BUFFER_BYTES]),
    };
    let charge = Charge {
        name: String::from("vfs"),
        number: SERVER,
        task: TASK,
        vital,
        history: History::default(),
        due_ns: None,
    };
    let end = catch_unwind(AssertUnwindSafe(|| -> () {
        supervise(&mut Kernel::new(script), vec![charge]);
    }));
    assert!(end.unwrap_err().is::<Over>());
    made.take()
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
