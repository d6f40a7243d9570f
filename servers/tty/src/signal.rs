//! The signals a terminal sends, with the numbers programs know them by on Linux x86_64.

use serde::{Deserialize, Serialize};

/// A signal a terminal sends to a process group or a session leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Signal {
    /// SIGHUP: the terminal is gone.
    HangUp,
    /// SIGINT: the interrupt character was typed.
    Interrupt,
    /// SIGQUIT: the quit character was typed.
    Quit,
    /// SIGCONT: a stopped process runs again, here to notice a hang-up.
    Continue,
    /// SIGTSTP: the suspend character was typed.
    Suspend,
    /// SIGTTIN: a background process tried to read.
    BackgroundRead,
    /// SIGTTOU: a background process tried to write or to change the terminal.
    BackgroundWrite,
    /// SIGWINCH: the window's size changed.
    WindowChange,
}

impl Signal {
    /// The signal's number on Linux x86_64.
    pub fn number(self) -> u32 {
        match self {
            Signal::HangUp => 1,
            Signal::Interrupt => 2,
            Signal::Quit => 3,
            Signal::Continue => 18,
            Signal::Suspend => 20,
            Signal::BackgroundRead => 21,
            Signal::BackgroundWrite => 22,
            Signal::WindowChange => 28,
        }
    }
}
