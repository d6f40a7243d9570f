//! The two forms in which programs name descriptors and what they wait for: a list of `struct pollfd`, or three sets.

use alloc::{vec, vec::Vec};

use libipc::abi::Readiness;
use libipc::linux::errno::*;
use libipc::server::LeaseError;
pub(super) use libipc::server::Refusal;
use serde::{Deserialize, Serialize};

use crate::epoll::Wanted;

/// One more than the highest descriptor of select(2).
const DESCRIPTORS_MAX: u32 = 1024;
/// Bytes of `struct pollfd`.
pub(super) const ENTRY_BYTES: u64 = 8;
const WORD_BITS: u32 = 64;

/// The bits of poll(2) that ask for each kind of readiness; the normal and band bits go with the plain ones.
const KINDS: [(Readiness, u16); 3] = [
    // POLLIN, POLLRDNORM
    (Readiness::IN, 0x001 | 0x040),
    // POLLPRI, POLLRDBAND
    (Readiness::PRI, 0x002 | 0x080),
    // POLLOUT, POLLWRNORM, POLLWRBAND
    (Readiness::OUT, 0x004 | 0x100 | 0x200),
];
const POLLRDHUP: u16 = 0x2000;

/// One `struct pollfd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PollEntry {
    descriptor: i32,
    events: u16,
}

/// What a call waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Form {
    /// poll(2): the entries and where they lie.
    Poll { address: u64, entries: Vec<PollEntry> },
    /// select(2): descriptors to read, to write and with exceptions, each set with its address.
    Select { count: u32, sets: [Option<(u64, Vec<u64>)>; 3] },
    /// epoll_wait(2).
    Epoll(Wanted),
}

/// What is ready, as the caller wants to be told.
pub(super) struct Ready {
    /// Entries, or bits in all sets.
    pub count: u32,
    /// Pieces for the caller's memory.
    pub outputs: Vec<(u64, Vec<u8>)>,
}

/// Asks what a descriptor is ready for: `None` when it is not open.
pub(super) type Watch<'a> = dyn FnMut(u32, Readiness) -> Result<Option<Readiness>, i32> + 'a;
/// Reads the caller's memory.
pub(super) type Read<'a> = dyn FnMut(u64, u32) -> Result<Vec<u8>, LeaseError> + 'a;

impl Form {
    /// The entries of poll(2) as gathered.
    ///
    /// # Errors
    /// `EFAULT` for a null pointer to some.
    pub fn poll(address: u64, count: u32, gathered: Option<&[u8]>) -> Result<Form, i32> {
        let (entries, _) = gathered.unwrap_or_default().as_chunks::<8>();
        if entries.len() as u64 != u64::from(count) {
            return Err(EFAULT);
        }
        let entry = |bytes: &[u8; 8]| {
            let word = u64::from_le_bytes(*bytes);
            PollEntry { descriptor: word as i32, events: (word >> 32) as u16 }
        };
        Ok(Form::Poll { address, entries: entries.iter().map(entry).collect() })
    }

    /// The sets of select(2), read from the caller.
    ///
    /// # Errors
    /// `EINVAL` for a negative count, or why the caller's memory could not be read.
    pub fn select(count: i32, addresses: [u64; 3], read: &mut Read<'_>) -> Result<Form, Refusal> {
        let count = u32::try_from(count).map_err(|_| EINVAL)?.min(DESCRIPTORS_MAX);
        let length = count.div_ceil(WORD_BITS) * ENTRY_BYTES as u32;
        let mut sets = [None, None, None];
        for (set, address) in sets.iter_mut().zip(addresses).filter(|(_, address)| *address != 0) {
            let bytes = if length == 0 { Vec::new() } else { read(address, length)? };
            let (words, _) = bytes.as_chunks::<8>();
            *set = Some((address, words.iter().map(|word| u64::from_le_bytes(*word)).collect()));
        }
        Ok(Form::Select { count, sets })
    }

    /// Looks at every descriptor.
    ///
    /// # Errors
    /// `EBADF` when select(2) names one that is not open; what watching says.
    pub fn look(&self, watch: &mut Watch<'_>) -> Result<Ready, i32> {
        match self {
            Form::Poll { address, entries } => look_poll(*address, entries, watch),
            Form::Select { count, sets } => look_select(*count, sets, watch),
            // A set says by itself when there is something.
            Form::Epoll(_) => Ok(Ready { count: 0, outputs: Vec::new() }),
        }
    }
}

fn look_poll(address: u64, entries: &[PollEntry], watch: &mut Watch<'_>) -> Result<Ready, i32> {
    let mut count = 0;
    let mut bytes = Vec::new();
    for entry in entries {
        let found = match u32::try_from(entry.descriptor) {
            // A negative descriptor is passed over.
            Err(_) => 0,
            Ok(descriptor) => watch(descriptor, wanted(entry.events))?
                .map_or(Readiness::NVAL.bits() as u16, |ready| shown(ready, entry.events)),
        };
        count += u32::from(found != 0);
        bytes.extend(entry.descriptor.to_le_bytes());
        bytes.extend(entry.events.to_le_bytes());
        bytes.extend(found.to_le_bytes());
    }
    let outputs = if bytes.is_empty() { Vec::new() } else { vec![(address, bytes)] };
    Ok(Ready { count, outputs })
}

/// What poll(2) waits for: what was asked, and always for errors and hang-ups.
fn wanted(events: u16) -> Readiness {
    let asked = KINDS.iter().filter(|(_, bits)| events & bits != 0).map(|(kind, _)| *kind);
    asked.fold(Readiness::ERR | Readiness::HUP, |all, kind| all | kind)
}

/// `revents`.
fn shown(ready: Readiness, events: u16) -> u16 {
    let always = (ready & (Readiness::ERR | Readiness::HUP | Readiness::NVAL)).bits() as u16;
    let hup = if ready.contains(Readiness::HUP) { events & POLLRDHUP } else { 0 };
    let asked = KINDS.iter().filter(|(kind, _)| ready.contains(*kind)).map(|(_, bits)| events & bits);
    asked.fold(always | hup, |all, bits| all | bits)
}

/// What makes a descriptor count in each of the three sets; a hang-up or error lets read(2) and write(2) return.
fn select_kinds() -> [Readiness; 3] {
    [Readiness::IN | Readiness::HUP | Readiness::ERR, Readiness::OUT | Readiness::ERR, Readiness::PRI]
}

fn look_select(count: u32, sets: &[Option<(u64, Vec<u64>)>; 3], watch: &mut Watch<'_>) -> Result<Ready, i32> {
    let kinds = select_kinds();
    let asks = |set: &Option<(u64, Vec<u64>)>, descriptor: u32| {
        let word = set.as_ref().and_then(|(_, words)| words.get((descriptor / WORD_BITS) as usize));
        word.is_some_and(|word| word >> (descriptor % WORD_BITS) & 1 != 0)
    };
    let mut found: [Vec<u64>; 3] = [0, 1, 2].map(|_| vec![0; count.div_ceil(WORD_BITS) as usize]);
    let mut ready_count = 0;
    for descriptor in 0..count {
        let asked = sets.each_ref().map(|set| asks(set, descriptor));
        let kinds_asked = kinds.iter().zip(asked).filter(|(_, asked)| *asked).map(|(kind, _)| *kind);
        let wanted = kinds_asked.fold(Readiness::empty(), |all, kind| all | kind);
        if wanted.is_empty() {
            continue;
        }
        let ready = watch(descriptor, wanted)?.ok_or(EBADF)?;
        for ((set, kind), asked) in found.iter_mut().zip(kinds).zip(asked) {
            let word = set.get_mut((descriptor / WORD_BITS) as usize);
            if let Some(word) = word.filter(|_| asked && ready.intersects(kind)) {
                *word |= 1 << (descriptor % WORD_BITS);
                ready_count += 1;
            }
        }
    }
    let outputs = sets.iter().zip(found).filter_map(|(set, words)| {
        let (address, _) = set.as_ref().filter(|_| !words.is_empty())?;
        Some((*address, words.iter().flat_map(|word| word.to_le_bytes()).collect()))
    });
    Ok(Ready { count: ready_count, outputs: outputs.collect() })
}
