//! What is needed of ACPI: where the interrupt controllers are and how the ISA lines reach them (the MADT). Every
//! length is checked; tables that make no sense are as good as absent, and the PC's standard addresses serve.

/// Reads physical memory: bytes at an address, if it is ordinary memory.
pub type Reader = fn(u64, u64) -> Option<&'static [u8]>;

/// An ISA line that is wired to another pin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Override {
    /// The line.
    pub line: u8,
    /// The I/O APIC pin.
    pub pin: u8,
    /// Polarity in bits 0 and 1, trigger mode in bits 2 and 3 (ACPI 6.5, table 5.26).
    pub flags: u16,
}

/// What the MADT says.
#[derive(Clone, Copy, Debug)]
pub struct Madt {
    /// Physical address of the local APIC.
    pub local: u64,
    /// Physical address of the first I/O APIC.
    pub io: u64,
    overrides: [Option<Override>; 16],
}

impl Madt {
    /// What a PC has where ACPI says nothing.
    pub const STANDARD: Madt = Madt { local: 0xfee0_0000, io: 0xfec0_0000, overrides: [None; 16] };

    /// How a line is wired, if not straight.
    pub fn override_of(&self, line: u8) -> Option<Override> {
        self.overrides.iter().flatten().find(|entry| entry.line == line).copied()
    }

    /// Finds the MADT from the root pointer.
    pub fn find(root: u64, read: Reader) -> Option<Madt> {
        let pointer = read(root, 36)?;
        if pointer.get(..8)? != b"RSD PTR " {
            return None;
        }
        let extended = *pointer.get(15)? >= 2;
        let (table, width) = match extended {
            true => (number(pointer, 24, 8)?, 8),
            false => (number(pointer, 16, 4)?, 4),
        };
        let header = read(table, 36)?;
        let length = number(header, 4, 4)?;
        let entries = read(table, length)?.get(36..)?;
        entries.chunks_exact(width as usize).find_map(|entry| {
            let address = number(entry, 0, width)?;
            let header = read(address, 36)?;
            if header.get(..4)? != b"APIC" {
                return None;
            }
            Some(Madt::parse(read(address, number(header, 4, 4)?)?))
        })
    }

    fn parse(table: &[u8]) -> Madt {
        let mut madt = Madt::STANDARD;
        if let Some(local) = number(table, 36, 4) {
            madt.local = local;
        }
        let mut rest = table.get(44..).unwrap_or_default();
        let mut io_seen = false;
        while let [kind, length, ..] = *rest {
            let Some(entry) = rest.get(..usize::from(length)).filter(|entry| entry.len() >= 2) else { break };
            rest = &rest[entry.len()..];
            match kind {
                1 if !io_seen => {
                    madt.io = number(entry, 4, 4).unwrap_or(madt.io);
                    io_seen = true;
                }
                2 => madt.add_override(entry),
                _ => {}
            }
        }
        madt
    }

    fn add_override(&mut self, entry: &[u8]) {
        let (Some(line), Some(pin), Some(flags)) =
            (number(entry, 3, 1), number(entry, 4, 4), number(entry, 8, 2))
        else {
            return;
        };
        let Ok(pin) = u8::try_from(pin) else { return };
        if let Some(place) = self.overrides.iter_mut().find(|place| place.is_none()) {
            *place = Some(Override { line: line as u8, pin, flags: flags as u16 });
        }
    }
}

fn number(bytes: &[u8], at: usize, width: u64) -> Option<u64> {
    let bytes = bytes.get(at..at + width as usize)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
