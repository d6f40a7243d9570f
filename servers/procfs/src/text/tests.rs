//! Formats as the programs that read them expect them: busybox and procps.

use alloc::{vec, vec::Vec};

use libipc::abi::upgrade::{ImageFigures, Verdict};
use libipc::abi::{Handle, KernelError, Protection};
use libipc::proto::proc_tree::MountInfo;
use libipc::proto::process::ProcessInfo;
use libipc::proto::space::RegionInfo;
use libipc::server::env::{Statistic, TaskFigure};
use libipc::server::testing::{Script, boot};
use libipc::server::{Boot, Server};

use super::*;
use crate::ask::{Load, Memory, Space};

/// A kernel with figures; nothing else is asked.
fn figures() -> Script {
    let mut script = Script::default();
    script.now = 90_500_000_000;
    script.oracle = crate::tests::oracle;
    script.figures = Some(|task, what| match (task, what) {
        (Handle(70), TaskFigure::Incarnation) => Ok([3, 0, 1, 1]),
        (Handle(70), TaskFigure::Activity) => Ok([1234, 2_500_000_000, 100, 4096]),
        (Handle(70), TaskFigure::Recovery) => Ok([1500, 2, 700, 81920]),
        (Handle(70), TaskFigure::Epoch) => Ok([2, 7, 0, 0]),
        (Handle(70), TaskFigure::Holdings) => Ok([7, 5, 3, 0]),
        (Handle(70), TaskFigure::Upgrade) => {
            let image = ImageFigures { schema: 2, pages: 100 };
            Ok([(Verdict::Schema as u64) << 8, image.to_word(), 3, 0])
        }
        (Handle(71), TaskFigure::Incarnation) => Ok([1, 1, 0, 1]),
        (Handle(71), _) => Ok([0; 4]),
        _ => Err(KernelError::BadHandle),
    });
    script.statistics = |what, index| match (what, index) {
        (Statistic::Cpu, _) => [80_250_000_000, 90_500_000_000, 77, 88],
        (Statistic::Frames, _) => [32768, 500, 0, 0],
        (Statistic::Objects, kind) => [kind, 100, 0, 0],
        (Statistic::Enosys, 41) => [5, 0, 0, 0],
        (Statistic::Enosys, _) => [0; 4],
        (Statistic::Waits, 1) => [8 | 1 << 32, 7 << 32 | 9, 0, 90_000_000_000],
        (Statistic::Waits, 2) => [99, 8, 0x100, 90_400_000_000],
        // These two wait for each other.
        (Statistic::Waits, 3) => [9 | 3 << 32, 8, 0x101, 90_300_000_000],
        (Statistic::Waits, 4) => [8 | 2 << 32, 9, 0x102, 90_350_000_000],
        (Statistic::Waits, 0) => [0; 4],
        (Statistic::Waits, _) => [u64::MAX, 0, 0, 0],
        (Statistic::Crash, 0) => [4 | 9 << 32, 3, 2 | 2 << 8 | 1 << 16, 77],
        (Statistic::Crash, 1) => [3 | 8 << 32, 2, 5 | 5 << 16, 5],
        (Statistic::Crash, 2) => [0; 4],
        (Statistic::Crash, _) => [u64::MAX, 0, 0, 0],
        (Statistic::CrashKept, 0) => [0, 100, 0, 0],
        (Statistic::Trace | Statistic::Core, _) => [0; 4],
        (Statistic::CrashKept, _) => [0; 4],
    };
    script
}

fn procfs() -> Procfs {
    let names = ["tty", "vfs"];
    Procfs::new(&Boot {
        tasks: names.iter().zip(70..).map(|(name, task)| ((*name).into(), Handle(task))).collect(),
        numbers: names.iter().zip(8..).map(|(name, number)| ((*name).into(), number)).collect(),
        epoch_s: 1000,
        ..boot("procfs", &["proc", "vm"])
    })
}

fn show(kind: Kind) -> String {
    let node = Node { kind, id: 8, tid: 0 };
    String::from_utf8(procfs().text(node, &mut figures()).unwrap()).unwrap()
}

fn process() -> ProcessInfo {
    ProcessInfo {
        pid: 7,
        parent: 1,
        pgid: 6,
        sid: 5,
        state: b'S',
        name: b"a (b) c".to_vec(),
        exe: b"/bin/a".to_vec(),
        threads: vec![7, 9],
        uids: [1, 2, 3],
        gids: [4, 5, 6],
        space: 77,
        times: [1_230_000_000, 20_000_000, 0, 0],
        start_ns: 5_000_000_000,
        nice: -5,
        tty: 0x0440,
        foreground: 6,
        signals: [1, 2, 4, 8],
        ..ProcessInfo::default()
    }
}

fn space() -> Space {
    let region = |start, end, protection: Protection, file: Option<(u64, u64)>, name: &str| RegionInfo {
        start,
        end,
        protection: protection.bits(),
        shared: false,
        offset: 0x1000,
        file,
        name: name.as_bytes().to_vec(),
    };
    let (read, write, execute) = (Protection::READ, Protection::WRITE, Protection::EXECUTE);
    Space {
        regions: vec![
            region(0x40_0000, 0x40_2000, read | execute, Some((3, 1 << 32 | 55)), ""),
            region(0x40_2000, 0x40_3000, read | write, Some((3, 1 << 32 | 55)), ""),
            region(0x50_0000, 0x50_4000, read | write, None, "[heap]"),
        ],
        resident_pages: 5,
        marks: [0x40_0000, 0x40_2000, 0x7fff_0000, 0x50_0000, 0x50_4000],
        strings: [10, 20, 30, 40],
    }
}

#[test]
fn stat_of_a_process_has_fifty_two_fields_behind_a_name_in_brackets() {
    let line = String::from_utf8(process::stat(&process(), 7, &space())).unwrap();
    let (head, tail) = line.rsplit_once(") ").unwrap();
    assert_eq!(head, "7 (a (b) c");
    let fields: Vec<&str> = tail.trim_end().split(' ').collect();
    assert_eq!(fields.len(), 50);
    assert_eq!(fields[..6], ["S", "1", "6", "5", "1088", "6"]);
    assert_eq!(fields[11..13], ["123", "2"], "utime and stime in ticks");
    assert_eq!(fields[15..22], ["15", "-5", "2", "0", "500", "28672", "5"]);
    assert_eq!(fields[28..32], ["1", "2", "4", "8"], "signals");
    assert_eq!(fields[35], "17", "SIGCHLD is the exit signal");
    assert_eq!(fields[44..], ["5242880", "10", "20", "30", "40", "0"]);
}

#[test]
fn statm_counts_pages() {
    assert_eq!(process::statm(&space()), "7 5 0 2 0 5 0\n");
    assert_eq!(process::statm(&Space::default()), "0 0 0 0 0 0 0\n");
}

#[test]
fn status_has_the_lines_that_ps_and_top_look_for() {
    let text = String::from_utf8(process::status(&process(), 9, &space())).unwrap();
    for line in [
        "Name:\ta (b) c",
        "State:\tS (sleeping)",
        "Tgid:\t7",
        "Pid:\t9",
        "PPid:\t1",
        "Uid:\t1\t2\t3\t2",
        "Gid:\t4\t5\t6\t5",
        "VmSize:\t      28 kB",
        "VmRSS:\t      20 kB",
        "Threads:\t2",
        "SigCgt:\t0000000000000008",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let zombie = ProcessInfo { space: 0, state: b'Z', ..process() };
    let text = String::from_utf8(process::status(&zombie, 7, &Space::default())).unwrap();
    assert!(text.contains("State:\tZ (zombie)\n") && !text.contains("VmSize"));
}

#[test]
fn maps_shows_the_program_by_its_path_and_other_files_by_their_number() {
    let mut space = space();
    space.regions[2].file = Some((3, 66));
    space.regions[2].name.clear();
    let text = String::from_utf8(process::maps(&process(), &space)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("{:<73}/bin/a", "00400000-00402000 r-xp 00001000 00:03 55"));
    assert!(lines[1].contains(" rw-p ") && lines[1].ends_with("/bin/a"));
    assert_eq!(lines[2], "00500000-00504000 rw-p 00001000 00:03 66 ");
    let heap = String::from_utf8(process::maps(&process(), &self::space())).unwrap();
    assert!(heap.lines().nth(2).unwrap().ends_with(" [heap]"));
}

#[test]
fn limits_are_a_table_of_sixteen() {
    let limits: Vec<[u64; 2]> = (0..16).map(|row| [row, u64::MAX]).collect();
    let text = process::limits(&limits);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 17);
    assert_eq!(lines[0], "Limit                     Soft Limit           Hard Limit           Units     ");
    assert_eq!(lines[8], "Max open files            7                    unlimited            files     ");
}

#[test]
fn meminfo_is_in_kib_and_lines_up() {
    let text = system::meminfo(&Memory { total: 1000, free: 600, cached: 100 });
    assert!(text.starts_with(
        "MemTotal:           4000 kB\nMemFree:            2400 kB\nMemAvailable:       2800 kB\n"
    ));
    for line in text.lines() {
        let mut words = line.split_whitespace();
        assert!(words.next().unwrap().ends_with(':'));
        assert!(words.next().unwrap().parse::<u64>().is_ok() && words.next() == Some("kB"));
    }
}

#[test]
fn uptime_load_and_cpu_times_have_their_units() {
    assert_eq!(show(Kind::Uptime), "90.50 80.25\n");
    assert_eq!(show(Kind::LoadAverage), "0.07 1.23 0.00 2/30 12\n");
    let stat = show(Kind::SystemStat);
    assert!(stat.starts_with("cpu  1025 0 0 8025 0 0 0 0 0 0\ncpu0 1025 0 0 8025 "), "{stat}");
    assert!(stat.contains("\nctxt 77\nbtime 1000\nprocesses 12\nprocs_running 2\n"));
    let load = Load { averages: [10_005, 0, 9], running: 0, threads: 0, last_pid: 0 };
    assert_eq!(system::load_average(&load), "100.05 0.00 0.09 0/0 0\n");
}

#[test]
fn mounts_stay_apart_by_blanks_whatever_they_are_called() {
    let mount = |source: &str, at: &str, kind: &str, read_only| MountInfo {
        source: source.into(),
        at: at.into(),
        kind: kind.into(),
        read_only,
        device: 9 << 20 | 3,
    };
    let list = [
        mount("disk0", "/", "ufs", true),
        mount("tmpfs", "/a b", "tmpfs", false),
        mount("x\\y", "/a b/c", "tmpfs", false),
        mount("proc", "/a bc", "proc", false),
    ];
    let text = String::from_utf8(mounts::mounts(&list)).unwrap();
    assert_eq!(text.lines().next(), Some("disk0 / ufs ro 0 0"));
    assert_eq!(text.lines().nth(2), Some("x\\134y /a\\040b/c tmpfs rw 0 0"));
    let info = String::from_utf8(mounts::mount_info(&list)).unwrap();
    let lines: Vec<&str> = info.lines().collect();
    assert_eq!(lines[0], "1 0 0:2307 / / ro - ufs disk0 ro");
    assert_eq!(lines[2], "3 2 0:2307 / /a\\040b/c rw - tmpfs x\\134y rw");
    assert!(lines[3].starts_with("4 1 "), "a longer name is no directory below");
}

#[test]
fn a_boot_id_is_a_version_4_uuid_of_this_boot() {
    let id = system::boot_id(42);
    assert_eq!(id, system::boot_id(42));
    assert_ne!(id, system::boot_id(43));
    let lengths: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]));
}

#[test]
fn servers_are_shown_with_what_happened_to_them() {
    assert_eq!(
        show(Kind::ServerStatus),
        "name:         tty\n\
         state:        running\n\
         incarnation:  3\n\
         deaths:       2 (1 from outside, 1 of its own)\n\
         messages:     1234\n\
         cpu:          2.500 s\n\
         journal:      100 of 4096 bytes\n\
         snapshots:    2 in 700 ns\n\
         restart:      1500 ns\n\
         epoch:        2, 7 objects ended that were nobody's\n\
         set aside:    80 KiB\n\
         image:        400 KiB, schema 2, upgraded 3 times; the last refused: it cannot read the state that the \
         server saves\n\
         holds:        7 handles, 5 sessions, 3 calls\n"
    );
    assert_eq!(
        show(Kind::Incarnations),
        "server  incarnation  state\ntty               3  running\nvfs               1  dead\n"
    );
    assert_eq!(
        show(Kind::Crashes),
        "server  killed  crashed\ntty          1        1\nvfs          0        1\n\n\
         crash  server  incarnation  message  event        died of    done                 on the host\n    \
         3  tty               2        5  -            watchdog   server given up      -\n    \
         4  vfs               3       77  system call  exception  caller got an error  cargo xtask replay 4\n"
    );
    let gone = Node { kind: Kind::ServerStatus, id: 55, tid: 0 };
    assert_eq!(procfs().text(gone, &mut figures()), Err(ENOENT));
}

#[test]
fn waits_and_missing_calls_are_named() {
    assert_eq!(
        show(Kind::Waits),
        "who                  waits for  call   state   seconds\n\
         process 7, thread 9  tty        read   held      0.500\n\
         tty                  vfs        0x101  held      0.200  DEADLOCK\n\
         vfs                  tty        0x102  queued    0.150  DEADLOCK\n\
         tty                  ?          0x100  queued    0.100\n"
    );
    assert_eq!(show(Kind::Enosys), "number  call    count\n    41  socket      5\n");
    let counters = show(Kind::Counters);
    let line = |name: &str| counters.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        line("context switches ").ends_with(" 77") && line("calls ").ends_with(" 6 of 100"),
        "{counters}"
    );
}

#[test]
fn every_file_of_the_system_and_of_a_process_says_something() {
    // Without an address space and without proc's help there is nothing to say; vfs has not spoken yet; and some
    // files say nothing before they are read.
    let mounts = [Kind::Mounts, Kind::ProcessMounts, Kind::MountInfo];
    let later = [Kind::ServerDigest, Kind::ServerJournal, Kind::Trace];
    let silent = [&[Kind::Maps, Kind::Limits][..], &mounts, &later].concat();
    let files = crate::tree::ENTRIES.iter().filter(|entry| entry.mode & 0o170_000 == 0o100_000);
    for entry in files.filter(|entry| entry.mode & 0o400 != 0 && !silent.contains(&entry.kind)) {
        let id = if entry.parent == Kind::Server { 8 } else { 7 };
        let text = procfs().text(Node { kind: entry.kind, id, tid: 7 }, &mut figures());
        assert!(text.is_ok_and(|text| !text.is_empty()), "{}", entry.name);
    }
    assert_eq!(show(Kind::Version), "Linux version 6.1.0-naiad (naiad@naiad) #1 Naiad\n");
}
