//! Exec: a new space for a program. Its segments become regions of its file, its stack is written, and the pages that
//! it cannot do without are mapped at once if they are in memory; the rest comes as it is touched. The file itself is
//! not read here.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use libipc::abi::{Handle, PAGE_SIZE, Protection};
use libipc::linux::errno::{E2BIG, EINVAL, ENOEXEC, ENOMEM};
use libipc::proto::space::{Answer, Build};
use libipc::server::{Effects, Operation};
use serde::{Deserialize, Serialize};
use vdso::TimePage;

use crate::elf::{ElfError, Image, Segment};
use crate::fault::{self, Fault};
use crate::gather::Gathered;
use crate::object::SYSTEM;
use crate::region::{Backing, Purpose, Region};
use crate::space::{Heat, MAP_MAX, Marks, Memory, Page, STACK_MOST, Space};
use crate::stack::{self, InitialStack, Loaded, StackError};
use crate::tables::{MACHINE, address_of, ceil, floor, page_of};

/// The stack's region reaches so far below its contents from the start, as in Linux.
const STACK_AHEAD: u64 = 32 * PAGE_SIZE;
/// Least and most room that is kept for the stack to grow, whatever its limit.
const STACK_ROOM: Range<u64> = 128 << 20..STACK_MOST;
/// How far apart stack and mappings stay.
const STACK_GAP: u64 = 1 << 20;
/// Less free than this on the page of the stack pointer, and the next page is mapped along.
const STACK_SHORT: u64 = 1024;
/// Frames for tables and for the first pages, besides those of the stack.
pub const FRAMES_NEEDED: u32 = 64;

/// Why no space is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// The program or its interpreter cannot be loaded.
    Image(ElfError),
    /// It wants an interpreter that was not found, or that cannot be placed.
    Interpreter,
    /// Arguments and environment are too big.
    TooBig,
    /// The request contradicts itself.
    Malformed,
    /// There is not enough memory.
    NoMemory,
}

impl BuildError {
    /// As exec(2) reports it.
    pub fn errno(self) -> i32 {
        match self {
            BuildError::Image(_) | BuildError::Interpreter => ENOEXEC,
            BuildError::TooBig => E2BIG,
            BuildError::Malformed => EINVAL,
            BuildError::NoMemory => ENOMEM,
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::Image(error) => error.fmt(f),
            BuildError::Interpreter => f.write_str("its interpreter is missing or cannot be placed"),
            BuildError::TooBig => f.write_str("arguments and environment are too big"),
            BuildError::Malformed => f.write_str("the request contradicts itself"),
            BuildError::NoMemory => f.write_str("there is not enough memory"),
        }
    }
}

impl core::error::Error for BuildError {}

impl From<ElfError> for BuildError {
    fn from(error: ElfError) -> BuildError {
        BuildError::Image(error)
    }
}

impl From<StackError> for BuildError {
    fn from(error: StackError) -> BuildError {
        match error {
            StackError::TooBig => BuildError::TooBig,
            StackError::Malformed => BuildError::Malformed,
        }
    }
}

/// A file to be mapped: what it is, and the session by which its pages are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Source {
    image: Image,
    file: (u64, u64),
    session: Handle,
}

/// A program that was found loadable, and where everything goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    build: Build,
    program: Source,
    interpreter: Option<Source>,
    /// Added to the program's addresses; wraps for those linked high.
    base: u64,
    stack_top: u64,
    /// Arguments and environment that have come before, if they did not come with the request.
    pub gathered: Option<Gathered>,
    /// Where mappings go that may lie anywhere; it begins at the break.
    window: Range<u64>,
}

impl Plan {
    /// Reads the images and decides on addresses. Changes nothing; the sessions are `[program, interpreter]`. `top`:
    /// where the stack ends, when strings that have come before say so.
    pub fn new(
        mut build: Build,
        sessions: &[Handle],
        vdso_bytes: u64,
        top: Option<u64>,
    ) -> Result<Plan, BuildError> {
        let session = |index: usize| sessions.get(index).copied().ok_or(BuildError::Malformed);
        let image = Image::parse(&core::mem::take(&mut build.header))?;
        let interpreter = match (image.interpreted, build.interpreter.take()) {
            (true, Some((file, header))) => {
                let image = Image::parse(&header)?;
                if image.fixed {
                    return Err(BuildError::Interpreter);
                }
                Some(Source { image, file, session: session(1)? })
            }
            (true, None) => return Err(BuildError::Interpreter),
            (false, _) => None,
        };
        let (low, high) = build.random.split_at(8);
        let [low, high] =
            [low, high].map(|half| scramble(half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))));
        let highest = MACHINE.user_end - PAGE_SIZE - vdso_bytes - address_of(low & 0x3f_ffff);
        let stack_top = top.unwrap_or(highest);
        let room = build.limits.stack.clamp(STACK_ROOM.start, STACK_ROOM.end);
        let mappings_end = stack_top - room - STACK_GAP - address_of(high & 0xf_ffff);
        let base = base_of(&image, MACHINE.program_base + address_of(high >> 20 & 0xf_ffff));
        let end = image.span().end.wrapping_add(base);
        if end >= mappings_end {
            return Err(BuildError::NoMemory);
        }
        let program = Source { image, file: build.file, session: session(0)? };
        let (gathered, window) = (None, end..mappings_end);
        Ok(Plan { build, program, interpreter, base, stack_top, gathered, window })
    }

    /// Where mappings go that may lie anywhere.
    pub fn window(&self) -> Range<u64> {
        self.window.clone()
    }

    /// Frames that the new space needs at most to start.
    pub fn frames_needed(&self) -> u32 {
        let pointers = u64::from(self.build.argc) + u64::from(self.build.envc);
        page_of(self.build.strings.len() as u64 + pointers * 8) as u32 + FRAMES_NEEDED
    }

    /// The sessions that it will use.
    pub fn sessions(&self) -> impl Iterator<Item = Handle> {
        [Some(&self.program), self.interpreter.as_ref()].into_iter().flatten().map(|source| source.session)
    }

    /// Fills an empty space. On an error the space is half filled and to be destroyed.
    pub fn carry_out(
        self,
        space: &mut Space,
        vdso: Option<(u64, u64)>,
        now: u64,
        memory: &mut Memory,
        effects: &mut Effects,
    ) -> Result<Answer, BuildError> {
        let Plan { build, program, interpreter, base, stack_top, gathered, window } = self;
        space.heap = window.start..window.start;
        space.limits = build.limits;
        let mut touched = place(&program, base, space, memory, effects);
        let mut entry = program.image.entry.wrapping_add(base);
        let image = &program.image;
        let mut loaded = Loaded {
            headers: if image.headers == 0 { 0 } else { image.headers.wrapping_add(base) },
            header_count: image.header_count,
            entry,
            ..Loaded::default()
        };
        if let Some(interpreter) = interpreter {
            let room = space.regions.room(interpreter.image.extent() + interpreter.image.align);
            let Some(room) = room else {
                effects.act(Operation::Close { handle: interpreter.session });
                gathered.into_iter().for_each(|gathered| gathered.release(&mut memory.frames));
                return Err(BuildError::Interpreter);
            };
            loaded.interpreter = base_of(&interpreter.image, room);
            touched.extend(place(&interpreter, loaded.interpreter, space, memory, effects));
            entry = interpreter.image.entry.wrapping_add(loaded.interpreter);
        }
        if let Some((object, bytes)) = vdso {
            for region in vdso_regions(stack_top, bytes, object) {
                space.place(region, memory, effects);
            }
            // Whoever has a C library looks into it at once.
            let address = stack_top + PAGE_SIZE;
            touched.push((address, Protection::READ));
            loaded.vdso = Some(address);
        }
        let stack = match gathered {
            Some(gathered) => gathered.complete(&build, &loaded, space, memory, effects)?,
            None => stack::compose(stack_top, &build, &loaded)?,
        };
        let shape = StackShape {
            top: stack_top,
            limit: build.limits.stack,
            executable: program.image.stack_executable,
        };
        place_stack(&stack, &shape, space, memory, effects)?;
        space.marks =
            Marks { code: code_of(&program.image, base), stack: stack.pointer, strings: stack.strings };
        touched.push((entry, Protection::EXECUTE));
        for (address, access) in touched {
            // What is not in memory faults when it is touched.
            let _ = fault::resolve(space, memory, &Fault { address, access, now }, effects);
        }
        let vdso = loaded.vdso.unwrap_or(0);
        Ok(Answer::Image { space: space.badge, entry, stack: stack.pointer, vdso })
    }
}

/// Spreads the entropy of a word over all its bits, so that addresses do not tell the bytes of AT_RANDOM (the
/// finaliser of splitmix64).
pub fn scramble(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// What is added to an image's addresses so that it begins at or just above `wish`.
fn base_of(image: &Image, wish: u64) -> u64 {
    if image.fixed {
        return 0;
    }
    image.aligned(wish + image.align - 1).wrapping_sub(image.aligned(image.span().start))
}

fn code_of(image: &Image, base: u64) -> Range<u64> {
    let code = |segment: &&Segment| segment.protection.contains(Protection::EXECUTE);
    let start = image.segments.iter().find(code).map_or(0, |segment| segment.address);
    let end = image.segments.iter().rfind(code).map_or(0, |segment| segment.address + segment.file_bytes);
    start.wrapping_add(base)..end.wrapping_add(base)
}

/// Makes regions of an image's segments. Returns the pages that are certain to be written: those at the end of
/// initialised data, where uninitialised data begins.
fn place(
    source: &Source,
    base: u64,
    space: &mut Space,
    memory: &mut Memory,
    effects: &mut Effects,
) -> Vec<(u64, Protection)> {
    let object = memory.objects.open(source.file, source.session, true, effects);
    let mut touched = Vec::new();
    for segment in &source.image.segments {
        let address = segment.address.wrapping_add(base);
        let file_end = address + segment.file_bytes;
        let end = ceil(address + segment.memory_bytes).unwrap_or(MACHINE.user_end);
        let mut zeroes_at = floor(address);
        if segment.file_bytes > 0 {
            let in_file = segment.offset + segment.file_bytes;
            let limit = if segment.memory_bytes > segment.file_bytes { in_file } else { u64::MAX };
            let middle = ceil(file_end).unwrap_or(end);
            let backing = Backing::Object { object, page: page_of(segment.offset), limit };
            let region = Region { backing, ..Region::anonymous(floor(address)..middle, segment.protection) };
            space.place(region, memory, effects);
            zeroes_at = middle;
            if limit != u64::MAX && file_end < middle && segment.protection.contains(Protection::WRITE) {
                touched.push((file_end, Protection::WRITE));
            }
        }
        if zeroes_at < end {
            space.place(Region::anonymous(zeroes_at..end, segment.protection), memory, effects);
        }
    }
    touched
}

/// The page with the time, and behind it the vdso.
fn vdso_regions(address: u64, bytes: u64, object: u64) -> [Region; 2] {
    let region = |range: Range<u64>, page, purpose, protection| {
        let backing = Backing::Object { object, page, limit: u64::MAX };
        Region { backing, purpose, ..Region::anonymous(range, protection) }
    };
    let code = address + PAGE_SIZE;
    [
        region(address..code, 0, Purpose::Vvar, Protection::READ),
        region(code..address + bytes, 1, Purpose::Vdso, Protection::READ | Protection::EXECUTE),
    ]
}

/// Makes the object of the vdso and writes its pages, that with the time first; the system keeps it. Its number and its
/// bytes, in whole pages.
pub fn load_vdso(
    image: &[u8],
    time: &TimePage,
    memory: &mut Memory,
    effects: &mut Effects,
) -> Option<(u64, u64)> {
    let time = time.to_bytes();
    let pages: Vec<&[u8]> = [&time[..]].into_iter().chain(image.chunks(PAGE_SIZE as usize)).collect();
    if image.is_empty() || (memory.frames.free() as usize) < pages.len() {
        return None;
    }
    let bytes = address_of(pages.len() as u64);
    let object = memory.objects.open_anonymous();
    memory.objects.attach(object, SYSTEM, page_of(bytes));
    for (index, page) in pages.into_iter().enumerate() {
        let frame = memory.frames.take()?;
        effects.act(Operation::FrameZero { frame });
        effects.act(Operation::FrameWrite { frame, offset: 0, bytes: page.to_vec() });
        memory.objects.get_mut(object)?.add_page(index as u64, frame);
    }
    Some((object, bytes))
}

/// What the stack's region is to be.
struct StackShape {
    top: u64,
    limit: u64,
    executable: bool,
}

/// Makes the stack's region and writes what the program finds there and is not there yet.
fn place_stack(
    stack: &InitialStack,
    &StackShape { top, limit, executable }: &StackShape,
    space: &mut Space,
    memory: &mut Memory,
    effects: &mut Effects,
) -> Result<(), BuildError> {
    let lowest = floor(stack.pointer);
    let room = limit.clamp(top - lowest + PAGE_SIZE, STACK_ROOM.end);
    space.stack_floor = floor(top - room);
    let start = lowest.saturating_sub(STACK_AHEAD).max(space.stack_floor);
    let mut protection = Protection::READ | Protection::WRITE;
    if executable {
        protection |= Protection::EXECUTE;
    }
    space.regions.insert(Region { purpose: Purpose::Stack, ..Region::anonymous(start..top, protection) });
    let mut wanted = Vec::new();
    if stack.pointer - lowest < STACK_SHORT {
        wanted.push(page_of(lowest) - 1);
    }
    wanted.extend((page_of(lowest)..page_of(top)).take(MAP_MAX - 1));
    for number in &wanted {
        if space.pages.contains_key(number) {
            continue;
        }
        let frame = memory.frames.take().ok_or(BuildError::NoMemory)?;
        let address = address_of(*number);
        let heat = if address <= lowest { Heat::HOT } else { Heat::default() };
        space.pages.insert(*number, Page { heat, ..Page::own(frame) });
        let from = stack.pointer.max(address);
        let skip = (from - stack.pointer) as usize;
        let part = stack.bytes.get(skip..).unwrap_or_default();
        let part = &part[..part.len().min((PAGE_SIZE - (from - address).min(PAGE_SIZE)) as usize)];
        if part.len() < PAGE_SIZE as usize {
            effects.act(Operation::FrameZero { frame });
        }
        if !part.is_empty() {
            let (offset, bytes) = ((from - address) as u32, part.to_vec());
            effects.act(Operation::FrameWrite { frame, offset, bytes });
        }
    }
    let mapped: Vec<_> =
        wanted.into_iter().map(|number| (number, Protection::READ | Protection::WRITE)).collect();
    if space.enter(&mapped, &mut memory.frames, effects) { Ok(()) } else { Err(BuildError::NoMemory) }
}
