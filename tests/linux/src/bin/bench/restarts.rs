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

/// Prints the rows whose names contain `filter`.
pub fn measure(filter: &str) {
    let Ok(folder) = fs::read_dir(SERVERS) else { return };
    let mut servers: Vec<String> =
        folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    servers.sort();
    for server in servers {
        let rows = ["restart, median", "restart, 99th percentile", "snapshots, per message"];
        let rows = rows.map(|row| format!("{server}: {row}"));
        if !rows.iter().any(|row| row.contains(filter)) {
            continue;
        }
        match figures(&server) {
            Ok(figures) => rows.iter().zip(figures).for_each(|(row, figure)| match figure {
                Some(figure) => say(&format!("{row}\t{figure}")),
                None => say(&format!("{row}\t-")),
            }),
            Err(error) => eprintln!("{server}: {error}"),
        }
    }
}

/// The figures of a server's rows.
fn figures(server: &str) -> Result<[Option<u64>; 3]> {
    let before = Status::of(server)?;
    let mut times = Vec::new();
    for _ in 0..DEATHS {
        (0..WORK).for_each(|_| work());
        times.push(restart(server)?);
    }
    times.sort_unstable();
    let after = Status::of(server)?;
    // While whatever else is around does nothing.
    let [made, took, messages] = [("snapshots", 0), ("snapshots", 1), ("messages", 0)]
        .map(|(line, at)| after.figure(line, at) - before.figure(line, at));
    let per_message = (made > 0).then(|| took / messages.max(1));
    Ok([Some(times[DEATHS / 2]), Some(times[DEATHS * 99 / 100]), per_message])
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
