//! Addresses in the console log, as names and lines of code: of the kernel's epitaph, and of the instruction at which a
//! server died. What was inlined there is named, too.

use std::path::{Path, PathBuf};

use addr2line::Loader;

use crate::house;

/// How the epitaph's line of addresses begins.
const BACKTRACE: &str = "  backtrace:";

/// Whose code addresses are of.
pub struct Symbols {
    kernel: PathBuf,
    /// The servers' images, in the order of their numbers, which begin at 1.
    servers: Vec<PathBuf>,
}

impl Symbols {
    pub fn new(kernel: &Path, servers: &[(String, PathBuf)]) -> Symbols {
        let servers = servers.iter().map(|(_, image)| image.clone()).collect();
        Symbols { kernel: kernel.to_owned(), servers }
    }

    /// What a line of the log says more, if its addresses mean something.
    pub fn explain(&self, line: &str) -> Vec<String> {
        if let Some(addresses) = line.strip_prefix(BACKTRACE) {
            let returns = addresses.split_ascii_whitespace().filter_map(address);
            // A frame holds where its call returns to: the call is before that.
            return self.places(&self.kernel, returns.map(|address| address.saturating_sub(1)));
        }
        let (image, at) = match death(line) {
            Some((number, at)) => (number.checked_sub(1).and_then(|index| self.servers.get(index)), at),
            None => match panic(line) {
                Some(at) => (Some(&self.kernel), at),
                None => return Vec::new(),
            },
        };
        image.map(|image| self.places(image, [at].into_iter())).unwrap_or_default()
    }

    fn places(&self, image: &Path, addresses: impl Iterator<Item = u64>) -> Vec<String> {
        let Ok(loader) = Loader::new(image) else { return Vec::new() };
        addresses.flat_map(|address| places(&loader, address)).collect()
    }
}

/// Where an address is: the innermost function first, and then those it was inlined into.
fn places(loader: &Loader, address: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let Ok(mut frames) = loader.find_frames(address) else { return lines };
    while let Ok(Some(frame)) = frames.next() {
        let name =
            frame.function.as_ref().and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
        let name = name.or_else(|| loader.find_symbol(address).map(str::to_owned));
        let name = name.unwrap_or_else(|| "?".to_owned());
        let file = frame.location.as_ref().and_then(|at| Some((at.file?, at.line?)));
        lines.push(match file {
            Some((file, line)) => format!("    {name} at {}:{line}", short(file)),
            None => format!("    {name}"),
        });
    }
    lines
}

/// A file of the house by its path in it.
fn short(file: &str) -> &str {
    let root = house::root().to_str().and_then(|root| file.strip_prefix(root));
    root.map_or(file, |file| file.trim_start_matches('/'))
}

fn address(word: &str) -> Option<u64> {
    u64::from_str_radix(word.trim_end_matches([',', ':']).strip_prefix("0x")?, 16).ok()
}

/// The server's number and the instruction, of a line that tells of a server's death, or of what is put into its way.
/// Who is simply killed is at no place of interest.
fn death(line: &str) -> Option<(usize, u64)> {
    if line.ends_with(": kill") {
        return None;
    }
    let (number, rest) = line.strip_prefix("server ")?.split_once(" (incarnation ")?;
    let (_, at) = rest.split_once(") ")?.1.split_once(" at ")?;
    Some((number.parse().ok()?, address(at.split_ascii_whitespace().next()?)?))
}

/// The instruction, of a line that tells of a fault of the kernel's.
fn panic(line: &str) -> Option<u64> {
    let rest = line.strip_prefix(libipc::manifest::PANIC_LINE)?.strip_prefix(": exception ")?;
    address(rest.split_once(" at ")?.1.split_ascii_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn addresses_are_found_in_the_lines_that_have_them() {
        let line = "server 7 (incarnation 2) died of exception 0x6 at 0x50cf59, stack 0xeffdb70, core 3";
        assert_eq!(death(line), Some((7, 0x50_cf59)));
        assert_eq!(death("server 9 (incarnation 1) is struck at 0x4560f6: ud2"), Some((9, 0x45_60f6)));
        assert_eq!(panic("naiad: panic: exception 14 code 0x2 at 0xffff1234, cr2 0x0"), Some(0xffff_1234));
        assert_eq!(death("server 9 (incarnation 1) is struck at 0x4560f6: kill"), None);
        assert_eq!((death("server 7 is fine"), panic("naiad: panic: oops at src/x.rs:5:3")), (None, None));
    }

    #[test]
    fn an_address_becomes_a_name_and_a_line() {
        let image = env::current_exe().unwrap();
        let loader = Loader::new(&image).unwrap();
        let bytes = std::fs::read(&image).unwrap();
        let file = elf::ElfBytes::<elf::endian::AnyEndian>::minimal_parse(&bytes).unwrap();
        let (table, names) = file.symbol_table().unwrap().unwrap();
        let own = |symbol: &elf::symbol::Symbol| {
            names.get(symbol.st_name as usize).is_ok_and(|name| name.contains("symbols5short"))
        };
        let symbol = table.iter().find(own).expect("a function of this file");
        let lines = places(&loader, symbol.st_value);
        assert!(lines.last().is_some_and(|line| line.contains("xtask::symbols::short")), "{lines:?}");
        assert!(places(&loader, 1 << 47).is_empty(), "nothing lies there");
    }
}
