//! Tests of termios.

use super::*;

#[test]
fn a_termios_survives_the_trip_through_its_bytes_unknown_bits_included() {
    let mut termios = Termios::console();
    termios.input |= InputFlags::from_bits_retain(1 << 31);
    termios.discipline = 7;
    termios.chars[18] = 9;
    assert_eq!(Termios::parse(&termios.to_bytes(), &Termios::default()), Ok(termios.clone()));
    assert_eq!(Termios::parse_termios2(&termios.to_termios2_bytes()), Ok(termios));
}

#[test]
fn fields_lie_where_the_kernel_puts_them() {
    let termios = Termios { discipline: 0xaa, ..Termios::default() };
    let bytes = termios.to_bytes();
    assert_eq!(bytes[..4], 0x500_u32.to_le_bytes());
    assert_eq!(bytes[4..8], 5_u32.to_le_bytes());
    assert_eq!(bytes[8..12], 0o277_u32.to_le_bytes());
    assert_eq!(bytes[12..16], 0o105073_u32.to_le_bytes());
    assert_eq!(bytes[16], 0xaa);
    assert_eq!(bytes[17..20], [3, 0x1c, 0x7f]);
    assert_eq!(termios.to_termios2_bytes()[36..], [0, 0x96, 0, 0, 0, 0x96, 0, 0]);
}

#[test]
fn a_structure_of_another_length_is_refused() {
    let old = Termios::default();
    for length in [0, 35, 37, 44] {
        assert_eq!(Termios::parse(&vec![0; length], &old), Err(LayoutError::WrongLength));
    }
    for length in [0, 36, 43, 45] {
        assert_eq!(Termios::parse_termios2(&vec![0; length]), Err(LayoutError::WrongLength));
    }
    for length in [0, 7, 9] {
        assert_eq!(WindowSize::parse(&vec![0; length]), Err(LayoutError::WrongLength));
    }
}

#[test]
fn the_speed_field_decides_the_speed_unless_it_says_other() {
    let with = |field: u32| {
        let mut termios = Termios { input_speed: 12_345, output_speed: 54_321, ..Termios::default() };
        termios.control = ControlFlags::from_bits_retain(field);
        let parsed = Termios::parse_termios2(&termios.to_termios2_bytes()).unwrap();
        (parsed.input_speed, parsed.output_speed)
    };
    assert_eq!(with(0o15), (9600, 9600));
    assert_eq!(with(0o10017), (4_000_000, 4_000_000));
    assert_eq!(with(0o10000), (54_321, 54_321));
    assert_eq!(with(0o15 | 0o10000 << 16), (12_345, 9600));
    assert_eq!(with(0o15 | 0o10002 << 16), (115_200, 9600));
}

#[test]
fn a_plain_termios_that_says_other_keeps_the_speeds_there_were() {
    let old = Termios { input_speed: 250_000, output_speed: 250_000, ..Termios::default() };
    let mut new = Termios::default();
    new.control.remove(ControlFlags::CBAUD);
    new.control |= ControlFlags::BOTHER;
    let parsed = Termios::parse(&new.to_bytes(), &old).unwrap();
    assert_eq!((parsed.input_speed, parsed.output_speed), (250_000, 250_000));
}

#[test]
fn a_character_that_is_switched_off_matches_no_byte() {
    let termios = Termios::default();
    assert!(termios.is(ControlChar::Interrupt, 3));
    assert!(!termios.is(ControlChar::EndOfLine, 0));
}

#[test]
fn a_window_size_survives_the_trip_through_its_bytes() {
    let size = WindowSize { rows: 25, columns: 80, width_pixels: 640, height_pixels: 400 };
    assert_eq!(size.to_bytes(), [25, 0, 80, 0, 0x80, 2, 0x90, 1]);
    assert_eq!(WindowSize::parse(&size.to_bytes()), Ok(size));
}
