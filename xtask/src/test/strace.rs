//! A trace of a machine beside what `strace -f` sees of the same command on the host: every call of every thread, in
//! order, with the same result. And every form of the trace, as far as programs can look at it.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
};

use ::trace::{
    model::{Actor, Item, Trace},
    select::Selection,
};
use anyhow::{Context, Result, ensure};

use super::{TIMEOUT_S, perfetto, report::same};
use crate::{
    cli::RunArgs,
    house, image,
    run::{self, Built},
    script, setup,
};

/// A shell that starts a shell, which starts two programs with a pipe between them. None of them sees the terminal,
/// which the host does not have.
const COMMAND: &str = "sh -c \"ls /bin | wc -l\" </dev/null >/dev/null";

/// Runs strace in a file tree ($1) with a log ($2) over a command ($3), in the environment that follows, with no signal
/// ignored (as `nohup` would have it) and with no descriptors open but the first three.
const ON_HOST: &str = r#"
mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" || exit
for fd in /proc/self/fd/*; do
    fd=${fd##*/}
    [ "$fd" -gt 2 ] && eval "exec $fd>&-"
done
exec env --default-signal -i "${@:4}" strace -f -o "$2" chroot "$1" /bin/sh -c "$3"
"#;

/// Calls whose result is a process: compared by who that is.
const TELL_PROCESSES: [&str; 8] =
    ["clone", "fork", "vfork", "getpid", "gettid", "getppid", "set_tid_address", "wait4"];
/// Calls whose result is an address; and rseq, which Naiad does not have.
const TELL_NOTHING: [&str; 4] = ["brk", "mmap", "mremap", "rseq"];
/// The end of a signal's handler. A child may end before its parent waits for it or meanwhile, so the handler runs
/// before the wait or behind it, here as there; and once for two children that end before it can run.
const COMES_ANYWHERE: &str = "rt_sigreturn";

/// Compares the calls, and looks at every form of the trace.
pub fn prove(built: &Built) -> Result<()> {
    let file = recorded(built)?;
    let trace = ::trace::read(&file)?;
    ensure!(trace.lost == 0, "{} records were lost", trace.lost);
    ensure!(trace.notes.is_empty(), "the trace is not whole: {}", trace.notes.join("; "));
    let everything = Selection::new(&trace, "")?;
    let naiad = threads(&::trace::tree::strace(&trace, &everything));
    let host = threads(&on_host()?);
    same(host.as_bytes(), naiad.as_bytes()).context("the calls differ")?;
    forms(&file, &trace, &everything)
}

/// The trace of a machine that runs the command.
fn recorded(built: &Built) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir_in(house::target())?;
    let path = folder.path().join("trace");
    let args = RunArgs { trace: Some(path.clone()), ..RunArgs::limited(TIMEOUT_S) };
    script::succeed(built, &args, COMMAND)?;
    fs::read(&path).context("the machine left no trace")
}

/// What `strace -f` prints of the command in the same file tree, from the first program's own calls on.
fn on_host() -> Result<String> {
    let folder = tempfile::tempdir_in(house::target())?;
    let (root, log) = (folder.path().join("root"), folder.path().join("log"));
    fs::create_dir(&root)?;
    image::stage(&root)?;
    let mut command = Command::new("unshare");
    // A name space of its own: nothing is mounted for anybody else, and nobody has to be root.
    command.args(["--map-root-user", "--mount", "bash", "-c", ON_HOST, "bash"]);
    command.args([&root, &log]).arg(COMMAND).arg(format!("TERM={}", script::TERM));
    command.args(run::ENVIRONMENT.map(|(name, value)| format!("{name}={value}")));
    let output = command.stdin(Stdio::null()).output().context("cannot run unshare")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "strace on the host ends with {}: {complaint}", output.status);
    let text = fs::read_to_string(&log).context("strace has written nothing")?;
    let begin = text.find("execve(\"/bin/sh\"").context("strace saw no shell")?;
    let end = text[begin..].find('\n').unwrap_or_default();
    Ok(text[begin + end + 1..].to_owned())
}

/// Calls and results of each thread, threads in the order in which they were made: what is to be equal.
fn threads(strace: &str) -> String {
    let mut threads: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
    for line in strace.lines() {
        let Some((tid, rest)) = line.split_once(' ') else { continue };
        let (Ok(tid), rest) = (tid.parse(), rest.trim_start()) else { continue };
        let calls = threads.entry(tid).or_default();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let result = result(resumed);
            if let Some((_, open)) = calls.last_mut() {
                *open = result;
            }
        } else if let Some((name, _)) = rest.split_once('(').filter(|_| !rest.starts_with(['-', '+'])) {
            calls.push((name.to_owned(), result(rest)));
        }
    }
    let numbers: Vec<String> = threads.keys().map(u32::to_string).collect();
    let mut text = String::new();
    for (number, calls) in threads.values().enumerate() {
        let (anywhere, calls): (Vec<_>, Vec<_>) = calls.iter().partition(|(name, _)| name == COMES_ANYWHERE);
        text.push_str(if anywhere.is_empty() { "" } else { "its handlers run\n" });
        for (name, result) in calls {
            let result = match name.as_str() {
                name if TELL_NOTHING.contains(&name) => "…".to_owned(),
                name if TELL_PROCESSES.contains(&name) => process(result, &numbers),
                _ => result.clone(),
            };
            text.push_str(&format!("thread {number}: {name} = {result}\n"));
        }
    }
    text
}

/// The result at the end of a line: a number, or the errno.
fn result(line: &str) -> String {
    let result = line.rsplit_once(" = ").map_or("", |(_, result)| result);
    let words: Vec<&str> = result.split(' ').take(2).collect();
    match words[..] {
        ["-1", errno] => format!("-{errno}"),
        [first, ..] => first.to_owned(),
        [] => String::new(),
    }
}

/// A process by its place among those that were seen, which the first process' parent is not.
fn process(result: &str, numbers: &[String]) -> String {
    match numbers.iter().position(|number| number == result) {
        Some(place) => format!("thread {place}"),
        None if result.starts_with('-') || result == "0" => result.to_owned(),
        None => "another".to_owned(),
    }
}

/// Every form shows what the command did.
fn forms(file: &[u8], trace: &Trace, everything: &Selection<'_>) -> Result<()> {
    let has = |form: &str, text: &str, wanted: &str| -> Result<()> {
        ensure!(text.contains(wanted), "{form} does not tell of {wanted}");
        Ok(())
    };
    has("the summary", &::trace::summary::summary(trace, everything), "execve")?;
    let tree = ::trace::tree::tree(trace, everything, ::trace::tree::Options::default());
    has("the tree", &tree, "block.read(disk=0")?;
    has("the tree", &tree, "fs.request(")?;
    let failed = Selection::new(trace, "linux and failed and pid>0")?;
    ensure!(failed.items().count() > 0, "no call of the command failed");
    has("the sequence diagram", &::trace::sequence::svg(trace, &failed), "class=\"failed\"")?;
    let page = ::trace::page::html(trace, everything);
    has("the page", &page, "getdents64")?;
    in_perfetto(trace, everything)?;
    in_tshark(file, trace, failed.items().count())
}

/// Perfetto's own trace processor takes all of a file, and finds in it every call of every program by its name, and the
/// arrows from them to servers.
fn in_perfetto(trace: &Trace, everything: &Selection<'_>) -> Result<()> {
    const ERRORS: &str = "select name, value from stats where severity = 'error' and value > 0";
    const CALLS: &str = "select slice.name, count(*) from slice join thread_track on track_id = thread_track.id \
                         group by slice.name order by slice.name";
    const ARROWS: &str = "select count(*) from flow join slice made on made.id = slice_out \
                          join thread_track on made.track_id = thread_track.id where made.name = 'execve'";
    let file = ::trace::perfetto::file(trace, everything);
    let errors = perfetto::ask(&file, &[ERRORS])?;
    ensure!(errors.is_empty(), "the trace processor complains: {errors:?}");
    let mut wanted = BTreeMap::<String, u64>::new();
    for item in Selection::new(trace, "linux")?.items() {
        if let (Item::Call(at), Actor::Thread { .. }) = (item, trace.by(item)) {
            *wanted.entry(trace.call(at).operation()).or_default() += 1;
        }
    }
    let found: BTreeMap<String, u64> = perfetto::ask(&file, &[CALLS])?
        .iter()
        .filter_map(|row| {
            row.split_once('\t').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        })
        .filter(|(name, _)| wanted.contains_key(name))
        .collect();
    ensure!(found == wanted, "the trace processor finds {found:?}, and there are {wanted:?}");
    let arrows = perfetto::ask(&file, &[ARROWS])?;
    ensure!(arrows.first().is_some_and(|count| count != "0"), "no arrow leads from an execve");
    Ok(())
}

/// Wireshark's own reader finds as many failed calls.
fn in_tshark(file: &[u8], trace: &Trace, failed: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(house::target())?;
    let (capture, dissector) = (folder.path().join("t.pcapng"), folder.path().join("t.lua"));
    fs::write(&capture, ::trace::pcapng::file(file, trace)?)?;
    fs::write(&dissector, ::trace::dissector::lua(trace))?;
    let script = format!("lua_script:{}", dissector.display());
    let mut command = Command::new(setup::ensure_for_test("tshark")?);
    command.args(["-X", &script, "-Y", "naiad.errno != 0 && naiad.linux", "-r"]).arg(&capture);
    let output = command.output().context("cannot run tshark")?;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(lines == failed, "tshark finds {lines} failed calls, and there are {failed}: {complaint}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_apart_and_pieces_of_a_line_put_together() {
        let host = "7  clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n\
                    8  openat(AT_FDCWD, \"a = b\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
                    7  <... clone resumed>, child_tidptr=0x5) = 8\n\
                    7  --- SIGCHLD {si_signo=SIGCHLD} ---\n\
                    7  brk(NULL) = 0x1000\n\
                    8  exit_group(0) = ?\n\
                    8  +++ exited with 0 +++\n";
        let wanted = "thread 0: clone = thread 1\nthread 0: brk = …\n\
                      thread 1: openat = -ENOENT\nthread 1: exit_group = ?\n";
        assert_eq!(threads(host), wanted);
    }

    #[test]
    fn another_result_is_another_text() {
        assert_ne!(threads("1 read(0, 0x1, 2) = 2\n"), threads("1 read(0, 0x1, 2) = 1\n"));
        assert_ne!(threads("1 getppid() = 0\n"), threads("1 getppid() = 9\n"));
        assert_ne!(threads("1 rt_sigreturn({}) = 0\n"), threads(""));
    }

    #[test]
    fn a_handler_may_run_before_the_wait_or_behind_it() {
        let (wait, back) = ("1 wait4(-1, NULL, 0, NULL) = 2\n", "1 rt_sigreturn({mask=[]}) = 2\n");
        assert_eq!(threads(&format!("{wait}{back}")), threads(&format!("{back}{wait}")));
    }
}
