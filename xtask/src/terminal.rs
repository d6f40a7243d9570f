//! The host's terminal: speaking to its user, its size, and putting it back into order after QEMU.

use std::io::{self, IsTerminal, Write};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};

/// Writes a line to stderr, wholly, even while QEMU has made the terminal non-blocking.
pub fn tell(line: &str) {
    let mut rest = line.as_bytes();
    let mut stderr = io::stderr().lock();
    let mut ending = &b"\n"[..];
    while !rest.is_empty() || !ending.is_empty() {
        let from = if rest.is_empty() { &mut ending } else { &mut rest };
        match stderr.write(from) {
            Ok(0) => return,
            Ok(count) => *from = &from[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(_) => return,
        }
    }
}

/// Writes a line to stdout. A reader that has gone away, such as `head`, has seen enough.
pub fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
}

/// Rows and columns of the terminal behind stdout; zeros when there is none.
pub fn size() -> (u16, u16) {
    tcgetwinsize(io::stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Remembers how the terminal was, and restores it when dropped, however QEMU ended.
pub struct Guard {
    attributes: Option<Termios>,
    flags: [Option<OFlags>; 3],
}

impl Guard {
    /// Takes note of the terminal's state.
    pub fn new() -> Self {
        let attributes = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
        let flags =
            [fcntl_getfl(io::stdin()).ok(), fcntl_getfl(io::stdout()).ok(), fcntl_getfl(io::stderr()).ok()];
        Self { attributes, flags }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let [stdin, stdout, stderr] = self.flags;
        let _ = stdin.map(|flags| fcntl_setfl(io::stdin(), flags));
        let _ = stdout.map(|flags| fcntl_setfl(io::stdout(), flags));
        let _ = stderr.map(|flags| fcntl_setfl(io::stderr(), flags));
        if let Some(attributes) = &self.attributes {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, attributes);
        }
    }
}
