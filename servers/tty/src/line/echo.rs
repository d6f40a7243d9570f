//! Echo that waits to be shown, in order, until output is running and has room.
//!
//! What an echo looks like can depend on where the cursor is when its turn comes, so it is kept as what is to
//! be done, not as bytes.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::LineDiscipline;
use super::letters::is_control;
use crate::queue::ByteQueue;
use crate::termios::LocalFlags;

/// How many echoes wait at most; after that the oldest are lost.
const CAPACITY: usize = 4096;

/// One thing to do on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Echo {
    /// Show a byte.
    Byte(u8),
    /// Show a control character as a caret and a letter.
    Caret(u8),
    /// Step back over a tab, given how many columns lie between what comes before it and where those are
    /// counted from.
    EraseTab { columns: u32, from: TabOrigin },
    /// Step back over one column without showing anything: the cursor was counted forward too often.
    StepBack,
    /// The line starts at this column.
    MarkLine,
}

/// Where the columns in front of a tab are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TabOrigin {
    /// The column where the unfinished line starts.
    Line,
    /// An earlier tab stop.
    EarlierTab,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Echoes(VecDeque<Echo>);

impl Echoes {
    pub(super) fn push(&mut self, echo: Echo) {
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(echo);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl LineDiscipline {
    /// Echoes a byte, as `^X` where it is a control character and the settings ask for it.
    pub(super) fn echo_char(&mut self, byte: u8) {
        let caret = self.local_flag(LocalFlags::ECHOCTL) && is_control(byte) && byte != b'\t';
        self.echoes.push(if caret { Echo::Caret(byte) } else { Echo::Byte(byte) });
    }

    /// Echoes bytes as they are.
    pub(super) fn echo_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.echoes.push(Echo::Byte(*byte));
        }
    }

    /// Shows the echoes that wait, as far as output runs and has room.
    pub(super) fn show_echoes(&mut self, out: &mut ByteQueue) {
        while let Some(echo) = self.echoes.0.front().copied()
            && !self.output_held()
            && self.show(echo, out)
        {
            self.echoes.0.pop_front();
        }
    }

    /// Does one echo, or changes nothing and answers false where there is no room.
    fn show(&mut self, echo: Echo, out: &mut ByteQueue) -> bool {
        match echo {
            // Linux's echo buffer uses 0xff for itself, so output processing never sees one that is echoed.
            Echo::Byte(byte @ 0xff) => out.push(byte) && self.advance(1),
            Echo::Byte(byte) => self.emit(byte, out),
            Echo::Caret(byte) => out.push_all(&[b'^', byte ^ 0x40]) && self.advance(2),
            Echo::EraseTab { columns, from } => {
                let start = match from {
                    TabOrigin::Line => self.line_column,
                    TabOrigin::EarlierTab => 0,
                };
                let back = 8 - columns.wrapping_add(start) % 8;
                let shown = out.push_all(&[b'\x08'; 8][..back as usize]);
                if shown {
                    self.column = self.column.saturating_sub(back);
                }
                shown
            }
            Echo::StepBack => {
                self.column = self.column.saturating_sub(1);
                true
            }
            Echo::MarkLine => {
                self.line_column = self.column;
                true
            }
        }
    }

    /// Moves the cursor over what was just shown.
    fn advance(&mut self, columns: u32) -> bool {
        self.column = self.column.wrapping_add(columns);
        true
    }
}
