//! One run of a machine, from QEMU's start to its end: its serial lines, its time limit, and how it ended.

use std::{
    io::{self, IsTerminal, Write},
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    capture::Capture,
    console::{self, LastWords, Typist},
    qemu::Qemu,
    terminal,
};

const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The signals that end the machine before xtask.
const SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The first program ended with this status.
    Status(u8),
    /// The guest restarted the machine, which ends it here.
    Reboot,
    /// The kernel panicked; its epitaph is in the log.
    Panic,
    /// The machine was reset, or ended without saying anything.
    Reset,
    /// The time limit was reached.
    Timeout,
    /// xtask received this signal.
    Signal(u8),
    /// QEMU itself failed; its complaint is in the log.
    Qemu,
}

impl Ending {
    /// The status with which xtask ends.
    pub fn status(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Reboot => 0,
            Self::Panic | Self::Reset => 101,
            Self::Timeout => 124,
            Self::Qemu => 125,
            Self::Signal(number) => 128 + number,
        }
    }

    /// What to tell the user, when it is not the first program's own affair.
    pub fn message(self) -> Option<&'static str> {
        match self {
            Self::Status(_) | Self::Reboot | Self::Signal(_) => None,
            Self::Panic => Some("the kernel panicked"),
            Self::Reset => Some("the machine ended without a status: it was reset, or ended from outside"),
            Self::Timeout => Some("the machine was ended by the time limit"),
            Self::Qemu => Some("QEMU failed"),
        }
    }

    fn from_parts(forced: Option<Self>, last_words: LastWords, exit: ExitStatus) -> Self {
        match (forced, last_words) {
            (_, LastWords { panicked: true, .. }) => Self::Panic,
            (_, LastWords { status: Some(status), .. }) => Self::Status(status),
            (_, LastWords { reboot: true, .. }) => Self::Reboot,
            (Some(forced), _) => forced,
            (None, _) if exit.code() == Some(1) => Self::Qemu,
            (None, _) => Self::Reset,
        }
    }
}

/// Where the guest's terminal is connected.
pub enum Terminal<'a> {
    /// xtask's own stdin and stdout.
    Own,
    /// No input; output goes here, with line ends as in a file.
    Captured(&'a mut (dyn Write + Send)),
    /// Somebody who types one of these lines whenever the guest is ready for one; output as above.
    Typed(&'a [&'a str], &'a mut (dyn Write + Send)),
}

/// Runs the machine to its end, while its trace, if there is one, is carried to its file. `tell` gets the lines of the
/// console log.
pub fn run(
    qemu: &Qemu,
    terminal: Terminal<'_>,
    timeout: Option<Duration>,
    capture: Option<&mut Capture>,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Ending> {
    let signal = watch_signals()?;
    let own = matches!(terminal, Terminal::Own);
    let inherit_input = own && io::stdin().is_terminal();
    let inherit_output = own && io::stdout().is_terminal();
    let _guard = own.then(terminal::Guard::new);

    let mut command = qemu.command();
    command.stdin(if inherit_input { Stdio::inherit() } else { Stdio::piped() });
    command.stdout(if inherit_output { Stdio::inherit() } else { Stdio::piped() });
    let child = command.stderr(Stdio::piped()).spawn().context("cannot start QEMU")?;
    let mut running = Running(child);
    if own && let Some(input) = running.0.stdin.take() {
        // Never joined: it ends with its pipe or with xtask.
        thread::spawn(move || console::type_input(io::stdin(), input));
    }

    let (mut input, output) = (running.0.stdin.take(), running.0.stdout.take());
    let log = running.0.stderr.take().context("QEMU has no stderr")?;
    let (mut stdout, mut typist) = (io::stdout(), None);
    let to: &mut (dyn Write + Send) = match terminal {
        Terminal::Own => &mut stdout,
        Terminal::Captured(to) => to,
        Terminal::Typed(lines, to) => typist.insert(Typist::new(lines, input.take(), to)),
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let log = scope.spawn(move || console::read_log(log, tell));
        let copying = output.map(|output| scope.spawn(move || console::copy_output(output, to)));
        let following =
            capture.map(|capture| scope.spawn(|| capture.follow(|| ended.load(Ordering::Acquire))));
        let waited = running.wait(timeout, &signal);
        ended.store(true, Ordering::Release);
        following.map(thread::ScopedJoinHandle::join);
        let (forced, exit) = waited?;
        // A reader that has gone away, such as `head`, is no failure of the machine.
        copying.map(thread::ScopedJoinHandle::join);
        let last_words = log.join().unwrap_or_default();
        Ok(Ending::from_parts(forced, last_words, exit))
    })
}

/// A running QEMU, ended when dropped.
struct Running(Child);

impl Running {
    /// Waits for the end, and brings it about at the time limit or on a signal.
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        signal: &AtomicUsize,
    ) -> Result<(Option<Ending>, ExitStatus)> {
        let start = Instant::now();
        loop {
            if let Some(exit) = self.0.try_wait()? {
                return Ok((None, exit));
            }
            let forced = match signal.load(Ordering::Relaxed) {
                0 if timeout.is_some_and(|timeout| start.elapsed() >= timeout) => Some(Ending::Timeout),
                0 => None,
                number => Some(Ending::Signal(number as u8)),
            };
            if forced.is_some() {
                self.0.kill()?;
                return Ok((forced, self.0.wait()?));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of the last signal that asks xtask to end, or 0. From here on such signals end the machine first.
fn watch_signals() -> Result<Arc<AtomicUsize>> {
    static SIGNAL: OnceLock<Arc<AtomicUsize>> = OnceLock::new();
    let signal = SIGNAL.get_or_init(Arc::default);
    for number in SIGNALS {
        signal_hook::flag::register_usize(number, Arc::clone(signal), number as usize)?;
    }
    Ok(Arc::clone(signal))
}

/// The signal that has asked xtask to end, if any has.
pub fn interrupted() -> Option<Ending> {
    let number = watch_signals().ok()?.load(Ordering::Relaxed);
    (number != 0).then_some(Ending::Signal(number as u8))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn ending(forced: Option<Ending>, status: Option<u8>, panicked: bool, code: i32) -> Ending {
        Ending::from_parts(
            forced,
            LastWords { status, panicked, reboot: false },
            ExitStatus::from_raw(code << 8),
        )
    }

    #[test]
    fn the_guests_status_is_the_ending_whatever_qemu_says() {
        assert_eq!(ending(None, Some(0), false, 1).status(), 0);
        assert_eq!(ending(None, Some(255), false, 255).status(), 255);
        assert_eq!(ending(Some(Ending::Timeout), Some(7), false, 0).status(), 7);
    }

    #[test]
    fn a_panic_outweighs_a_status_and_the_time_limit() {
        assert_eq!(ending(Some(Ending::Timeout), Some(3), true, 1).status(), 101);
    }

    #[test]
    fn without_last_words_the_causes_are_told_apart() {
        assert_eq!(ending(Some(Ending::Timeout), None, false, 0), Ending::Timeout);
        assert_eq!(ending(None, None, false, 0), Ending::Reset);
        assert_eq!(ending(None, None, false, 1), Ending::Qemu);
    }
}
