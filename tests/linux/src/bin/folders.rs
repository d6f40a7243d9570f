//! compare
//!
//! Listing folders: everything once, whatever is made and removed meanwhile.

use std::{collections::BTreeSet, ffi::CStr, fs, process::ExitCode};

use libc::{DT_DIR, DT_LNK, DT_REG, DT_UNKNOWN, O_DIRECTORY, O_RDONLY, SEEK_SET, SYS_getdents64};
use linux_tests::{
    Errno, call, equal,
    errno::{EBADF, EINVAL, ENOENT, ENOTDIR},
    files::{self, Fd, Scratch},
    ok, run,
};

fn main() -> ExitCode {
    run(&[
        everything_once,
        kinds,
        in_small_pieces,
        removing_meanwhile,
        making_meanwhile,
        seeking,
        emptying,
        errors,
        own_descriptors,
    ])
}

/// An entry of a folder.
struct Entry {
    name: String,
    kind: u8,
    next: i64,
}

/// One `getdents64` into a buffer of this size, taken apart by hand.
fn some_entries(fd: Fd, size: usize) -> Result<Vec<Entry>, Errno> {
    let mut bytes = vec![0_u8; size];
    let len = call!(syscall(SYS_getdents64, fd, bytes.as_mut_ptr(), size))? as usize;
    let mut rest = &bytes[..len];
    let mut entries = Vec::new();
    while rest.len() > 19 {
        let next = i64::from_le_bytes(rest[8..16].try_into().expect("eight bytes"));
        let record = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
        let name = CStr::from_bytes_until_nul(&rest[19..record]).expect("a name ends");
        entries.push(Entry { name: name.to_string_lossy().into_owned(), kind: rest[18], next });
        rest = &rest[record..];
    }
    Ok(entries)
}

fn open(name: &CStr) -> Fd {
    call!(open(name.as_ptr(), O_RDONLY | O_DIRECTORY)).expect("a folder can be opened")
}

fn all_entries(fd: Fd, size: usize) -> Vec<Entry> {
    let mut all = Vec::new();
    while let Ok(entries) = some_entries(fd, size) {
        if entries.is_empty() {
            break;
        }
        all.extend(entries);
    }
    all
}

/// The names in order, without the two dots.
fn names(entries: &[Entry]) -> Vec<String> {
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry.name.clone()).filter(|name| name != "." && name != "..").collect();
    names.sort();
    names
}

fn fill(count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|at| format!("file-{at:04}")).collect();
    names.iter().for_each(|name| fs::write(name, "").expect("a file can be made"));
    names
}

fn everything_once() {
    let _scratch = Scratch::new();
    let wanted = fill(300);
    let fd = open(c".");
    let entries = all_entries(fd, 4096);
    ok("three hundred files are listed, each once", names(&entries) == wanted);
    let dots = |name| entries.iter().filter(|entry| entry.name == name).count();
    equal("and the two dots", (dots("."), dots("..")), (1, 1));
    equal("at the end comes nothing", some_entries(fd, 4096).map(|entries| entries.len()), Ok(0));
    equal("again and again", some_entries(fd, 4096).map(|entries| entries.len()), Ok(0));
    files::close(fd);
    let listed = fs::read_dir(".").map(|folder| folder.flatten().count()).unwrap_or(0);
    equal("a library's list is as long", listed, 300);
}

fn kinds() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    fs::create_dir("folder").expect("a folder can be made");
    call!(symlink(c"x".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    let fd = open(c".");
    let entries = all_entries(fd, 4096);
    let kind = |name| entries.iter().find(|entry| entry.name == name).map_or(DT_UNKNOWN, |entry| entry.kind);
    equal("entries know their kind", [kind("file"), kind("folder"), kind("link")], [DT_REG, DT_DIR, DT_LNK]);
    equal("also the dots", [kind("."), kind("..")], [DT_DIR; 2]);
    files::close(fd);
}

fn in_small_pieces() {
    let _scratch = Scratch::new();
    let wanted = fill(100);
    let fd = open(c".");
    ok("a small buffer gives the same list", names(&all_entries(fd, 64)) == wanted);
    files::close(fd);
    let fd = open(c".");
    equal("one that is too small for an entry is refused", some_entries(fd, 10).map(drop), Err(EINVAL));
    ok("and nothing is lost", names(&all_entries(fd, 8192)) == wanted);
    files::close(fd);
}

/// What is there from the beginning to the end is listed once, whatever happens to the others.
fn removing_meanwhile() {
    let _scratch = Scratch::new();
    let wanted = fill(200);
    let fd = open(c".");
    let mut seen = BTreeSet::new();
    let mut twice = 0;
    while let Ok(entries) = some_entries(fd, 512) {
        if entries.is_empty() {
            break;
        }
        for name in names(&entries) {
            fs::remove_file(&name).expect("what is listed is there");
            twice += u32::from(!seen.insert(name));
        }
    }
    equal("files removed as they are listed are listed once", twice, 0);
    ok("and none is left out", seen.iter().eq(&wanted));
    equal("so that the folder is empty", fs::read_dir(".").map(Iterator::count).ok(), Some(0));
    files::close(fd);
}

fn making_meanwhile() {
    let _scratch = Scratch::new();
    let wanted: BTreeSet<String> = fill(150).into_iter().collect();
    let fd = open(c".");
    let mut seen = Vec::new();
    let mut round = 0;
    while let Ok(entries) = some_entries(fd, 400) {
        if entries.is_empty() || round > 400 {
            break;
        }
        if round < 100 {
            fs::write(format!("new-{round}"), "").expect("a file can be made");
            let _ = fs::rename(format!("new-{round}"), format!("renamed-{round}"));
        }
        round += 1;
        seen.extend(names(&entries));
    }
    ok("a folder that grows comes to its end", round <= 400);
    let old: Vec<&String> = seen.iter().filter(|name| wanted.contains(*name)).collect();
    let distinct: BTreeSet<&String> = old.iter().copied().collect();
    equal("what was there before is listed once", (old.len(), distinct.len()), (150, 150));
    files::close(fd);
}

fn seeking() {
    let _scratch = Scratch::new();
    let wanted = fill(60);
    let fd = open(c".");
    let first = some_entries(fd, 600).expect("it can be listed");
    let rest = all_entries(fd, 600);
    let back = call!(lseek(fd, 0, SEEK_SET));
    ok(
        "a folder can be listed again from the start",
        back == Ok(0) && names(&all_entries(fd, 4096)) == wanted,
    );
    let last = first.last().expect("there are entries");
    call!(lseek(fd, last.next, SEEK_SET)).expect("it can be moved");
    ok("or from any entry on", names(&all_entries(fd, 4096)) == names(&rest));
    fs::write("later", "").expect("a file can be made");
    call!(lseek(fd, 0, SEEK_SET)).expect("it can be moved");
    ok("and shows what is new then", names(&all_entries(fd, 4096)).contains(&"later".to_owned()));
    files::close(fd);
}

fn emptying() {
    let _scratch = Scratch::new();
    fs::create_dir_all("tree/a/b/c").expect("folders can be made");
    for at in 0..40 {
        fs::write(format!("tree/a/{at}"), "").expect("a file can be made");
        fs::write(format!("tree/a/b/{at}"), "").expect("a file can be made");
    }
    ok("a tree can be removed", fs::remove_dir_all("tree").is_ok());
    fs::create_dir("gone").expect("a folder can be made");
    let fd = open(c"gone");
    fs::remove_dir("gone").expect("it can be removed");
    let entries = some_entries(fd, 4096);
    ok(
        "a folder that is gone has nothing in it",
        entries.map_or_else(|error| error == ENOENT, |list| list.is_empty()),
    );
    files::close(fd);
}

fn errors() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    let fd = call!(open(c"file".as_ptr(), O_RDONLY)).expect("it opens");
    equal("a file is not listed", some_entries(fd, 4096).map(drop), Err(ENOTDIR));
    equal("nor a closed descriptor", some_entries(77, 4096).map(drop), Err(EBADF));
    files::close(fd);
}

/// Only where there is a /proc to look into: what it says is then right.
fn own_descriptors() {
    let (from, to) = files::pipe();
    let right = fs::read_dir("/proc/self/fd").map_or(true, |folder| {
        let listed: BTreeSet<String> =
            folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        [0, 1, 2, from, to].iter().all(|fd| listed.contains(&fd.to_string())) && !listed.contains("77")
    });
    ok("/proc/self/fd, where it is, lists the open descriptors", right);
    files::close(from);
    files::close(to);
}
