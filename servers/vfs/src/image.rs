//! What the first bytes of a program say: a script and its interpreter, or an ELF image and its dynamic linker.
//!
//! Only what vfs needs to find the files is read here; whether an image can be loaded is for vm to judge.

use alloc::vec::Vec;
use core::ops::Range;

use elf::abi::PT_INTERP;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::SegmentTable;
use libipc::linux::errno::{ENOENT, ENOEXEC};
use libipc::linux::open::PATH_MAX;

/// Bytes of a program that are looked at.
pub const HEADER_BYTES: u64 = 4096;
/// How much of a script's first line counts (BINPRM_BUF_SIZE).
const LINE_BYTES: usize = 256;
/// Bytes of `e_ident` and of the whole ELF header.
const IDENT_BYTES: usize = 16;
const ELF_HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: u16 = 56;

/// A program by its first bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Image {
    /// `#!`: its interpreter and that one's optional argument.
    Script {
        /// Path of the interpreter.
        interpreter: Vec<u8>,
        /// The rest of the line, as one argument.
        argument: Option<Vec<u8>>,
    },
    /// An ELF image.
    Elf {
        /// How many of the first bytes hold the headers.
        headers: u64,
        /// Where in the file the path of its dynamic linker stands, with its NUL.
        interpreter: Option<Range<u64>>,
    },
}

/// Recognises a program.
///
/// # Errors
/// `ENOEXEC` when the bytes begin neither a script nor a sound ELF image for this machine's word size.
pub fn recognise(bytes: &[u8]) -> Result<Image, i32> {
    match bytes {
        [b'#', b'!', line @ ..] => script(line),
        _ => image(bytes).ok_or(ENOEXEC),
    }
}

fn script(line: &[u8]) -> Result<Image, i32> {
    let line = line.get(..LINE_BYTES - 2).unwrap_or(line);
    let end = line.iter().position(|byte| *byte == b'\n');
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let whole = line.get(..end.unwrap_or(line.len())).unwrap_or(line).trim_ascii();
    let split = whole.iter().position(blank);
    let (interpreter, argument) = whole.split_at(split.unwrap_or(whole.len()));
    // A path cut off by the limit would name another file.
    if interpreter.is_empty() || (end.is_none() && split.is_none() && line.len() == LINE_BYTES - 2) {
        return Err(ENOEXEC);
    }
    let argument = argument.trim_ascii();
    let argument = (!argument.is_empty()).then(|| argument.to_vec());
    Ok(Image::Script { interpreter: interpreter.to_vec(), argument })
}

fn image(bytes: &[u8]) -> Option<Image> {
    let (ident, tail) = bytes.get(..ELF_HEADER_BYTES)?.split_at(IDENT_BYTES);
    let ident = parse_ident::<LittleEndian>(ident).ok().filter(|ident| ident.1 == Class::ELF64)?;
    let header = FileHeader::parse_tail(ident, tail).ok()?;
    if header.e_phentsize != SEGMENT_BYTES {
        return None;
    }
    let length = u64::from(header.e_phnum) * u64::from(SEGMENT_BYTES);
    let headers = header.e_phoff.checked_add(length)?;
    let table = bytes.get(usize::try_from(header.e_phoff).ok()?..usize::try_from(headers).ok()?)?;
    let segments = SegmentTable::new(LittleEndian, Class::ELF64, table);
    let interpreter = match segments.iter().find(|segment| segment.p_type == PT_INTERP) {
        None => None,
        Some(named) if (2..=u64::from(PATH_MAX)).contains(&named.p_filesz) => {
            Some(named.p_offset..named.p_offset.checked_add(named.p_filesz)?)
        }
        Some(_) => return None,
    };
    Some(Image::Elf { headers: headers.max(ELF_HEADER_BYTES as u64), interpreter })
}

/// The path of a dynamic linker from the bytes an image has for it.
///
/// # Errors
/// `ENOEXEC` when it does not end with NUL, `ENOENT` when it is empty.
pub fn linker_path(bytes: &[u8]) -> Result<Vec<u8>, i32> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(ENOEXEC)?;
    if end == 0 {
        return Err(ENOENT);
    }
    Ok(bytes.iter().copied().take(end).collect())
}

#[cfg(test)]
mod tests;
