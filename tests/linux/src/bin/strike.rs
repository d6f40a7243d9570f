//! Makes servers of Naiad fail, one after the other, while others work: `strike PLAN`.
//!
//! A line of the plan is a server, and what is written into its control file behind `crash`: when and how it fails.
//! Each server has one end set at a time: its next one waits until it has died. One that does not run, and so does
//! not come to its end, is killed where it stands.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Error, ErrorKind, Result},
    thread,
    time::{Duration, Instant},
};

/// How often the dead are counted.
const LOOK: Duration = Duration::from_millis(1);
/// How long a server may stay alive that is to die.
const PATIENCE: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let path = env::args().nth(1).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "strike PLAN"))?;
    let plan = fs::read_to_string(path)?;
    // Servers whose end is set: how often they have died then.
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for line in plan.lines() {
        let (server, end) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(deaths) = expected.get(server) {
            wait_for_death(server, *deaths)?;
        }
        expected.insert(server, deaths(server)? + 1);
        set_end(server, end)?;
    }
    expected.iter().try_for_each(|(server, deaths)| wait_for_death(server, *deaths))
}

fn set_end(server: &str, end: &str) -> Result<()> {
    fs::write(format!("/proc/naiad/servers/{server}/ctl"), format!("crash {end}"))
}

fn wait_for_death(server: &str, expected: u64) -> Result<()> {
    let mut since = Instant::now();
    while deaths(server)? < expected {
        thread::sleep(LOOK);
        if since.elapsed() > PATIENCE {
            set_end(server, "")?;
            since = Instant::now();
        }
    }
    Ok(())
}

/// How often a server has died.
fn deaths(server: &str) -> Result<u64> {
    let table = fs::read_to_string("/proc/naiad/crashes")?;
    let mut rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&server));
    let counts = row.iter().flatten().skip(1).map(|count| count.parse().unwrap_or(0));
    if row.is_some() { Ok(counts.sum::<u64>()) } else { Err(Error::new(ErrorKind::NotFound, server)) }
}
