//! What is chosen by which words.

use super::*;
use crate::synthetic;

fn count(expression: &str) -> usize {
    let trace = crate::read(&synthetic::trace(30)).unwrap();
    Selection::new(&trace, expression).unwrap().items().count()
}

#[test]
fn each_field_and_flag_chooses_what_it_says() {
    assert_eq!(count("call=openat"), 60);
    assert_eq!(count("call=openat and failed"), 30);
    assert_eq!(count("call=openat errno=ENOENT"), 30);
    assert_eq!(count("call=openat errno!=2"), 30);
    assert_eq!(count("call=openat,read"), 90);
    assert_eq!(count("server=blk"), 60 + 60);
    assert_eq!(count("server=blk and message"), 60);
    assert_eq!(count("by=ufs message"), 60);
    assert_eq!(count("by=ls and linux and call=getpid"), 30);
    assert_eq!(count("text~\"/etc/missing3\""), 3);
    assert_eq!(count("fault"), 30);
    assert_eq!(count("unanswered"), 1);
    assert_eq!(count("unanswered and call=poll"), 1);
    assert_eq!(count("restart"), 4);
    assert_eq!(count("result=4096"), 30);
    assert_eq!(count("tid=11 and call=getpid"), 30);
    assert_eq!(count(""), count("mark or not mark"));
}

#[test]
fn a_process_includes_the_work_of_servers_for_it() {
    assert_eq!(count("pid=11 and call=block.read"), 60);
    assert_eq!(count("pid=10 and call=block.read"), 0);
    assert_eq!(count("root=openat and message"), 60);
    assert_eq!(count("root=openat and linux"), 60);
    assert_eq!(count("root=read and message"), 0);
}

#[test]
fn ands_bind_before_ors_and_parentheses_before_both() {
    let loose = count("call=read or call=openat and failed");
    assert_eq!(loose, 30 + 30);
    assert_eq!(count("(call=read or call=openat) and failed"), 30);
    assert_eq!(count("not (call=read or call=openat) and linux"), count("linux") - 90);
}

#[test]
fn times_have_units() {
    assert_eq!(count("latency>=1us linux"), count("latency>=1000 linux"));
    assert_eq!(count("latency<2s call=read"), 30);
    assert_eq!(count("time<=1ms call=read"), 0);
}

#[test]
fn the_help_names_every_field_and_flag() {
    let names = FIELDS.iter().map(|(name, _)| name).chain(FLAGS.iter().map(|(name, _)| name));
    for name in names {
        assert!(HELP.split_whitespace().any(|word| word == *name), "{name}");
    }
}

#[test]
fn slow_is_measured_against_the_operation_itself() {
    assert_eq!(count("slow"), 1);
    assert_eq!(count("slow and call=write and server=tty"), 1);
}

#[test]
fn a_bad_expression_is_told_with_its_place() {
    let trace = crate::read(&synthetic::trace(1)).unwrap();
    let bad = |expression: &str| {
        let error = Selection::new(&trace, expression).unwrap_err();
        (error.at, error.reason)
    };
    let cases = [
        ("sever=ufs", 0, "`sever` is not known: there are the fields call, server"),
        ("failed and", 10, "a condition is missing here"),
        ("(failed", 7, "a `)` is missing here"),
        ("failed)", 6, "a `(` is missing"),
        ("server", 6, "`server` is to be compared"),
        ("server>ufs", 6, "`server` is a text"),
        ("pid~3", 3, "`pid` is a number"),
        ("pid=me", 4, "`me` is no number"),
        ("latency>1h", 8, "`1h` is no time"),
        ("errno=EWHAT", 6, "`EWHAT` is no errno"),
        ("errno=", 6, "a value is missing"),
        ("text~\"open", 5, "this text has no end"),
        ("µ! 3", 1, "a comparison is one of"),
    ];
    for (expression, at, reason) in cases {
        let (where_it_is, why) = bad(expression);
        assert_eq!(where_it_is, at, "{expression}: {why}");
        assert!(why.starts_with(reason), "{expression}: {why}");
    }
    let deep = "(".repeat(1000);
    assert!(bad(&deep).1.contains("too deep"));
    let shown = Selection::new(&trace, "pid=me").unwrap_err().to_string();
    assert_eq!(shown, "`me` is no number\n    pid=me\n        ^");
}
