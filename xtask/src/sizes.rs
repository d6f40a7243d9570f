//! How much code each server has for recovery alone: `cargo xtask bench --sizes`.
//!
//! Counted are the bytes of functions that would not be there if servers never died: what takes the state apart for a
//! snapshot, and what puts it together again. Messages are serialised, too, but their types are libipc's, so a function
//! that deserialises a type of the server's own deserialises state. What has been inlined into other functions counts
//! as those. Everything else of recovery is the kernel's, once for all servers.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use elf::{ElfBytes, endian::LittleEndian};
use rustc_demangle::demangle;

/// Parts of the names of libipc's functions that are there for snapshots.
const OF_SNAPSHOTS: [&str; 6] = [
    "libipc::server::snapshot::",
    "libipc::server::rows::Through",
    "as libipc::server::rows::Table>",
    "libipc::server::rows::take_from",
    "libipc::server::shell::Kept",
    "libipc::server::shell::read_snapshot",
];
/// What functions that deserialise have in their names.
const DESERIALISES: &str = "serde_core::de::";

/// Bytes of a server's functions: all, and those for recovery alone.
struct Sizes {
    name: String,
    code: u64,
    recovery: u64,
}

/// Whether a function of a server is there for recovery alone.
fn is_of_recovery(server: &str, function: &str) -> bool {
    let own = function.contains(DESERIALISES)
        && [format!("<{server}::"), format!(" {server}::")].iter().any(|own| function.contains(own));
    own || OF_SNAPSHOTS.iter().any(|part| function.contains(part))
}

fn sizes(name: &str, image: &Path) -> Result<Sizes> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
    let (symbols, names) = file.symbol_table()?.context("the image has no symbols")?;
    let mut sizes = Sizes { name: name.to_owned(), code: 0, recovery: 0 };
    for symbol in symbols.iter().filter(|symbol| symbol.st_symtype() == elf::abi::STT_FUNC) {
        sizes.code += symbol.st_size;
        let function = format!("{:#}", demangle(names.get(symbol.st_name as usize)?));
        if is_of_recovery(name, &function) {
            sizes.recovery += symbol.st_size;
        }
    }
    Ok(sizes)
}

/// The table of all these servers.
pub fn table(images: &[(String, impl AsRef<Path>)]) -> Result<String> {
    let mut text = format!("{:>8} {:>12} {:>16} {:>6}\n", "server", "code, bytes", "for recovery", "%");
    for (name, image) in images {
        let Sizes { name, code, recovery } = sizes(name, image.as_ref())?;
        let percent = 100.0 * recovery as f64 / code.max(1) as f64;
        text += &format!("{name:>8} {code:>12} {recovery:>16} {percent:>6.1}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::is_of_recovery;

    #[test]
    fn what_saves_and_restores_a_state_counts_and_what_serves_messages_does_not() {
        for function in [
            "<proc::Proc as serde_core::ser::Serialize>::serialize::<libipc::server::snapshot::Writer<_>>",
            "<proc::id::Pid as serde_core::de::Deserialize>::deserialize::<_>",
            "<libipc::server::rows::Rows<u64, u32> as libipc::server::rows::Table>::save",
        ] {
            assert!(is_of_recovery("proc", function), "{function}");
        }
        for function in [
            "<libipc::proto::fs::Answer as serde_core::de::Deserialize>::deserialize::<_>",
            "<proc::Proc as libipc::server::Server>::step",
            "<vfs::Vfs as serde_core::de::Deserialize>::deserialize::<_>",
        ] {
            assert!(!is_of_recovery("proc", function), "{function}");
        }
    }
}
