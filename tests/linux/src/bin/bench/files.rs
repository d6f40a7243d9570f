//! Rows about files and the network.

use std::{
    ffi::CStr,
    mem,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use libc::{O_CREAT, O_RDONLY, O_RDWR, SEEK_SET};
use linux_tests::{
    call,
    files::{Fd, close},
    process::{self, fork},
};

use crate::{
    Row, median, per_operation,
    processes::{echo, send_and_wait, stream},
};

const FILE: &CStr = c"file";

pub const ROWS: &[Row] = &[
    ("open + close", |_| {
        close(new_file(FILE));
        per_operation(7, 200, || {
            for _ in 0..200 {
                close(call!(open(FILE.as_ptr(), O_RDONLY)).expect("it opens"));
            }
        })
    }),
    ("open + close (root file system)", |_| {
        per_operation(7, 200, || {
            for _ in 0..200 {
                close(call!(open(c"/bin/busybox".as_ptr(), O_RDONLY)).expect("it opens"));
            }
        })
    }),
    ("lseek", |_| {
        let fd = new_file(FILE);
        per_operation(7, 200, || {
            for _ in 0..200 {
                call!(lseek(fd, 0, SEEK_SET)).expect("it can be wound back");
            }
        })
    }),
    ("stat", |_| {
        close(new_file(FILE));
        // SAFETY: the structure is plain numbers, of which zero is valid.
        let mut stat: libc::stat = unsafe { mem::zeroed() };
        per_operation(7, 200, || {
            for _ in 0..200 {
                call!(stat(FILE.as_ptr(), &raw mut stat)).expect("it is there");
            }
        })
    }),
    ("create + write 4 KiB + unlink (tmpfs)", |_| {
        let bytes = [1_u8; 4096];
        per_operation(7, 50, || {
            for _ in 0..50 {
                let fd = new_file(c"short-lived");
                call!(write(fd, bytes.as_ptr().cast(), bytes.len())).expect("it can be written");
                close(fd);
                call!(unlink(c"short-lived".as_ptr())).expect("it can be removed");
            }
        })
    }),
    ("tmpfs write, per KiB", |_| {
        let fd = new_file(FILE);
        let bytes = vec![1_u8; CHUNK];
        median((0..7).map(|_| {
            // A new file each time: what is measured is a file that grows.
            call!(ftruncate(fd, 0)).expect("it can be cut");
            in_chunks(fd, || call!(write(fd, bytes.as_ptr().cast(), CHUNK)))
        }))
    }),
    ("tmpfs read, per KiB", |_| {
        let fd = new_file(FILE);
        let mut bytes = vec![1_u8; CHUNK];
        in_chunks(fd, || call!(write(fd, bytes.as_ptr().cast(), CHUNK)));
        median((0..7).map(|_| in_chunks(fd, || call!(read(fd, bytes.as_mut_ptr().cast(), CHUNK)))))
    }),
    ("TCP loopback round trip, 1 byte", |_| {
        let (ours, theirs) = connection();
        let child = fork(|| {
            echo(theirs.as_raw_fd(), theirs.as_raw_fd());
            0
        });
        let time = per_operation(9, 50, || {
            (0..50).for_each(|_| send_and_wait(ours.as_raw_fd(), ours.as_raw_fd()));
        });
        process::kill_and_reap(child);
        time
    }),
    ("TCP loopback connect + accept + close", |_| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
        let address = listener.local_addr().expect("it has an address");
        per_operation(7, 20, || {
            for _ in 0..20 {
                let ours = TcpStream::connect(address).expect("it listens");
                let (theirs, _) = listener.accept().expect("one came");
                drop((ours, theirs));
            }
        })
    }),
    ("TCP loopback, per KiB", |_| {
        let (ours, theirs) = connection();
        stream(theirs.as_raw_fd(), ours.as_raw_fd(), 2048)
    }),
];

const CHUNK: usize = 65_536;
const CHUNKS: u64 = 4;

fn new_file(name: &CStr) -> Fd {
    call!(open(name.as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made")
}

/// Reads or writes a file from the start in chunks; nanoseconds per KiB.
fn in_chunks(fd: Fd, mut step: impl FnMut() -> Result<isize, linux_tests::Errno>) -> u64 {
    call!(lseek(fd, 0, SEEK_SET)).expect("it can be moved");
    per_operation(1, CHUNKS * CHUNK as u64 / 1024, || {
        (0..CHUNKS).for_each(|_| assert_eq!(step(), Ok(CHUNK as isize)));
    })
}

fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
    let ours = TcpStream::connect(listener.local_addr().expect("it has an address")).expect("it listens");
    let (theirs, _) = listener.accept().expect("one came");
    ours.set_nodelay(true).and(theirs.set_nodelay(true)).expect("bytes need not wait");
    (ours, theirs)
}
