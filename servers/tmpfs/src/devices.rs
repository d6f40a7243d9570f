//! The memory devices (major 1), and the volume that is mounted at /dev with all device nodes of the system.

use alloc::{vec, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
use crate::arena::Span;
use crate::names::Author;
use crate::node::{Body, Directory, Ino, Node};
use crate::open::{Kind, New, Then};
use crate::transfer::{
    Direction, OUTPUT_MAX, Outcome, Ranges, Refusal, TRANSFER_MAX, copy, hand_out, small, value,
};
use crate::tree::{DEV_VOLUME, Target, Tree};
use libipc::abi::CallId;
use libipc::linux::Stat;
use libipc::linux::errno::*;
use libipc::linux::mode::{S_IFCHR, S_IFDIR, S_ISVTX};
use libipc::proto::fs::Credentials;
use libipc::server::{Call, Effects, Env, ForeignReply, Message, Operation, files};

/// Most random bytes of one call.
const RANDOM_MAX: u64 = 65536;
/// Longest line written to the log at once.
const LOG_MAX: u64 = 1024;
const GRND_NONBLOCK: u64 = 1;
const GRND_RANDOM: u64 = 2;
const GRND_INSECURE: u64 = 4;
/// ioctl: how much entropy there is, in bits.
const RNDGETENTCNT: u64 = 0x8004_5200;
const ENTROPY_BITS: u32 = 256;

/// A memory device; the discriminant is its minor number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Device {
    /// Swallows all, gives nothing.
    Null = 3,
    /// Gives zeroes.
    Zero = 5,
    /// Gives zeroes and is always full.
    Full = 7,
    /// Gives random bytes.
    Random = 8,
    /// The same.
    Urandom = 9,
    /// The console log.
    Kmsg = 11,
}

impl Device {
    const MAJOR: u64 = 1;

    /// The memory device with this number (as in st_rdev).
    pub fn from_number(number: u64) -> Option<Device> {
        use Device::*;
        [Null, Zero, Full, Random, Urandom, Kmsg].into_iter().find(|device| device.number() == number)
    }

    /// Its device number.
    pub fn number(self) -> u64 {
        device_number(Device::MAJOR, self as u64)
    }
}

/// A device number as st_rdev has it, for numbers below 256.
const fn device_number(major: u64, minor: u64) -> u64 {
    major << 8 | minor
}

/// What stands in /dev.
enum Entry {
    Device(u64, u32),
    Link(&'static [u8]),
    Directory(u32),
}

/// The table of /dev.
const ENTRIES: [(&[u8], Entry); 16] = [
    (b"null", Entry::Device(device_number(1, 3), 0o666)),
    (b"zero", Entry::Device(device_number(1, 5), 0o666)),
    (b"full", Entry::Device(device_number(1, 7), 0o666)),
    (b"random", Entry::Device(device_number(1, 8), 0o666)),
    (b"urandom", Entry::Device(device_number(1, 9), 0o666)),
    (b"kmsg", Entry::Device(device_number(1, 11), 0o644)),
    (b"tty", Entry::Device(device_number(5, 0), 0o666)),
    (b"console", Entry::Device(device_number(5, 1), 0o600)),
    (b"ttyS0", Entry::Device(device_number(4, 64), 0o620)),
    (b"ptmx", Entry::Link(b"pts/ptmx")),
    (b"fd", Entry::Link(b"/proc/self/fd")),
    (b"stdin", Entry::Link(b"/proc/self/fd/0")),
    (b"stdout", Entry::Link(b"/proc/self/fd/1")),
    (b"stderr", Entry::Link(b"/proc/self/fd/2")),
    (b"pts", Entry::Directory(0o755)),
    (b"shm", Entry::Directory(0o777 | S_ISVTX)),
];

/// Fills the volume of /dev.
pub fn populate(tree: &mut Tree, now_ns: i64) -> Result<(), i32> {
    let root = tree.root(DEV_VOLUME, now_ns)?;
    let who = Credentials::default();
    let author = Author { who: &who, now_ns, covers: &[] };
    for (name, entry) in &ENTRIES {
        let target = Target { directory: Some(root), name, node: None, slash: false };
        match entry {
            Entry::Device(number, permissions) => {
                tree.create(&target, author, S_IFCHR | permissions, Body::Device(*number))?
            }
            Entry::Link(text) => tree.make_symlink(&target, author, text)?,
            Entry::Directory(permissions) => {
                let body = Body::Directory(Directory::new(root));
                tree.create(&target, author, S_IFDIR | permissions, body)?
            }
        };
    }
    Ok(())
}

impl Tmpfs {
    /// vfs opens a device node that is ours.
    pub(crate) fn open_device(&mut self, call: CallId, words: [u64; 4], env: &mut dyn Env) -> Effects {
        let [number, flags, ..] = words;
        let Some(device) = Device::from_number(number) else {
            let mut effects = Effects::none();
            effects.reply(call, Message::label(ENXIO as u32));
            return effects;
        };
        let new = New { kind: Kind::Device(device), status: files::status_of_open(flags as u32) };
        self.open_now(call, &[new], Then::Device, env)
    }

    /// The node of a device in /dev.
    pub(crate) fn device_node(&self, device: Device) -> Option<Ino> {
        let root = self.tree.get(self.tree.root_of(DEV_VOLUME)?)?;
        let mut entries = root.directory()?.after(0).map(|(_, _, ino)| ino);
        entries.find(|ino| {
            let body = self.tree.get(*ino).map(|node| &node.body);
            matches!(body, Some(Body::Device(number)) if *number == device.number())
        })
    }

    /// The attributes of a device, also when its node has been removed.
    pub(crate) fn device_stat(&self, device: Device) -> Stat {
        let found = self.device_node(device).and_then(|ino| Some((ino, self.tree.get(ino)?)));
        if let Some((ino, node)) = found {
            return node.stat(ino, self.number);
        }
        let body = Body::Device(device.number());
        Node::new(DEV_VOLUME, S_IFCHR | 0o666, (0, 0), self.epoch_ns, body).stat(0, self.number)
    }

    /// read(2) of a device.
    pub(crate) fn device_read(
        &mut self,
        call: &Call,
        device: Device,
        ranges: &Ranges,
        env: &mut dyn Env,
    ) -> Outcome {
        match device {
            Device::Null | Device::Kmsg => value(call.id, 0),
            Device::Zero | Device::Full => {
                let wanted = ranges.total().min(TRANSFER_MAX);
                if wanted == 0 {
                    return value(call.id, 0);
                }
                let length = ranges.probe(call.id, 0, wanted, env)?;
                let spans = zeroes(length);
                let mut effects = Effects::none();
                copy(&mut effects, call.id, Direction::Read, ranges, 0, &spans);
                effects.result(call.id, length as i64);
                Ok(effects)
            }
            Device::Random | Device::Urandom => self.give_random(call, ranges, env),
        }
    }

    /// write(2) to a device.
    pub(crate) fn device_write(
        &mut self,
        call: &Call,
        device: Device,
        ranges: &Ranges,
        env: &mut dyn Env,
    ) -> Outcome {
        let length = ranges.total().min(i64::from(i32::MAX) as u64);
        match device {
            Device::Null | Device::Zero => value(call.id, length),
            Device::Full => Err(Refusal::Errno(ENOSPC)),
            Device::Random | Device::Urandom => {
                let bytes = ranges.gather(call.id, 0, length.min(OUTPUT_MAX), env)?;
                self.random.stir(&bytes);
                value(call.id, length)
            }
            Device::Kmsg if length > LOG_MAX => Err(Refusal::Errno(EINVAL)),
            Device::Kmsg => {
                let text = ranges.gather(call.id, 0, length, env)?;
                let mut effects = Effects::none();
                effects.act(Operation::Log { text });
                effects.result(call.id, length as i64);
                Ok(effects)
            }
        }
    }

    /// getrandom(2).
    pub(crate) fn get_random(&mut self, call: &Call, arguments: [u64; 6], env: &mut dyn Env) -> Outcome {
        let [address, length, flags, ..] = arguments;
        let both = GRND_RANDOM | GRND_INSECURE;
        if flags & !(GRND_NONBLOCK | both) != 0 || flags & both == both {
            return Err(Refusal::Errno(EINVAL));
        }
        self.give_random(call, &Ranges::one(address, length)?, env)
    }

    fn give_random(&mut self, call: &Call, ranges: &Ranges, env: &mut dyn Env) -> Outcome {
        let length = ranges.total().min(RANDOM_MAX);
        self.random.stir(&env.now().to_le_bytes());
        let bytes = self.random.bytes(length);
        let mut effects = Effects::none();
        let reply = ForeignReply { result: length as i64, ..ForeignReply::default() };
        hand_out(&mut effects, call.id, ranges, bytes, reply);
        Ok(effects)
    }

    /// lseek(2) of a device: those that have no position stay at 0.
    pub(crate) fn device_seek(&self, call: &Call, device: Device) -> Outcome {
        let position = match device {
            Device::Random | Device::Urandom => call.position,
            _ => 0,
        };
        let mut effects = Effects::none();
        let reply = ForeignReply { result: position as i64, position: Some(position), ..Default::default() };
        effects.foreign(call.id, reply);
        Ok(effects)
    }

    /// ioctl(2) of a device.
    pub(crate) fn device_control(&self, call: &Call, device: Device, request: u64, address: u64) -> Outcome {
        match (device, request) {
            (Device::Random | Device::Urandom, RNDGETENTCNT) => {
                small(call.id, 0, address, &ENTROPY_BITS.to_le_bytes())
            }
            _ => Err(Refusal::Errno(ENOTTY)),
        }
    }
}

/// So many bytes of the pages that stay zero.
fn zeroes(length: u64) -> Vec<Span> {
    let whole = length / Span::ZEROES.length;
    let rest = length % Span::ZEROES.length;
    let mut spans = vec![Span::ZEROES; whole as usize];
    if rest > 0 {
        spans.push(Span { length: rest, ..Span::ZEROES });
    }
    spans
}
