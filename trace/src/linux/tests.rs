//! What strace prints of the same calls.

use super::*;

fn text(text: &str) -> Option<Gathered> {
    Some(Gathered { bytes: text.as_bytes().to_vec(), len: text.len() as u32 })
}

fn shown(name: &str, arguments: &[u64], inputs: Inputs) -> String {
    let mut all = [0xdead; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    call(number(name).expect(name), &all, &inputs)
}

#[test]
fn a_call_reads_as_strace_prints_it() {
    let cwd = open::AT_FDCWD as u64;
    let path = || [text("/etc/passwd"), None];
    let cases = [
        (
            shown("openat", &[cwd, 9, 0o2000000], path()),
            r#"openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC)"#,
        ),
        (
            shown("openat", &[3, 9, 0o1101, 0o644], path()),
            r#"openat(3, "/etc/passwd", O_WRONLY|O_CREAT|O_TRUNC, 0644)"#,
        ),
        (shown("write", &[1, 9, 3], [text("a\n\u{1}"), None]), r#"write(1, "a\n\1", 3)"#),
        (
            shown("mmap", &[0, 8192, 3, 0x22, u64::MAX, 0], [None, None]),
            "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, NULL)",
        ),
        (shown("mprotect", &[4096, 4096, 0], [None, None]), "mprotect(0x1000, 4096, 0)"),
        (shown("fcntl", &[1, 3], [None, None]), "fcntl(1, F_GETFL)"),
        (
            shown("clone", &[0x1200011, 0], [None, None]),
            "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, NULL, 0xdead, 0xdead, 0xdead)",
        ),
        (shown("wait4", &[u64::MAX, 9, 3, 0], [None, None]), "wait4(-1, 0x9, WNOHANG|WSTOPPED, NULL)"),
        (shown("socket", &[1, 0o2000001, 0], [None, None]), "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0)"),
        (shown("kill", &[7, 15], [None, None]), "kill(7, SIGTERM)"),
        (shown("getpid", &[], [None, None]), "getpid()"),
        (shown("mkdir", &[9, 0o755], [text("d"), None]), r#"mkdir("d", 0755)"#),
    ];
    for (got, wanted) in cases {
        assert_eq!(got, wanted);
    }
}

#[test]
fn gathered_structures_are_taken_apart() {
    let time = [3i64.to_le_bytes(), 5i64.to_le_bytes()].concat();
    let given = |bytes: Vec<u8>| Some(Gathered { len: bytes.len() as u32, bytes });
    assert_eq!(shown("nanosleep", &[9, 0], [given(time), None]), "nanosleep({tv_sec=3, tv_nsec=5}, NULL)");
    let set = (1u64 << 16 | 1 << 1).to_le_bytes().to_vec();
    assert_eq!(
        shown("rt_sigprocmask", &[0, 9, 0, 8], [given(set), None]),
        "rt_sigprocmask(SIG_BLOCK, [INT CHLD], NULL, 8)"
    );
    let polled = [3, 0, 0, 0, 5, 0, 0, 0].to_vec();
    assert_eq!(
        shown("poll", &[9, 1, 5], [given(polled), None]),
        "poll([{fd=3, events=POLLIN|POLLOUT}], 1, 5)"
    );
}

#[test]
fn a_result_is_a_number_an_address_or_an_errno() {
    let of = |name: &str, value| result(number(name).unwrap(), value);
    assert_eq!(of("read", Some(12)), "12");
    assert_eq!(of("read", Some(-2)), "-1 ENOENT (No such file or directory)");
    assert_eq!(of("brk", Some(0x1000)), "0x1000");
    assert_eq!(of("umask", Some(0o22)), "022");
    assert_eq!(of("exit_group", None), "?");
    assert_eq!(of("lseek", Some(-4096)), "-4096");
}

#[test]
fn what_has_no_name_is_a_number() {
    assert_eq!(
        call(9999, &[1, 2, 3, 4, 5, 6], &[None, None]),
        "syscall_0x270f(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)"
    );
    assert_eq!(name(334), "rseq");
    assert_eq!(shown("mprotect", &[1, 2, 0x1001], [None, None]), "mprotect(0x1, 2, PROT_READ|0x1000)");
    assert_eq!(result(0, Some(-4000)), "-1 (errno 4000)");
}

#[test]
fn long_text_is_cut() {
    let long = Gathered { bytes: vec![b'x'; 40], len: 100 };
    assert_eq!(quoted(&long), format!("\"{}\"...", "x".repeat(32)));
}

#[test]
fn every_argument_of_text_in_the_kernels_table_is_text_in_its_signature() {
    for row in LINUX.iter().filter(|row| row.name != "unknown") {
        let Some(signature) = signature(row.name) else { continue };
        for input in row.inputs {
            if let Input::Text(at) = input {
                assert_eq!(signature.arguments.get(usize::from(at)), Some(&Shape::Text), "{}", row.name);
            }
        }
    }
}
