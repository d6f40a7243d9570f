//! What a server's image says of itself: a note that the linker puts where whoever looks at the file finds it.
//!
//! It has the form of every ELF note (name and description, each with its length). Nobody but root reads it; the
//! server itself never does.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Server;

/// The version of the interface between servers and the kernel, the numbers of its calls and the layout of what they
/// take; and of the form in which every shell saves its server.
pub const ABI_VERSION: u32 = 2;
/// Bytes of a server's name.
const NAME_BYTES: usize = 16;
/// Whose note it is.
const OWNER: [u8; 8] = *b"Naiad\0\0\0";
/// The length of the owner's name, with the zero that ends it.
const OWNER_BYTES: u32 = 6;
/// The one kind of note there is.
const KIND: u32 = 1;
/// Bytes behind the owner's name.
const DESCRIPTION_BYTES: u32 = 12 + NAME_BYTES as u32;

/// The note of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Note {
    owner_bytes: u32,
    description_bytes: u32,
    kind: u32,
    owner: [u8; 8],
    /// [`ABI_VERSION`].
    pub abi: u32,
    /// The schema in which it saves its state.
    pub schema: u32,
    /// The oldest schema that it reads.
    pub oldest: u32,
    /// The name of its package, padded with zeroes.
    pub name: [u8; NAME_BYTES],
}

impl Note {
    /// The note of a server of this type, built from this package.
    pub const fn of<S: Server>(package: &str) -> Note {
        Note::new(package, S::SCHEMA, S::OLDEST_SCHEMA)
    }

    /// A note.
    pub const fn new(package: &str, schema: u32, oldest: u32) -> Note {
        let (bytes, mut name) = (package.as_bytes(), [0; NAME_BYTES]);
        assert!(bytes.len() < NAME_BYTES, "a server's name is short");
        let mut place = 0;
        while place < bytes.len() {
            name[place] = bytes[place];
            place += 1;
        }
        Note {
            owner_bytes: OWNER_BYTES,
            description_bytes: DESCRIPTION_BYTES,
            kind: KIND,
            owner: OWNER,
            abi: ABI_VERSION,
            schema,
            oldest,
            name,
        }
    }

    /// The note that begins here, if it is one of ours.
    pub fn read(bytes: &[u8]) -> Option<Note> {
        let (note, _) = Note::read_from_prefix(bytes).ok()?;
        let own =
            Note { abi: note.abi, schema: note.schema, oldest: note.oldest, name: note.name, ..Note::BLANK };
        (note == own).then_some(note)
    }

    const BLANK: Note = Note::new("", 0, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_its_bytes_and_nothing_else_is_taken_for_one() {
        let note = Note::new("vfs", 3, 2);
        let mut bytes = note.as_bytes().to_vec();
        assert_eq!(Note::read(&bytes), Some(note));
        assert_eq!(Note::read(&bytes[..bytes.len() - 1]), None);
        bytes[12] = b'G';
        assert_eq!(Note::read(&bytes), None, "another's note");
    }
}
