//! Rows about servers of Naiad that die: how long it takes until they ask for their next event again, and what
//! snapshots cost, which keep that short. Elsewhere there are none.

use std::{collections::BTreeMap, fs, io::Result};

use linux_tests::{
    process::{self, fork},
    say,
};

const SERVERS: &str = "/proc/naiad/servers";
/// How often each server dies.
const DEATHS: usize = 100;
/// How much is done before each death, so that journals are of all lengths then.
const WORK: usize = 10;
/// The server whose snapshots are the longest and come most seldom.
const SELDOM: &str = "vm";
/// So many snapshots of that server lie between whatever was there before and what is measured; and so many are
/// measured. One alone says nothing: when the next is due depends on how long the last was.
const SETTLED: u64 = 4;
const MEASURED: u64 = 6;

/// Prints the rows whose names contain `filter`.
pub fn measure(filter: &str) {
    let Ok(folder) = fs::read_dir(SERVERS) else { return };
    let mut servers: Vec<String> =
        folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    servers.sort();
    if servers.iter().any(|server| snapshots_row(server).contains(filter))
        && let Err(error) = measure_snapshots(&servers)
    {
        eprintln!("snapshots: {error}");
    }
    for server in &servers {
        let rows = ["restart, median", "restart, 99th percentile"].map(|row| format!("{server}: {row}"));
        if !rows.iter().any(|row| row.contains(filter)) {
            continue;
        }
        match figures(server) {
            Ok(figures) => {
                rows.iter().zip(figures).for_each(|(row, figure)| say(&format!("{row}\t{figure}")));
            }
            Err(error) => eprintln!("{server}: {error}"),
        }
    }
}

/// What snapshots cost for each message, by server, while whatever else is around does nothing; a dash for who makes
/// none.
fn measure_snapshots(servers: &[String]) -> Result<()> {
    work_until_snapshots(SETTLED)?;
    let statuses = || servers.iter().map(|server| Status::of(server)).collect::<Result<Vec<Status>>>();
    let before = statuses()?;
    work_until_snapshots(MEASURED)?;
    for ((server, before), after) in servers.iter().zip(before).zip(statuses()?) {
        let [made, took, messages] = [("snapshots", 0), ("snapshots", 1), ("messages", 0)]
            .map(|(line, at)| after.figure(line, at) - before.figure(line, at));
        let figure = if made > 0 { (took / messages.max(1)).to_string() } else { "-".to_owned() };
        say(&format!("{}\t{figure}", snapshots_row(server)));
    }
    Ok(())
}

fn snapshots_row(server: &str) -> String {
    format!("{server}: snapshots, per message")
}

fn work_until_snapshots(more: u64) -> Result<()> {
    let made = || Status::of(SELDOM).map(|status| status.figure("snapshots", 0));
    let until = made()? + more;
    while made()? < until {
        (0..WORK).for_each(|_| work());
    }
    Ok(())
}

/// The figures of a server's rows.
fn figures(server: &str) -> Result<[u64; 2]> {
    let mut times = Vec::new();
    for _ in 0..DEATHS {
        (0..WORK).for_each(|_| work());
        times.push(restart(server)?);
    }
    times.sort_unstable();
    Ok([times[DEATHS / 2], times[DEATHS * 99 / 100]])
}

/// Something of everything that servers do for programs.
fn work() {
    let child = fork(|| {
        fs::write("work", [1; 3000]).expect("a file can be written");
        i32::from(fs::read("work").is_ok_and(|bytes| bytes.len() != 3000))
    });
    process::end_of(child);
    fs::remove_file("work").expect("a file can be removed");
}

/// Makes a server die. How long it took until it asked for its next event.
fn restart(server: &str) -> Result<u64> {
    let incarnation = Status::of(server)?.figure("incarnation", 0);
    fs::write(format!("{SERVERS}/{server}/ctl"), "crash")?;
    loop {
        let status = Status::of(server)?;
        let took = status.figure("restart", 0);
        if status.figure("incarnation", 0) > incarnation && took > 0 {
            return Ok(took);
        }
    }
}

/// The figures of a server's status, by the names of their lines.
struct Status(BTreeMap<String, Vec<u64>>);

impl Status {
    fn of(server: &str) -> Result<Status> {
        let text = fs::read_to_string(format!("{SERVERS}/{server}/status"))?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let figures = |text: &str| text.split(' ').filter_map(|word| word.parse().ok()).collect();
        Ok(Status(lines.map(|(name, text)| (name.to_owned(), figures(text))).collect()))
    }

    fn figure(&self, line: &str, at: usize) -> u64 {
        self.0.get(line).and_then(|figures| figures.get(at)).copied().unwrap_or(0)
    }
}
