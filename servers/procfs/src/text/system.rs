//! Files about the whole system.

use alloc::{format, string::String, vec::Vec};

use libipc::linux::uts;
use libipc::server::Env;
use libipc::server::env::Statistic;

use super::{NS_PER_S, PAGE_KIB, TICKS_PER_S};
use crate::ask::{Load, Memory};

/// A text of one line.
pub(super) fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// `/proc/meminfo`. There is no swap, and nothing is in buffers: file pages are counted as cached.
pub(super) fn meminfo(memory: &Memory) -> String {
    let rows = [
        ("MemTotal", memory.total),
        ("MemFree", memory.free),
        ("MemAvailable", memory.free.saturating_add(memory.cached)),
        ("Buffers", 0),
        ("Cached", memory.cached),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", memory.cached),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
    ];
    let row = |(name, pages): &(&str, u64)| {
        format!("{:<16}{:>8} kB\n", format!("{name}:"), pages.saturating_mul(PAGE_KIB))
    };
    rows.iter().map(row).collect()
}

fn hundredths(ns: u64) -> String {
    format!("{}.{:02}", ns / NS_PER_S, ns % NS_PER_S / 10_000_000)
}

/// `/proc/uptime`: seconds since boot, and seconds of idling.
pub(super) fn uptime(env: &mut dyn Env) -> String {
    let [idle_ns, ..] = env.statistic(Statistic::Cpu, 0);
    format!("{} {}\n", hundredths(env.now()), hundredths(idle_ns))
}

/// `/proc/loadavg`.
pub(super) fn load_average(load: &Load) -> String {
    let [one, five, fifteen] = load.averages.map(|average| format!("{}.{:02}", average / 100, average % 100));
    format!("{one} {five} {fifteen} {}/{} {}\n", load.running, load.threads, load.last_pid)
}

/// `/proc/stat`. The kernel tells idle time from the rest and no more, so the rest is shown as user time.
pub(super) fn stat(load: &Load, epoch_s: u64, env: &mut dyn Env) -> String {
    let [idle_ns, now_ns, switches, _] = env.statistic(Statistic::Cpu, 0);
    let ticks = |ns: u64| ns / (NS_PER_S / TICKS_PER_S);
    let (busy, idle) = (ticks(now_ns.saturating_sub(idle_ns)), ticks(idle_ns));
    format!(
        "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n\
         cpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\n\
         intr 0\n\
         ctxt {switches}\n\
         btime {epoch_s}\n\
         processes {}\n\
         procs_running {}\n\
         procs_blocked 0\n",
        load.last_pid, load.running
    )
}

/// `/proc/cpuinfo`: one processor, with what every processor of this architecture can do.
pub(super) fn cpuinfo() -> String {
    let rows = [
        ("processor\t", "0"),
        ("vendor_id\t", "unknown"),
        ("model name\t", uts::MACHINE),
        ("physical id\t", "0"),
        ("siblings\t", "1"),
        ("core id\t\t", "0"),
        ("cpu cores\t", "1"),
        ("flags\t\t", "fpu tsc msr pae cx8 sep pge cmov mmx fxsr sse sse2 syscall nx lm"),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    text + "\n"
}

/// `/proc/version`.
pub(super) fn version() -> String {
    format!("{} version {} (naiad@naiad) {}\n", uts::SYSNAME, uts::RELEASE, uts::VERSION)
}

/// A random UUID (RFC 9562, version 4) that is the same throughout one boot.
pub(super) fn boot_id(seed: u64) -> String {
    // Two rounds of SplitMix64 spread the seed's bits.
    let mix = |step: u64| {
        let mut word = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    };
    let (high, low) = (mix(1), mix(2));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
