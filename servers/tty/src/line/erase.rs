//! Erasing in the unfinished line, and showing on the screen that it happened.

use alloc::vec::Vec;

use super::LineDiscipline;
use super::echo::{Echo, TabOrigin};
use super::letters::{is_continuation, is_control, is_word};
use crate::termios::{ControlChar, InputFlags, LocalFlags};

/// How much is erased.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Erase {
    Character,
    Word,
    Line,
}

/// Wipes the character in front of the cursor off the screen.
const WIPE: &[u8] = b"\x08 \x08";

impl LineDiscipline {
    pub(super) fn erase(&mut self, what: Erase) {
        if self.input.unfinished_len() == 0 {
            return;
        }
        if what == Erase::Line && !self.wipes_lines() {
            self.input.drop_unfinished();
            self.echo_kill();
            return;
        }
        let mut in_word = false;
        while let Some(character) = self.last_character() {
            let Some(first) = character.first().copied() else { break };
            if what == Erase::Word {
                if is_word(first) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            for _ in &character {
                self.input.pop_unfinished();
            }
            if self.local_flag(LocalFlags::ECHO) {
                self.echo_erased(what, first, &character);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.input.unfinished_len() == 0 && self.local_flag(LocalFlags::ECHO) {
            self.finish_erasing();
        }
    }

    /// Whether killing a line wipes it off the screen character by character.
    fn wipes_lines(&self) -> bool {
        self.local_flag(LocalFlags::ECHO | LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE)
    }

    /// Shows that a line was killed by echoing the kill character.
    fn echo_kill(&mut self) {
        if !self.local_flag(LocalFlags::ECHO) {
            return;
        }
        self.finish_erasing();
        self.echo_char(self.termios.char(ControlChar::Kill));
        if self.local_flag(LocalFlags::ECHOK) {
            self.echo_bytes(b"\n");
        }
    }

    /// The bytes of the last character of the unfinished line: one, or in UTF-8 all that belong together.
    /// There is none where the line is empty, or begins in the middle of a character, which is not taken
    /// apart.
    fn last_character(&self) -> Option<Vec<u8>> {
        let utf8 = self.input_flag(InputFlags::IUTF8);
        let mut bytes = Vec::new();
        for byte in self.input.unfinished().rev() {
            bytes.push(byte);
            if !(utf8 && is_continuation(byte)) {
                bytes.reverse();
                return Some(bytes);
            }
        }
        None
    }

    /// Shows that a character was erased; it is no longer in the line.
    fn echo_erased(&mut self, what: Erase, first: u8, character: &[u8]) {
        let carets = self.local_flag(LocalFlags::ECHOCTL);
        if self.local_flag(LocalFlags::ECHOPRT) {
            if !self.erasing {
                self.echo_bytes(b"\\");
                self.erasing = true;
            }
            self.echo_char(first);
            for byte in character.iter().skip(1) {
                self.echo_bytes(&[*byte]);
                self.echoes.push(Echo::StepBack);
            }
        } else if what == Erase::Character && !self.local_flag(LocalFlags::ECHOE) {
            self.echo_char(self.termios.char(ControlChar::Erase));
        } else if first == b'\t' {
            self.echo_erased_tab();
        } else if is_control(first) {
            if carets {
                self.echo_bytes(WIPE);
                self.echo_bytes(WIPE);
            }
        } else {
            self.echo_bytes(WIPE);
        }
    }

    /// How far a tab reached depends on the columns in front of it, back to an earlier tab or the start of
    /// the line.
    fn echo_erased_tab(&mut self) {
        let utf8 = self.input_flag(InputFlags::IUTF8);
        let carets = self.local_flag(LocalFlags::ECHOCTL);
        let mut columns = 0;
        let mut from = TabOrigin::Line;
        for byte in self.input.unfinished().rev() {
            if byte == b'\t' {
                from = TabOrigin::EarlierTab;
                break;
            }
            columns += match byte {
                _ if is_control(byte) => 2 * u32::from(carets),
                _ if utf8 && is_continuation(byte) => 0,
                _ => 1,
            };
        }
        self.echoes.push(Echo::EraseTab { columns, from });
    }

    /// Ends a run of erased characters that were printed.
    pub(super) fn finish_erasing(&mut self) {
        if core::mem::take(&mut self.erasing) {
            self.echo_bytes(b"/");
        }
    }
}
