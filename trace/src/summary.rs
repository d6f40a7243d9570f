//! `trace summary`: per server and operation how often, with how many errors, how long it took and what it cost.
//!
//! Spans are of the machine's clock. Under `cargo xtask run --icount` a nanosecond of it is one instruction.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::{Item, LegEnd, Request, Trace};
use crate::select::Selection;

/// How the text about the machine ends when a nanosecond of its clock is one instruction.
pub const COUNTED: &str = ", one instruction a nanosecond";

/// Where calls are counted that no server had.
const KERNEL: &str = "kernel";

/// What is known of one operation of one server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// How often the server had it.
    pub count: u64,
    /// How often it ended there with an error.
    pub errors: u64,
    /// How often nobody answered within the trace.
    pub unanswered: u64,
    /// How long each was with the server, in ns.
    pub latencies: Vec<u64>,
    /// Time of the processor that the server used for all of them, in ns.
    pub busy_ns: u64,
}

/// The value below which so many hundredths of all lie; 0 of none.
pub fn percentile(values: &mut [u64], hundredths: usize) -> u64 {
    if values.is_empty() {
        return 0;
    }
    let place = ((values.len() * hundredths).div_ceil(100)).clamp(1, values.len()) - 1;
    *values.select_nth_unstable(place).1
}

/// The rows of a selection, by server and operation.
pub fn rows(trace: &Trace, selection: &Selection<'_>) -> BTreeMap<(String, String), Row> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for item in selection.items() {
        let Item::Call(at) = item else { continue };
        let call = trace.call(at);
        if call.legs.is_empty() {
            if matches!(call.request, Request::Linux { .. }) {
                let row = rows.entry((KERNEL.to_owned(), call.operation())).or_default();
                row.count += 1;
                row.errors += u64::from(call.has_failed());
                row.unanswered += u64::from(call.is_unanswered());
                row.latencies.push(call.latency_ns());
            }
            continue;
        }
        for (index, leg) in call.legs.iter().enumerate() {
            let row = rows.entry((trace.server(leg.server), call.operation())).or_default();
            let is_last = index + 1 == call.legs.len();
            row.count += 1;
            row.errors += u64::from(is_last && call.has_failed());
            row.unanswered += u64::from(leg.end == LegEnd::Open);
            row.latencies.push(leg.duration_ns());
            row.busy_ns += leg.busy_ns;
        }
    }
    rows
}

/// The summary as a table.
pub fn summary(trace: &Trace, selection: &Selection<'_>) -> String {
    let mut text = String::new();
    let span = crate::words::duration(trace.end_ns.saturating_sub(trace.begin_ns));
    let (records, calls) = (trace.records, trace.calls.len());
    let _ = writeln!(text, "{}: {records} records, {calls} calls in {span}", trace.machine);
    let (unit, own) = if trace.machine.ends_with(COUNTED) {
        ("Spans in instructions of the machine", "instructions")
    } else {
        ("Spans in ns of the machine's clock (instructions, if it ran with --icount)", "own work")
    };
    let _ = writeln!(
        text,
        "{unit}: how long the server had it, and how\nmuch of that it worked at it itself, on average ({own}).\n"
    );
    let head = ["server", "operation", "count", "errors", "open", "p50", "p99", own];
    let mut lines = vec![head.map(str::to_owned)];
    for ((server, operation), mut row) in rows(trace, selection) {
        lines.push([
            server,
            operation,
            row.count.to_string(),
            row.errors.to_string(),
            row.unanswered.to_string(),
            percentile(&mut row.latencies, 50).to_string(),
            percentile(&mut row.latencies, 99).to_string(),
            (row.busy_ns / row.count.max(1)).to_string(),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:width$}"),
                1 => write!(text, "  {cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        assert_eq!(percentile(&mut [], 50), 0);
        assert_eq!(percentile(&mut [7], 99), 7);
        assert_eq!(percentile(&mut [4, 1, 3, 2], 50), 2);
        assert_eq!(percentile(&mut (1..=100).rev().collect::<Vec<_>>(), 99), 99);
    }

    #[test]
    fn each_server_has_a_row_for_each_operation_it_had() {
        let trace = crate::read(&crate::synthetic::trace(10)).unwrap();
        let rows = rows(&trace, &Selection::new(&trace, "").unwrap());
        let row = |server: &str, operation: &str| &rows[&(server.to_owned(), operation.to_owned())];
        assert_eq!((row("vfs", "openat").count, row("vfs", "openat").errors), (20, 0));
        assert_eq!((row("ufs", "openat").count, row("ufs", "openat").errors), (20, 10));
        assert_eq!(row("blk", "block.read").count, 20);
        assert_eq!(row("kernel", "getpid").count, 10);
        assert_eq!((row("proc", "exit_group").count, row("proc", "exit_group").unanswered), (1, 0));
        assert!(row("blk", "block.read").busy_ns > 0);
    }

    #[test]
    fn the_table_says_what_its_unit_is() {
        let mut trace = crate::read(&crate::synthetic::trace(2)).unwrap();
        let text = summary(&trace, &Selection::new(&trace, "server=blk").unwrap());
        assert!(text.contains("ns of the machine's clock"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("blk")).count(), 1, "{text}");
        assert!(!text.contains("\nvfs"), "{text}");
        trace.machine.push_str(COUNTED);
        let text = summary(&trace, &Selection::new(&trace, "server=blk").unwrap());
        assert!(text.contains("in instructions of") && text.contains("p99  instructions\n"), "{text}");
    }
}
