//! What a program finds on its stack: argument count and pointers, environment, auxiliary vector, and the strings
//! they point to. The layout is the System V x86_64 ABI's (section 3.4.1, process initialisation); the order of the
//! strings at the top is Linux's.

use alloc::vec::Vec;

use libipc::abi::PAGE_SIZE;
use libipc::proto::space::Build;

/// Longest single string, Linux's MAX_ARG_STRLEN.
const STRING_MAX: usize = 32 * PAGE_SIZE as usize;
/// What arguments and environment may always take, whatever the limit of the stack (ARG_MAX).
const ALWAYS_ALLOWED: u64 = 32 * PAGE_SIZE;
/// What they may take at most: three quarters of the usual 8 MiB.
pub const NEVER_MORE: u64 = 6 << 20;
/// The machine's name for AT_PLATFORM, with its NUL.
const PLATFORM: &[u8] = b"x86_64\0";
/// What every x86_64 processor has, as CPUID leaf 1 says it in edx: FPU, CX8, CMOV, MMX, FXSR, SSE, SSE2.
const HARDWARE: u64 = 1 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
/// Clock ticks in a second, for times(2).
const CLOCK_TICKS: u64 = 100;

/// Tags of the auxiliary vector (uapi/linux/auxvec.h).
mod tag {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const EXECFN: u64 = 31;
    pub const SYSINFO_EHDR: u64 = 33;
}

/// What the stack says about how the program was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// Address of its program headers.
    pub headers: u64,
    /// How many they are.
    pub header_count: u64,
    /// Where the interpreter is; 0 without one.
    pub interpreter: u64,
    /// Where the program itself starts.
    pub entry: u64,
    /// Where the vdso is, if there is one.
    pub vdso: Option<u64>,
}

/// A stack as it is to lie in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialStack {
    /// The stack pointer: where the bytes begin.
    pub pointer: u64,
    /// From the stack pointer to the top.
    pub bytes: Vec<u8>,
    /// Start and end of the argument strings, and of the environment's.
    pub strings: [u64; 4],
}

/// Why there is no stack for these arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackError {
    /// They are larger than a program may get.
    TooBig,
    /// They are not as many strings as was said.
    Malformed,
}

/// Lays out the stack of a program below `top`, which is a multiple of 16.
pub fn compose(top: u64, build: &Build, loaded: &Loaded) -> Result<InitialStack, StackError> {
    let lengths = string_lengths(build)?;
    let pointers = (lengths.len() as u64 + 2) * 8;
    let allowed = (build.limits.stack / 4).clamp(ALWAYS_ALLOWED, NEVER_MORE);
    if build.strings.len() as u64 + pointers > allowed {
        return Err(StackError::TooBig);
    }
    let (mut info, named) = named_by_vector(build);
    let arguments_at = info.len() as u64;
    info.extend(&build.strings);
    info.extend([0; 8]);
    let info_at = (top - info.len() as u64) & !15;

    let mut words: Vec<u64> = Vec::with_capacity(lengths.len() + 48);
    words.push(u64::from(build.argc));
    let mut string = info_at + arguments_at;
    let mut ends = [string, string, string, string];
    for (index, length) in lengths.iter().enumerate() {
        if index == build.argc as usize {
            words.push(0);
            (ends[1], ends[2]) = (string, string);
        }
        words.push(string);
        string += length;
    }
    if build.envc == 0 {
        words.push(0);
        (ends[1], ends[2]) = (string, string);
    }
    ends[3] = string;
    words.push(0);
    let named = named.map(|offset| info_at + offset);
    words.extend(auxiliary_vector(build, loaded, named).into_iter().flatten());

    let pointer = (info_at - words.len() as u64 * 8) & !15;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize((info_at - pointer) as usize, 0);
    bytes.extend(info);
    bytes.resize((top - pointer) as usize, 0);
    Ok(InitialStack { pointer, bytes, strings: ends })
}

/// The lengths of the strings with their NULs.
fn string_lengths(build: &Build) -> Result<Vec<u64>, StackError> {
    let mut lengths = Vec::with_capacity(build.argc.saturating_add(build.envc).min(1024) as usize);
    for string in build.strings.split_inclusive(|byte| *byte == 0) {
        if string.len() > STRING_MAX {
            return Err(StackError::TooBig);
        }
        lengths.push(string.len() as u64);
    }
    let told = u64::from(build.argc) + u64::from(build.envc);
    if lengths.len() as u64 != told || build.strings.last().is_some_and(|last| *last != 0) {
        return Err(StackError::Malformed);
    }
    Ok(lengths)
}

/// The bytes that the auxiliary vector points to, and where in them those of AT_RANDOM, AT_PLATFORM and AT_EXECFN are.
pub fn named_by_vector(build: &Build) -> (Vec<u8>, [u64; 3]) {
    let mut named = build.random.to_vec();
    let platform = named.len() as u64;
    named.extend(PLATFORM);
    let name = named.len() as u64;
    named.extend(&build.filename);
    named.push(0);
    (named, [0, platform, name])
}

/// The auxiliary vector, with the addresses of what it points to.
pub fn auxiliary_vector(build: &Build, loaded: &Loaded, [random, platform, name]: [u64; 3]) -> Vec<[u64; 2]> {
    let [uid, euid, gid, egid] = build.ids.map(u64::from);
    let mut vector: Vec<[u64; 2]> = loaded.vdso.iter().map(|address| [tag::SYSINFO_EHDR, *address]).collect();
    vector.extend([
        [tag::HWCAP, HARDWARE],
        [tag::PAGESZ, PAGE_SIZE],
        [tag::CLKTCK, CLOCK_TICKS],
        [tag::PHDR, loaded.headers],
        [tag::PHENT, crate::elf::PROGRAM_HEADER_BYTES],
        [tag::PHNUM, loaded.header_count],
        [tag::BASE, loaded.interpreter],
        [tag::FLAGS, 0],
        [tag::ENTRY, loaded.entry],
        [tag::UID, uid],
        [tag::EUID, euid],
        [tag::GID, gid],
        [tag::EGID, egid],
        [tag::SECURE, u64::from(build.secure)],
        [tag::RANDOM, random],
        [tag::EXECFN, name],
        [tag::PLATFORM, platform],
        [tag::NULL, 0],
    ]);
    vector
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use libipc::proto::space::Limits;

    use super::*;

    const TOP: u64 = 0x7fff_0000_0000;

    fn build(argc: u32, envc: u32, strings: &[u8]) -> Build {
        let (filename, random) = (b"/bin/ls".to_vec(), *b"0123456789abcdef");
        Build {
            argc,
            envc,
            strings: strings.to_vec(),
            filename,
            random,
            limits: Limits::default(),
            ..Build::default()
        }
    }

    /// Reads a stack the way a program does.
    struct Reader(InitialStack);

    impl Reader {
        fn word(&self, address: u64) -> u64 {
            let at = (address - self.0.pointer) as usize;
            u64::from_le_bytes(self.0.bytes[at..at + 8].try_into().unwrap())
        }

        fn text(&self, address: u64) -> &[u8] {
            let tail = &self.0.bytes[(address - self.0.pointer) as usize..];
            tail.split(|byte| *byte == 0).next().unwrap()
        }

        /// Words up to a zero, and the address after it.
        fn list(&self, mut address: u64) -> (Vec<u64>, u64) {
            let mut list = vec![];
            loop {
                let word = self.word(address);
                address += 8;
                if word == 0 {
                    return (list, address);
                }
                list.push(word);
            }
        }

        fn auxiliary(&self, mut address: u64, tag: u64) -> Option<u64> {
            while self.word(address) != tag::NULL {
                if self.word(address) == tag {
                    return Some(self.word(address + 8));
                }
                address += 16;
            }
            None
        }
    }

    #[test]
    fn a_program_finds_its_arguments_environment_and_auxiliary_vector() {
        let loaded = Loaded { headers: 0x40, header_count: 7, interpreter: 5, entry: 9, vdso: Some(0x7000) };
        let stack = Reader(compose(TOP, &build(2, 1, b"ls\0-l\0HOME=/\0"), &loaded).unwrap());
        assert_eq!(stack.0.pointer % 16, 0);
        assert_eq!(stack.0.pointer + stack.0.bytes.len() as u64, TOP);
        assert_eq!(stack.word(stack.0.pointer), 2);
        let (arguments, environment_at) = stack.list(stack.0.pointer + 8);
        let (environment, auxiliary_at) = stack.list(environment_at);
        let texts = |list: &[u64]| list.iter().map(|at| stack.text(*at).to_vec()).collect::<Vec<_>>();
        assert_eq!(texts(&arguments), [b"ls".to_vec(), b"-l".to_vec()]);
        assert_eq!(texts(&environment), [b"HOME=/".to_vec()]);
        assert_eq!(stack.0.strings, [arguments[0], environment[0], environment[0], environment[0] + 7]);
        let value = |tag| stack.auxiliary(auxiliary_at, tag).unwrap();
        assert_eq!(
            (value(tag::PHDR), value(tag::PHNUM), value(tag::BASE), value(tag::ENTRY)),
            (0x40, 7, 5, 9)
        );
        assert_eq!((value(tag::SYSINFO_EHDR), value(tag::PAGESZ), value(tag::PHENT)), (0x7000, 4096, 56));
        assert_eq!(stack.text(value(tag::EXECFN)), b"/bin/ls");
        assert_eq!(stack.text(value(tag::PLATFORM)), b"x86_64");
        let random = (value(tag::RANDOM) - stack.0.pointer) as usize;
        assert_eq!(stack.0.bytes[random..random + 16], *b"0123456789abcdef");
    }

    #[test]
    fn without_arguments_or_environment_both_lists_are_empty_and_there_is_no_vdso() {
        for (argc, envc, strings) in [(0, 0, &b""[..]), (1, 0, b"x\0"), (0, 1, b"A=\0")] {
            let stack = Reader(compose(TOP, &build(argc, envc, strings), &Loaded::default()).unwrap());
            let (arguments, environment_at) = stack.list(stack.0.pointer + 8);
            let (environment, auxiliary_at) = stack.list(environment_at);
            assert_eq!((arguments.len() as u32, environment.len() as u32), (argc, envc));
            assert_eq!(stack.auxiliary(auxiliary_at, tag::SYSINFO_EHDR), None);
            assert_eq!(stack.auxiliary(auxiliary_at, tag::CLKTCK), Some(100));
        }
    }

    #[test]
    fn too_much_is_too_big_and_miscounted_strings_are_malformed() {
        let long = |length: usize| vec![b'a'; length].into_iter().chain([0]).collect::<Vec<u8>>();
        let loaded = Loaded::default();
        assert!(compose(TOP, &build(1, 0, &long(STRING_MAX - 1)), &loaded).is_ok());
        assert_eq!(compose(TOP, &build(1, 0, &long(STRING_MAX)), &loaded), Err(StackError::TooBig));
        let many: Vec<u8> = (0..20).flat_map(|_| long(STRING_MAX - 1)).collect();
        assert_eq!(compose(TOP, &build(20, 0, &many), &loaded), Err(StackError::TooBig));
        let limited =
            Build { limits: Limits { stack: 1 << 16, ..Limits::default() }, ..build(1, 0, &long(1000)) };
        assert!(compose(TOP, &limited, &loaded).is_ok());
        assert_eq!(compose(TOP, &build(2, 0, b"one\0"), &loaded), Err(StackError::Malformed));
        assert_eq!(compose(TOP, &build(2, 0, b"one\0two"), &loaded), Err(StackError::Malformed));
        assert_eq!(compose(TOP, &build(u32::MAX, u32::MAX, b""), &loaded), Err(StackError::Malformed));
    }
}
