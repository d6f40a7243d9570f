//! First lines and first pages of programs.

use alloc::{format, vec};

use proptest::prelude::*;

use super::*;
use crate::tests::world::elf;

fn script(line: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    match recognise(line) {
        Ok(Image::Script { interpreter, argument }) => Some((interpreter, argument)),
        Ok(other) => panic!("{other:?}"),
        Err(errno) => {
            assert_eq!(errno, ENOEXEC);
            None
        }
    }
}

#[test]
fn the_rest_of_a_first_line_is_one_argument() {
    let plain = |interpreter: &[u8]| Some((interpreter.to_vec(), None));
    assert_eq!(script(b"#!/bin/sh\necho"), plain(b"/bin/sh"));
    assert_eq!(script(b"#! \t/bin/sh \t\n"), plain(b"/bin/sh"));
    assert_eq!(script(b"#!/bin/sh"), plain(b"/bin/sh"));
    let with = Some((b"/usr/bin/env".to_vec(), Some(b"-S a  b".to_vec())));
    assert_eq!(script(b"#!/usr/bin/env  -S a  b \n"), with);
    assert_eq!(script(b"#!\n/bin/sh"), None);
    assert_eq!(script(b"#!"), None);
}

#[test]
fn an_interpreter_cut_off_by_the_limit_is_not_taken_for_another() {
    let path = |length: usize| format!("#!/{}\n", "x".repeat(length)).into_bytes();
    assert!(script(&path(200)).is_some());
    assert!(script(&path(252)).is_some());
    assert_eq!(script(&path(253)), None);
    let argument = format!("#!/bin/sh {}\n", "x".repeat(300)).into_bytes();
    assert_eq!(script(&argument).unwrap().0, b"/bin/sh");
}

#[test]
fn an_image_tells_its_headers_and_its_linker() {
    assert_eq!(recognise(&elf(None)), Ok(Image::Elf { headers: 120, interpreter: None }));
    let linked = Image::Elf { headers: 176, interpreter: Some(200..208) };
    assert_eq!(recognise(&elf(Some(("/ld.so1", 200)))), Ok(linked));
    assert_eq!(linker_path(b"/ld.so\0xx"), Ok(b"/ld.so".to_vec()));
    assert_eq!(linker_path(b"/ld.so"), Err(ENOEXEC));
    assert_eq!(linker_path(b"\0"), Err(ENOENT));
}

#[test]
fn an_image_for_another_machine_or_cut_short_is_no_program() {
    let sound = elf(None);
    let with = |at: usize, value: u8| {
        let mut bytes = sound.clone();
        bytes[at] = value;
        recognise(&bytes)
    };
    for (at, value, why) in
        [(0, 0, "magic"), (4, 1, "32 bits"), (5, 2, "big endian"), (54, 32, "entry size"), (56, 9, "cut")]
    {
        assert_eq!(with(at, value), Err(ENOEXEC), "{why}");
    }
    assert_eq!(recognise(&sound[..60]), Err(ENOEXEC));
    assert_eq!(recognise(b""), Err(ENOEXEC));
    let mut far = elf(Some(("/ld", 200)));
    far[128..136].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(recognise(&far), Err(ENOEXEC));
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        base in prop::sample::select(vec![0u8, 1, 2]),
    ) {
        let prefix: &[u8] = match base { 0 => b"", 1 => b"#!", _ => b"\x7fELF\x02\x01\x01" };
        for (at, byte) in prefix.iter().enumerate() {
            if let Some(place) = bytes.get_mut(at) { *place = *byte; }
        }
        match recognise(&bytes) {
            Ok(Image::Script { interpreter, argument }) => {
                prop_assert!(!interpreter.is_empty() && argument.is_none_or(|argument| !argument.is_empty()));
            }
            Ok(Image::Elf { headers, interpreter }) => {
                prop_assert!(headers <= bytes.len() as u64);
                prop_assert!(interpreter.is_none_or(|range| range.start < range.end));
            }
            Err(errno) => prop_assert_eq!(errno, ENOEXEC),
        }
    }
}
