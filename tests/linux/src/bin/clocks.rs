//! compare
//!
//! Clocks without a system call: the functions of the vdso, found as a C library finds them, tell the kernel's time.

use std::{ffi::CStr, fs, mem, process::ExitCode, slice, time::Instant};

use libc::{
    AT_SYSINFO_EHDR, CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI, Elf64_Ehdr, Elf64_Phdr,
    Elf64_Sym, c_int, timespec, timeval,
};
use linux_tests::{call, equal, ok, run};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;

fn main() -> ExitCode {
    run(&[it_is_there, clocks_agree, time_goes_on, other_functions, maps_show_it])
}

/// The vdso, taken apart.
struct Vdso {
    base: usize,
    symbols: &'static [Elf64_Sym],
    names: usize,
    versions: &'static [u16],
    version: u16,
}

fn address() -> usize {
    // SAFETY: it reads a word of the auxiliary vector.
    unsafe { libc::getauxval(AT_SYSINFO_EHDR) as usize }
}

/// What is at an offset of the object.
fn at<T>(address: usize) -> &'static T {
    // SAFETY: the kernel has mapped an ELF file there, whose own tables lead here.
    unsafe { &*(address as *const T) }
}

fn text(address: usize) -> &'static str {
    // SAFETY: strings in an ELF file end with a NUL.
    unsafe { CStr::from_ptr(address as *const i8) }.to_str().unwrap_or_default()
}

impl Vdso {
    fn find() -> Vdso {
        let base = address();
        let header: &Elf64_Ehdr = at(base);
        let segments: &[Elf64_Phdr] = array(base + header.e_phoff as usize, header.e_phnum as usize);
        let load = segments.iter().find(|it| it.p_type == PT_LOAD).expect("it is loaded");
        let bias = base + load.p_offset as usize - load.p_vaddr as usize;
        let dynamic = segments.iter().find(|it| it.p_type == PT_DYNAMIC).expect("it is dynamic");
        let entries: &[[u64; 2]] =
            array(base + dynamic.p_offset as usize, dynamic.p_memsz as usize / mem::size_of::<[u64; 2]>());
        let of = |tag: u64| {
            let entry = entries.iter().find(|[found, _]| *found == tag).expect("it has all tables");
            bias + entry[1] as usize
        };
        let count: &[u32; 2] = at(of(DT_HASH));
        let count = count[1] as usize;
        let names = of(DT_STRTAB);
        Vdso {
            base: bias,
            symbols: array(of(DT_SYMTAB), count),
            names,
            versions: array(of(DT_VERSYM), count),
            version: version(of(DT_VERDEF), names),
        }
    }

    fn function(&self, name: &str) -> Option<usize> {
        let symbols = self.symbols.iter().zip(self.versions);
        let mut found = symbols.filter(|(symbol, version)| {
            **version & 0x7fff == self.version && text(self.names + symbol.st_name as usize) == name
        });
        found.next().map(|(symbol, _)| self.base + symbol.st_value as usize)
    }
}

fn array<T>(address: usize, count: usize) -> &'static [T] {
    // SAFETY: the object's own tables say that they are so long.
    unsafe { slice::from_raw_parts(address as *const T, count) }
}

/// The number of the version LINUX_2.6.
fn version(mut definition: usize, names: usize) -> u16 {
    loop {
        // vd_version, vd_flags, vd_ndx, vd_cnt, vd_hash, vd_aux, vd_next; then vda_name.
        let [index, aux, next] =
            [*at::<u16>(definition + 4), *at::<u16>(definition + 12), *at(definition + 16)];
        let name: &u32 = at(definition + usize::from(aux));
        if text(names + *name as usize) == "LINUX_2.6" {
            return index;
        }
        if next == 0 {
            return 0;
        }
        definition += usize::from(next);
    }
}

type ClockGettime = extern "C" fn(c_int, *mut timespec) -> c_int;
type GetTimeOfDay = extern "C" fn(*mut timeval, *mut u64) -> c_int;
type Time = extern "C" fn(*mut i64) -> i64;
type GetCpu = extern "C" fn(*mut u32, *mut u32, usize) -> c_int;

fn clock_gettime() -> ClockGettime {
    let function = Vdso::find().function("__vdso_clock_gettime").expect("it has the function");
    // SAFETY: this is the function's type.
    unsafe { mem::transmute::<usize, ClockGettime>(function) }
}

fn it_is_there() {
    let base = address();
    ok("programs are told where the vdso is", base != 0 && base.is_multiple_of(4096));
    equal("it is an ELF file", *at::<[u8; 4]>(base), *b"\x7fELF");
    let vdso = Vdso::find();
    for name in ["clock_gettime", "gettimeofday", "time", "getcpu"] {
        ok(&format!("it has {name}"), vdso.function(&format!("__vdso_{name}")).is_some());
        ok("under both names", vdso.function(name) == vdso.function(&format!("__vdso_{name}")));
    }
    ok("and not what it has not", vdso.function("__vdso_fork").is_none());
}

fn ns(time: &timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn ask_kernel(clock: c_int) -> i64 {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(syscall(libc::SYS_clock_gettime, clock, &raw mut time)).expect("a clock can be read");
    ns(&time)
}

fn clocks_agree() {
    let ask = clock_gettime();
    let clocks = [
        ("CLOCK_REALTIME", CLOCK_REALTIME),
        ("CLOCK_MONOTONIC", CLOCK_MONOTONIC),
        ("CLOCK_MONOTONIC_RAW", CLOCK_MONOTONIC_RAW),
        ("CLOCK_REALTIME_COARSE", CLOCK_REALTIME_COARSE),
        ("CLOCK_MONOTONIC_COARSE", CLOCK_MONOTONIC_COARSE),
        ("CLOCK_BOOTTIME", CLOCK_BOOTTIME),
        ("CLOCK_TAI", CLOCK_TAI),
        ("CLOCK_PROCESS_CPUTIME_ID", CLOCK_PROCESS_CPUTIME_ID),
    ];
    for (name, clock) in clocks {
        let mut time = timespec { tv_sec: -1, tv_nsec: -1 };
        let before = ask_kernel(clock);
        let answer = ask(clock, &raw mut time);
        let after = ask_kernel(clock);
        equal(&format!("{name} can be read"), answer, 0);
        ok(
            &format!("{name} is between two answers of the kernel"),
            before <= ns(&time) && ns(&time) <= after && (0..1_000_000_000).contains(&time.tv_nsec),
        );
    }
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    ok("a clock that is none cannot", ask(99, &raw mut time) < 0);
}

fn time_goes_on() {
    let ask = clock_gettime();
    let mut last = 0;
    let steady = (0..10_000).all(|_| {
        let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
        ask(CLOCK_MONOTONIC, &raw mut time);
        let before = mem::replace(&mut last, ns(&time));
        before <= last
    });
    ok("time never goes back", steady);
    let start = Instant::now();
    while start.elapsed().as_millis() < 5 {}
    ok("and goes on", start.elapsed().as_millis() >= 5);
}

fn other_functions() {
    let vdso = Vdso::find();
    let function = |name: &str| vdso.function(name).expect("it has the function");
    // SAFETY: these are the functions' types.
    let (of_day, time, cpu) = unsafe {
        (
            mem::transmute::<usize, GetTimeOfDay>(function("__vdso_gettimeofday")),
            mem::transmute::<usize, Time>(function("__vdso_time")),
            mem::transmute::<usize, GetCpu>(function("__vdso_getcpu")),
        )
    };
    let before = ask_kernel(CLOCK_REALTIME) / 1000;
    let (mut day, mut zone) = (timeval { tv_sec: 0, tv_usec: 0 }, u64::MAX);
    equal("gettimeofday answers", of_day(&raw mut day, &raw mut zone), 0);
    let after = ask_kernel(CLOCK_REALTIME) / 1000;
    let us = day.tv_sec * 1_000_000 + day.tv_usec;
    ok("with the time of day", (before..=after).contains(&us));
    equal("and no time zone", zone, 0);
    equal("or nothing at all", of_day(std::ptr::null_mut(), std::ptr::null_mut()), 0);
    let mut stored = 0;
    let seconds = time(&raw mut stored);
    ok("time answers in seconds", seconds - before / 1_000_000 <= 1 && seconds >= before / 1_000_000 - 1);
    equal("and stores them", stored, seconds);
    let (mut processor, mut node) = (u32::MAX, u32::MAX);
    equal("getcpu answers", cpu(&raw mut processor, &raw mut node, 0), 0);
    ok("with a processor and its node", processor < 4096 && node < 64);
}

fn maps_show_it() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = |name: &str| maps.lines().find(|line| line.ends_with(name)).unwrap_or_default().to_owned();
    ok("/proc/self/maps shows the vdso", line("[vdso]").starts_with(&format!("{:x}-", address())));
    ok("read and execute", line("[vdso]").contains(" r-xp "));
    ok("and the page before it, which is read", line("[vvar]").contains(" r--p "));
}
