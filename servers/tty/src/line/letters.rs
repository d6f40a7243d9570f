//! What kind of character a byte is, in the character set N_TTY thinks in: ISO 8859-1.

/// Whether a terminal shows nothing for the byte: the ASCII control characters.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Whether the byte belongs to a word, for word erase.
pub(super) fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

/// Whether the byte continues a character in UTF-8.
pub(super) fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// The lower case of an upper-case letter; any other byte as it is.
pub(super) fn to_lower(byte: u8) -> u8 {
    match byte {
        0xd7 => byte,
        b'A'..=b'Z' | 0xc0..=0xde => byte + 0x20,
        _ => byte,
    }
}

/// The upper case of a lower-case letter; any other byte as it is. Linux counts 0xdf and 0xff as lower case
/// although their upper case is elsewhere, and so do we.
pub(super) fn to_upper(byte: u8) -> u8 {
    match byte {
        0xf7 => byte,
        b'a'..=b'z' | 0xdf..=0xff => byte - 0x20,
        _ => byte,
    }
}
