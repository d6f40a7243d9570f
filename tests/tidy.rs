//! The habits of this house, checked: sizes, purposes, and words that do not belong into finished code.
//!
//! It reads the repository's sources and changes nothing. An exception is a row in a table here, with its reason; a
//! row that is no longer needed is an offence too.

use std::{
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 120;

/// Files that may be longer: path, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions that may be longer: path, name, and why.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Words of unfinished code, in halves, so that this file does not have them.
const UNFINISHED: [&str; 3] = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];

/// Folders that hold no sources of ours.
const SKIPPED: [&str; 3] = ["target", "build", ".git"];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

fn sources(endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository");
    let mut paths = Vec::new();
    collect(root, endings, &mut paths);
    assert!(!paths.is_empty(), "no sources below {}", root.display());
    paths.sort();
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a source is readable text"),
        path: path.strip_prefix(root).expect("it was found below").to_string_lossy().into_owned(),
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, endings: &[&str], paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository is readable") {
        let path = entry.expect("its entries are readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&path, endings, paths);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            paths.push(path);
        }
    }
}

fn none(offences: &[String]) {
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

/// A function's name, first line (counted from 1), and number of lines. It trusts rustfmt: a body ends with the first
/// brace that stands alone under the word with which the function began.
fn functions(text: &str) -> Vec<(&str, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let opens = |line: &&str| line.ends_with('{') || line.ends_with('}') || line.ends_with(';');
        let Some(head) = lines[start..].iter().position(opens) else { continue };
        if !lines[start + head].ends_with('{') {
            continue;
        }
        let closes = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest == "}");
        if let Some(len) = lines[start..].iter().position(closes) {
            functions.push((name, start + 1, len + 1));
        }
    }
    functions
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split(' ').skip_while(|word| {
        matches!(*word, "async" | "const" | "unsafe" | "extern" | "\"C\"" | "pub") || word.starts_with("pub(")
    });
    let name = words.next().filter(|word| *word == "fn").and_then(|_| words.next())?;
    name.split(['(', '<']).next()
}

#[test]
fn no_file_is_longer_than_it_should_be() {
    let mut offences = Vec::new();
    for Source { path, text } in sources(&[".rs"]) {
        let lines = text.lines().count();
        match (lines > FILE_LINES_MAX, LONG_FILES.iter().any(|(excepted, _)| *excepted == path)) {
            (true, false) => offences.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX}")),
            (false, true) => offences.push(format!("{path}: its exception is no longer needed")),
            _ => {}
        }
    }
    none(&offences);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut offences = Vec::new();
    let mut needed = Vec::new();
    for Source { path, text } in sources(&[".rs"]) {
        for (name, line, lines) in
            functions(&text).into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX)
        {
            match LONG_FUNCTIONS.iter().find(|(file, function, _)| *file == path && *function == name) {
                Some(exception) => needed.push(exception),
                None => offences
                    .push(format!("{path}:{line}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}")),
            }
        }
    }
    for exception in LONG_FUNCTIONS.iter().filter(|exception| !needed.contains(exception)) {
        offences.push(format!("{}: the exception of {} is no longer needed", exception.0, exception.1));
    }
    none(&offences);
}

#[test]
fn every_exception_has_a_reason() {
    assert!(LONG_FILES.iter().all(|(_, reason)| !reason.is_empty()));
    assert!(LONG_FUNCTIONS.iter().all(|(_, _, reason)| !reason.is_empty()));
}

#[test]
fn every_file_begins_with_its_purpose() {
    let purpose =
        |text: &str| text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 10);
    let without = sources(&[".rs"]).into_iter().filter(|source| !purpose(&source.text));
    none(&without.map(|source| format!("{}: no line `//! purpose`", source.path)).collect::<Vec<_>>());
}

#[test]
fn no_code_is_unfinished() {
    let mut offences = Vec::new();
    for Source { path, text } in sources(&[".rs"]) {
        for (number, line) in (1..).zip(text.lines()) {
            let words = UNFINISHED.iter().filter(|word| line.contains(**word));
            offences.extend(words.map(|word| format!("{path}:{number}: {word}")));
        }
    }
    none(&offences);
}

#[test]
fn only_arch_folders_ask_for_the_architecture() {
    let question = concat!("target_", "arch");
    let mut offences = Vec::new();
    for Source { path, text } in
        sources(&[".rs"]).into_iter().filter(|source| !source.path.contains("/arch/"))
    {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.contains(question));
        offences.extend(lines.map(|(number, line)| format!("{path}:{number}: {}", line.trim())));
    }
    none(&offences);
}

/// A line that breaking would not make easier to read: a row of a table in a comment, or nothing but a string.
fn is_one_piece(line: &str) -> bool {
    let line = line.trim_start();
    let row = line
        .strip_prefix("//")
        .is_some_and(|rest| rest.trim_start_matches(['/', '!']).trim_start().starts_with('|'));
    row || line.starts_with('"')
}

#[test]
fn no_line_is_wider_than_the_page() {
    let mut offences = Vec::new();
    for Source { path, text } in sources(&[".rs", ".toml", ".ld", ".sh"]) {
        for (number, line) in (1..).zip(text.lines()) {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !is_one_piece(line) {
                offences.push(format!("{path}:{number}: {columns} columns, at most {COLUMNS_MAX}"));
            }
        }
    }
    none(&offences);
}

#[test]
fn functions_are_measured_from_their_first_word_to_their_brace() {
    let text = "\
trait T {
    fn declared(&self);
    pub(crate) const unsafe fn short() {}

    fn long(
        a: u8,
    ) -> u8 {
        if a {
        }
        a
    }
}
fn outer<T>() {
    fn inner() {
        x
    }
}
";
    assert_eq!(functions(text), [("long", 5, 7), ("outer", 13, 5), ("inner", 14, 3)]);
}
