//! What gdb needs to look at a running machine: a script that knows the kernel's objects, beside what is known of the
//! build.

use std::{fmt::Write, fs, path::PathBuf};

use anyhow::{Context, Result};
use libipc::abi::{foreign::LINUX, syscall::TABLE};

use crate::{build::Images, house};

const SCRIPT: &str = include_str!("gdb/naiad.py");

/// Writes the script for a machine that listens there, and returns its path.
pub fn script(images: &Images, target: &str) -> Result<PathBuf> {
    let mut text = String::new();
    let servers =
        images.servers.iter().map(|(name, image)| format!("({name:?}, {:?})", image.display().to_string()));
    let calls = LINUX.iter().map(|row| format!("{:?}", row.name));
    let traps = TABLE.iter().map(|row| format!("({:?}, {})", row.name, row.arguments.len()));
    let list = |items: Vec<String>| items.join(", ");
    writeln!(text, "SERVERS = [{}]", list(servers.collect()))?;
    writeln!(text, "CALLS = [{}]", list(calls.collect()))?;
    writeln!(text, "TRAPS = [{}]", list(traps.collect()))?;
    writeln!(text, "KERNEL = {:?}", images.kernel.display().to_string())?;
    writeln!(text, "TARGET = {target:?}")?;
    text.push_str(SCRIPT);
    let path = house::target().join("naiad-gdb.py");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
