//! The line discipline and the kernel's, side by side: every step is done to both, and what can be observed
//! compared.

use std::collections::VecDeque;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tty::ioctl::Flow;
use tty::line::{Actions, LineDiscipline, ReadOutcome};
use tty::queue::ByteQueue;
use tty::termios::Termios;

use super::kernel::KernelPty;

/// How long the kernel has to come to where the line discipline is.
const PATIENCE: Duration = Duration::from_secs(2);

/// One thing that happens to a terminal.
#[derive(Clone, Debug)]
pub enum Step {
    Type(Vec<u8>),
    Write(Vec<u8>),
    Read(u32),
    Set(Termios),
    SetDiscarding(Termios),
    FlushInput,
    FlushOutput,
    Flow(Flow),
}

/// What can be observed of a terminal after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Observed {
    /// What the last step has shown on the screen.
    shown: String,
    readable_bytes: u32,
    poll_readable: bool,
    /// Every signal sent so far.
    signals: u64,
}

/// Both terminals.
pub struct Both {
    kernel: KernelPty,
    line: LineDiscipline,
    out: ByteQueue,
    /// Typed, and waiting for the line discipline to have a place.
    typed: VecDeque<u8>,
    signals: u64,
    /// How long the kernel gets where it cannot be made to say that it has finished.
    settle: Duration,
}

impl Both {
    fn new(settle: Duration) -> Both {
        Both {
            kernel: KernelPty::open(),
            line: LineDiscipline::new(Termios::default()),
            out: ByteQueue::new(1 << 16),
            typed: VecDeque::new(),
            signals: 0,
            settle,
        }
    }

    /// Does the steps to both, one byte of typing at a time, and says where they first differ.
    ///
    /// The kernel handles typing in the background and does not always tell when it has finished, so a
    /// difference counts only if it is still there when the kernel is given ever more time.
    pub fn compare(steps: &[Step]) -> Result<(), String> {
        let mut result = Ok(());
        for settle in [100, 2_000, 20_000] {
            result = Both::new(Duration::from_micros(settle)).run(steps);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn run(mut self, steps: &[Step]) -> Result<(), String> {
        for (index, step) in steps.iter().enumerate() {
            self.step(step).map_err(|difference| format!("step {index}, {step:?}: {difference}"))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Type(bytes) if bytes.len() > 64 => self.type_bytes(bytes)?,
            Step::Type(bytes) => {
                for byte in bytes {
                    self.type_bytes(&[*byte]).map_err(|difference| format!("at {byte:#x}: {difference}"))?;
                }
            }
            Step::Write(bytes) => self.write(bytes)?,
            Step::Read(max_bytes) => {
                let read = self.read_line_discipline(*max_bytes);
                self.same("bytes read", read, self.kernel.read(*max_bytes))?;
            }
            Step::Set(termios) => self.set(termios, false)?,
            Step::SetDiscarding(termios) => self.set(termios, true)?,
            Step::FlushInput => {
                self.line.flush_input();
                self.typed.clear();
                self.kernel.control(libc::TCFLSH, libc::TCIFLUSH);
            }
            Step::FlushOutput => {
                let actions = self.line.flush_output(&mut self.out);
                self.note(actions);
                self.kernel.control(libc::TCFLSH, libc::TCOFLUSH);
            }
            Step::Flow(request) => {
                let actions = self.line.control_flow(*request, &mut self.out);
                self.note(actions);
                self.kernel.control(libc::TCXONC, *request as libc::c_int);
                if *request == Flow::ReleaseOutput {
                    // Linux shows the echo it held only when something else happens.
                    self.write(b".")?;
                }
            }
        }
        self.feed();
        self.same_observed()
    }

    fn type_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.kernel.type_bytes(bytes);
        self.typed.extend(bytes);
        self.feed();
        self.same_observed()
    }

    /// Hands the line discipline what was typed, as far as it has places.
    fn feed(&mut self) {
        while self.line.accepts_input()
            && let Some(byte) = self.typed.pop_front()
        {
            let actions = self.line.input(byte, &mut self.out);
            self.note(actions);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let taken = self.line.write(bytes, &mut self.out);
        self.same("bytes written", taken as usize, self.kernel.write(bytes))
    }

    fn note(&mut self, actions: Actions) {
        if let Some(signal) = actions.signal {
            self.signals |= 1 << (signal.number() - 1);
        }
    }

    /// What a read that does not wait returns; none stands for EAGAIN.
    fn read_line_discipline(&mut self, max_bytes: u32) -> Option<Vec<u8>> {
        match self.line.read(max_bytes) {
            ReadOutcome::Bytes(bytes) => Some(bytes),
            ReadOutcome::Wait(_) => Some(self.line.read_waiting(max_bytes)).filter(|bytes| !bytes.is_empty()),
        }
    }

    fn set(&mut self, termios: &Termios, discard_input: bool) -> Result<(), String> {
        if discard_input {
            self.line.flush_input();
        }
        let actions = self.line.set_termios(termios.clone(), &mut self.out);
        self.note(actions);
        self.kernel.set_termios(termios, discard_input);
        self.same("settings", self.line.termios().to_bytes(), self.kernel.termios())
    }

    /// Compares what can be observed, giving the kernel time to get there.
    fn same_observed(&mut self) -> Result<(), String> {
        let ours = Observed {
            shown: self.out.take(u32::MAX).escape_ascii().to_string(),
            readable_bytes: self.line.readable_bytes(),
            poll_readable: self.line.poll_readable(),
            signals: self.signals,
        };
        let start = Instant::now();
        let mut shown = Vec::new();
        loop {
            if self.kernel.poll_readable() || self.settle > Duration::from_millis(1) {
                sleep(self.settle);
            }
            shown.extend(self.kernel.shown());
            let kernel = Observed {
                shown: shown.escape_ascii().to_string(),
                readable_bytes: self.kernel.readable_bytes(),
                poll_readable: self.kernel.poll_readable(),
                signals: self.kernel.signals(),
            };
            let late =
                start.elapsed() > PATIENCE || shown.escape_ascii().to_string().len() > ours.shown.len();
            if kernel == ours || late {
                return self.same("what can be observed", ours, kernel);
            }
            sleep(Duration::from_micros(200));
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, ours: T, kernel: T) -> Result<(), String> {
        if ours == kernel {
            return Ok(());
        }
        Err(format!("{what} differ:\n  ours   {ours:?}\n  kernel {kernel:?}"))
    }
}
