//! Deaths of servers by events that had killed them before, as the kernel keeps them: the table in
//! `/proc/naiad/crashes`, and which of them can be read from `/proc/naiad/reproducers`.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use libipc::abi::Kind;
use libipc::abi::crash::{Disposition, Fault};
use libipc::server::Env;
use libipc::server::env::Statistic;

use crate::Procfs;

/// Most places that are looked at.
const PLACES_MAX: u64 = 64;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crash {
    /// Counted from 1.
    pub serial: u32,
    /// The server's number.
    pub server: u32,
    incarnation: u64,
    fault: Option<Fault>,
    event: Option<Kind>,
    disposition: Option<Disposition>,
    received: u64,
    /// Bytes of snapshot and journal that are kept, and snapshots made.
    pub snapshot_bytes: u64,
    pub journal_bytes: u64,
    pub snapshots: u64,
}

impl Crash {
    /// All, the oldest first.
    pub(crate) fn all(env: &mut dyn Env) -> impl Iterator<Item = Crash> + use<> {
        let mut crashes: Vec<Crash> = Vec::new();
        for place in 0..PLACES_MAX {
            let [who, incarnation, how, received] = env.statistic(Statistic::Crash, place);
            match who {
                u64::MAX => break,
                0 => continue,
                _ => {}
            }
            let [snapshot_bytes, journal_bytes, snapshots, _] = env.statistic(Statistic::CrashKept, place);
            crashes.push(Crash {
                serial: who as u32,
                server: (who >> 32) as u32,
                incarnation,
                fault: Fault::from_number(how & 0xff),
                event: Kind::from_number((how >> 8 & 0xff) as u32),
                disposition: Disposition::from_number(how >> 16 & 0xff),
                received,
                snapshot_bytes,
                journal_bytes,
                snapshots,
            });
        }
        crashes.sort_unstable_by_key(|crash| crash.serial);
        crashes.into_iter()
    }

    /// The one with this number, if what led to it is kept.
    pub(crate) fn kept(serial: u32, env: &mut dyn Env) -> Option<Crash> {
        Crash::all(env).find(|crash| crash.serial == serial && crash.is_kept())
    }

    /// Whether what led to it is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.journal_bytes > 0
    }
}

/// What is left of a server that has died by itself: an ELF core file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Core {
    /// Counted from 1.
    pub serial: u32,
    /// The server's number.
    pub server: u32,
    /// Its length.
    pub bytes: u64,
}

impl Core {
    /// All that are kept, the oldest first.
    pub(crate) fn all(env: &mut dyn Env) -> impl Iterator<Item = Core> + use<> {
        let figures = (0..PLACES_MAX).map(|place| env.statistic(Statistic::Core, place));
        let kept = figures.take_while(|[who, ..]| *who != u64::MAX).filter(|[who, ..]| *who != 0);
        let core =
            |[who, _, bytes, _]: [u64; 4]| Core { serial: who as u32, server: (who >> 32) as u32, bytes };
        let mut cores: Vec<Core> = kept.map(core).collect();
        cores.sort_unstable_by_key(|core| core.serial);
        cores.into_iter()
    }

    /// The one with this number.
    pub(crate) fn kept(serial: u32, env: &mut dyn Env) -> Option<Core> {
        Core::all(env).find(|core| core.serial == serial)
    }
}

/// An event in words.
fn event(kind: Kind) -> &'static str {
    match kind {
        Kind::Call => "call",
        Kind::Foreign => "system call",
        Kind::Fault => "fault",
        Kind::Attention => "signal",
        Kind::Answer => "answer",
        Kind::Notify => "notification",
        Kind::Cancel => "cancellation",
        Kind::LastClose => "last close",
        Kind::Ready => "page",
        Kind::Watch | Kind::Watched => "readiness",
    }
}

impl Procfs {
    /// The table of crashes: a row each, the oldest first.
    pub(crate) fn crash_rows(&self, env: &mut dyn Env) -> Vec<Vec<String>> {
        let words = |word: Option<String>| word.unwrap_or_else(|| "-".to_owned());
        let row = |crash: Crash| {
            let kept = crash.is_kept().then(|| format!("cargo xtask replay {}", crash.serial));
            let cells = [
                format!("{}", crash.serial),
                self.server_name(crash.server).unwrap_or("?").to_owned(),
                format!("{}", crash.incarnation),
                format!("{}", crash.received),
                words(crash.event.map(|kind| event(kind).to_owned())),
                words(crash.fault.map(|fault| format!("{fault}"))),
                words(crash.disposition.map(|disposition| format!("{disposition}"))),
                words(kept),
            ];
            cells.into()
        };
        Crash::all(env).map(row).collect()
    }
}
