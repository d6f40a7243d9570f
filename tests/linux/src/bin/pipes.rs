//! compare
//!
//! Pipes and fifos: what they hold, when they end, what is whole, and who waits for whom.

use std::{ffi::CStr, process::ExitCode, thread};

use libc::{
    F_GETFL, F_GETPIPE_SZ, F_SETPIPE_SZ, FIONREAD, O_ACCMODE, O_CLOEXEC, O_CREAT, O_NONBLOCK, O_RDONLY,
    O_RDWR, O_WRONLY, PIPE_BUF, SIGPIPE, c_int,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{EAGAIN, EBADF, EEXIST, EINVAL, ENXIO, EPIPE},
    files::{self, Fd, Scratch, close, pipe, read, set_blocking, write},
    ok,
    process::{self, Status, fork, wait},
    run,
    signals::{self, Do, seen},
    times::{settle, until},
};

const CAPACITY: usize = 65_536;

fn main() -> ExitCode {
    run(&[
        order,
        ends,
        without_readers,
        capacity,
        not_blocking,
        blocking,
        whole_writes,
        four_writers,
        large_writes,
        many_readers,
        flags,
        || apart(fifos),
        || apart(fifo_openings),
        fifo_errors,
    ])
}

fn order() {
    let (from, to) = pipe();
    ok("a pipe has two descriptors", from != to && from > 2 && to > 2);
    equal(
        "bytes come as they went",
        (write(to, b"one"), write(to, b"two"), read(from, 100)),
        (Ok(3), Ok(3), Ok(b"onetwo".to_vec())),
    );
    write(to, b"0123456789").expect("a pipe takes bytes");
    equal(
        "in parts",
        (read(from, 4), read(from, 4), read(from, 4)),
        (Ok(b"0123".to_vec()), Ok(b"4567".to_vec()), Ok(b"89".to_vec())),
    );
    equal(
        "a write of nothing does nothing",
        (write(to, b""), files::poll_now(from, libc::POLLIN)),
        (Ok(0), 0),
    );
    equal("the reading end is not written", write(from, b"x"), Err(EBADF));
    equal("nor the writing end read", read(to, 1), Err(EBADF));
    write(to, &[7; 5000]).expect("a pipe takes bytes");
    let mut waiting: c_int = 0;
    equal(
        "FIONREAD counts what waits",
        (call!(ioctl(from, FIONREAD, &raw mut waiting)), waiting),
        (Ok(0), 5000),
    );
    close(from);
    close(to);
}

fn ends() {
    let (from, to) = pipe();
    let other = call!(dup(to)).expect("a descriptor can be copied");
    write(to, b"last").expect("a pipe takes bytes");
    close(to);
    set_blocking(from, false);
    equal("what was written is read after its writer closed", read(from, 10), Ok(b"last".to_vec()));
    equal("while another writer is there the end is not", read(from, 10), Err(EAGAIN));
    close(other);
    equal("then it is", read(from, 10), Ok(vec![]));
    equal("and stays", read(from, 10), Ok(vec![]));
    close(from);
    let (from, to) = pipe();
    let child = fork(|| {
        close(from);
        settle();
        i32::from(write(to, b"from a child") == Ok(12))
    });
    close(to);
    equal("a reader waits for a child", read(from, 100), Ok(b"from a child".to_vec()));
    equal("and sees the end when it is gone", read(from, 100), Ok(vec![]));
    equal("the child wrote all", process::end_of(child), Status::Exited(1));
    close(from);
}

fn without_readers() {
    signals::set(SIGPIPE, Do::Count);
    let (from, to) = pipe();
    write(to, b"never read").expect("a pipe takes bytes");
    close(from);
    equal(
        "without readers a write says EPIPE, after SIGPIPE",
        (write(to, b"x"), seen(SIGPIPE)),
        (Err(EPIPE), 1),
    );
    equal("a write of nothing does not", (write(to, b""), seen(SIGPIPE)), (Ok(0), 1));
    close(to);
    let (from, to) = pipe();
    let child = fork(|| {
        close(to);
        settle();
        0
    });
    close(from);
    set_blocking(to, false);
    while write(to, &[0; 4096]).is_ok() {}
    set_blocking(to, true);
    equal("a writer that waits hears of it", (write(to, &[0; 8192]), seen(SIGPIPE) >= 2), (Err(EPIPE), true));
    process::end_of(child);
    signals::set(SIGPIPE, Do::Ignore);
    close(to);
}

fn fill(to: Fd) -> usize {
    let mut total = 0;
    while let Ok(part) = write(to, &[3; 4096]) {
        total += part as usize;
    }
    total
}

fn capacity() {
    let (from, to) = pipe();
    set_blocking(to, false);
    equal("a pipe holds 65536 bytes", fill(to), CAPACITY);
    equal("and says so", call!(fcntl(to, F_GETPIPE_SZ)), Ok(CAPACITY as i32));
    equal("full it takes nothing", write(to, b"x"), Err(EAGAIN));
    equal(
        "when a page was read it takes a page",
        (read(from, 4096).map(|bytes| bytes.len()), fill(to)),
        (Ok(4096), 4096),
    );
    let mut total = 0;
    set_blocking(from, false);
    while let Ok(bytes) = read(from, 10_000) {
        total += bytes.len();
    }
    equal("all of it can be read", total, CAPACITY);
    equal("its size can be changed", call!(fcntl(to, F_SETPIPE_SZ, 16_384)), Ok(16_384));
    equal("and it holds so much", fill(to), 16_384);
    equal(
        "a size that what it holds does not fit is refused",
        call!(fcntl(to, F_SETPIPE_SZ, 4096)),
        Err(linux_tests::errno::EBUSY),
    );
    equal("sizes are rounded up", call!(fcntl(to, F_SETPIPE_SZ, 20_000)), Ok(32_768));
    close(from);
    close(to);
}

fn not_blocking() {
    let (from, to) = pipe();
    set_blocking(from, false);
    set_blocking(to, false);
    equal("an empty pipe says EAGAIN", read(from, 1), Err(EAGAIN));
    fill(to);
    equal("a full one too", write(to, b"x"), Err(EAGAIN));
    read(from, 8192).expect("there is something");
    equal("more than fits is written in part", write(to, &[1; 20_000]), Ok(8192));
    close(to);
    while read(from, 60_000).is_ok_and(|bytes| !bytes.is_empty()) {}
    equal("the end is the end and not EAGAIN", read(from, 1), Ok(vec![]));
    close(from);
}

fn blocking() {
    let (from, to) = pipe();
    let reader = thread::spawn(move || read(from, 10));
    settle();
    write(to, b"late").expect("a pipe takes bytes");
    equal("a reader waits for bytes", reader.join().ok(), Some(Ok(b"late".to_vec())));
    set_blocking(to, false);
    fill(to);
    set_blocking(to, true);
    let writer = thread::spawn(move || write(to, &[9; 6000]));
    settle();
    let mut total = 0;
    while total < CAPACITY + 6000 {
        total += read(from, 5000).map_or(0, |bytes| bytes.len());
    }
    equal(
        "a writer waits for room, and writes all",
        (writer.join().ok(), total),
        (Some(Ok(6000)), CAPACITY + 6000),
    );
    close(from);
    close(to);
}

/// Writes of up to PIPE_BUF bytes are whole or nothing: when only a part fits, none of it is written.
fn whole_writes() {
    let (from, to) = pipe();
    set_blocking(to, false);
    set_blocking(from, false);
    for _ in 0..15 {
        write(to, &[1; PIPE_BUF]).expect("a pipe takes bytes");
    }
    write(to, &[2; PIPE_BUF - 10]).expect("a pipe takes bytes");
    equal("PIPE_BUF bytes are not written in part", write(to, &[3; PIPE_BUF]), Err(EAGAIN));
    let mut bytes = Vec::new();
    while let Ok(part) = read(from, 8192) {
        bytes.extend(part);
    }
    ok("and none of them is there", bytes.len() == CAPACITY - 10 && !bytes.contains(&3));
    close(from);
    close(to);
}

/// Four children write records of PIPE_BUF bytes or less; each record must come out whole.
fn four_writers() {
    const RECORDS: usize = 60;
    let sizes = [PIPE_BUF, 1000, 17, 3333];
    let (from, to) = pipe();
    let children: Vec<_> = (0..4_u8)
        .map(|number| {
            fork(|| {
                close(from);
                let mut record = vec![number; sizes[usize::from(number)]];
                record[0] = b'R';
                record[1] = number;
                i32::from((0..RECORDS).all(|_| write(to, &record) == Ok(record.len() as isize)))
            })
        })
        .collect();
    close(to);
    let mut bytes = Vec::new();
    while let Ok(part) = read(from, 7777) {
        if part.is_empty() {
            break;
        }
        bytes.extend(part);
    }
    let mut records = [0; 4];
    let mut rest = &bytes[..];
    while let [b'R', number, ..] = rest {
        let size = sizes[usize::from(*number)];
        if rest.len() < size || rest[2..size].iter().any(|byte| byte != number) {
            break;
        }
        records[usize::from(*number)] += 1;
        rest = &rest[size..];
    }
    ok("records of four writers are never mixed", rest.is_empty());
    equal("and none is lost", records, [RECORDS; 4]);
    ok(
        "every writer wrote all",
        children.into_iter().all(|child| process::end_of(child) == Status::Exited(1)),
    );
    close(from);
}

fn large_writes() {
    let (from, to) = pipe();
    let bytes: Vec<u8> = (0..500_000_u32).map(|at| (at % 241) as u8).collect();
    let child = fork(|| {
        close(from);
        i32::from(write(to, &bytes) == Ok(500_000))
    });
    close(to);
    let mut got = Vec::new();
    for size in [1, 10, 100, 1000, 4096, 5000, 65_536, 100_000].into_iter().cycle() {
        match read(from, size) {
            Ok(part) if !part.is_empty() => got.extend(part),
            _ => break,
        }
    }
    ok("half a megabyte goes through in one write and many reads", got == bytes);
    equal("and the writer is told so", process::end_of(child), Status::Exited(1));
    close(from);
}

fn many_readers() {
    let (from, to) = pipe();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut sum = 0_u64;
                while let Ok(byte) = read(from, 1) {
                    match byte[..] {
                        [byte] => sum += u64::from(byte),
                        _ => break,
                    }
                }
                sum
            })
        })
        .collect();
    let bytes: Vec<u8> = (0..2000_u32).map(|at| (at % 200) as u8).collect();
    for part in bytes.chunks(37) {
        write(to, part).expect("a pipe takes bytes");
    }
    close(to);
    let sum: u64 = readers.into_iter().map(|reader| reader.join().unwrap_or(0)).sum();
    equal("four readers get every byte once", sum, bytes.iter().map(|&byte| u64::from(byte)).sum());
    close(from);
}

fn flags() {
    let mut ends = [-1; 2];
    call!(pipe2(ends.as_mut_ptr(), O_CLOEXEC | O_NONBLOCK)).expect("a pipe can be made");
    equal("pipe2 gives ends that close on exec", call!(fcntl(ends[0], libc::F_GETFD)), Ok(libc::FD_CLOEXEC));
    equal("and do not block", read(ends[0], 1), Err(EAGAIN));
    let mode = |fd| call!(fcntl(fd, F_GETFL)).map(|flags| flags & O_ACCMODE);
    equal("one is to read and one to write", (mode(ends[0]), mode(ends[1])), (Ok(O_RDONLY), Ok(O_WRONLY)));
    equal("unknown flags are refused", call!(pipe2(ends.as_mut_ptr(), O_CREAT)), Err(EINVAL));
    ends.into_iter().for_each(close);
}

fn open(name: &CStr, flags: c_int) -> Result<Fd, Errno> {
    call!(open(name.as_ptr(), flags))
}

fn fifos() {
    let _scratch = Scratch::new();
    call!(mkfifo(c"fifo".as_ptr(), 0o600)).expect("a fifo can be made");
    let child = fork(|| {
        let to = open(c"fifo", O_WRONLY).expect("it opens when a reader does");
        i32::from(write(to, b"through a name") == Ok(14))
    });
    let from = open(c"fifo", O_RDONLY).expect("it opens when a writer does");
    equal("bytes go through a fifo", read(from, 100), Ok(b"through a name".to_vec()));
    equal("and end with the writer", read(from, 100), Ok(vec![]));
    equal("that wrote all", process::end_of(child), Status::Exited(1));
    let to = open(c"fifo", O_WRONLY).expect("a reader is there");
    write(to, b"again").expect("a fifo takes bytes");
    equal("another writer can come", read(from, 100), Ok(b"again".to_vec()));
    write(to, b"lost").expect("a fifo takes bytes");
    close(from);
    close(to);
    let both = open(c"fifo", O_RDWR | O_NONBLOCK).expect("it opens without another");
    equal("what nobody read is gone when all have closed", read(both, 10), Err(EAGAIN));
    equal(
        "one descriptor can do both",
        (write(both, b"echo"), read(both, 10)),
        (Ok(4), Ok(b"echo".to_vec())),
    );
    close(both);
}

fn fifo_openings() {
    let _scratch = Scratch::new();
    call!(mkfifo(c"fifo".as_ptr(), 0o600)).expect("a fifo can be made");
    equal("a writer that does not wait needs a reader", open(c"fifo", O_WRONLY | O_NONBLOCK), Err(ENXIO));
    let from = open(c"fifo", O_RDONLY | O_NONBLOCK).expect("a reader does not need a writer");
    equal("where nobody wrote yet is the end", read(from, 1), Ok(vec![]));
    let to = open(c"fifo", O_WRONLY | O_NONBLOCK).expect("a reader is there");
    equal("with a writer it is not", read(from, 1), Err(EAGAIN));
    close(to);
    equal("without it is again", read(from, 1), Ok(vec![]));
    close(from);
    for (waiting, coming, name) in [(O_RDONLY, O_WRONLY, "reader"), (O_WRONLY, O_RDONLY, "writer")] {
        let child = fork(|| i32::from(open(c"fifo", waiting).is_ok()));
        settle();
        equal(&format!("opening waits: a {name}"), wait(child, libc::WNOHANG), Ok(None));
        let fd = open(c"fifo", coming).expect("the other is there");
        equal("until the other comes", process::end_of(child), Status::Exited(1));
        close(fd);
    }
    let child = fork(|| i32::from(open(c"fifo", O_RDONLY).is_ok()));
    settle();
    let came = until(|| open(c"fifo", O_WRONLY | O_NONBLOCK).map(close).is_ok());
    ok("a writer that comes and goes is enough", came);
    equal("for one who waits", process::end_of(child), Status::Exited(1));
}

fn fifo_errors() {
    let _scratch = Scratch::new();
    call!(mkfifo(c"fifo".as_ptr(), 0o600)).expect("a fifo can be made");
    equal("a name that is taken", call!(mkfifo(c"fifo".as_ptr(), 0o600)), Err(EEXIST));
    equal("a fifo has no length", call!(truncate(c"fifo".as_ptr(), 0)), Err(EINVAL));
    let fd = open(c"fifo", O_RDWR).expect("it opens");
    equal("and no position", call!(lseek(fd, 0, 0)), Err(linux_tests::errno::ESPIPE));
    call!(unlink(c"fifo".as_ptr())).expect("it can be removed");
    equal(
        "one that is removed goes on for who has it",
        (write(fd, b"x"), read(fd, 5)),
        (Ok(1), Ok(b"x".to_vec())),
    );
    close(fd);
}
