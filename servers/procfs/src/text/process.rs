//! Files about one process (proc(5)).

use alloc::{format, string::String, vec::Vec};

use libipc::abi::Protection;
use libipc::linux::open::{O_CLOEXEC, O_LARGEFILE};
use libipc::proto::process::ProcessInfo;
use libipc::proto::space::RegionInfo;
use libipc::server::env::Descriptor;

use super::{NS_PER_S, PAGE_KIB, TICKS_PER_S};
use crate::ask::Space;

const PAGE_BYTES: u64 = 4096;
/// Column in which `maps` shows names.
const MAPS_COLUMN: usize = 73;
/// RLIM_INFINITY.
const UNLIMITED: u64 = u64::MAX;

fn ticks(ns: u64) -> u64 {
    ns / (NS_PER_S / TICKS_PER_S)
}

/// `/proc/PID/stat`: 52 fields in one line.
pub(super) fn stat(info: &ProcessInfo, id: u32, space: &Space) -> Vec<u8> {
    let [user, system, children_user, children_system] = info.times.map(ticks);
    let [pending, blocked, ignored, caught] = info.signals;
    let [code_start, code_end, stack, brk_start, _] = space.marks;
    let [arguments, arguments_end, environment, environment_end] = space.strings;
    let foreground = info.foreground;
    let tail = format!(
        ") {} {} {} {} {} {foreground} 0 0 0 0 0 {user} {system} {children_user} {children_system} {} {} {} 0 {} {} {} \
         {UNLIMITED} {code_start} {code_end} {stack} 0 0 {pending} {blocked} {ignored} {caught} 0 0 0 17 0 0 0 0 0 0 \
         0 0 {brk_start} {arguments} {arguments_end} {environment} {environment_end} 0\n",
        char::from(info.state),
        info.parent,
        info.pgid,
        info.sid,
        info.tty,
        info.nice.saturating_add(20),
        info.nice,
        info.threads.len(),
        ticks(info.start_ns),
        space.bytes(),
        space.resident_pages,
    );
    [format!("{id} (").as_bytes(), &info.name, tail.as_bytes()].concat()
}

/// `/proc/PID/statm`: pages mapped, resident, shared, code, 0, data and stack, 0.
pub(super) fn statm(space: &Space) -> String {
    let pages = |wanted: &dyn Fn(&RegionInfo) -> bool| {
        let regions = space.regions.iter().filter(|region| wanted(region));
        regions.map(|region| region.end.saturating_sub(region.start) / PAGE_BYTES).sum::<u64>()
    };
    let has = |region: &RegionInfo, bits: Protection| region.protection & bits.bits() != 0;
    let code = pages(&|region| has(region, Protection::EXECUTE));
    let data = pages(&|region| has(region, Protection::WRITE) && !region.shared);
    format!("{} {} 0 {code} 0 {data} 0\n", space.bytes() / PAGE_BYTES, space.resident_pages)
}

/// `/proc/PID/status`.
pub(super) fn status(info: &ProcessInfo, id: u32, space: &Space) -> Vec<u8> {
    let state = match info.state {
        b'R' => "R (running)",
        b'S' => "S (sleeping)",
        b'D' => "D (disk sleep)",
        b'T' => "T (stopped)",
        b't' => "t (tracing stop)",
        b'Z' => "Z (zombie)",
        _ => "X (dead)",
    };
    // The file system ids are the effective ones.
    let ids = |[real, effective, saved]: [u32; 3]| format!("{real}\t{effective}\t{saved}\t{effective}");
    let mut text = format!(
        "\nState:\t{state}\nTgid:\t{}\nNgid:\t0\nPid:\t{id}\nPPid:\t{}\nTracerPid:\t0\nUid:\t{}\nGid:\t{}\nFDSize:\t64\n\
         Groups:\t \n",
        info.pid,
        info.parent,
        ids(info.uids),
        ids(info.gids),
    );
    if info.space != 0 {
        let kib = space.bytes() / 1024;
        let resident = space.resident_pages * PAGE_KIB;
        text += &format!(
            "VmPeak:\t{kib:8} kB\nVmSize:\t{kib:8} kB\nVmLck:\t{0:8} kB\nVmHWM:\t{resident:8} kB\nVmRSS:\t{resident:8} kB\n\
             VmSwap:\t{0:8} kB\n",
            0
        );
    }
    let [pending, blocked, ignored, caught] = info.signals;
    text += &format!(
        "Threads:\t{}\nSigQ:\t0/0\nSigPnd:\t{:016x}\nShdPnd:\t{pending:016x}\nSigBlk:\t{blocked:016x}\n\
         SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n",
        info.threads.len(),
        0,
    );
    [b"Name:\t", &info.name[..], text.as_bytes()].concat()
}

/// `/proc/PID/maps`. The mappings of the file that holds the code are shown with the program's path; for other files
/// only their number is known.
pub(super) fn maps(info: &ProcessInfo, space: &Space) -> Vec<u8> {
    let code = space.regions.iter().find(|region| (region.start..region.end).contains(&space.marks[0]));
    let program = code.and_then(|region| region.file);
    let row = |region: &RegionInfo| {
        let bit = |bits: Protection, letter| if region.protection & bits.bits() != 0 { letter } else { '-' };
        let access = [
            bit(Protection::READ, 'r'),
            bit(Protection::WRITE, 'w'),
            bit(Protection::EXECUTE, 'x'),
            if region.shared { 's' } else { 'p' },
        ];
        let access: String = access.iter().collect();
        let (server, object) = region.file.unwrap_or_default();
        let inode = object & 0xffff_ffff;
        let (start, end, offset) = (region.start, region.end, region.offset);
        let head = format!("{start:08x}-{end:08x} {access} {offset:08x} 00:{server:02x} {inode} ");
        let own = region.file.is_some() && region.file == program;
        let name = if own { &info.exe } else { &region.name };
        let gap = if name.is_empty() { 0 } else { MAPS_COLUMN.saturating_sub(head.len()) };
        [head.as_bytes(), " ".repeat(gap).as_bytes(), name, b"\n"].concat()
    };
    space.regions.iter().flat_map(row).collect()
}

/// `/proc/PID/limits`.
pub(super) fn limits(limits: &[[u64; 2]]) -> String {
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let value = |limit: &u64| if *limit == UNLIMITED { "unlimited".into() } else { format!("{limit}") };
    let line = |name: &str, soft: &str, hard: &str, unit: &str| {
        format!("{name:<26}{soft:<21}{hard:<21}{unit:<10}\n")
    };
    let rows = NAMES.iter().zip(limits);
    let rows = rows.map(|((name, unit), [soft, hard])| line(name, &value(soft), &value(hard), unit));
    line("Limit", "Soft Limit", "Hard Limit", "Units") + &rows.collect::<String>()
}

/// `/proc/PID/fdinfo/N`.
pub(super) fn descriptor(descriptor: &Descriptor) -> String {
    let close_on_exec = if descriptor.close_on_exec { O_CLOEXEC } else { 0 };
    let flags = descriptor.status | O_LARGEFILE | close_on_exec;
    format!(
        "pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t1\nino:\t{}\n",
        descriptor.position, descriptor.named.object
    )
}
