//! Files: in memory, on the disk, and made up.

use super::{DATA, DATA_BYTES, open};
use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::Reg;
use Arg::{N, R};

const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const O_APPEND: u64 = 0o2000;
const O_DIRECTORY: u64 = 0o200_000;
/// Where `struct stat` has the number of links, mode and size.
const ST_NLINK: u64 = 16;
const ST_MODE: u64 = 24;
const ST_SIZE: u64 = 48;
const STAT_BYTES: u64 = 144;

/// Contents and attributes of files in memory.
pub fn files(a: &mut Assembler, rounds: u64) {
    let path = a.text("/tmp/contents");
    let (out, back, stat) = (a.room(4096), a.room(4096), a.room(STAT_BYTES));
    a.repeat(Reg::Rbx, rounds, |a| {
        open(a, path, O_RDWR | O_CREAT);
        a.fill(N(out), 512, R(Reg::Rbx));
        a.told(nr::WRITE, &[R(Reg::R12), N(out), N(4096)]);
        a.told(nr::WRITE, &[R(Reg::R12), N(out), N(1000)]);
        a.told(nr::LSEEK, &[R(Reg::R12), N(504), N(0)]);
        a.told(nr::READ, &[R(Reg::R12), N(back), N(4096)]);
        a.digest(N(back), 512);
        a.told(nr::FTRUNCATE, &[R(Reg::R12), N(2048)]);
        a.told(nr::FSTAT, &[R(Reg::R12), N(stat)]);
        a.note_at(stat + ST_SIZE);
        a.told(nr::DUP, &[R(Reg::R12)]);
        a.set(Reg::R13, R(Reg::Rax));
        a.told(nr::LSEEK, &[R(Reg::R13), N(0), N(2)]);
        a.told(nr::WRITE, &[R(Reg::R12), N(out), N(64)]);
        a.told(nr::CLOSE, &[R(Reg::R12)]);
        a.told(nr::PREAD64, &[R(Reg::R13), N(back), N(4096), N(1024)]);
        a.digest(N(back), 136);
        a.told(nr::CLOSE, &[R(Reg::R13)]);
        a.told(nr::CLOSE, &[R(Reg::R13)]);
        open(a, path, O_RDWR | O_APPEND);
        a.told(nr::WRITE, &[R(Reg::R12), N(out), N(8)]);
        a.told(nr::LSEEK, &[R(Reg::R12), N(0), N(1)]);
        a.told(nr::UNLINK, &[N(path)]);
        a.told(nr::FSTAT, &[R(Reg::R12), N(stat)]);
        a.note_at(stat + ST_NLINK);
        a.told(nr::CLOSE, &[R(Reg::R12)]);
    });
}

/// Names: directories, links, renames.
pub fn names(a: &mut Assembler, rounds: u64) {
    let [folder, old, new, link, soft] =
        ["/tmp/folder", "/tmp/folder/old", "/tmp/folder/new", "/tmp/folder/link", "/tmp/folder/soft"]
            .map(|path| a.text(path));
    let (stat, list) = (a.room(STAT_BYTES), a.room(1024));
    a.repeat(Reg::Rbx, rounds, |a| {
        a.told(nr::MKDIR, &[N(folder), N(0o755)]);
        a.told(nr::MKDIR, &[N(folder), N(0o755)]);
        open(a, old, O_RDWR | O_CREAT);
        a.told(nr::CLOSE, &[R(Reg::R12)]);
        a.told(nr::LINK, &[N(old), N(link)]);
        a.told(nr::RENAME, &[N(old), N(new)]);
        a.told(nr::STAT, &[N(old), N(stat)]);
        a.told(nr::STAT, &[N(new), N(stat)]);
        a.note_at(stat + ST_NLINK);
        a.note_half(stat + ST_MODE);
        a.told(nr::SYMLINK, &[N(new), N(soft)]);
        a.told(nr::READLINK, &[N(soft), N(list), N(64)]);
        a.told(nr::RMDIR, &[N(folder)]);
        open(a, folder, O_DIRECTORY);
        a.told(nr::GETDENTS64, &[R(Reg::R12), N(list), N(1024)]);
        a.told(nr::GETDENTS64, &[R(Reg::R12), N(list), N(1024)]);
        a.told(nr::CLOSE, &[R(Reg::R12)]);
        for path in [new, link, soft, soft] {
            a.told(nr::UNLINK, &[N(path)]);
        }
        a.told(nr::CHDIR, &[N(folder)]);
        a.told(nr::GETCWD, &[N(list), N(64)]);
        a.told(nr::RMDIR, &[N(folder)]);
        a.told(nr::GETCWD, &[N(list), N(64)]);
    });
}

/// A file on the disk: read in order, at places, and mapped.
pub fn disk(a: &mut Assembler, rounds: u64) {
    const READ: u64 = 1;
    const PRIVATE: u64 = 2;
    let path = a.text(&format!("/{DATA}"));
    let missing = a.text("/data/missing");
    let (buffer, stat) = (a.room(4096), a.room(STAT_BYTES));
    a.repeat(Reg::Rbx, rounds.div_ceil(2), |a| {
        a.told(nr::STAT, &[N(path), N(stat)]);
        a.note_at(stat + ST_SIZE);
        a.told(nr::OPEN, &[N(missing), N(0)]);
        a.told(nr::OPEN, &[N(path), N(O_RDWR)]);
        open(a, path, 0);
        a.repeat(Reg::R13, DATA_BYTES.div_ceil(4096) + 1, |a| {
            a.told(nr::READ, &[R(Reg::R12), N(buffer), N(4096)]);
            a.digest(N(buffer), 512);
        });
        a.told(nr::PREAD64, &[R(Reg::R12), N(buffer), N(4096), N(17_001)]);
        a.digest(N(buffer), 512);
        a.call(nr::MMAP, &[N(0), N(DATA_BYTES), N(READ), N(PRIVATE), R(Reg::R12), N(0)]);
        a.set(Reg::Rbp, R(Reg::Rax));
        a.told(nr::CLOSE, &[R(Reg::R12)]);
        a.digest(R(Reg::Rbp), DATA_BYTES / 8);
        a.told(nr::MUNMAP, &[R(Reg::Rbp), N(DATA_BYTES)]);
    });
}

/// Files that are made up, of which the contents are told only where they say the same in every run.
pub fn procfs(a: &mut Assembler, rounds: u64) {
    let same = ["/proc/mounts", "/proc/self/cmdline", "/proc/self/comm"].map(|path| a.text(path));
    let other = ["/proc/self/stat", "/proc/self/maps", "/proc/meminfo"].map(|path| a.text(path));
    let (buffer, other_buffer) = (a.room(4096), a.room(4096));
    a.repeat(Reg::Rbx, rounds, |a| {
        for path in same {
            open(a, path, 0);
            a.told(nr::READ, &[R(Reg::R12), N(buffer), N(4096)]);
            a.digest(N(buffer), 32);
            a.told(nr::CLOSE, &[R(Reg::R12)]);
        }
        for path in other {
            open(a, path, 0);
            a.call(nr::READ, &[R(Reg::R12), N(other_buffer), N(4096)]);
            a.told(nr::CLOSE, &[R(Reg::R12)]);
        }
    });
}

/// The name under which the log script tells what it sees.
pub const LOG_NAME: u64 = 2_000_000;
/// What the log script tells before its first append, and for each sync: that many appends, and the sync.
pub const LOG_NOTES_BEFORE: usize = 2;
/// Appends before each sync.
pub const LOG_APPENDS: u64 = 3;

/// The log: appended to, made durable, read back.
pub fn log(a: &mut Assembler, rounds: u64) {
    const CHARACTER_DEVICE: u64 = 0o020_666;
    let path = a.text("/tmp/log");
    let (out, back) = (a.room(4096), a.room(8192));
    a.set(Reg::R15, N(LOG_NAME));
    a.told(nr::MKNOD, &[N(path), N(CHARACTER_DEVICE), N(logfile::DEVICE)]);
    open(a, path, O_RDWR | O_APPEND);
    a.repeat(Reg::Rbx, rounds * 2, |a| {
        for append in 0..LOG_APPENDS {
            a.fill(N(out), 512, R(Reg::Rbx));
            // Records of one sector, of a few, and of some hundred bytes.
            a.told(nr::WRITE, &[R(Reg::R12), N(out + 8 * append), N(300 + append * 1500)]);
        }
        a.told(nr::FSYNC, &[R(Reg::R12)]);
    });
    a.repeat(Reg::Rbx, LOG_APPENDS, |a| {
        a.told(nr::READ, &[R(Reg::R12), N(back), N(8192)]);
        a.digest(N(back), 37);
    });
    a.told(nr::CLOSE, &[R(Reg::R12)]);
}
