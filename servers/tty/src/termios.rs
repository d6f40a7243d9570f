//! The settings of a terminal: Linux x86_64's `struct termios`, `struct termios2` and `struct winsize`.
//!
//! It owns the byte layouts programs pass to TCGETS, TCSETS and their kin, and the meaning of the speed
//! fields. It must never act on a setting; that is the line discipline's part. Layouts:
//! `asm-generic/termbits.h`.

mod flags;
#[cfg(test)]
mod tests;

use core::fmt;

use serde::{Deserialize, Serialize};

pub use flags::{ControlFlags, InputFlags, LocalFlags, OutputFlags};

/// How many control characters the kernel's structure holds.
pub const CONTROL_CHARS: usize = 19;
/// Size of `struct termios`: four flag words, the line discipline's number, the control characters.
pub const TERMIOS_BYTES: usize = 36;
/// Size of `struct termios2`: the same, then the input and the output speed.
pub const TERMIOS2_BYTES: usize = 44;
/// Size of `struct winsize`.
pub const WINSIZE_BYTES: usize = 8;

/// A place in `c_cc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlChar {
    /// VINTR: sends SIGINT.
    Interrupt = 0,
    /// VQUIT: sends SIGQUIT.
    Quit = 1,
    /// VERASE: erases one character.
    Erase = 2,
    /// VKILL: erases the line.
    Kill = 3,
    /// VEOF: hands out what was typed; at the start of a line, the end of the file.
    EndOfFile = 4,
    /// VTIME: how long a raw read waits, in tenths of a second.
    Time = 5,
    /// VMIN: how many bytes a raw read waits for.
    Min = 6,
    /// VSTART: releases output.
    Start = 8,
    /// VSTOP: holds output.
    Stop = 9,
    /// VSUSP: sends SIGTSTP.
    Suspend = 10,
    /// VEOL: another end of line.
    EndOfLine = 11,
    /// VREPRINT: shows the line again.
    Reprint = 12,
    /// VWERASE: erases one word.
    WordErase = 14,
    /// VLNEXT: takes the next character literally.
    LiteralNext = 15,
    /// VEOL2: yet another end of line.
    EndOfLine2 = 16,
}

/// The settings of one terminal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Termios {
    /// `c_iflag`.
    pub input: InputFlags,
    /// `c_oflag`.
    pub output: OutputFlags,
    /// `c_cflag`.
    pub control: ControlFlags,
    /// `c_lflag`.
    pub local: LocalFlags,
    /// `c_line`: the line discipline's number, N_TTY being 0; kept, without effect.
    pub discipline: u8,
    /// `c_cc`; a value of zero switches a character off.
    pub chars: [u8; CONTROL_CHARS],
    /// `c_ispeed`, in bits a second.
    pub input_speed: u32,
    /// `c_ospeed`, in bits a second.
    pub output_speed: u32,
}

/// Why bytes are not a terminal structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// There are more or fewer bytes than the structure has.
    WrongLength,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::WrongLength => f.write_str("the structure has another length"),
        }
    }
}

impl Default for Termios {
    /// What Linux gives a fresh pseudoterminal: edited lines, echo, signals, 38400 bits a second.
    fn default() -> Self {
        use {ControlFlags as C, InputFlags as I, LocalFlags as L, OutputFlags as O};
        Termios {
            input: I::ICRNL | I::IXON,
            output: O::OPOST | O::ONLCR,
            control: C::B38400 | C::CS8 | C::CREAD,
            local: L::ISIG | L::ICANON | L::ECHO | L::ECHOE | L::ECHOK | L::ECHOCTL | L::ECHOKE | L::IEXTEN,
            discipline: 0,
            chars: [3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16, 0, 0, 0],
            input_speed: 38_400,
            output_speed: 38_400,
        }
    }
}

impl Termios {
    /// What the console starts with: the default on a local line of 115200 bits a second that its last close
    /// hangs up, with UTF-8 at the other end as Linux's own console has.
    pub fn console() -> Self {
        let mut termios = Termios::default();
        termios.input |= InputFlags::IUTF8;
        termios.control.remove(ControlFlags::CBAUD);
        termios.control |= ControlFlags::B115200 | ControlFlags::HUPCL | ControlFlags::CLOCAL;
        termios.input_speed = 115_200;
        termios.output_speed = 115_200;
        termios
    }

    /// The value of one control character.
    pub fn char(&self, which: ControlChar) -> u8 {
        self.chars[which as usize]
    }

    /// Sets one control character; zero switches it off.
    pub fn set_char(&mut self, which: ControlChar, byte: u8) {
        self.chars[which as usize] = byte;
    }

    /// Whether `byte` is that control character; no byte is one that is switched off.
    pub fn is(&self, which: ControlChar, byte: u8) -> bool {
        byte != 0 && byte == self.char(which)
    }

    /// Reads `struct termios` as TCSETS passes it. The speeds follow from `c_cflag`; where that says BOTHER,
    /// the structure has no place for them and those of `previous` stay.
    pub fn parse(bytes: &[u8], previous: &Termios) -> Result<Termios, LayoutError> {
        let words: &[u8; TERMIOS_BYTES] = bytes.try_into().map_err(|_| LayoutError::WrongLength)?;
        Ok(Self::from_layout(words, previous.input_speed, previous.output_speed))
    }

    /// Reads `struct termios2` as TCSETS2 passes it; its speeds count only where `c_cflag` says BOTHER.
    pub fn parse_termios2(bytes: &[u8]) -> Result<Termios, LayoutError> {
        let all: &[u8; TERMIOS2_BYTES] = bytes.try_into().map_err(|_| LayoutError::WrongLength)?;
        let (head, speeds) = all.split_first_chunk().ok_or(LayoutError::WrongLength)?;
        Ok(Self::from_layout(head, word(speeds, 0), word(speeds, 1)))
    }

    fn from_layout(bytes: &[u8; TERMIOS_BYTES], input_speed: u32, output_speed: u32) -> Termios {
        let mut chars = [0; CONTROL_CHARS];
        chars.copy_from_slice(&bytes[TERMIOS_BYTES - CONTROL_CHARS..]);
        let control = ControlFlags::from_bits_retain(word(bytes, 2));
        let output_speed = speed((control & ControlFlags::CBAUD).bits(), output_speed);
        let input_field = (control & ControlFlags::CIBAUD).bits() >> 16;
        Termios {
            input: InputFlags::from_bits_retain(word(bytes, 0)),
            output: OutputFlags::from_bits_retain(word(bytes, 1)),
            control,
            local: LocalFlags::from_bits_retain(word(bytes, 3)),
            discipline: bytes[16],
            chars,
            input_speed: if input_field == 0 { output_speed } else { speed(input_field, input_speed) },
            output_speed,
        }
    }

    /// Writes `struct termios` as TCGETS returns it.
    pub fn to_bytes(&self) -> [u8; TERMIOS_BYTES] {
        let mut bytes = [0; TERMIOS_BYTES];
        let words = [self.input.bits(), self.output.bits(), self.control.bits(), self.local.bits()];
        for (place, value) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes[16] = self.discipline;
        bytes[TERMIOS_BYTES - CONTROL_CHARS..].copy_from_slice(&self.chars);
        bytes
    }

    /// Writes `struct termios2` as TCGETS2 returns it.
    pub fn to_termios2_bytes(&self) -> [u8; TERMIOS2_BYTES] {
        let mut bytes = [0; TERMIOS2_BYTES];
        bytes[..TERMIOS_BYTES].copy_from_slice(&self.to_bytes());
        bytes[36..40].copy_from_slice(&self.input_speed.to_le_bytes());
        bytes[40..].copy_from_slice(&self.output_speed.to_le_bytes());
        bytes
    }

    /// The same settings with the framing a line without wires has, eight bits and no parity, as Linux forces
    /// on a pseudoterminal.
    pub fn with_fixed_framing(mut self) -> Self {
        self.control.remove(ControlFlags::CSIZE | ControlFlags::PARENB);
        self.control |= ControlFlags::CS8 | ControlFlags::CREAD;
        self
    }
}

/// The `index`th little-endian word; zero past the end.
fn word(bytes: &[u8], index: usize) -> u32 {
    bytes.as_chunks::<4>().0.get(index).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// What a speed field stands for in bits a second; `other` where it says BOTHER. A speed that does not exist
/// is zero.
fn speed(field: u32, other: u32) -> u32 {
    const SLOW: [u32; 16] =
        [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400];
    const FAST: [u32; 15] = [
        57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000,
        2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    let other_bit = ControlFlags::BOTHER.bits();
    let index = (field & !other_bit) as usize;
    match (field & other_bit != 0, index) {
        (false, index) => SLOW.get(index).copied().unwrap_or(0),
        (true, 0) => other,
        (true, index) => FAST.get(index - 1).copied().unwrap_or(0),
    }
}

/// The size of a terminal's window: what TIOCGWINSZ returns and TIOCSWINSZ sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Width in pixels; zero where unknown.
    pub width_pixels: u16,
    /// Height in pixels; zero where unknown.
    pub height_pixels: u16,
}

impl WindowSize {
    /// Reads `struct winsize`.
    pub fn parse(bytes: &[u8]) -> Result<WindowSize, LayoutError> {
        let all: &[u8; WINSIZE_BYTES] = bytes.try_into().map_err(|_| LayoutError::WrongLength)?;
        let field = |at: usize| u16::from_le_bytes([all[at], all[at + 1]]);
        Ok(WindowSize { rows: field(0), columns: field(2), width_pixels: field(4), height_pixels: field(6) })
    }

    /// Writes `struct winsize`.
    pub fn to_bytes(self) -> [u8; WINSIZE_BYTES] {
        let mut bytes = [0; WINSIZE_BYTES];
        let fields = [self.rows, self.columns, self.width_pixels, self.height_pixels];
        for (place, value) in bytes.chunks_exact_mut(2).zip(fields) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}
