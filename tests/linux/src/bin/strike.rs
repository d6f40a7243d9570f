//! Makes servers of Naiad fail while others work: `strike SEED KILLS SERVERS FAULTS`, both lists with commas.
//!
//! The servers take turns, in an order that follows from the seed, as does when and how each fails: after some time of
//! its own on the CPU, at whatever instruction it is then, or after some of its system calls. Each has one end set at
//! a time: its next one waits until it has died. One that does not run, and so does not come to its end, is killed
//! where it stands.

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
/// The shortest time on the CPU until an end, as a power of two, and how many powers of two there are above it.
const TIME_BITS: (u64, u64) = (6, 13);
/// Most system calls until an end.
const TRAPS_MAX: u64 = 60;
/// The fault whose instructions use the heap, which must be sound then: it comes only between two steps of the server.
const HEAP: &str = "heap";

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [seed, kills, servers, faults] = &arguments[..] else { return Err(misuse("four arguments")) };
    let number = |text: &str| text.parse::<u64>().map_err(|_| misuse(text));
    let (mut dice, kills) = (Dice(number(seed)?), number(kills)?);
    let mut servers: Vec<&str> = servers.split(',').collect();
    let faults: Vec<&str> = faults.split(',').collect();
    // Servers whose end is set: how often they have died then.
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for kill in 0..kills as usize {
        let turn = kill % servers.len();
        let chosen = turn + dice.below((servers.len() - turn) as u64) as usize;
        servers.swap(turn, chosen);
        let server = servers[turn];
        if let Some(deaths) = expected.get(server) {
            wait_for_death(server, *deaths)?;
        }
        expected.insert(server, deaths(server)? + 1);
        let fault = faults[dice.below(faults.len() as u64) as usize];
        set_end(server, &format!("{} {fault}", moment(&mut dice, fault)))?;
    }
    expected.iter().try_for_each(|(server, deaths)| wait_for_death(server, *deaths))
}

fn misuse(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("strike SEED KILLS SERVERS FAULTS: {what}"))
}

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let number = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ number >> 31) % bound
    }
}

/// When a server fails. Short times are as frequent as long ones.
fn moment(dice: &mut Dice, fault: &str) -> String {
    if fault == HEAP || dice.below(4) == 0 {
        return (1 + dice.below(TRAPS_MAX)).to_string();
    }
    let least = 1 << (TIME_BITS.0 + dice.below(TIME_BITS.1));
    format!("{}ns", least + dice.below(least))
}

fn set_end(server: &str, end: &str) -> Result<()> {
    fs::write(format!("/proc/naiad/servers/{server}/ctl"), format!("crash {end}"))
}

fn wait_for_death(server: &str, expected: u64) -> Result<()> {
    let mut since = Instant::now();
    while deaths(server)? < expected {
        if since.elapsed() > PATIENCE {
            set_end(server, "")?;
            since = Instant::now();
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// How often a server has died.
fn deaths(server: &str) -> Result<u64> {
    let table = fs::read_to_string("/proc/naiad/crashes")?;
    let mut rows = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&server)).ok_or_else(|| misuse(server))?;
    Ok(row.iter().skip(1).filter_map(|count| count.parse::<u64>().ok()).sum())
}
