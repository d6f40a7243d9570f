//! compare
//!
//! What is known of a file: its kind, mode, owner, size and times, and who may change them.

use std::{
    ffi::CStr,
    fs, mem,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::ExitCode,
};

use libc::{
    AT_EACCESS, AT_FDCWD, AT_SYMLINK_NOFOLLOW, F_OK, O_CREAT, O_RDONLY, O_RDWR, R_OK, S_IFBLK, S_IFCHR,
    S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK, UTIME_NOW, UTIME_OMIT, W_OK, X_OK, timespec,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{EACCES, EBADF, EINVAL, ENOENT, ENOTDIR, EOPNOTSUPP, EPERM},
    files::{self, Scratch},
    ok,
    process::{self, Status, fork},
    run,
};

fn main() -> ExitCode {
    run(&[
        kinds,
        stat_errors,
        modes,
        || apart(creation_masks),
        owners,
        times,
        times_change,
        access,
        || apart(other_users),
        devices,
        file_system,
        extended,
    ])
}

/// What every file says of extended attributes that it does not have.
fn extended() {
    let _scratch = Scratch::new();
    fs::write("file", "x").expect("a file can be made");
    call!(symlink(c"nowhere".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    let fd = call!(open(c"file".as_ptr(), O_RDWR)).expect("it opens");
    let mut list = [0; 100];
    let (at, size) = (list.as_mut_ptr(), list.len());
    equal("a file has none", call!(listxattr(c"file".as_ptr(), at, size)), Ok(0));
    equal("nor when it is open", call!(flistxattr(fd, at, size)), Ok(0));
    equal("nor has a link", call!(llistxattr(c"link".as_ptr(), at, size)), Ok(0));
    equal("what the link leads to is not there", call!(listxattr(c"link".as_ptr(), at, size)), Err(ENOENT));
    equal("nor is a descriptor that is closed", call!(flistxattr(99, at, size)), Err(EBADF));
    let name = c"unheard-of.name".as_ptr();
    let value = at.cast::<libc::c_void>();
    let file = c"file".as_ptr();
    equal(
        "no file can be asked for one of a strange kind",
        call!(getxattr(file, name, value, size)),
        Err(EOPNOTSUPP),
    );
    equal("by descriptor", call!(fgetxattr(fd, name, value, size)), Err(EOPNOTSUPP));
    equal("nor be given one", call!(setxattr(file, name, value, 1, 0)), Err(EOPNOTSUPP));
    equal("nor lose it", call!(removexattr(file, name)), Err(EOPNOTSUPP));
    equal("nor can one that is not there", call!(getxattr(c"none".as_ptr(), name, value, size)), Err(ENOENT));
}

fn stat_with(name: &CStr, flags: i32) -> Result<libc::stat, Errno> {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    call!(fstatat(AT_FDCWD, name.as_ptr(), &raw mut stat, flags)).map(|_| stat)
}

fn stat(name: &CStr) -> Result<libc::stat, Errno> {
    stat_with(name, 0)
}

/// The mode without the kind.
fn mode(name: &CStr) -> u32 {
    stat(name).map_or(0, |stat| stat.st_mode & 0o7777)
}

fn kinds() {
    let _scratch = Scratch::new();
    fs::write("file", "12345").expect("a file can be made");
    fs::create_dir("folder").expect("a folder can be made");
    call!(symlink(c"file".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    call!(mkfifo(c"fifo".as_ptr(), 0o600)).expect("a fifo can be made");
    let kind = |name| stat_with(name, AT_SYMLINK_NOFOLLOW).map(|stat| stat.st_mode & S_IFMT);
    equal("a file is a file", kind(c"file"), Ok(S_IFREG));
    equal("a folder a folder", kind(c"folder"), Ok(S_IFDIR));
    equal("a link a link", kind(c"link"), Ok(S_IFLNK));
    equal("a fifo a fifo", kind(c"fifo"), Ok(S_IFIFO));
    equal("the null device a device", kind(c"/dev/null"), Ok(S_IFCHR));
    let of = |name, flags| {
        stat_with(name, flags).map(|stat| (stat.st_size, stat.st_nlink, stat.st_uid, stat.st_gid))
    };
    equal("a file has its size, links and owner", of(c"file", 0), Ok((5, 1, 0, 0)));
    equal("a link the length of its name", of(c"link", AT_SYMLINK_NOFOLLOW), Ok((4, 1, 0, 0)));
    equal("or what it leads to", of(c"link", 0), Ok((5, 1, 0, 0)));
    let (by_name, other) = (stat(c"file").expect("it is there"), stat(c"folder").expect("it is there"));
    let fd = call!(open(c"link".as_ptr(), O_RDONLY)).expect("it opens");
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut by_fd: libc::stat = unsafe { mem::zeroed() };
    call!(fstat(fd, &raw mut by_fd)).expect("it can be asked for");
    ok("a descriptor names the same file", (by_fd.st_ino, by_fd.st_dev) == (by_name.st_ino, by_name.st_dev));
    ok("and another file is another", other.st_ino != by_name.st_ino && other.st_dev == by_name.st_dev);
    let empty = call!(fstatat(fd, c"".as_ptr(), &raw mut by_fd, libc::AT_EMPTY_PATH));
    equal("AT_EMPTY_PATH asks for the descriptor", (empty, by_fd.st_size), (Ok(0), 5));
    let blocks = fs::metadata("file").map(|data| data.blocks()).unwrap_or(0);
    ok("the blocks of a file hold it", (1..=128).contains(&blocks));
    let sockets = {
        let mut pair = [0; 2];
        call!(socketpair(1, 1, 0, pair.as_mut_ptr())).map(|_| pair)
    };
    let [one, two] = sockets.expect("a pair can be made");
    call!(fstat(one, &raw mut by_fd)).expect("it can be asked for");
    equal("a socket is a socket", by_fd.st_mode & S_IFMT, S_IFSOCK);
    let (from, to) = files::pipe();
    call!(fstat(from, &raw mut by_fd)).expect("it can be asked for");
    equal("a pipe is a fifo", by_fd.st_mode & S_IFMT, S_IFIFO);
    [fd, one, two, from, to].into_iter().for_each(files::close);
}

fn stat_errors() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    let error = |name| stat(name).err();
    equal("stat of nothing", error(c""), Some(ENOENT));
    equal("of what is not there", error(c"no"), Some(ENOENT));
    equal("below a file", error(c"file/x"), Some(ENOTDIR));
    equal("of a file with a slash behind it", error(c"file/"), Some(ENOTDIR));
    equal("with unknown flags", stat_with(c"file", 0x4_0000).err(), Some(EINVAL));
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    equal("of a closed descriptor", call!(fstat(77, &raw mut stat)), Err(EBADF));
}

fn modes() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    fs::create_dir("folder").expect("a folder can be made");
    let chmod = |name: &CStr, mode| call!(chmod(name.as_ptr(), mode));
    let right = [0o000, 0o400, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o7777]
        .into_iter()
        .all(|wanted| chmod(c"file", wanted) == Ok(0) && mode(c"file") == wanted);
    ok("a file can have any mode", right);
    equal("a folder too", (chmod(c"folder", 0o1730), mode(c"folder")), (Ok(0), 0o1730));
    equal("other bits are left out", (chmod(c"file", 0o100_644), mode(c"file")), (Ok(0), 0o644));
    let fd = call!(open(c"file".as_ptr(), O_RDONLY)).expect("it opens");
    equal("by a descriptor as well", (call!(fchmod(fd, 0o611)), mode(c"file")), (Ok(0), 0o611));
    call!(symlink(c"file".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    equal("through a link it is the file's", (chmod(c"link", 0o600), mode(c"file")), (Ok(0), 0o600));
    let again = call!(fchmodat(AT_FDCWD, c"file".as_ptr(), 0o644, 0));
    equal("relative to a folder", (again, mode(c"file")), (Ok(0), 0o644));
    equal("a file that is not there", chmod(c"no", 0o600), Err(ENOENT));
    equal("a closed descriptor", call!(fchmod(77, 0o600)), Err(EBADF));
    files::close(fd);
}

fn creation_masks() {
    let _scratch = Scratch::new();
    let mask = |mask| call!(umask(mask));
    let _ = mask(0o022);
    equal("a mask is set and the old one told", mask(0o027), Ok(0o022));
    equal("bits beyond it are left out", (mask(0o7777), mask(0o027)), (Ok(0o027), Ok(0o777)));
    let make =
        |name: &CStr, wanted: u32| call!(open(name.as_ptr(), O_RDWR | O_CREAT, wanted)).map(files::close);
    make(c"file", 0o666).expect("a file can be made");
    equal("a new file lacks the mask's bits", mode(c"file"), 0o640);
    call!(mkdir(c"folder".as_ptr(), 0o777)).expect("a folder can be made");
    equal("a new folder too", mode(c"folder"), 0o750);
    call!(mkfifo(c"fifo".as_ptr(), 0o666)).expect("a fifo can be made");
    equal("a new fifo too", mode(c"fifo"), 0o640);
    equal("chmod does not care", (call!(chmod(c"file".as_ptr(), 0o666)), mode(c"file")), (Ok(0), 0o666));
    let child = fork(|| call!(umask(0o777)).map_or(0, |old| old as i32));
    equal("a child has its parent's mask", process::end_of(child), Status::Exited(0o027));
    equal("and changes its own", mask(0), Ok(0o027));
    make(c"all", 0o7777).expect("a file can be made");
    equal("without a mask a new file has all it was given", mode(c"all"), 0o7777);
}

fn owners() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    call!(symlink(c"file".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    let owner = |name, flags| stat_with(name, flags).map(|stat| (stat.st_uid, stat.st_gid));
    let chown = |name: &CStr, uid, gid| call!(chown(name.as_ptr(), uid, gid));
    equal("root gives files away", (chown(c"file", 12, 34), owner(c"file", 0)), (Ok(0), Ok((12, 34))));
    equal("-1 keeps an owner", (chown(c"file", u32::MAX, 56), owner(c"file", 0)), (Ok(0), Ok((12, 56))));
    equal("or a group", (chown(c"link", 78, u32::MAX), owner(c"file", 0)), (Ok(0), Ok((78, 56))));
    let own = call!(lchown(c"link".as_ptr(), 1, 2));
    equal("a link can be given away itself", (own, owner(c"link", AT_SYMLINK_NOFOLLOW)), (Ok(0), Ok((1, 2))));
    equal("and not what it leads to", owner(c"file", 0), Ok((78, 56)));
    call!(chmod(c"file".as_ptr(), 0o6755)).expect("a mode can be set");
    chown(c"file", 0, 0).expect("a file can be given away");
    equal("what is given away loses its set-id bits", mode(c"file"), 0o755);
    equal("a file that is not there", chown(c"no", 0, 0), Err(ENOENT));
}

fn set_times(name: &CStr, times: [(i64, i64); 2], flags: i32) -> Result<i32, Errno> {
    let times = times.map(|(tv_sec, tv_nsec)| timespec { tv_sec, tv_nsec });
    call!(utimensat(AT_FDCWD, name.as_ptr(), times.as_ptr(), flags))
}

fn read_times(name: &CStr, flags: i32) -> [(i64, i64); 2] {
    let stat = stat_with(name, flags).expect("it is there");
    [(stat.st_atime, stat.st_atime_nsec), (stat.st_mtime, stat.st_mtime_nsec)]
}

fn times() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    call!(symlink(c"file".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    let wanted = [(1_000_000_000, 123_456_789), (1_500_000_000, 987_654_321)];
    equal(
        "times are set to the nanosecond",
        (set_times(c"file", wanted, 0), read_times(c"file", 0)),
        (Ok(0), wanted),
    );
    let omit: i64 = UTIME_OMIT;
    let answer = set_times(c"file", [(0, omit), (7, 8)], 0);
    equal("one can be left out", (answer, read_times(c"file", 0)), (Ok(0), [wanted[0], (7, 8)]));
    let early = [(-1000, 5), (0, 0)];
    equal(
        "a time can be before 1970",
        (set_times(c"file", early, 0), read_times(c"file", 0)),
        (Ok(0), early),
    );
    let before = read_times(c"link", AT_SYMLINK_NOFOLLOW);
    set_times(c"link", wanted, 0).expect("times can be set");
    equal("a link's file is meant", read_times(c"file", 0), wanted);
    ok("not the link", read_times(c"link", AT_SYMLINK_NOFOLLOW)[1] == before[1]);
    set_times(c"link", early, AT_SYMLINK_NOFOLLOW).expect("times can be set");
    equal("unless it is asked for", read_times(c"link", AT_SYMLINK_NOFOLLOW)[1], early[1]);
    let now: i64 = UTIME_NOW;
    set_times(c"file", [(0, now), (0, now)], 0).expect("times can be set");
    ok("UTIME_NOW is later", read_times(c"file", 0)[1] > wanted[1]);
    equal(
        "a billion nanoseconds are refused",
        set_times(c"file", [(0, 1_000_000_000), (0, 0)], 0),
        Err(EINVAL),
    );
    equal("so is a negative number of them", set_times(c"file", [(0, -1), (0, 0)], 0), Err(EINVAL));
    equal("and unknown flags", set_times(c"file", wanted, 0x4_0000), Err(EINVAL));
    equal("a file that is not there", set_times(c"no", wanted, 0), Err(ENOENT));
}

/// Which of a file's (or folder's) modification and change times `action` makes newer.
fn touches(name: &CStr, action: impl FnOnce()) -> (bool, bool) {
    set_times(name, [(1000, 0), (1000, 0)], 0).expect("times can be set");
    let before = stat(name).expect("it is there");
    linux_tests::times::settle();
    action();
    let after = stat(name).expect("it is there");
    (after.st_mtime != 1000, (after.st_ctime, after.st_ctime_nsec) > (before.st_ctime, before.st_ctime_nsec))
}

fn times_change() {
    let _scratch = Scratch::new();
    fs::write("file", "abc").expect("a file can be made");
    fs::create_dir("folder").expect("a folder can be made");
    let file = |action: fn()| touches(c"file", action);
    let folder = |action: fn()| touches(c"folder", action);
    equal(
        "a write changes both times",
        file(|| fs::write("file", "x").expect("it can be written")),
        (true, true),
    );
    equal("a read changes neither", file(|| drop(fs::read("file"))), (false, false));
    equal(
        "a mode is a change, but not of content",
        file(|| assert!(call!(chmod(c"file".as_ptr(), 0o600)).is_ok())),
        (false, true),
    );
    equal("so is a link", file(|| drop(fs::hard_link("file", "other"))), (false, true));
    equal("a cut changes both", file(|| assert!(call!(truncate(c"file".as_ptr(), 0)).is_ok())), (true, true));
    equal(
        "a new file changes its folder",
        folder(|| fs::write("folder/file", "").expect("it can be made")),
        (true, true),
    );
    equal(
        "writing to one does not",
        folder(|| fs::write("folder/file", "x").expect("it can be written")),
        (false, false),
    );
    equal(
        "renaming one does",
        folder(|| fs::rename("folder/file", "folder/x").expect("it can be renamed")),
        (true, true),
    );
    equal(
        "removing one does",
        folder(|| fs::remove_file("folder/x").expect("it can be removed")),
        (true, true),
    );
    equal("listing does not", folder(|| drop(fs::read_dir("folder").map(Iterator::count))), (false, false));
}

fn access() {
    let _scratch = Scratch::new();
    fs::write("file", "").expect("a file can be made");
    let access = |name: &CStr, wanted| call!(access(name.as_ptr(), wanted));
    equal("a file is there", access(c"file", F_OK), Ok(0));
    equal("root reads and writes all", access(c"file", R_OK | W_OK), Ok(0));
    equal("but does not execute what nobody may", access(c"file", X_OK), Err(EACCES));
    call!(chmod(c"file".as_ptr(), 0o001)).expect("a mode can be set");
    equal("what anybody may it does", access(c"file", X_OK), Ok(0));
    equal("a file that is not there", access(c"no", F_OK), Err(ENOENT));
    equal("unknown bits are refused", access(c"file", 0x10), Err(EINVAL));
    let answer = call!(faccessat(AT_FDCWD, c"file".as_ptr(), R_OK, AT_EACCESS));
    equal("it can be asked for the effective user", answer, Ok(0));
}

fn other_users() {
    let _scratch = Scratch::new();
    call!(chmod(c".".as_ptr(), 0o777)).expect("a mode can be set");
    for (name, mode, uid, gid) in [
        ("own", 0o600, 1234, 0),
        ("group", 0o060, 0, 55),
        ("all", 0o006, 0, 0),
        ("none", 0o600, 0, 0),
        ("shut", 0o077, 1234, 55),
    ] {
        fs::write(name, "x").expect("a file can be made");
        std::os::unix::fs::chown(name, Some(uid), Some(gid)).expect("root gives files away");
        fs::set_permissions(name, PermissionsExt::from_mode(mode)).expect("a mode can be set");
    }
    let child = fork(|| {
        let groups = [55];
        call!(setgroups(1, groups.as_ptr())).expect("root can change its groups");
        call!(setresgid(99, 99, 99)).expect("root can change its group");
        call!(setresuid(1234, 1234, 1234)).expect("root can change its user");
        let opens = |name: &CStr| call!(open(name.as_ptr(), O_RDWR)).map(files::close);
        let set = |name: &CStr| call!(chmod(name.as_ptr(), 0o644)).map(drop);
        let answers = [
            opens(c"own") == Ok(()),
            opens(c"group") == Ok(()),
            opens(c"all") == Ok(()),
            opens(c"none") == Err(EACCES),
            opens(c"shut") == Err(EACCES),
            set(c"own") == Ok(()),
            set(c"none") == Err(EPERM),
            call!(chown(c"own".as_ptr(), 0, u32::MAX)).map(drop) == Err(EPERM),
            call!(chown(c"own".as_ptr(), u32::MAX, 55)).map(drop) == Ok(()),
            call!(chown(c"own".as_ptr(), u32::MAX, 77)).map(drop) == Err(EPERM),
            call!(open(c"new".as_ptr(), O_RDWR | O_CREAT, 0o600)).map(files::close) == Ok(()),
            call!(setresuid(0, 0, 0)) == Err(EPERM),
            set_times(c"none", [(0, 0), (0, 0)], 0) == Err(EPERM),
        ];
        answers.iter().position(|&right| !right).map_or(100, |at| at as i32)
    });
    equal(
        "the owner's, the group's and the others' bits each bind whom they mean",
        process::end_of(child),
        Status::Exited(100),
    );
    let new = stat(c"new").map(|stat| (stat.st_uid, stat.st_gid));
    equal("a new file is its maker's", new, Ok((1234, 99)));
    sticky_folders();
}

fn sticky_folders() {
    fs::create_dir("sticky").expect("a folder can be made");
    call!(chmod(c"sticky".as_ptr(), 0o1777)).expect("a mode can be set");
    fs::write("sticky/theirs", "").expect("a file can be made");
    let child = fork(|| {
        call!(setresuid(1234, 1234, 1234)).expect("root can change its user");
        let answers = [
            call!(unlink(c"sticky/theirs".as_ptr())) == Err(EPERM),
            call!(rename(c"sticky/theirs".as_ptr(), c"sticky/mine".as_ptr())) == Err(EPERM),
            fs::write("sticky/mine", "").is_ok(),
            call!(unlink(c"sticky/mine".as_ptr())) == Ok(0),
        ];
        answers.iter().position(|&right| !right).map_or(100, |at| at as i32)
    });
    equal("in a sticky folder each removes his own", process::end_of(child), Status::Exited(100));
    fs::create_dir("given").expect("a folder can be made");
    call!(chown(c"given".as_ptr(), 0, 55)).expect("root gives files away");
    call!(chmod(c"given".as_ptr(), 0o2777)).expect("a mode can be set");
    fs::write("given/file", "").expect("a file can be made");
    fs::create_dir("given/folder").expect("a folder can be made");
    let group = |name| stat(name).map(|stat| stat.st_gid);
    equal("in a set-group-id folder new files have its group", group(c"given/file"), Ok(55));
    equal(
        "and new folders its bit",
        (group(c"given/folder"), mode(c"given/folder") & 0o2000),
        (Ok(55), 0o2000),
    );
}

fn devices() {
    let null = call!(open(c"/dev/null".as_ptr(), O_RDWR)).expect("there is a null device");
    equal("the null device takes everything", files::write(null, b"gone"), Ok(4));
    equal("and has nothing", files::read(null, 10), Ok(vec![]));
    let zero = call!(open(c"/dev/zero".as_ptr(), O_RDWR)).expect("there is a zero device");
    equal("the zero device has zeros", files::read(zero, 10), Ok(vec![0; 10]));
    files::close(null);
    files::close(zero);
    let kind = |name| stat(name).map(|stat| (stat.st_mode & S_IFMT, stat.st_rdev));
    let (null, zero) = (libc::makedev(1, 3), libc::makedev(1, 5));
    equal(
        "they have their numbers",
        (kind(c"/dev/null"), kind(c"/dev/zero")),
        (Ok((S_IFCHR, null)), Ok((S_IFCHR, zero))),
    );
    ok("and are no disks", kind(c"/dev/null").is_ok_and(|(kind, _)| kind != S_IFBLK));
}

fn file_system() {
    let _scratch = Scratch::new();
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut answer: libc::statfs = unsafe { mem::zeroed() };
    equal("a file system can be asked about", call!(statfs(c".".as_ptr(), &raw mut answer)), Ok(0));
    ok(
        "it has blocks and names",
        answer.f_bsize > 0 && answer.f_namelen == 255 && answer.f_bfree <= answer.f_blocks,
    );
    equal("by a file that is not there", call!(statfs(c"no".as_ptr(), &raw mut answer)), Err(ENOENT));
    equal("by a closed descriptor", call!(fstatfs(77, &raw mut answer)), Err(EBADF));
}
