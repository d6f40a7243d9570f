//! What the system says of itself: uname(2), sysinfo(2), names of host and domain, syslog(2), reboot(2).

use alloc::{vec, vec::Vec};

use libipc::abi::PAGE_SIZE;
use libipc::linux::errno::{EFAULT, EINVAL, EPERM};
use libipc::proto::space::{self, Answer};
use libipc::server::Message;
use libipc::server::effect::Operation;

use crate::Proc;
use crate::turn::{Asked, Outcome, Reply, Turn, errno};

/// Bytes of each field of `struct utsname`.
const FIELD_BYTES: usize = 65;
const RELEASE: &[u8] = b"6.1.0-naiad";
const VERSION: &[u8] = concat!("Naiad ", env!("CARGO_PKG_VERSION")).as_bytes();

const REBOOT_MAGIC_1: u32 = 0xfee1_dead;
const REBOOT_MAGIC_2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
const REBOOT_RESTART: u32 = 0x0123_4567;
const REBOOT_HALT: u32 = 0xcdef_0123;
const REBOOT_POWER_OFF: u32 = 0x4321_fedc;
const REBOOT_KEYS_ON: u32 = 0x89ab_cdef;
const REBOOT_KEYS_OFF: u32 = 0;

const SYSLOG_CLOSE: i32 = 0;
const SYSLOG_SIZE_BUFFER: i32 = 10;

impl Proc {
    pub(crate) fn uname(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let domain: &[u8] = if self.domain.is_empty() { b"(none)" } else { &self.domain };
        let fields = [b"Linux", self.host.as_slice(), RELEASE, VERSION, b"x86_64", domain];
        let mut bytes = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            bytes.extend(field.iter().take(FIELD_BYTES - 1));
            bytes.resize((index + 1) * FIELD_BYTES, 0);
        }
        Reply::bytes(asked.word(0), bytes)
    }

    /// A name of the host or its domain from the superuser.
    fn new_name(&self, asked: &Asked) -> Result<Vec<u8>, crate::turn::Refusal> {
        if !self.is_superuser(asked.pid) {
            return errno(EPERM);
        }
        let length = asked.int(1);
        if length < 0 || length.unsigned_abs() as usize >= FIELD_BYTES {
            return errno(EINVAL);
        }
        match asked.input(0) {
            Some(name) => Ok(name.to_vec()),
            None if length == 0 => Ok(Vec::new()),
            None => errno(EFAULT),
        }
    }

    pub(crate) fn sethostname(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        self.host = self.new_name(asked)?;
        #[cfg(feature = "seeded-bug")]
        if crate::seeded_bug::trip_over(&self.host) {
            self.host.clear();
        }
        Reply::DONE
    }

    pub(crate) fn setdomainname(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        self.domain = self.new_name(asked)?;
        Reply::DONE
    }

    pub(crate) fn sysinfo(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let question = Message::typed(space::REQUEST, &space::Request::Memory);
        let answer = turn.env.ask(self.vm, &question).ok().and_then(|answer| answer.decode().ok());
        let (total, free) = match answer {
            Some(Answer::Memory { total, free, .. }) => (total, free),
            _ => (0, 0),
        };
        let loads = self.load_averages(turn);
        let mut bytes = Vec::new();
        let uptime_s = turn.env.now() / 1_000_000_000;
        let mut words = vec![uptime_s];
        words.extend(loads.map(|load| load << 5));
        // Total, free, shared, buffers (file pages are in none of these, as on Linux), and no swap.
        words.extend([total * PAGE_SIZE, free * PAGE_SIZE, 0, 0, 0, 0]);
        words.extend([u64::from(self.threads.len().min(u16::MAX as usize) as u16), 0, 0, 1]);
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        Reply::bytes(asked.word(0), bytes)
    }

    /// The log is the console's: there is nothing in it to be read or cleared here.
    pub(crate) fn syslog(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        if !self.is_superuser(asked.pid) {
            return errno(EPERM);
        }
        match asked.int(0) {
            SYSLOG_CLOSE..=SYSLOG_SIZE_BUFFER => Reply::DONE,
            _ => errno(EINVAL),
        }
    }

    pub(crate) fn reboot(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        if !self.is_superuser(asked.pid) {
            return errno(EPERM);
        }
        if asked.unsigned(0) != REBOOT_MAGIC_1 || !REBOOT_MAGIC_2.contains(&asked.unsigned(1)) {
            return errno(EINVAL);
        }
        match asked.unsigned(2) {
            REBOOT_RESTART => turn.act(Operation::PowerOff { status: 0, reboot: true }),
            REBOOT_HALT | REBOOT_POWER_OFF => turn.act(Operation::PowerOff { status: 0, reboot: false }),
            REBOOT_KEYS_ON | REBOOT_KEYS_OFF => {}
            _ => return errno(EINVAL),
        }
        Reply::DONE
    }
}
