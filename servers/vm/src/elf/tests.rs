//! Tests of elf.

use alloc::vec;

use proptest::prelude::*;

use super::*;

/// A program header of a test image: type, flags, offset, address, file bytes, memory bytes, alignment.
pub type Row = (u32, u32, u64, u64, u64, u64, u64);

pub const LOAD: u32 = abi::PT_LOAD;
pub const INTERP: u32 = abi::PT_INTERP;
pub const RX: u32 = abi::PF_R | abi::PF_X;
pub const RW: u32 = abi::PF_R | abi::PF_W;

/// The first bytes of an ELF file with these program headers.
pub fn file(kind: u16, entry: u64, rows: &[Row]) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [kind, abi::EM_X86_64] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(1u32.to_le_bytes());
    for word in [entry, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0u32.to_le_bytes());
    for half in [64, 56, rows.len() as u16, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for (kind, flags, offset, address, file_bytes, memory_bytes, align) in rows {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for word in [offset, address, address, file_bytes, memory_bytes, align] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

/// A small static program: code at 4 MiB, data whose last page is part file and part zeroes, and two pages of bss.
pub fn program() -> Vec<u8> {
    let code = (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1000);
    let data = (LOAD, RW, 0x3000, 0x40_3000, 0x1800, 0x3800, 0x1000);
    file(abi::ET_EXEC, 0x40_1000, &[code, data])
}

#[test]
fn a_static_program_is_understood() {
    let image = Image::parse(&program()).unwrap();
    assert!(image.fixed && !image.interpreted && !image.stack_executable);
    assert_eq!((image.entry, image.headers, image.header_count), (0x40_1000, 0x40_0040, 2));
    assert_eq!(image.span(), 0x40_0000..0x40_7000);
    assert_eq!(image.segments[1].protection, Protection::READ | Protection::WRITE);
}

#[test]
fn a_position_independent_program_names_its_interpreter_and_alignment() {
    let code = (LOAD, RX, 0, 0, 0x3000, 0x3000, 0x20_0000);
    let image =
        Image::parse(&file(abi::ET_DYN, 0x1000, &[(INTERP, 4, 0x200, 0x200, 8, 8, 1), code])).unwrap();
    assert!(!image.fixed && image.interpreted && image.align == 0x20_0000);
}

#[test]
fn an_executable_stack_is_asked_for_by_its_header_alone() {
    let code = (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1000);
    let stack = |flags| file(abi::ET_EXEC, 0x40_1000, &[code, (abi::PT_GNU_STACK, flags, 0, 0, 0, 0, 16)]);
    assert!(Image::parse(&stack(RX | RW)).unwrap().stack_executable);
    assert!(!Image::parse(&stack(RW)).unwrap().stack_executable);
}

#[test]
fn what_is_not_a_program_for_this_machine_is_refused_with_its_reason() {
    let code = (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1000);
    let good = file(abi::ET_EXEC, 0x40_1000, &[code]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Image::parse(&bytes)
    };
    assert_eq!(Image::parse(b"#!/bin/sh\n"), Err(ElfError::NotElf));
    assert_eq!(Image::parse(&good[..40]), Err(ElfError::NotElf));
    assert_eq!(with(0, 0), Err(ElfError::NotElf));
    assert_eq!(with(4, 1), Err(ElfError::OtherMachine));
    assert_eq!(with(5, 2), Err(ElfError::NotElf));
    assert_eq!(with(18, 3), Err(ElfError::OtherMachine));
    assert_eq!(with(16, 1), Err(ElfError::NotLoadable));
    assert_eq!(with(54, 57), Err(ElfError::Headers));
    assert_eq!(with(56, 0), Err(ElfError::Headers));
    assert_eq!(with(33, 0x20), Err(ElfError::Headers));
    assert_eq!(Image::parse(&good[..100]), Err(ElfError::Headers));
    assert_eq!(Image::parse(&file(abi::ET_EXEC, 0x40_4000, &[code])), Err(ElfError::Entry));
    assert_eq!(
        Image::parse(&file(abi::ET_EXEC, 0x40_1000, &[(INTERP, 4, 0, 0, 8, 8, 1)])),
        Err(ElfError::Segment)
    );
}

#[test]
fn segments_that_contradict_themselves_are_refused() {
    let user_end = MACHINE.user_end;
    let bad: [Row; 7] = [
        (LOAD, RX, 0, 0x40_0100, 0x3000, 0x3000, 0x1000),
        (LOAD, RX, 0, 0x40_0000, 0x3000, 0x2000, 0x1000),
        (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1001),
        (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 1 << 40),
        (LOAD, RX, 0, user_end - 0x1000, 0x1000, 0x1001, 0x1000),
        (LOAD, RX, u64::MAX - 0xfff, 0x40_0000, 0x3000, 0x3000, 0x1000),
        (LOAD, RX, 0, 0x40_0000, 0x3000, u64::MAX, 0x1000),
    ];
    for row in bad {
        assert_eq!(Image::parse(&file(abi::ET_EXEC, 0x40_1000, &[row])), Err(ElfError::Segment), "{row:x?}");
    }
    let code = (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1000);
    let overlapping = (LOAD, RW, 0x2000, 0x40_2000, 0x1000, 0x1000, 0x1000);
    let low = (LOAD, RX, 0, 0x1000, 0x3000, 0x3000, 0x1000);
    assert_eq!(Image::parse(&file(abi::ET_EXEC, 0x40_1000, &[code, overlapping])), Err(ElfError::Segment));
    assert_eq!(Image::parse(&file(abi::ET_EXEC, 0x1000, &[low])), Err(ElfError::Segment));
}

proptest! {
    #[test]
    fn garbage_is_refused_or_stays_inside_the_address_space(
        changes in prop::collection::vec((0usize..176, any::<u8>()), 0..12),
        length in 0usize..200,
    ) {
        let mut bytes = program();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(length.max(100));
        if let Ok(image) = Image::parse(&bytes) {
            prop_assert!(image.span().start < image.span().end && image.span().end <= MACHINE.user_end);
            for segment in &image.segments {
                prop_assert!(segment.file_bytes <= segment.memory_bytes);
                prop_assert_eq!(segment.address % PAGE_SIZE, segment.offset % PAGE_SIZE);
            }
        }
    }
}
