//! Trees and flat forms of a made-up trace.

use super::*;
use crate::synthetic;

fn selected<T>(expression: &str, form: impl FnOnce(&Trace, &Selection<'_>) -> T) -> T {
    let trace = crate::read(&synthetic::trace(1)).unwrap();
    form(&trace, &Selection::new(&trace, expression).unwrap())
}

#[test]
fn effects_stand_below_their_cause() {
    let text = selected("call=openat and errno=ENOENT", |trace, selection| {
        tree(trace, selection, Options::default())
    });
    let lines: Vec<&str> = text.lines().map(|line| &line[32..]).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].starts_with(r#"openat(AT_FDCWD, "/etc/missing0", O_RDONLY|O_CLOEXEC) = -1 ENOENT"#),
        "{text}"
    );
    assert!(lines[0].contains("→ vfs → ufs"), "{text}");
    assert!(lines[1].starts_with("  ↪ ufs: fs.request(pid=11, tid=11"), "{text}");
    assert!(lines[2].starts_with("  block.read(disk=0, sector=128, count=8) = 4096 bytes"), "{text}");
}

#[test]
fn nothing_is_shown_twice() {
    let text = selected("", |trace, selection| tree(trace, selection, Options::default()));
    let reads = text.lines().filter(|line| line.contains("block.read")).count();
    assert_eq!(reads, 2, "{text}");
    let faults = text.lines().filter(|line| line.contains("page fault(0x5000, write) = done")).count();
    assert_eq!(faults, 1, "{text}");
}

#[test]
fn traps_that_send_nothing_are_shown_when_asked_for() {
    let with = |traps| selected("", |trace, selection| tree(trace, selection, Options { traps }));
    assert!(!with(false).contains("frame_zero"));
    assert!(with(true).contains("    · frame_zero(0x9, 0x1)"));
}

#[test]
fn the_flat_form_is_that_of_strace() {
    let text = selected("pid=11", strace);
    let wanted = [
        r#"11 execve("/bin/ls", 0x8100, 0x8200) = 0"#,
        r#"11 openat(AT_FDCWD, "/etc/services", O_RDONLY|O_CLOEXEC) = 3"#,
        "11 read(3, 0x5000, 4096) = 4096",
        "11 getpid() = 11",
        r#"11 openat(AT_FDCWD, "/etc/missing0", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)"#,
        r#"11 write(1, "hello\n", 6) = 6"#,
        "11 close(0) = 0",
        "11 exit_group(0) = ?",
        "11 +++ exited +++",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted, "{text}");
}

#[test]
fn grep_gives_a_line_for_each() {
    let text = selected("server=blk or mark and text~\"notifies\"", grep);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.lines().next().unwrap().contains("ufs "), "{text}");
}
