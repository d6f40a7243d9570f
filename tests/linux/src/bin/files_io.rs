//! compare
//!
//! Reading and writing files: positions, holes, vectors, lengths, and the errors of each.

use std::{ffi::CStr, fs, process::ExitCode};

use libc::{
    O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, c_void, iovec,
    off_t,
};
use linux_tests::{
    Errno, call, equal,
    errno::{EBADF, EINVAL, EISDIR, ENOENT, ENXIO, ESPIPE},
    files::{self, Fd, Scratch, close, read, write},
    ok, run,
};

fn main() -> ExitCode {
    run(&[
        positions,
        bad_positions,
        holes,
        at_offsets,
        vectors,
        lengths,
        large_files,
        patterns,
        copying,
        syncing,
    ])
}

fn new(name: &CStr) -> Fd {
    call!(open(name.as_ptr(), O_RDWR | O_CREAT, 0o644)).expect("a file can be made")
}

fn seek(fd: Fd, offset: off_t, whence: i32) -> Result<off_t, Errno> {
    call!(lseek(fd, offset, whence))
}

fn positions() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    equal("a write moves the position", (write(fd, b"0123456789"), seek(fd, 0, SEEK_CUR)), (Ok(10), Ok(10)));
    equal("a read at the end gives nothing", read(fd, 5), Ok(vec![]));
    equal("SEEK_SET is from the start", (seek(fd, 3, SEEK_SET), read(fd, 2)), (Ok(3), Ok(b"34".to_vec())));
    equal("SEEK_CUR is from where it is", (seek(fd, -1, SEEK_CUR), read(fd, 2)), (Ok(4), Ok(b"45".to_vec())));
    equal("SEEK_END is from the end", (seek(fd, -2, SEEK_END), read(fd, 9)), (Ok(8), Ok(b"89".to_vec())));
    equal(
        "a read in the middle takes what there is",
        (seek(fd, 7, SEEK_SET), read(fd, 100)),
        (Ok(7), Ok(b"789".to_vec())),
    );
    equal("a position can be behind the end", seek(fd, 100, SEEK_END), Ok(110));
    equal("where there is nothing to read", read(fd, 5), Ok(vec![]));
    equal("and the file is no longer for it", fs::metadata("file").map(|data| data.len()).ok(), Some(10));
    seek(fd, 4, SEEK_SET).expect("it can be moved");
    equal(
        "a write in the middle replaces",
        (write(fd, b"XY"), fs::read("file").ok()),
        (Ok(2), Some(b"0123XY6789".to_vec())),
    );
    equal("a write of nothing does nothing", (write(fd, b""), seek(fd, 0, SEEK_CUR)), (Ok(0), Ok(6)));
    equal("a read of nothing too", (read(fd, 0), seek(fd, 0, SEEK_CUR)), (Ok(vec![]), Ok(6)));
    close(fd);
}

fn bad_positions() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    write(fd, b"0123456789").expect("it can be written");
    equal("a position before the start is refused", seek(fd, -1, SEEK_SET), Err(EINVAL));
    equal("also from where it is", seek(fd, -11, SEEK_CUR), Err(EINVAL));
    equal("also from the end", seek(fd, -11, SEEK_END), Err(EINVAL));
    equal("an unknown whence is refused", seek(fd, 0, 99), Err(EINVAL));
    equal("after all that it is where it was", seek(fd, 0, SEEK_CUR), Ok(10));
    let (from, to) = files::pipe();
    equal("a pipe has no position", seek(from, 0, SEEK_CUR), Err(ESPIPE));
    equal("nor for pread", call!(pread(from, [0_u8; 4].as_mut_ptr().cast(), 4, 0)), Err(ESPIPE));
    equal("nor for pwrite", call!(pwrite(to, c"abc".as_ptr().cast(), 3, 0)), Err(ESPIPE));
    equal("a closed descriptor has none", seek(77, 0, SEEK_CUR), Err(EBADF));
    [fd, from, to].into_iter().for_each(close);
}

fn holes() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    write(fd, b"start").expect("it can be written");
    seek(fd, 1 << 20, SEEK_SET).expect("it can be moved");
    write(fd, b"end").expect("it can be written");
    let bytes = fs::read("file").expect("it can be read");
    equal("a write behind the end leaves a hole", bytes.len(), (1 << 20) + 3);
    ok("of zeros", bytes[5..1 << 20].iter().all(|&byte| byte == 0));
    ok("between what was written", bytes.starts_with(b"start") && bytes.ends_with(b"end"));
    equal("data begins where it was asked for", seek(fd, 2, SEEK_DATA), Ok(2));
    equal("there is data at the end", seek(fd, 1 << 20, SEEK_DATA), Ok(1 << 20));
    let hole = seek(fd, 0, SEEK_HOLE);
    ok(
        "there is a hole, at the end of the file at the latest",
        hole.is_ok_and(|at| at > 0 && at <= (1 << 20) + 3),
    );
    equal("the last hole is the end", seek(fd, 1 << 20, SEEK_HOLE), Ok((1 << 20) + 3));
    equal("behind the end is no data", seek(fd, (1 << 20) + 3, SEEK_DATA), Err(ENXIO));
    equal("and no hole", seek(fd, (1 << 20) + 3, SEEK_HOLE), Err(ENXIO));
    close(fd);
}

fn pread(fd: Fd, len: usize, offset: off_t) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let read = call!(pread(fd, bytes.as_mut_ptr().cast(), len, offset))?;
    bytes.truncate(read as usize);
    Ok(bytes)
}

fn pwrite(fd: Fd, bytes: &[u8], offset: off_t) -> Result<isize, Errno> {
    call!(pwrite(fd, bytes.as_ptr().cast(), bytes.len(), offset))
}

fn at_offsets() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    write(fd, b"0123456789").expect("it can be written");
    seek(fd, 2, SEEK_SET).expect("it can be moved");
    equal("pread reads at an offset", pread(fd, 3, 6), Ok(b"678".to_vec()));
    equal("pwrite writes at one", pwrite(fd, b"AB", 4), Ok(2));
    equal("and neither moves the position", read(fd, 4), Ok(b"23AB".to_vec()));
    equal("pread behind the end gives nothing", pread(fd, 3, 50), Ok(vec![]));
    equal(
        "pwrite there leaves a hole",
        (pwrite(fd, b"Z", 12), pread(fd, 9, 8)),
        (Ok(1), Ok(b"89\0\0Z".to_vec())),
    );
    equal("an offset below 0 is refused", pread(fd, 3, -1), Err(EINVAL));
    equal("for pwrite too", pwrite(fd, b"x", -1), Err(EINVAL));
    close(fd);
}

/// `readv` into three buffers of these sizes.
fn readv(fd: Fd, sizes: [usize; 3]) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffers = sizes.map(|size| vec![b'.'; size]);
    let vectors = buffers
        .each_mut()
        .map(|buffer| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
    call!(readv(fd, vectors.as_ptr(), 3))?;
    Ok(buffers.to_vec())
}

fn writev(fd: Fd, parts: &[&[u8]]) -> Result<isize, Errno> {
    let vectors: Vec<iovec> = parts
        .iter()
        .map(|part| iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() })
        .collect();
    call!(writev(fd, vectors.as_ptr(), vectors.len() as i32))
}

fn vectors() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    equal("writev writes its parts in order", writev(fd, &[b"one ", b"", b"two ", b"three"]), Ok(13));
    equal("as one", fs::read("file").ok(), Some(b"one two three".to_vec()));
    seek(fd, 0, SEEK_SET).expect("it can be moved");
    let parts = readv(fd, [3, 0, 6]);
    equal("readv fills its parts in order", parts, Ok(vec![b"one".to_vec(), vec![], b" two t".to_vec()]));
    let parts = readv(fd, [2, 5, 4]);
    equal(
        "as far as there is something",
        parts,
        Ok(vec![b"hr".to_vec(), b"ee...".to_vec(), b"....".to_vec()]),
    );
    equal("no parts are nothing", writev(fd, &[]), Ok(0));
    let none: *const iovec = std::ptr::null();
    equal("a negative count is refused", call!(readv(fd, none, -1)), Err(EINVAL));
    equal("and so are too many", call!(writev(fd, none, 1025)), Err(EINVAL));
    let huge = [iovec { iov_base: 0x1000 as *mut c_void, iov_len: usize::MAX / 2 + 1 }];
    equal("a part that is too large is refused", call!(readv(fd, huge.as_ptr(), 1)), Err(EINVAL));
    let many: Vec<&[u8]> = vec![b"x"; 1024];
    equal("1024 parts are written", writev(fd, &many), Ok(1024));
    close(fd);
}

fn lengths() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    write(fd, b"0123456789").expect("it can be written");
    let len = || fs::metadata("file").map(|data| data.len()).ok();
    equal("a file can be cut", (call!(ftruncate(fd, 4)), len()), (Ok(0), Some(4)));
    equal("the position stays", seek(fd, 0, SEEK_CUR), Ok(10));
    equal(
        "and extended",
        (call!(ftruncate(fd, 8)), fs::read("file").ok()),
        (Ok(0), Some(b"0123\0\0\0\0".to_vec())),
    );
    equal("what was cut does not come back", pread(fd, 8, 4), Ok(vec![0; 4]));
    equal("by its name too", (call!(truncate(c"file".as_ptr(), 2)), len()), (Ok(0), Some(2)));
    write(fd, b"X").expect("it can be written");
    equal("a write behind a cut leaves a hole", fs::read("file").ok(), Some(b"01\0\0\0\0\0\0\0\0X".to_vec()));
    equal("a length below 0 is refused", call!(ftruncate(fd, -1)), Err(EINVAL));
    equal("by its name too", call!(truncate(c"file".as_ptr(), -1)), Err(EINVAL));
    equal("a file that is not there", call!(truncate(c"no".as_ptr(), 0)), Err(ENOENT));
    equal("a folder has no length to change", call!(truncate(c".".as_ptr(), 0)), Err(EISDIR));
    let reader = call!(open(c"file".as_ptr(), O_RDONLY)).expect("it opens");
    equal("who only reads may not", call!(ftruncate(reader, 0)), Err(EINVAL));
    equal("a closed descriptor", call!(ftruncate(77, 0)), Err(EBADF));
    let (from, to) = files::pipe();
    equal("a pipe has no length", call!(ftruncate(to, 0)), Err(EINVAL));
    [fd, reader, from, to].into_iter().for_each(close);
    cut_inside_a_page();
}

fn cut_inside_a_page() {
    let fd = new(c"pages");
    let bytes: Vec<u8> = (0..20_000_u32).map(|at| (at % 250) as u8 + 1).collect();
    write(fd, &bytes).expect("it can be written");
    let mut wanted = bytes.clone();
    let mut right = true;
    for cut in [19_999, 16_385, 16_384, 16_383, 8_192, 5_000, 4_097, 4_096, 4_095, 1, 0] {
        call!(ftruncate(fd, cut)).expect("it can be cut");
        call!(ftruncate(fd, 20_000)).expect("it can be extended");
        wanted[cut as usize..].fill(0);
        right &= fs::read("pages").is_ok_and(|bytes| bytes == wanted);
    }
    ok("whatever is cut and extended is zeros", right);
    close(fd);
}

fn large_files() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    let far = 5_i64 << 30;
    equal("a byte five gigabytes on can be written", pwrite(fd, b"far", far), Ok(3));
    equal("and read", pread(fd, 10, far), Ok(b"far".to_vec()));
    equal("between it and the start are zeros", pread(fd, 4, far / 2), Ok(vec![0; 4]));
    equal("the file is so long", seek(fd, 0, SEEK_END), Ok(far + 3));
    close(fd);
}

/// Writes and reads of many sizes at many offsets, against a copy in memory.
fn patterns() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    let mut model: Vec<u8> = Vec::new();
    let mut dice = 12_345_u64;
    let mut next = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let mut right = true;
    for round in 0..300 {
        let (at, len) = (next(60_000) as usize, next(9000) as usize);
        match next(5) {
            0..3 => {
                let bytes = vec![round as u8 | 1; len];
                right &= pwrite(fd, &bytes, at as off_t) == Ok(len as isize);
                if len > 0 {
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&bytes);
                }
            }
            3 => {
                let end = model.len().min(at + len);
                let wanted = model.get(at..end).unwrap_or_default();
                right &= pread(fd, len, at as off_t).is_ok_and(|got| got == wanted);
            }
            _ => {
                right &= call!(ftruncate(fd, at as off_t)).is_ok();
                model.resize(at, 0);
            }
        }
    }
    ok("three hundred writes, reads and cuts are as in memory", right);
    ok("and so is the file in the end", fs::read("file").is_ok_and(|bytes| bytes == model));
    close(fd);
}

fn copying() {
    let _scratch = Scratch::new();
    let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at * 31 % 253) as u8).collect();
    fs::write("from", &bytes).expect("a file can be made");
    let from = call!(open(c"from".as_ptr(), O_RDONLY)).expect("it opens");
    let to = call!(open(c"to".as_ptr(), O_WRONLY | O_CREAT, 0o600)).expect("a file can be made");
    let mut offset: off_t = 1000;
    let mut sent = 0;
    while let Ok(part @ 1..) = call!(sendfile(to, from, &raw mut offset, 40_000)) {
        sent += part;
    }
    equal("sendfile copies from an offset to the end", (sent, offset), (99_000, 100_000));
    ok("as it is", fs::read("to").is_ok_and(|copy| copy == bytes[1000..]));
    equal("and does not move the position", seek(from, 0, SEEK_CUR), Ok(0));
    equal(
        "without an offset it does",
        call!(sendfile(to, from, std::ptr::null_mut(), 10)).and(seek(from, 0, SEEK_CUR)),
        Ok(10),
    );
    equal("to a file that is not written", call!(sendfile(from, from, std::ptr::null_mut(), 10)), Err(EBADF));
    ok("a library's copy is the same", fs::copy("from", "copy").is_ok_and(|len| len == 100_000));
    ok("byte for byte", fs::read("copy").is_ok_and(|copy| copy == bytes));
    close(from);
    close(to);
}

fn syncing() {
    let _scratch = Scratch::new();
    let fd = new(c"file");
    write(fd, b"kept").expect("it can be written");
    equal("fsync and fdatasync are done", [call!(fsync(fd)), call!(fdatasync(fd))], [Ok(0); 2]);
    equal("not for a closed descriptor", call!(fsync(77)), Err(EBADF));
    let (from, to) = files::pipe();
    equal("nor for a pipe", call!(fsync(to)), Err(EINVAL));
    [fd, from, to].into_iter().for_each(close);
}
