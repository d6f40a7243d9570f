//! The last records as text, for an epitaph: a line each, with time, who, about which call, and what.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use libipc::abi::journal::Header;
use libipc::abi::syscall::Syscall;
use libipc::abi::trace::{Event, PARTS, STAMP_WORDS, Who, arguments};

use super::{Ring, Trace};

/// How many records are told.
const LAST: usize = 12;

/// One record, for a line of text.
pub struct Told<'a> {
    words: &'a [AtomicU64],
}

impl Ring {
    fn word(&self, position: u64) -> u64 {
        self.words_at(position).first().map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The last records, the oldest of them first.
    pub fn last(&self) -> impl Iterator<Item = Told<'_>> {
        let part = self.bytes() / PARTS;
        // A part begins with a record, and the part before the newest has enough of them.
        let mut at = (self.end() / part).saturating_sub(1) * part;
        let mut places = [None; LAST];
        let mut count = 0;
        while at < self.end() {
            let header = Header::unpack(self.word(at));
            let Some(arguments) = arguments(header.number) else { break };
            if header.number == Event::Pad as u16 {
                at += 8 + u64::from(header.payload).next_multiple_of(8);
                continue;
            }
            let words = STAMP_WORDS + arguments as u64;
            places[count % LAST] = Some((at, words));
            count += 1;
            at += 8 * (words + u64::from(header.values)) + u64::from(header.payload).next_multiple_of(8);
        }
        (count.saturating_sub(LAST)..count).filter_map(move |number| {
            let (at, words) = places[number % LAST]?;
            Some(Told { words: self.words_at(at).get(..words as usize)? })
        })
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((stamp, arguments)) = self.words.split_first_chunk() else { return Ok(()) };
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let [header, time, who, call, cause] = stamp.each_ref().map(load);
        let header = Header::unpack(header);
        let name = match Event::from_number(header.number) {
            Some(event) => event.row().name,
            None => Syscall::from_number(u64::from(header.number)).map_or("?", |call| call.row().name),
        };
        write!(f, "{:>10}.{:03} us ", time / 1000, time % 1000)?;
        match Who::from_word(who) {
            Who::Kernel => f.write_str("kernel")?,
            Who::Server(number) => write!(f, "server {number}")?,
            Who::Program { pid, tid } => write!(f, "process {pid}/{tid}")?,
        }
        write!(f, " {name}")?;
        arguments.iter().map(load).try_for_each(|word| write!(f, " {word:#x}"))?;
        if header.error != 0 {
            write!(f, " = error {}", header.error)?;
        }
        write!(f, " (call {call:#x}, for {cause:#x})")
    }
}

impl Trace {
    /// Tells the last records, a line each, if there are any.
    pub fn tell_last(&self, to: &mut dyn Write) -> fmt::Result {
        if !self.on {
            return Ok(());
        }
        self.ring.last().try_for_each(|record| writeln!(to, "  {record}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::emulated;
    use libipc::abi::trace::Filter;

    #[test]
    fn the_last_records_are_told_in_order_a_line_each() {
        let (mut kernel, _) = emulated::kernel(64);
        let mut text = String::new();
        kernel.trace.tell_last(&mut text).unwrap();
        assert_eq!(text, "");
        for count in 0..100 {
            kernel.machine.time_ns = count * 1500;
            kernel.set_trace(true, Filter::default());
        }
        kernel.trace.tell_last(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LAST);
        assert_eq!(lines[LAST - 1], "         148.500 us kernel filter 0x0 0x0 0x0 0x0 (call 0x0, for 0x0)");
        assert!(lines[0].contains(" 132.000 us "), "{text}");
    }
}
