//! The requests programs make of a terminal with `ioctl`, decoded from Linux x86_64's numbers.
//!
//! Decoding only: which request it is and what its argument says. What it needs from the caller's memory is
//! the server's to fetch, and whether the caller may ask is for `jobs` to decide.

/// When new settings take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At once.
    Now,
    /// When everything written so far has left.
    AfterOutput,
    /// Likewise, and input that was not read yet is thrown away first.
    AfterOutputDiscardingInput,
}

/// Which of the two terminal structures a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `struct termios`, 36 bytes.
    Termios,
    /// `struct termios2`, 44 bytes.
    Termios2,
}

/// Which queues TCFLSH throws away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Input that was not read.
    Input,
    /// Output that has not left.
    Output,
    /// Both.
    Both,
}

/// What TCXONC asks of the flow of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Hold output.
    HoldOutput,
    /// Let output go on.
    ReleaseOutput,
    /// Tell the other end to stop, with the stop character.
    HoldInput,
    /// Tell the other end to go on, with the start character.
    ReleaseInput,
}

/// A request on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// TCGETS, TCGETS2.
    GetTermios(Layout),
    /// TCSETS, TCSETSW, TCSETSF and their second versions.
    SetTermios(Layout, Apply),
    /// TCSBRK with a zero argument, TCSBRKP: wait for output to leave, then send a break.
    SendBreak,
    /// TCSBRK with any other argument, which is `tcdrain`: wait for output to leave.
    Drain,
    /// TCXONC.
    Flow(Flow),
    /// TCFLSH.
    Flush(Flush),
    /// TIOCSCTTY; true asks to take the terminal away from another session.
    AcquireControl(bool),
    /// TIOCNOTTY.
    GiveUpControl,
    /// TIOCGPGRP.
    GetForeground,
    /// TIOCSPGRP.
    SetForeground,
    /// TIOCGSID.
    GetSession,
    /// TIOCOUTQ: how much output waits.
    CountOutput,
    /// FIONREAD: how much input waits.
    CountInput,
    /// TIOCSTI: pretend a byte was typed.
    TypeByte,
    /// TIOCGWINSZ.
    GetWindowSize,
    /// TIOCSWINSZ.
    SetWindowSize,
}

/// Why a request is refused before anything is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Terminals do not know this request (ENOTTY).
    Unknown,
    /// The request is known, its argument is none of those it takes (EINVAL).
    BadArgument,
}

impl Request {
    /// Decodes the number and the argument a program passed to `ioctl`.
    pub fn decode(number: u32, argument: u64) -> Result<Request, DecodeError> {
        use {Apply::*, Layout::*, Request::*};
        Ok(match number {
            0x5401 => GetTermios(Termios),
            0x5402 => SetTermios(Termios, Now),
            0x5403 => SetTermios(Termios, AfterOutput),
            0x5404 => SetTermios(Termios, AfterOutputDiscardingInput),
            0x802c_542a => GetTermios(Termios2),
            0x402c_542b => SetTermios(Termios2, Now),
            0x402c_542c => SetTermios(Termios2, AfterOutput),
            0x402c_542d => SetTermios(Termios2, AfterOutputDiscardingInput),
            0x5409 if argument == 0 => SendBreak,
            0x5409 => Drain,
            0x540a => Flow(flow(argument)?),
            0x540b => Flush(flush(argument)?),
            0x540e => AcquireControl(argument == 1),
            0x540f => GetForeground,
            0x5410 => SetForeground,
            0x5411 => CountOutput,
            0x5412 => TypeByte,
            0x5413 => GetWindowSize,
            0x5414 => SetWindowSize,
            0x541b => CountInput,
            0x5422 => GiveUpControl,
            0x5425 => SendBreak,
            0x5429 => GetSession,
            _ => return Err(DecodeError::Unknown),
        })
    }

    /// Whether the request changes the terminal, so that a background process is stopped with SIGTTOU for
    /// asking.
    pub fn changes_terminal(self) -> bool {
        use Request::*;
        matches!(self, SetTermios(..) | SendBreak | Drain | Flow(_) | Flush(_) | SetForeground)
    }
}

fn flow(argument: u64) -> Result<Flow, DecodeError> {
    match argument {
        0 => Ok(Flow::HoldOutput),
        1 => Ok(Flow::ReleaseOutput),
        2 => Ok(Flow::HoldInput),
        3 => Ok(Flow::ReleaseInput),
        _ => Err(DecodeError::BadArgument),
    }
}

fn flush(argument: u64) -> Result<Flush, DecodeError> {
    match argument {
        0 => Ok(Flush::Input),
        1 => Ok(Flush::Output),
        2 => Ok(Flush::Both),
        _ => Err(DecodeError::BadArgument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_requests_say_when_they_take_effect_and_what_they_carry() {
        for (number, layout, apply) in [
            (0x5402, Layout::Termios, Apply::Now),
            (0x5404, Layout::Termios, Apply::AfterOutputDiscardingInput),
            (0x402c_542c, Layout::Termios2, Apply::AfterOutput),
        ] {
            assert_eq!(Request::decode(number, 0x7000), Ok(Request::SetTermios(layout, apply)));
        }
    }

    #[test]
    fn arguments_out_of_range_and_foreign_requests_are_told_apart() {
        assert_eq!(Request::decode(0x540a, 4), Err(DecodeError::BadArgument));
        assert_eq!(Request::decode(0x540b, 3), Err(DecodeError::BadArgument));
        assert_eq!(Request::decode(0x540b, 1 << 32), Err(DecodeError::BadArgument));
        assert_eq!(Request::decode(0x8004_1234, 0), Err(DecodeError::Unknown));
    }

    #[test]
    fn looking_does_not_count_as_changing() {
        assert!(!Request::GetTermios(Layout::Termios).changes_terminal());
        assert!(!Request::SetWindowSize.changes_terminal());
        assert!(Request::Flush(Flush::Both).changes_terminal());
    }
}
