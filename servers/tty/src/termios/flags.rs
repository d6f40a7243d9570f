//! The four flag words of `struct termios`, with Linux's bits.
//!
//! Bits that have no name here are kept as they were set and given back, as Linux does.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// `c_iflag`: what happens to bytes as they arrive.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct InputFlags: u32 {
        /// A break condition is ignored.
        const IGNBRK = 0o1;
        /// A break condition interrupts the foreground group.
        const BRKINT = 0o2;
        /// Bytes with parity or framing errors are dropped.
        const IGNPAR = 0o4;
        /// Errors are marked in the input as 0xff 0x00, and 0xff is doubled.
        const PARMRK = 0o10;
        /// Parity errors are looked for.
        const INPCK = 0o20;
        /// The eighth bit is cleared.
        const ISTRIP = 0o40;
        /// Newline becomes carriage return.
        const INLCR = 0o100;
        /// Carriage return is dropped.
        const IGNCR = 0o200;
        /// Carriage return becomes newline.
        const ICRNL = 0o400;
        /// Upper case becomes lower case (with IEXTEN).
        const IUCLC = 0o1000;
        /// The stop and start characters hold and release output.
        const IXON = 0o2000;
        /// Any character releases held output.
        const IXANY = 0o4000;
        /// Input is held off by sending stop and start characters (kept, without effect).
        const IXOFF = 0o10000;
        /// The bell rings when input is lost because the queue is full.
        const IMAXBEL = 0o20000;
        /// Input is UTF-8, so erasing takes whole characters.
        const IUTF8 = 0o40000;
    }
}

bitflags! {
    /// `c_oflag`: what happens to bytes as they leave.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct OutputFlags: u32 {
        /// Output is processed at all.
        const OPOST = 0o1;
        /// Lower case becomes upper case.
        const OLCUC = 0o2;
        /// Newline becomes carriage return, newline.
        const ONLCR = 0o4;
        /// Carriage return becomes newline.
        const OCRNL = 0o10;
        /// Carriage return in column zero is dropped.
        const ONOCR = 0o20;
        /// Newline also returns the carriage.
        const ONLRET = 0o40;
        /// Delays are made with fill characters (kept, without effect).
        const OFILL = 0o100;
        /// The fill character is DEL (kept, without effect).
        const OFDEL = 0o200;
        /// Both bits of the tab field.
        const TABDLY = 0o14000;
        /// Value of the tab field: tabs become spaces.
        const XTABS = 0o14000;
    }
}

bitflags! {
    /// `c_cflag`: the framing and speed of a serial line.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct ControlFlags: u32 {
        /// Both bits of the character size field.
        const CSIZE = 0o60;
        /// Value of the size field: eight bits.
        const CS8 = 0o60;
        /// Two stop bits.
        const CSTOPB = 0o100;
        /// The receiver is on.
        const CREAD = 0o200;
        /// A parity bit is sent and checked.
        const PARENB = 0o400;
        /// Parity is odd.
        const PARODD = 0o1000;
        /// The last close hangs the line up.
        const HUPCL = 0o2000;
        /// Modem control lines are ignored.
        const CLOCAL = 0o4000;
        /// All bits of the output speed field.
        const CBAUD = 0o10017;
        /// All bits of the input speed field; zero means the output speed.
        const CIBAUD = 0o10017 << 16;
        /// Value of the output speed field: 38400 bits a second.
        const B38400 = 0o17;
        /// Value of the output speed field: 115200 bits a second.
        const B115200 = 0o10002;
        /// Value of the output speed field: as `c_ospeed` says.
        const BOTHER = 0o10000;
    }
}

bitflags! {
    /// `c_lflag`: line editing, echo and signals.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct LocalFlags: u32 {
        /// The interrupt, quit and suspend characters send signals.
        const ISIG = 0o1;
        /// Input is handed out in edited lines.
        const ICANON = 0o2;
        /// Upper case is shown with backslashes (kept, without effect, as on Linux).
        const XCASE = 0o4;
        /// Input is echoed.
        const ECHO = 0o10;
        /// Erase wipes the character from the screen.
        const ECHOE = 0o20;
        /// Kill is echoed, with a newline.
        const ECHOK = 0o40;
        /// Newline is echoed even without ECHO.
        const ECHONL = 0o100;
        /// Signals leave queued input and output alone.
        const NOFLSH = 0o200;
        /// Background writes stop the writer.
        const TOSTOP = 0o400;
        /// Control characters are echoed as `^X`.
        const ECHOCTL = 0o1000;
        /// Erased characters are printed again, between a backslash and a slash.
        const ECHOPRT = 0o2000;
        /// Kill wipes the line from the screen.
        const ECHOKE = 0o4000;
        /// Output is being discarded (kept, without effect, as on Linux).
        const FLUSHO = 0o10000;
        /// Input is to be typed again (kept, without effect, as on Linux).
        const PENDIN = 0o40000;
        /// The extended editing characters work.
        const IEXTEN = 0o100000;
        /// Editing is done by the other end (kept, without effect).
        const EXTPROC = 0o200000;
    }
}
