//! Ends that are set for servers on purpose: when one comes, what happens then, and how both are written in a system
//! call and on a line of `/proc/naiad/servers/NAME/ctl`.

use serde::{Deserialize, Serialize};

/// Behind an [`Injection`] in the system call's second word: the count is one of nanoseconds.
const BY_TIME: u64 = 1 << 8;
/// Before its entry point a server's image has so many bytes for each fault it can be made to run into.
pub const FAULT_BYTES: u64 = 16;

/// What happens to a server. Each but the first has [`FAULT_BYTES`] of instructions in every server's image, the first
/// right before the entry point (`libipc::sys::start`), and is a fault like any other from then on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Injection {
    /// It is gone, without a fault.
    Kill = 0,
    /// It runs an instruction that no CPU knows.
    Undefined = 1,
    /// It loads from an address that cannot be one.
    Load = 2,
    /// It calls itself until its stack has no end.
    Stack = 3,
    /// It runs round and round.
    Loop = 4,
    /// It allocates until its heap has nothing left.
    Heap = 5,
    /// It divides by zero.
    Divide = 6,
}

impl Injection {
    /// All of them, by the names that users know them by.
    pub const NAMES: [(&'static str, Injection); 7] = [
        ("kill", Injection::Kill),
        ("ud2", Injection::Undefined),
        ("load", Injection::Load),
        ("stack", Injection::Stack),
        ("loop", Injection::Loop),
        ("heap", Injection::Heap),
        ("divide", Injection::Divide),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// The one with a name.
    pub fn named(name: &str) -> Option<Injection> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
    }

    /// How far before a server's entry point the instructions of this fault begin.
    pub fn bytes_before_entry(self) -> u64 {
        self as u64 * FAULT_BYTES
    }
}

/// When it happens, counted from when it is set, over all incarnations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Moment {
    /// Right after so many more system calls of the server; 0 is at once.
    Traps(u64),
    /// After so many more nanoseconds of the server on the CPU, at whatever instruction it is then.
    CpuTime(u64),
}

impl Moment {
    /// Whether there is nothing to wait for.
    pub fn is_now(self) -> bool {
        self == Moment::Traps(0)
    }

    /// Reads `17` (system calls) or `1200ns`.
    fn parse(text: &str) -> Option<Moment> {
        match text.strip_suffix("ns") {
            Some(time) => time.parse().ok().map(Moment::CpuTime),
            None => text.parse().ok().map(Moment::Traps),
        }
    }
}

/// An end that is set for a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Doom {
    /// When.
    pub moment: Moment,
    /// What.
    pub fault: Injection,
}

impl Doom {
    /// The words of the system call.
    pub fn pack(self) -> [u64; 2] {
        match self.moment {
            Moment::Traps(count) => [count, self.fault as u64],
            Moment::CpuTime(count) => [count, self.fault as u64 | BY_TIME],
        }
    }

    /// Reads the words of the system call.
    pub fn unpack([count, what]: [u64; 2]) -> Option<Doom> {
        let moment = if what & BY_TIME == 0 { Moment::Traps(count) } else { Moment::CpuTime(count) };
        let fault = usize::try_from(what & !BY_TIME).ok().and_then(|number| Injection::NAMES.get(number))?.1;
        Some(Doom { moment, fault })
    }

    /// Reads what stands behind `crash`: a moment, a fault, both in this order, or nothing, which is to be killed now.
    pub fn parse(words: &[&str]) -> Option<Doom> {
        let (moment, fault) = match words {
            [] => (Moment::Traps(0), Injection::Kill),
            [word] => match Injection::named(word) {
                Some(fault) => (Moment::Traps(0), fault),
                None => (Moment::parse(word)?, Injection::Kill),
            },
            [moment, fault] => (Moment::parse(moment)?, Injection::named(fault)?),
            _ => return None,
        };
        Some(Doom { moment, fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Doom> {
        Doom::parse(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn a_command_names_a_moment_a_fault_both_or_neither() {
        let doom = |moment, fault| Some(Doom { moment, fault });
        assert_eq!(parse(""), doom(Moment::Traps(0), Injection::Kill));
        assert_eq!(parse("17"), doom(Moment::Traps(17), Injection::Kill));
        assert_eq!(parse("ud2"), doom(Moment::Traps(0), Injection::Undefined));
        assert_eq!(parse("1200ns stack"), doom(Moment::CpuTime(1200), Injection::Stack));
        for bad in ["ns", "-1", "1us", "crash", "ud2 17", "1 2", "1 ud2 x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_end_goes_through_a_system_call_as_it_is() {
        for (name, fault) in Injection::NAMES {
            assert_eq!((fault.name(), Injection::named(name)), (name, Some(fault)));
            for moment in [Moment::Traps(0), Moment::Traps(u64::MAX), Moment::CpuTime(5)] {
                let doom = Doom { moment, fault };
                assert_eq!(Doom::unpack(doom.pack()), Some(doom));
            }
        }
        assert_eq!(Doom::unpack([1, Injection::NAMES.len() as u64]), None);
        assert_eq!(Doom::unpack([1, u64::MAX]), None);
    }
}
