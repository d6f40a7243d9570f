//! A core file as the dying program lays it out (core(5)): which of its memory goes in, and the headers before it.
//! It runs in a process that has just failed, so it takes all memory as it is given, and never panics.

use core::iter;

/// Bytes of an ELF header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a program header.
pub const SEGMENT_BYTES: usize = 56;
/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// `NT_AUXV` and `NT_FILE` of elf.h.
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// A mapping, as a line of `/proc/self/maps` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region<'a> {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub access: [bool; 3],
    /// Where in its file it begins.
    pub offset: u64,
    /// It is of a file.
    pub of_file: bool,
    /// The file's path, or a name in brackets.
    pub name: &'a [u8],
}

impl Region<'_> {
    /// How many bytes of it go in: memory that is the program's own whole; of a file that it only reads the first
    /// page, which tells which file it was; nothing of what cannot be read, and not the page with the time.
    pub fn kept(&self) -> u64 {
        let [readable, writable, _] = self.access;
        match (readable, self.of_file && !writable) {
            (false, _) => 0,
            (true, false) if self.name == b"[vvar]" => 0,
            (true, false) => self.end.saturating_sub(self.start),
            (true, true) if self.offset == 0 => PAGE,
            (true, true) => 0,
        }
    }
}

/// All mappings of a text like `/proc/self/maps`, but for the one that begins at `without`.
pub fn regions(text: &[u8], without: u64) -> impl Iterator<Item = Region<'_>> + Clone {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(region).filter(move |region| region.start != without)
}

fn region(line: &[u8]) -> Option<Region<'_>> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let mut range = words.next()?.split(|byte| *byte == b'-');
    let (start, end) = (number(range.next()?, 16)?, number(range.next()?, 16)?);
    let access = words.next()?;
    let access = [b'r', b'w', b'x'].map(|letter| access.contains(&letter));
    let offset = number(words.next()?, 16)?;
    let inode = number(words.nth(1)?, 10)?;
    // The name may have spaces in it.
    let name = words.next().and_then(|word| {
        let before = (word.as_ptr() as usize).wrapping_sub(line.as_ptr() as usize);
        line.get(before..)
    });
    Some(Region { start, end, access, offset, of_file: inode != 0, name: name.unwrap_or_default() })
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        sum.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// Bytes of `/proc/sys/kernel/core_pattern`.
pub const PATTERN_BYTES: usize = 128;
/// Bytes of the path that comes of it, with its end.
pub const PATH_BYTES: usize = 512;

/// What a core's name may tell of its process (core(5)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process<'a> {
    /// `%p`.
    pub pid: u64,
    /// `%u` and `%g`.
    pub ids: [u64; 2],
    /// `%t`: seconds of the Epoch.
    pub time_s: u64,
    /// `%e`: what the thread that failed is called.
    pub name: &'a [u8],
    /// `%h`.
    pub host: &'a [u8],
}

/// The path, with its end, that a pattern makes for a process's core. A `/` in what is put in becomes `!`; a `%` with
/// anything else behind it is left out. `None` when it is empty or too long.
pub fn core_path(pattern: &[u8], process: Process<'_>) -> Option<[u8; PATH_BYTES]> {
    let mut path = Path { bytes: [0; PATH_BYTES], used: 0 };
    let mut letters = pattern.iter().copied();
    while let Some(letter) = letters.next() {
        if letter != b'%' {
            path.put(letter);
            continue;
        }
        match letters.next() {
            Some(b'%') => path.put(b'%'),
            Some(b'p' | b'i' | b'P' | b'I') => path.number(process.pid),
            Some(b'u') => path.number(process.ids[0]),
            Some(b'g') => path.number(process.ids[1]),
            Some(b't') => path.number(process.time_s),
            Some(b'e') => path.name(process.name),
            Some(b'h') => path.name(process.host),
            _ => {}
        }
    }
    (1..PATH_BYTES).contains(&path.used).then_some(path.bytes)
}

/// A path being written; `used` goes beyond its room when there is none.
struct Path {
    bytes: [u8; PATH_BYTES],
    used: usize,
}

impl Path {
    fn put(&mut self, letter: u8) {
        if let Some(place) = self.bytes.get_mut(self.used) {
            *place = letter;
        }
        self.used += 1;
    }

    fn name(&mut self, name: &[u8]) {
        name.iter().for_each(|letter| self.put(if *letter == b'/' { b'!' } else { *letter }));
    }

    fn number(&mut self, number: u64) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.put(b'0' + (number % 10) as u8);
    }
}

/// Bytes being written one behind the other, as far as there is room.
pub struct Head<'a> {
    bytes: &'a mut [u8],
    length: usize,
    full: bool,
}

impl<'a> Head<'a> {
    /// Nothing yet.
    pub fn new(bytes: &'a mut [u8]) -> Head<'a> {
        Head { bytes, length: 0, full: false }
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The room that is left.
    pub fn rest(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.length..).unwrap_or_default()
    }

    /// So many bytes have been written to the room that was left.
    pub fn grow(&mut self, length: usize) {
        let rest = self.bytes.len().saturating_sub(self.length);
        self.full |= length > rest;
        self.length += length.min(rest);
    }

    /// Not everything had room.
    pub fn is_full(&self) -> bool {
        self.full
    }

    fn put(&mut self, bytes: &[u8]) {
        self.rest().iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.grow(bytes.len());
    }

    fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.put(&word.to_le_bytes()));
    }

    fn halves(&mut self, halves: &[u32]) {
        halves.iter().for_each(|half| self.put(&half.to_le_bytes()));
    }

    fn pad(&mut self, to: usize) {
        while !self.length.is_multiple_of(to) && !self.full {
            self.put(&[0]);
        }
    }

    /// The head of a note of so many bytes.
    fn note(&mut self, kind: u32, length: usize) {
        self.halves(&[5, length as u32, kind]);
        self.put(&[b'C', b'O', b'R', b'E', 0, 0, 0, 0]);
    }

    /// Leaves room for the headers of so many mappings, and the notes.
    pub fn reserve(&mut self, count: usize) {
        self.rest().iter_mut().take(reserved(count)).for_each(|byte| *byte = 0);
        self.grow(reserved(count));
    }

    /// The note with the auxiliary vector, its end included.
    pub fn auxiliary_vector(&mut self, vector: impl Iterator<Item = [u64; 2]> + Clone) {
        self.note(NT_AUXV, vector.clone().count() * 16);
        vector.for_each(|pair| self.words(&pair));
    }

    /// The note that says which files are mapped where.
    pub fn files<'b>(&mut self, regions: impl Iterator<Item = Region<'b>> + Clone) {
        let files = regions.filter(|region| region.of_file);
        let names: usize = files.clone().map(|file| file.name.len() + 1).sum();
        let count = files.clone().count();
        self.note(NT_FILE, 16 + 24 * count + names);
        self.words(&[count as u64, PAGE]);
        files.clone().for_each(|file| self.words(&[file.start, file.end, file.offset / PAGE]));
        for file in files {
            self.put(file.name);
            self.put(&[0]);
        }
        self.pad(4);
    }

    /// Writes the headers into the room that was left for them. All notes are there.
    pub fn headers<'b>(&mut self, regions: impl Iterator<Item = Region<'b>> + Clone) {
        let count = regions.clone().count();
        let (end, notes) = (self.length as u64, reserved(count) as u64);
        let mut head = Head::new(self.bytes);
        head.put(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // ET_CORE for x86-64.
        head.halves(&[4 | 62 << 16, 1]);
        head.words(&[0, HEADER_BYTES as u64, 0]);
        head.halves(&[0, HEADER_BYTES as u32 | (SEGMENT_BYTES as u32) << 16, (count as u32 + 1) & 0xffff, 0]);
        head.segment(PT_NOTE, 0, [notes, 0, end.saturating_sub(notes), 0, 4]);
        let mut offset = end.next_multiple_of(PAGE);
        for region in regions {
            let kept = region.kept();
            let [read, write, execute] = region.access;
            let flags = u32::from(execute) | u32::from(write) << 1 | u32::from(read) << 2;
            let length = region.end.saturating_sub(region.start);
            head.segment(PT_LOAD, flags, [offset, region.start, kept, length, PAGE]);
            offset = offset.saturating_add(kept);
        }
    }

    /// Offset, address, bytes in the file and in memory, alignment.
    fn segment(&mut self, kind: u32, flags: u32, [offset, address, in_file, in_memory, align]: [u64; 5]) {
        self.halves(&[kind, flags]);
        self.words(&[offset, address, 0, in_file, in_memory, align]);
    }
}

fn reserved(count: usize) -> usize {
    HEADER_BYTES + SEGMENT_BYTES * (count + 1)
}

/// The auxiliary vector of a program, its end included, found from where its stack began: `word` reads its memory.
pub fn auxiliary_vector(
    stack: u64,
    word: impl Fn(u64) -> u64 + Clone,
) -> impl Iterator<Item = [u64; 2]> + Clone {
    /// No program gets more strings than that.
    const STRINGS_MAX: u64 = 1 << 20;
    /// Or more pairs.
    const PAIRS_MAX: usize = 64;
    let arguments = word(stack).min(STRINGS_MAX);
    let environment = stack + 8 * (arguments + 2);
    let variables = (0..STRINGS_MAX).take_while(|index| word(environment + 8 * index) != 0).count() as u64;
    let mut at = Some(environment + 8 * (variables + 1));
    let pairs = iter::from_fn(move || {
        let pair = at.map(|at| [word(at), word(at + 8)])?;
        at = at.filter(|_| pair != [0, 0] && pair.first() != Some(&0)).map(|at| at + 16);
        Some(pair)
    });
    pairs.take(PAIRS_MAX)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec::Vec;

    const MAPS: &[u8] = b"00400000-00402000 r-xp 00000000 00:05 12 /tmp/a program\n\
        00402000-00403000 r--p 00002000 00:05 12 /tmp/a program\n\
        00403000-00405000 rw-p 00003000 00:05 12 /tmp/a program\n\
        10000000-10100000 rw-p 00000000 00:00 0 \n\
        7ff000000000-7ff000001000 r--p 00000000 00:00 0 [vvar]\n\
        7ff000001000-7ff000002000 r-xp 00000000 00:00 0 [vdso]\n\
        7ffffffde000-7ffffffff000 ---p 00000000 00:00 0 \n";

    fn path(pattern: &str) -> Option<String> {
        let process = Process { pid: 4321, ids: [0, 50], time_s: 7, name: b"a/b", host: b"pond" };
        let path = core_path(pattern.as_bytes(), process)?;
        let end = path.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8(path[..end].to_vec()).unwrap())
    }

    #[test]
    fn a_core_is_named_by_its_pattern() {
        assert_eq!(path("core").as_deref(), Some("core"));
        assert_eq!(path("/tmp/%e.%p").as_deref(), Some("/tmp/a!b.4321"));
        assert_eq!(path("%u-%g-%t-%h-%%").as_deref(), Some("0-50-7-pond-%"));
        assert_eq!(path("x%zy%").as_deref(), Some("xy"), "what is unknown is left out");
        assert_eq!(path(""), None);
        assert_eq!(path(&"%p%p%p".repeat(43)), None, "too long");
    }

    #[test]
    fn a_mapping_is_read_with_its_name_and_kept_by_whose_it_is() {
        let all: Vec<Region<'_>> = regions(MAPS, 0x1000_0000).collect();
        let kept: Vec<u64> = all.iter().map(Region::kept).collect();
        assert_eq!(kept, [PAGE, 0, 2 * PAGE, 0, PAGE, 0], "without its own");
        assert_eq!((all[0].name, all[2].offset, all[2].of_file), (&b"/tmp/a program"[..], 0x3000, true));
        assert_eq!((all[3].name, all[3].of_file, all[5].access), (&b"[vvar]"[..], false, [false; 3]));
        assert_eq!(regions(b"garbage\n\n1-zz r\n", 0).count(), 0);
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn the_headers_say_where_each_mapping_lies() {
        let mut bytes = [0xff; 4096];
        let mut head = Head::new(&mut bytes);
        let all = regions(MAPS, 0);
        head.reserve(all.clone().count());
        head.auxiliary_vector([[6, PAGE], [0, 0]].into_iter());
        head.files(all.clone());
        head.headers(all.clone());
        assert!(!head.is_full());
        let bytes = head.bytes();
        assert_eq!((&bytes[..4], bytes[16], bytes[56]), (&b"\x7fELF"[..], 4, 8));
        let note = HEADER_BYTES;
        assert_eq!(word(bytes, note + 8), reserved(7) as u64);
        assert_eq!(word(bytes, note + 32) + word(bytes, note + 8), bytes.len() as u64);
        let third = HEADER_BYTES + 3 * SEGMENT_BYTES;
        let first = word(bytes, HEADER_BYTES + SEGMENT_BYTES + 8);
        assert_eq!(first, (bytes.len() as u64).next_multiple_of(PAGE));
        assert_eq!(
            [8, 16, 32, 40].map(|at| word(bytes, third + at)),
            [first + PAGE, 0x40_3000, 0x2000, 0x2000]
        );
        let small = Head::new(&mut [0; 100]).files_fit(all);
        assert!(!small);
    }

    impl Head<'_> {
        fn files_fit<'b>(mut self, regions: impl Iterator<Item = Region<'b>> + Clone) -> bool {
            self.files(regions);
            !self.is_full()
        }
    }

    #[test]
    fn the_auxiliary_vector_is_found_behind_arguments_and_environment() {
        let stack = [2, 100, 200, 0, 300, 0, 33, 7000, 6, 4096, 0, 0, 9, 9];
        let vector = auxiliary_vector(0, |at| stack[at as usize / 8]);
        assert_eq!(vector.collect::<Vec<_>>(), [[33, 7000], [6, 4096], [0, 0]]);
    }
}
