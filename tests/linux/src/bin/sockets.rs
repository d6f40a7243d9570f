//! compare
//!
//! Pairs of sockets, and sockets with names in the file system.

use std::{
    fs,
    io::{Read, Write},
    mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::ExitCode,
    ptr, thread,
};

use libc::{
    AF_INET, AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, POLLHUP, POLLIN, SHUT_RD, SHUT_WR, SO_PEERCRED,
    SO_TYPE, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET, c_int, c_void,
};
use linux_tests::{
    Errno, call, equal,
    errno::{EAGAIN, EBADF, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPIPE, EPROTONOSUPPORT},
    files::{self, Fd, Scratch, close, poll_now, read, write},
    ok,
    process::{self, Status, fork},
    run,
};

fn main() -> ExitCode {
    run(&[
        streams,
        ends,
        packets,
        shutting,
        blocking,
        peeking,
        passing_descriptors,
        named,
        refused,
        errors,
        credentials,
    ])
}

fn pair(kind: c_int) -> (Fd, Fd) {
    let mut ends = [-1; 2];
    call!(socketpair(AF_UNIX, kind, 0, ends.as_mut_ptr())).expect("a pair can be made");
    (ends[0], ends[1])
}

fn receive(fd: Fd, len: usize, flags: c_int) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; len];
    let got = call!(recv(fd, bytes.as_mut_ptr().cast(), len, flags))?;
    bytes.truncate(got as usize);
    Ok(bytes)
}

fn send(fd: Fd, bytes: &[u8], flags: c_int) -> Result<isize, Errno> {
    call!(send(fd, bytes.as_ptr().cast(), bytes.len(), flags))
}

fn streams() {
    let (one, two) = pair(SOCK_STREAM);
    equal("a pair talks one way", (write(one, b"hello"), read(two, 100)), (Ok(5), Ok(b"hello".to_vec())));
    equal("and the other", (write(two, b"world"), read(one, 100)), (Ok(5), Ok(b"world".to_vec())));
    write(one, b"ab").and(write(one, b"cd")).expect("it takes bytes");
    equal("a stream has no borders", (read(two, 3), read(two, 3)), (Ok(b"abc".to_vec()), Ok(b"d".to_vec())));
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 239) as u8).collect();
    let copy = bytes.clone();
    let writer = thread::spawn(move || {
        let mut rest = &copy[..];
        while let Ok(part) = write(one, rest) {
            rest = &rest[part as usize..];
            if rest.is_empty() {
                return true;
            }
        }
        false
    });
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        match read(two, 10_000) {
            Ok(part) if !part.is_empty() => got.extend(part),
            _ => break,
        }
    }
    ok("three hundred thousand bytes go through", got == bytes && writer.join().is_ok_and(|done| done));
    close(one);
    close(two);
}

fn ends() {
    let (one, two) = pair(SOCK_STREAM);
    write(one, b"last").expect("it takes bytes");
    close(one);
    equal("what was sent is read after the sender closed", read(two, 10), Ok(b"last".to_vec()));
    equal("and then comes the end", read(two, 10), Ok(vec![]));
    equal("to which nothing is written", send(two, b"x", MSG_NOSIGNAL), Err(EPIPE));
    equal("poll tells", poll_now(two, POLLIN) & (POLLIN | POLLHUP), POLLIN | POLLHUP);
    close(two);
}

fn packets() {
    for (kind, name) in [(SOCK_DGRAM, "datagrams"), (SOCK_SEQPACKET, "packets")] {
        let (one, two) = pair(kind);
        for packet in [&b"one"[..], b"", b"three"] {
            send(one, packet, 0).expect("it takes a packet");
        }
        let got = [receive(two, 10, 0), receive(two, 10, 0), receive(two, 2, 0)];
        equal(
            &format!("{name} keep their borders"),
            got,
            [Ok(b"one".to_vec()), Ok(vec![]), Ok(b"th".to_vec())],
        );
        let rest = receive(two, 10, MSG_DONTWAIT);
        equal(&format!("and what does not fit of {name} is gone"), rest, Err(EAGAIN));
        close(one);
        close(two);
    }
}

fn shutting() {
    let (one, two) = pair(SOCK_STREAM);
    write(one, b"before").expect("it takes bytes");
    equal("one direction can be shut", call!(shutdown(one, SHUT_WR)), Ok(0));
    equal(
        "the other side reads to the end",
        (read(two, 10), read(two, 10)),
        (Ok(b"before".to_vec()), Ok(vec![])),
    );
    equal("nothing more is sent", send(one, b"x", MSG_NOSIGNAL), Err(EPIPE));
    equal("the other way goes on", (write(two, b"back"), read(one, 10)), (Ok(4), Ok(b"back".to_vec())));
    equal("until it is shut", (call!(shutdown(one, SHUT_RD)), read(one, 10)), (Ok(0), Ok(vec![])));
    equal("for the sender too", send(two, b"x", MSG_NOSIGNAL), Err(EPIPE));
    equal(
        "a pipe cannot be shut",
        {
            let (from, to) = files::pipe();
            let answer = call!(shutdown(from, SHUT_RD));
            close(from);
            close(to);
            answer
        },
        Err(ENOTSOCK),
    );
    close(one);
    close(two);
}

fn blocking() {
    let (one, two) = pair(SOCK_STREAM);
    equal("without waiting there is nothing", receive(two, 1, MSG_DONTWAIT), Err(EAGAIN));
    let reader = thread::spawn(move || read(two, 10));
    linux_tests::times::settle();
    write(one, b"late").expect("it takes bytes");
    equal("a reader waits", reader.join().ok(), Some(Ok(b"late".to_vec())));
    files::set_blocking(one, false);
    let mut sent = 0;
    while let Ok(part) = write(one, &[1; 4096]) {
        sent += part as usize;
    }
    ok("a stream takes something before it is full", sent >= 4096);
    let mut got = 0;
    while got < sent {
        got += read(two, 100_000).map_or(sent, |bytes| bytes.len());
    }
    equal("all of which can be read", (got == sent, receive(two, 1, MSG_DONTWAIT)), (true, Err(EAGAIN)));
    close(one);
    close(two);
}

fn peeking() {
    let (one, two) = pair(SOCK_STREAM);
    write(one, b"abc").expect("it takes bytes");
    let twice = (receive(two, 2, MSG_PEEK), receive(two, 5, MSG_PEEK));
    equal("peeking takes nothing", twice, (Ok(b"ab".to_vec()), Ok(b"abc".to_vec())));
    equal("reading does", (read(two, 5), receive(two, 1, MSG_DONTWAIT)), (Ok(b"abc".to_vec()), Err(EAGAIN)));
    close(one);
    close(two);
}

/// Room for one descriptor beside a message.
#[repr(C, align(8))]
struct Control([u8; 24]);

fn send_descriptor(over: Fd, fd: Fd) -> Result<isize, Errno> {
    let mut control = Control([0; 24]);
    control.0[..8].copy_from_slice(&20_u64.to_le_bytes());
    control.0[8..12].copy_from_slice(&SOL_SOCKET.to_le_bytes());
    control.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_le_bytes());
    control.0[16..20].copy_from_slice(&fd.to_le_bytes());
    let mut byte = b'!';
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let message = message(&mut vector, &mut control);
    call!(sendmsg(over, &raw const message, 0))
}

fn message(vector: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: the structure is plain numbers and pointers, of which zero is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control.0).cast();
    message.msg_controllen = control.0.len();
    message
}

fn receive_descriptor(over: Fd) -> Result<Fd, Errno> {
    let mut control = Control([0; 24]);
    let mut byte = 0_u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = message(&mut vector, &mut control);
    call!(recvmsg(over, &raw mut message, 0))?;
    Ok(c_int::from_le_bytes(control.0[16..20].try_into().expect("four bytes")))
}

fn passing_descriptors() {
    let (one, two) = pair(SOCK_STREAM);
    let (from, to) = files::pipe();
    let child = fork(|| {
        let fd = receive_descriptor(two).unwrap_or(-1);
        i32::from(write(fd, b"by a descriptor that came by mail") == Ok(33))
    });
    equal("a descriptor can be sent", send_descriptor(one, to), Ok(1));
    close(to);
    equal("another process writes to it", process::end_of(child), Status::Exited(1));
    equal("and it is the same pipe", read(from, 100), Ok(b"by a descriptor that came by mail".to_vec()));
    equal("which ends when the last copy is closed", read(from, 100), Ok(vec![]));
    let (from_other, to_other) = files::pipe();
    send_descriptor(one, to_other).expect("it can be sent");
    close(to_other);
    files::set_blocking(from_other, false);
    equal("a descriptor under way is open", read(from_other, 1), Err(EAGAIN));
    close(one);
    close(two);
    equal("until nobody can receive it", read(from_other, 1), Ok(vec![]));
    close(from);
    close(from_other);
}

fn named() {
    let _scratch = Scratch::new();
    let listener = UnixListener::bind("name").expect("a name can be bound");
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept()?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            stream.write_all(text.to_uppercase().as_bytes())?;
        }
        Ok::<(), std::io::Error>(())
    });
    let ask = |text: &str| -> std::io::Result<String> {
        let mut stream = UnixStream::connect("name")?;
        stream.write_all(text.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answers: Vec<_> = ["one", "two", "three"].into_iter().filter_map(|text| ask(text).ok()).collect();
    equal("three clients are served by name", answers, ["ONE", "TWO", "THREE"].map(str::to_owned).to_vec());
    ok("and the server ends well", server.join().is_ok_and(|result| result.is_ok()));
    equal(
        "when it is gone nobody answers",
        UnixStream::connect("name").err().and_then(|error| error.raw_os_error()),
        Some(libc::ECONNREFUSED),
    );
    equal(
        "a name that is taken",
        UnixListener::bind("name").err().and_then(|error| error.raw_os_error()),
        Some(libc::EADDRINUSE),
    );
    fs::remove_file("name").expect("a name can be removed");
    equal(
        "a name that is not there",
        UnixStream::connect("name").err().and_then(|error| error.raw_os_error()),
        Some(libc::ENOENT),
    );
    fs::write("file", "").expect("a file can be made");
    equal(
        "a name that is a file",
        UnixStream::connect("file").err().and_then(|error| error.raw_os_error()),
        Some(libc::ECONNREFUSED),
    );
}

fn refused() {
    let socket = |family, kind, protocol| call!(socket(family, kind, protocol)).map(drop);
    equal("a kind that does not exist", socket(AF_UNIX, 99, 0), Err(linux_tests::errno::EINVAL));
    equal("a protocol that does not", socket(AF_UNIX, SOCK_STREAM, 99), Err(EPROTONOSUPPORT));
    equal("a family that does not", socket(200, SOCK_STREAM, 0), Err(linux_tests::errno::EAFNOSUPPORT));
    let answer = call!(socketpair(AF_INET, SOCK_STREAM, 0, [0; 2].as_mut_ptr()));
    equal("pairs are not of every family", answer, Err(EOPNOTSUPP));
}

fn errors() {
    let fd = call!(socket(AF_UNIX, SOCK_STREAM, 0)).expect("a socket can be made");
    // SAFETY: the descriptor is new and nobody else's.
    let _owner = unsafe { OwnedFd::from_raw_fd(fd) };
    equal("a socket that is not connected reads nothing", receive(fd, 1, 0), Err(linux_tests::errno::EINVAL));
    equal("and sends nothing", send(fd, b"x", MSG_NOSIGNAL), Err(ENOTCONN));
    let nowhere = ptr::null_mut::<c_void>().cast();
    equal(
        "one that does not listen accepts nobody",
        call!(accept(fd, nowhere, ptr::null_mut())),
        Err(linux_tests::errno::EINVAL),
    );
    equal("a closed descriptor is no socket", send(77, b"x", 0), Err(EBADF));
    equal(
        "nor is a file",
        {
            let file = call!(open(c"/bin/busybox".as_ptr(), libc::O_RDONLY)).expect("it opens");
            let answer = receive(file, 1, 0);
            close(file);
            answer
        },
        Err(ENOTSOCK),
    );
    let mut kind: c_int = 0;
    let mut len = 4_u32;
    let answer = call!(getsockopt(fd, SOL_SOCKET, SO_TYPE, (&raw mut kind).cast(), &raw mut len));
    equal("a socket knows its kind", (answer, kind, len), (Ok(0), SOCK_STREAM, 4));
}

fn credentials() {
    let (one, _two) = UnixStream::pair().expect("a pair can be made");
    let mut who = libc::ucred { pid: 0, uid: 9, gid: 9 };
    let mut len = size_of::<libc::ucred>() as u32;
    let fd = one.as_raw_fd();
    let answer = call!(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, (&raw mut who).cast(), &raw mut len));
    equal(
        "a socket knows who made the other end",
        (answer, who.pid == process::me(), who.uid, who.gid),
        (Ok(0), true, 0, 0),
    );
}
