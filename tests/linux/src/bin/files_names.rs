//! compare
//!
//! Names: making, linking, renaming and removing them, the working folder, and the error of each.

use std::{env, ffi::CStr, fs, process::ExitCode};

use libc::{AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, O_CREAT, O_PATH, O_RDONLY, O_RDWR};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{
        EACCES, EBADF, EBUSY, EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM,
        ERANGE,
    },
    files::{Scratch, close},
    ok,
    process::{self, Status, fork},
    run,
};

type Answer = Result<i32, Errno>;

fn main() -> ExitCode {
    run(&[
        linking,
        symbolic,
        renaming,
        renaming_folders,
        renaming_errors,
        exchange,
        removing,
        folders,
        relative,
        working_folder,
        long_names,
        permission,
        || apart(another_root),
    ])
}

fn link(from: &CStr, to: &CStr) -> Answer {
    call!(link(from.as_ptr(), to.as_ptr()))
}

fn symlink(to: &CStr, at: &CStr) -> Answer {
    call!(symlink(to.as_ptr(), at.as_ptr()))
}

fn rename(from: &CStr, to: &CStr) -> Answer {
    call!(rename(from.as_ptr(), to.as_ptr()))
}

fn unlink(name: &CStr) -> Answer {
    call!(unlink(name.as_ptr()))
}

fn mkdir(name: &CStr) -> Answer {
    call!(mkdir(name.as_ptr(), 0o755))
}

fn rmdir(name: &CStr) -> Answer {
    call!(rmdir(name.as_ptr()))
}

fn there(name: &str) -> bool {
    fs::symlink_metadata(name).is_ok()
}

fn text(name: &str) -> String {
    fs::read_to_string(name).unwrap_or_else(|error| format!("{:?}", error.kind()))
}

fn links(name: &str) -> u64 {
    fs::symlink_metadata(name).map_or(0, |data| std::os::unix::fs::MetadataExt::nlink(&data))
}

fn make(name: &str) {
    fs::write(name, name).expect("a file can be made");
}

fn linking() {
    let _scratch = Scratch::new();
    make("a");
    equal("a file can have two names", (link(c"a", c"b"), links("a"), links("b")), (Ok(0), 2, 2));
    fs::write("b", "both").expect("it can be written");
    equal("which are the same file", text("a"), "both".into());
    equal("one can go", (unlink(c"a"), links("b"), text("b")), (Ok(0), 1, "both".into()));
    equal("a link to a file that is not there", link(c"a", c"c"), Err(ENOENT));
    make("c");
    equal("or to a name that is taken", link(c"b", c"c"), Err(EEXIST));
    equal("also its own", link(c"b", c"b"), Err(EEXIST));
    mkdir(c"folder").expect("a folder can be made");
    equal("a folder has one name", link(c"folder", c"other"), Err(EPERM));
    equal("a link in a folder that is not there", link(c"b", c"no/b"), Err(ENOENT));
    equal("a link below a file", link(c"b", c"c/b"), Err(ENOTDIR));
    symlink(c"b", c"s").expect("a link can be made");
    equal("a link to a symbolic link is to it", (link(c"s", c"t"), links("s"), links("b")), (Ok(0), 2, 1));
    let follow = call!(linkat(AT_FDCWD, c"s".as_ptr(), AT_FDCWD, c"u".as_ptr(), AT_SYMLINK_FOLLOW));
    equal("unless it is to be followed", (follow, links("b")), (Ok(0), 2));
}

fn readlink(name: &CStr, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len.max(1)];
    let read = call!(readlink(name.as_ptr(), bytes.as_mut_ptr().cast(), len))?;
    bytes.truncate(read as usize);
    Ok(bytes)
}

fn symbolic() {
    let _scratch = Scratch::new();
    mkdir(c"folder").expect("a folder can be made");
    make("folder/file");
    equal(
        "a symbolic link says anything",
        (symlink(c"folder/file", c"s"), text("s")),
        (Ok(0), "folder/file".into()),
    );
    equal("and can be read", readlink(c"s", 100), Ok(b"folder/file".to_vec()));
    equal("in part", readlink(c"s", 6), Ok(b"folder".to_vec()));
    equal("but not in no part", readlink(c"s", 0), Err(EINVAL));
    equal("a file cannot", readlink(c"folder/file", 10), Err(EINVAL));
    equal("nor what is not there", readlink(c"no", 10), Err(ENOENT));
    symlink(c"folder", c"way").expect("a link can be made");
    equal("a link leads to a folder", text("way/file"), "folder/file".into());
    equal(
        "a link in a folder is from there",
        {
            symlink(c"file", c"folder/near").expect("a link can be made");
            text("way/near")
        },
        "folder/file".into(),
    );
    equal("a name that is taken", symlink(c"x", c"s"), Err(EEXIST));
    equal("a link to no name at all", symlink(c"", c"empty"), Err(ENOENT));
    equal("a folder that is not there", symlink(c"x", c"no/x"), Err(ENOENT));
    symlink(c"two", c"one").expect("a link can be made");
    symlink(c"one", c"two").expect("a link can be made");
    equal(
        "two that lead to each other",
        fs::read("one").err().and_then(|error| error.raw_os_error()),
        Some(ELOOP.0),
    );
    for at in 0..45 {
        let target = if at == 0 { "folder/file".into() } else { format!("chain{}", at - 1) };
        std::os::unix::fs::symlink(target, format!("chain{at}")).expect("a link can be made");
    }
    equal("forty links are followed", text("chain39"), "folder/file".into());
    equal(
        "and not one more",
        fs::read("chain40").err().and_then(|error| error.raw_os_error()),
        Some(ELOOP.0),
    );
    equal(
        "removing a link leaves what it names",
        (unlink(c"s"), there("s"), there("folder/file")),
        (Ok(0), false, true),
    );
    equal("a link to a folder is no folder", rmdir(c"way"), Err(ENOTDIR));
}

fn renaming() {
    let _scratch = Scratch::new();
    make("a");
    make("b");
    equal(
        "a file gets another name",
        (rename(c"a", c"c"), there("a"), text("c")),
        (Ok(0), false, "a".into()),
    );
    equal("also one that was taken", (rename(c"c", c"b"), there("c"), text("b")), (Ok(0), false, "a".into()));
    equal("or its own", (rename(c"b", c"b"), text("b")), (Ok(0), "a".into()));
    link(c"b", c"d").expect("a link can be made");
    equal("two names of one file stay", (rename(c"b", c"d"), there("b"), there("d")), (Ok(0), true, true));
    let fd = call!(open(c"d".as_ptr(), O_RDONLY)).expect("it opens");
    make("e");
    rename(c"e", c"d").expect("a file can be renamed");
    let mut bytes = [0_u8; 1];
    let read = call!(read(fd, bytes.as_mut_ptr().cast(), 1));
    equal("who has the old one open keeps it", (read, bytes), (Ok(1), *b"a"));
    symlink(c"nowhere", c"s").expect("a link can be made");
    equal(
        "a link is renamed, not what it names",
        (rename(c"s", c"t"), readlink(c"t", 20)),
        (Ok(0), Ok(b"nowhere".to_vec())),
    );
    equal(
        "over a link the link goes",
        (rename(c"d", c"t"), text("t"), there("nowhere")),
        (Ok(0), "e".into(), false),
    );
    close(fd);
}

fn renaming_folders() {
    let _scratch = Scratch::new();
    fs::create_dir_all("one/inner").expect("folders can be made");
    make("one/inner/file");
    equal(
        "a folder is renamed with all in it",
        (rename(c"one", c"two"), text("two/inner/file")),
        (Ok(0), "one/inner/file".into()),
    );
    mkdir(c"three").expect("a folder can be made");
    equal("and moved", (rename(c"two/inner", c"three/inner"), there("two/inner")), (Ok(0), false));
    equal("its parent is the new one", text("three/inner/../inner/file"), "one/inner/file".into());
    equal("the links of both count it", (links("two"), links("three")), (2, 3));
    equal(
        "over an empty folder",
        (rename(c"three", c"two"), text("two/inner/file")),
        (Ok(0), "one/inner/file".into()),
    );
    equal("with a slash behind it", (rename(c"two/", c"four/"), there("four")), (Ok(0), true));
}

fn renaming_errors() {
    let _scratch = Scratch::new();
    fs::create_dir_all("full/inner").expect("folders can be made");
    mkdir(c"empty").expect("a folder can be made");
    make("file");
    equal("what is not there", rename(c"no", c"x"), Err(ENOENT));
    equal("to a folder that is not there", rename(c"file", c"no/x"), Err(ENOENT));
    equal("below a file", rename(c"empty", c"file/x"), Err(ENOTDIR));
    equal("a file over a folder", rename(c"file", c"empty"), Err(EISDIR));
    equal("a folder over a file", rename(c"empty", c"file"), Err(ENOTDIR));
    equal("over a folder that is not empty", rename(c"empty", c"full"), Err(ENOTEMPTY));
    equal("into itself", rename(c"full", c"full/inner/x"), Err(EINVAL));
    equal("onto its own parent", rename(c"full/inner", c"full"), Err(ENOTEMPTY));
    equal("a file with a slash behind it", rename(c"file/", c"x"), Err(ENOTDIR));
    equal("a file to a folder's name", rename(c"file", c"x/"), Err(ENOTDIR));
    equal("the working folder itself", rename(c".", c"x"), Err(EBUSY));
    equal("or its parent", rename(c"empty", c".."), Err(EBUSY));
    equal("a name that ends with a dot", rename(c"full/inner/.", c"x"), Err(EBUSY));
    equal("no name", rename(c"", c"x"), Err(ENOENT));
    ok("after all that everything is there", there("full/inner") && there("empty") && text("file") == "file");
}

fn exchange() {
    let _scratch = Scratch::new();
    make("a");
    make("b");
    let rename2 = |from: &CStr, to: &CStr, flags: u32| {
        call!(renameat2(AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), flags))
    };
    equal("RENAME_NOREPLACE replaces nothing", rename2(c"a", c"b", libc::RENAME_NOREPLACE), Err(EEXIST));
    equal(
        "and renames where there is room",
        (rename2(c"a", c"c", libc::RENAME_NOREPLACE), text("c")),
        (Ok(0), "a".into()),
    );
    equal("RENAME_EXCHANGE exchanges two", rename2(c"b", c"c", libc::RENAME_EXCHANGE), Ok(0));
    equal("both ways", (text("b"), text("c")), ("a".into(), "b".into()));
    equal("if both are there", rename2(c"b", c"no", libc::RENAME_EXCHANGE), Err(ENOENT));
    equal(
        "and not both at once",
        rename2(c"b", c"c", libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE),
        Err(EINVAL),
    );
    equal("unknown flags are refused", rename2(c"b", c"c", 0x100), Err(EINVAL));
}

fn removing() {
    let _scratch = Scratch::new();
    make("file");
    mkdir(c"folder").expect("a folder can be made");
    make("folder/file");
    equal("a file that is not there", unlink(c"no"), Err(ENOENT));
    equal("a folder is not unlinked", unlink(c"folder"), Err(EISDIR));
    equal("a file is no folder", rmdir(c"file"), Err(ENOTDIR));
    equal("a file with a slash behind it", unlink(c"file/"), Err(ENOTDIR));
    equal("a folder that is not empty", rmdir(c"folder"), Err(ENOTEMPTY));
    equal("below a file", unlink(c"file/x"), Err(ENOTDIR));
    equal("by unlinkat too", call!(unlinkat(AT_FDCWD, c"folder".as_ptr(), AT_REMOVEDIR)), Err(ENOTEMPTY));
    equal("which takes no other flags", call!(unlinkat(AT_FDCWD, c"file".as_ptr(), 0x1)), Err(EINVAL));
    equal("a dot", rmdir(c"folder/."), Err(EINVAL));
    equal("two dots", rmdir(c"folder/.."), Err(ENOTEMPTY));
    equal("a file goes", (unlink(c"folder/file"), there("folder/file")), (Ok(0), false));
    equal("and then the folder", (rmdir(c"folder"), there("folder")), (Ok(0), false));
    equal("the root stays", rmdir(c"/"), Err(EBUSY));
}

fn folders() {
    let _scratch = Scratch::new();
    equal("a folder is made", (mkdir(c"folder"), links("folder")), (Ok(0), 2));
    equal("once", mkdir(c"folder"), Err(EEXIST));
    equal("with a slash behind it", (mkdir(c"slash/"), there("slash")), (Ok(0), true));
    equal("not in one that is not there", mkdir(c"no/folder"), Err(ENOENT));
    make("file");
    equal("nor over a file", mkdir(c"file"), Err(EEXIST));
    equal("nor below one", mkdir(c"file/x"), Err(ENOTDIR));
    equal("nor as a dot", mkdir(c"."), Err(EEXIST));
    equal("nor as the root", mkdir(c"/"), Err(EEXIST));
    equal("nor without a name", mkdir(c""), Err(ENOENT));
    mkdir(c"folder/inner").expect("a folder can be made");
    equal("a folder counts those in it", links("folder"), 3);
    symlink(c"folder/new", c"dangling").expect("a link can be made");
    equal("a link to nothing is a name that is taken", mkdir(c"dangling"), Err(EEXIST));
    let deep: String = (0..60).map(|level| format!("d{level}/")).collect();
    ok(
        "sixty folders deep",
        fs::create_dir_all(&deep).is_ok() && fs::write(format!("{deep}x"), "deep").is_ok(),
    );
    equal("there is a file", text(&format!("{deep}x")), "deep".into());
    equal(
        "and its way can have dots and slashes",
        text(&format!(".///d0/../{}x", deep.replace('/', "/.//"))),
        "deep".into(),
    );
}

fn relative() {
    let _scratch = Scratch::new();
    fs::create_dir_all("folder/inner").expect("folders can be made");
    make("folder/file");
    let folder = call!(open(c"folder".as_ptr(), O_RDONLY | libc::O_DIRECTORY)).expect("it opens");
    let by_path = call!(open(c"folder".as_ptr(), O_PATH)).expect("it opens");
    let open = |at, name: &CStr, flags| call!(openat(at, name.as_ptr(), flags, 0o600)).map(close);
    equal("a name is from the folder that is given", open(folder, c"file", O_RDONLY), Ok(()));
    equal("also by a path only", open(by_path, c"file", O_RDONLY), Ok(()));
    equal("or from the working folder", open(AT_FDCWD, c"folder/file", O_RDONLY), Ok(()));
    equal("which is not the same", open(AT_FDCWD, c"file", O_RDONLY), Err(ENOENT));
    equal("a whole name needs none", open(77, c"/bin/busybox", O_RDONLY), Ok(()));
    equal("a closed descriptor", open(77, c"file", O_RDONLY), Err(EBADF));
    rename(c"folder", c"moved").expect("a folder can be renamed");
    equal("the folder may be renamed meanwhile", open(folder, c"made", O_RDWR | O_CREAT), Ok(()));
    ok("and a new file is in it", there("moved/made"));
    let file = call!(open(c"moved/file".as_ptr(), O_RDONLY)).expect("it opens");
    equal("a file is no folder", open(file, c"x", O_RDONLY), Err(ENOTDIR));
    let moved = call!(renameat(folder, c"file".as_ptr(), AT_FDCWD, c"here".as_ptr()));
    equal("files can be renamed from one to another", (moved, text("here")), (Ok(0), "folder/file".into()));
    fs::remove_dir_all("moved").expect("it can be removed");
    equal("in a folder that is gone nothing is found", open(folder, c"inner", O_RDONLY), Err(ENOENT));
    equal("and nothing made", open(folder, c"new", O_RDWR | O_CREAT), Err(ENOENT));
    [folder, by_path, file].into_iter().for_each(close);
}

fn working_folder() {
    let scratch = Scratch::new();
    fs::create_dir_all("one/two").expect("folders can be made");
    make("file");
    let cwd = || env::current_dir().map_err(|error| Errno(error.raw_os_error().unwrap_or(0)));
    let chdir = |name: &CStr| call!(chdir(name.as_ptr()));
    equal(
        "the working folder changes",
        (chdir(c"one/two"), cwd() == Ok(scratch.path().join("one/two"))),
        (Ok(0), true),
    );
    equal("upwards as well", (chdir(c".."), cwd() == Ok(scratch.path().join("one"))), (Ok(0), true));
    let child = fork(|| i32::from(chdir(c"two").is_ok()));
    equal(
        "a child has its own",
        (process::end_of(child), cwd() == Ok(scratch.path().join("one"))),
        (Status::Exited(1), true),
    );
    rename(c"../one", c"../other").expect("a folder can be renamed");
    ok("when it is renamed so is where we are", cwd() == Ok(scratch.path().join("other")));
    equal("a file is no place to be", chdir(c"../file"), Err(ENOTDIR));
    equal("nor what is not there", chdir(c"no"), Err(ENOENT));
    let short = call!(syscall(libc::SYS_getcwd, [0_u8; 4].as_mut_ptr(), 4)).map(drop);
    equal("a name that has no room", short, Err(ERANGE));
    let up = call!(open(c"..".as_ptr(), O_RDONLY)).expect("it opens");
    fs::remove_dir_all("../other").expect("it can be removed");
    equal("a folder that is gone has no name", cwd(), Err(ENOENT));
    ok("but a parent", there("../file"));
    equal(
        "a descriptor leads out of it",
        (call!(fchdir(up)), cwd() == Ok(scratch.path().clone())),
        (Ok(0), true),
    );
    equal(
        "a file's does not",
        {
            let file = call!(open(c"file".as_ptr(), O_RDONLY)).expect("it opens");
            let answer = call!(fchdir(file));
            close(file);
            answer
        },
        Err(ENOTDIR),
    );
    close(up);
}

fn long_names() {
    let _scratch = Scratch::new();
    let name = |len: usize| "n".repeat(len);
    ok("a name can have 255 bytes", fs::write(name(255), "x").is_ok() && there(&name(255)));
    let error = |path: String| fs::write(path, "x").err().and_then(|error| error.raw_os_error());
    equal("but not 256", error(name(256)), Some(ENAMETOOLONG.0));
    equal("also on the way", error(format!("{}/x", name(256))), Some(ENAMETOOLONG.0));
    equal("a whole path can have 4095", error(format!("{}x", "./".repeat(2047))), None);
    equal("but not 4096", error(format!("{}xx", "./".repeat(2047))), Some(ENAMETOOLONG.0));
    let odd = ["a b", "ü", "\u{1}\u{7f}", "*?", "-", "...", "a\nb", "\\"];
    ok(
        "any other bytes are good",
        odd.iter().all(|name| fs::write(name, name).is_ok() && text(name) == *name),
    );
}

fn permission() {
    let _scratch = Scratch::new();
    fs::create_dir("open").expect("a folder can be made");
    make("open/file");
    fs::create_dir("shut").expect("a folder can be made");
    make("shut/file");
    for (name, mode) in [("open", 0o755), ("shut", 0o700), ("open/file", 0o600), (".", 0o755)] {
        fs::set_permissions(name, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("a mode can be set");
    }
    let child = fork(|| {
        call!(setresuid(1234, 1234, 1234)).expect("root can change its user");
        let open = |name: &CStr| call!(open(name.as_ptr(), O_RDONLY)).map(drop);
        let answers = [
            open(c"open/file") == Err(EACCES),
            open(c"shut/file") == Err(EACCES),
            rename(c"open/file", c"open/x") == Err(EACCES),
            unlink(c"open/file") == Err(EACCES),
            mkdir(c"open/new") == Err(EACCES),
            call!(chdir(c"shut".as_ptr())) == Err(EACCES),
            call!(chmod(c"open/file".as_ptr(), 0o777)) == Err(EPERM),
            call!(chown(c"open/file".as_ptr(), 1234, 1234)) == Err(EPERM),
        ];
        answers.iter().position(|&right| !right).map_or(100, |at| at as i32)
    });
    equal("another user may not do what the modes forbid", process::end_of(child), Status::Exited(100));
    ok("and has done nothing", there("open/file") && !there("open/new"));
}

fn another_root() {
    let scratch = Scratch::new();
    fs::create_dir_all("root/inner").expect("folders can be made");
    make("root/inner/file");
    let child = fork(|| {
        let changed = call!(chroot(c"root".as_ptr())).is_ok() && call!(chdir(c"/".as_ptr())).is_ok();
        let answers = [
            changed,
            text("/inner/file") == "root/inner/file",
            text("../../inner/file") == "root/inner/file",
            !there("/bin"),
        ];
        answers.iter().position(|&right| !right).map_or(100, |at| at as i32)
    });
    equal("a process with another root cannot leave it", process::end_of(child), Status::Exited(100));
    ok("and its parent has its own", there("/bin") && scratch.path().exists());
}
