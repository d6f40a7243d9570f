//! How a program that a signal ends leaves a core file: by itself. The process server stops its other threads and lets
//! the one that failed run here instead of where it was, on memory of its own; what it does are calls like any other,
//! with the program's own rights and limits, in its own directory or where `/proc/sys/kernel/core_pattern` says. When
//! it is done it exits, and the process ends as the signal says, with or without the bit for a core.

use core::{ptr, slice};

use vdso::image::{
    Head, PAGE, PATH_BYTES, PATTERN_BYTES, Process, Region, auxiliary_vector, core_path, regions,
};

use crate::arch::call;

/// Where its parts lie in the memory it is given: the text of the mappings, headers and notes, a page table's worth of
/// residency; the stack has the rest.
const MAPS_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 256 << 10;
const RESIDENT_BYTES: usize = 4096;
/// All of it.
pub const SCRATCH_BYTES: usize = 1 << 20;

const READ: u64 = 0;
const WRITE: u64 = 1;
const OPEN: u64 = 2;
const CLOSE: u64 = 3;
const FSTAT: u64 = 5;
const LSEEK: u64 = 8;
const MINCORE: u64 = 27;
const GETPID: u64 = 39;
const UNAME: u64 = 63;
const FTRUNCATE: u64 = 77;
const GETRLIMIT: u64 = 97;
const PTRACE: u64 = 101;
const GETUID: u64 = 102;
const GETGID: u64 = 104;
const PRCTL: u64 = 157;
const TIME: u64 = 201;
const PR_GET_NAME: u64 = 16;
/// `struct utsname`, and where the host's name stands in it.
const UTS_BYTES: usize = 6 * 65;
const UTS_HOST: usize = 65;
/// What the process server tells only a process that leaves a core: notes about a thread.
const PTRACE_CORE_NOTES: u64 = 0x4e00;
const RLIMIT_CORE: u64 = 4;
/// O_WRONLY, O_CREAT, O_NONBLOCK, O_NOFOLLOW.
const FOR_WRITING: u64 = 0o1 | 0o100 | 0o4000 | 0o400_000;
/// S_IFREG in st_mode.
const REGULAR: u32 = 0o100_000;
const KIND: u32 = 0o170_000;

/// Called with memory of its own and where the program's stack began. 0 when the core is there, whole.
///
/// # Safety
/// The memory is [`SCRATCH_BYTES`] that nobody else uses; the stack is that of the program's start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn leave_core(scratch: *mut u8, stack: u64) -> u64 {
    // SAFETY: the parts do not overlap, and the stack of this function is above them.
    let (maps, head, resident) = unsafe {
        (
            slice::from_raw_parts_mut(scratch, MAPS_BYTES),
            slice::from_raw_parts_mut(scratch.add(MAPS_BYTES), HEAD_BYTES),
            slice::from_raw_parts_mut(scratch.add(MAPS_BYTES + HEAD_BYTES), RESIDENT_BYTES),
        )
    };
    let Some(path) = path(maps) else { return 1 };
    let Some(maps) = read(b"/proc/self/maps\0", maps) else { return 1 };
    let all = regions(maps, scratch as u64);
    let mut head = Head::new(head);
    head.reserve(all.clone().count());
    for thread in 0.. {
        let rest = head.rest();
        let room = rest.len() as u64;
        let told = call(PTRACE, [PTRACE_CORE_NOTES, thread, rest.as_mut_ptr() as u64, room, 0, 0]);
        if told <= 0 {
            break;
        }
        head.grow(told as usize);
    }
    // SAFETY: the process server has told where the stack began; if the program has unmapped it since, there will be
    // no core.
    head.auxiliary_vector(auxiliary_vector(stack, |at| unsafe { ptr::read(at as *const u64) }));
    head.files(all.clone());
    head.headers(all.clone());
    if head.is_full() {
        return 1;
    }
    match File::create(&path) {
        Some(file) => file.fill(head.bytes(), all, resident),
        None => 1,
    }
}

/// Where the core goes, by the system's pattern and what this process is.
fn path(buffer: &mut [u8]) -> Option<[u8; PATH_BYTES]> {
    let mut name = [0_u8; 16];
    call(PRCTL, [PR_GET_NAME, name.as_mut_ptr() as u64, 0, 0, 0, 0]);
    let mut uts = [0_u8; UTS_BYTES];
    call(UNAME, [uts.as_mut_ptr() as u64, 0, 0, 0, 0, 0]);
    let process = Process {
        pid: call(GETPID, [0; 6]) as u64,
        ids: [call(GETUID, [0; 6]) as u64, call(GETGID, [0; 6]) as u64],
        time_s: call(TIME, [0; 6]) as u64,
        name: text(&name),
        host: text(uts.get(UTS_HOST..)?),
    };
    let pattern = read(b"/proc/sys/kernel/core_pattern\0", buffer.get_mut(..PATTERN_BYTES)?)?;
    core_path(pattern.split(|byte| *byte == b'\n').next()?, process)
}

/// A text up to its end.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A file's bytes, as far as there is room.
fn read<'a>(path: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = call(OPEN, [path.as_ptr() as u64, 0, 0, 0, 0, 0]);
    if file < 0 {
        return None;
    }
    let mut length = 0;
    loop {
        let rest = buffer.get_mut(length..)?;
        let count = call(READ, [file as u64, rest.as_mut_ptr() as u64, rest.len() as u64, 0, 0, 0]);
        if count <= 0 {
            break;
        }
        length += count as usize;
    }
    call(CLOSE, [file as u64, 0, 0, 0, 0, 0]);
    buffer.get(..length)
}

/// The core file.
struct File {
    descriptor: u64,
    /// RLIMIT_CORE: so long it may be.
    limit: u64,
}

impl File {
    /// An empty file. Anything there but a plain file stays as it is.
    fn create(path: &[u8]) -> Option<File> {
        let descriptor = call(OPEN, [path.as_ptr() as u64, FOR_WRITING, 0o600, 0, 0, 0]);
        if descriptor < 0 {
            return None;
        }
        let descriptor = descriptor as u64;
        let mut status = [0_u32; 36];
        call(FSTAT, [descriptor, status.as_mut_ptr() as u64, 0, 0, 0, 0]);
        let [.., mode] = *status.first_chunk::<7>()?;
        let mut limits = [0_u64; 2];
        call(GETRLIMIT, [RLIMIT_CORE, limits.as_mut_ptr() as u64, 0, 0, 0, 0]);
        let [limit, _] = limits;
        let empty = mode & KIND == REGULAR && call(FTRUNCATE, [descriptor, 0, 0, 0, 0, 0]) == 0;
        empty.then_some(File { descriptor, limit })
    }

    /// Writes all there is. Pages that were never touched become holes.
    fn fill<'a>(&self, head: &[u8], regions: impl Iterator<Item = Region<'a>>, resident: &mut [u8]) -> u64 {
        let mut whole = self.write(0, head.as_ptr() as u64, head.len() as u64);
        let mut offset = (head.len() as u64).next_multiple_of(PAGE);
        for region in regions {
            let (mut at, end) = (region.start, region.start.saturating_add(region.kept()));
            while at < end {
                let part = (end - at).min(resident.len() as u64 * PAGE);
                let known = call(MINCORE, [at, part, resident.as_mut_ptr() as u64, 0, 0, 0]) == 0;
                // Pages of a file are as good whether they have been touched or not.
                let has = |page: &u8| region.of_file || !known || *page & 1 != 0;
                for (index, page) in (0..part / PAGE).zip(resident.iter()) {
                    if has(page) {
                        whole &= self.write(offset + index * PAGE, at + index * PAGE, PAGE);
                    }
                }
                (at, offset) = (at + part, offset + part);
            }
        }
        let length = offset.min(self.limit);
        call(FTRUNCATE, [self.descriptor, length, 0, 0, 0, 0]);
        u64::from(!(whole && length == offset))
    }

    /// Writes bytes at an offset, and says whether they are there. What cannot be read, such as pages behind the end of
    /// a mapped file, is left out.
    fn write(&self, offset: u64, address: u64, length: u64) -> bool {
        const EFAULT: i64 = -14;
        let wanted = length.min(self.limit.saturating_sub(offset));
        call(LSEEK, [self.descriptor, offset, 0, 0, 0, 0]);
        let mut done = 0;
        while done < wanted {
            match call(WRITE, [self.descriptor, address + done, wanted - done, 0, 0, 0]) {
                EFAULT => return true,
                count if count <= 0 => return false,
                count => done += count as u64,
            }
        }
        wanted == length
    }
}
