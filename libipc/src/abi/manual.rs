//! The manual of the system calls, made from the table: `docs/syscalls.md`.

use alloc::string::String;
use core::fmt::Write;

use super::syscall::TABLE;

const PREFACE: &str = "\
# Native system calls

Made from the table in `libipc/src/abi/syscall.rs`; `cargo test -p libipc` checks that it is up to date, and
`UPDATE_DOCS=1 cargo test -p libipc` writes it anew.

Registers on x86_64: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9. On return rax is 0 or the number of an
error, and values are in rdi, rsi, rdx, r10, r8. A call that answers an error has changed nothing. With 0x80000000
added to its number, a call that succeeds goes on to `receive` in the same trap, and its values are lost. Programs with
the Linux personality never use these calls; where theirs go is in `libipc/src/abi/foreign.rs`.
";

/// The manual as Markdown.
pub fn render() -> String {
    let mut text = String::from(PREFACE);
    for row in TABLE {
        let _ = write!(
            text,
            "\n## {} {}({})\n\n{}\n",
            row.call as u16,
            row.name,
            row.arguments.join(", "),
            row.meaning
        );
        if !row.errors.is_empty() {
            text.push_str("\n| error | when |\n|---|---|\n");
            for error in row.errors {
                let _ = writeln!(text, "| {error:?} ({}) | {error} |", *error as u8);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manual_in_docs_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/syscalls.md");
        let made = super::render();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == made, "docs/syscalls.md is out of date: UPDATE_DOCS=1 cargo test -p libipc");
    }
}
