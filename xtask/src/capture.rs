//! Carries the trace of a machine to a file while the machine runs.
//!
//! The machine's memory is a file that is shared with it. In it lies the kernel's ring, near its beginning: a page that
//! begins as [`libipc::abi::trace::RingHeader`] says, and the records behind it. What is written is copied out a few
//! hundred times a second, and the kernel told how far; so recording costs the guest no more than the ring does. What a
//! machine that ends in any way has written last is copied then, and so are the cores and the reproducers of servers
//! that died in it: into files beside the trace.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    mem::offset_of,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use libipc::abi::PAGE_SIZE;
use libipc::abi::journal::{DIED, EXPORT_MAGIC, EXPORT_VERSION, ExportHeader, Header, SUM_START, sum};
use libipc::abi::trace::{Event, Filter, LEFT_MAX, Left, MAGIC, Names, RING_OFFSET, RingHeader, file_header};
use trace::summary::COUNTED;
use zerocopy::FromBytes;

use crate::{cli::RunArgs, house};

/// The ring's size, and what it and its header page add to the machine's memory.
const RING_BYTES: u64 = 16 << 20;
pub const RING_MIB: u32 = 17;
/// How far from the beginning of memory the ring is looked for.
const SEARCHED_BYTES: u64 = 64 << 20;
/// Between two looks at a ring that has nothing new.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Memory that only looks like a file, so that the guest's stores reach no disk.
const MEMORY_FOLDER: &str = "/dev/shm";
const PIECE_BYTES: u64 = 1 << 20;

/// The two kinds of what is left of a dead server: how their files end, and where the ring's page tells of them.
const CORE: (&str, usize) = ("core", offset_of!(RingHeader, cores));
const REPRODUCER: (&str, usize) = ("reproducer", offset_of!(RingHeader, reproducers));

/// A trace being written: the machine's memory, and where its records go.
pub struct Capture {
    memory: tempfile::NamedTempFile,
    servers: Vec<String>,
    filter: Filter,
    path: PathBuf,
    to: BufWriter<File>,
    /// Where the ring's header lies, when it has been found, and the ring's size.
    ring: Option<(u64, u64)>,
    read: u64,
    /// The first thing that went wrong with the file; records are dropped from then on.
    failed: Option<anyhow::Error>,
}

impl Capture {
    /// Begins the file that the arguments name, if they do.
    pub fn begin(args: &RunArgs, servers: &[String], kernel: &Path) -> Result<Option<Capture>> {
        let Some(path) = &args.trace else { return Ok(None) };
        let names = Names::new(servers.iter().map(String::as_str));
        let filter = Filter::parse(&args.trace_filter, &names);
        let filter = filter.map_err(|error| anyhow!("--trace-filter: {error}"))?;
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let build = format!(
            "naiad {}, kernel {:016x}{}",
            env!("CARGO_PKG_VERSION"),
            sum(SUM_START, &fs::read(kernel).context("cannot read the kernel")?),
            if args.icount { COUNTED } else { "" }
        );
        forget_left_beside(path)?;
        let mut to = BufWriter::new(file);
        to.write_all(&file_header(&names, &build, u64::from(args.mem) << 20))?;
        let folder = Some(Path::new(MEMORY_FOLDER)).filter(|folder| folder.is_dir());
        let folder = folder.map_or_else(house::target, Path::to_owned);
        let memory = tempfile::Builder::new().prefix("naiad-memory-").tempfile_in(folder)?;
        let (servers, path) = (servers.to_vec(), path.clone());
        Ok(Some(Capture { memory, servers, filter, path, to, ring: None, read: 0, failed: None }))
    }

    /// The file that is the machine's memory.
    pub fn memory(&self) -> &Path {
        self.memory.path()
    }

    /// What the kernel is told on its command line.
    pub fn command_line(&self) -> String {
        let mut line = format!("trace={RING_BYTES} trace-filter=");
        // Writing to a string does not fail.
        let _ = self.filter.write(&mut line);
        line
    }

    /// Copies records until the machine has ended, and then what is left.
    pub fn follow(&mut self, has_ended: impl Fn() -> bool) {
        loop {
            let last = has_ended();
            if !self.drain() && !last {
                thread::sleep(POLL_INTERVAL);
            }
            if last {
                return;
            }
        }
    }

    /// Ends the file, and takes out what is left of servers that died. What there is to say of that, a line each.
    ///
    /// # Errors
    /// When a file could not be written, or there was nothing to write.
    pub fn finish(mut self) -> Result<Vec<String>> {
        if let Some((at, _)) = self.ring
            && let Some(lost) = self.word(at + offset_of!(RingHeader, lost) as u64).filter(|lost| *lost > 0)
        {
            let header = Header { number: Event::Lost as u16, error: 0, values: 0, payload: 0 };
            let record = [header.pack(), 0, 0, 0, 0, lost];
            let record: Vec<u8> = record.into_iter().flat_map(u64::to_le_bytes).collect();
            self.keep(&record);
        }
        let flushed = self.to.flush();
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(flushed?),
        }
        .with_context(|| format!("cannot write all of {}", self.path.display()))?;
        let (page, _) = self.ring.context("the kernel has written no trace")?;
        let mut said = Vec::new();
        for left in self.left(page, CORE)? {
            let path = self.beside(CORE, left.serial);
            fs::write(&path, self.bytes(left.place, left.lengths[0])?)?;
            said.push(format!("{} is what is left of {}", path.display(), self.who(&left)));
        }
        for left in self.left(page, REPRODUCER)? {
            let path = self.beside(REPRODUCER, left.serial);
            fs::write(&path, self.history(&left)?)?;
            let who = self.who(&left);
            said.push(format!("{0} is what killed {who}: cargo xtask replay {0}", path.display()));
        }
        Ok(said)
    }

    /// The file beside the trace for what is left of a server.
    fn beside(&self, (kind, _): (&str, usize), serial: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{kind}.{serial}"));
        name.into()
    }

    fn who(&self, left: &Left) -> String {
        let name = left.server.checked_sub(1).and_then(|index| self.servers.get(index as usize));
        format!("{} (incarnation {})", name.map_or("a server", String::as_str), left.incarnation)
    }

    /// What the ring's page tells of one kind, in the order in which the servers died.
    fn left(&self, page: u64, (_, offset): (&str, usize)) -> Result<Vec<Left>> {
        let bytes = self.bytes(page + offset as u64, (LEFT_MAX * size_of::<Left>()) as u64)?;
        let entries =
            bytes.chunks_exact(size_of::<Left>()).filter_map(|entry| Left::read_from_bytes(entry).ok());
        let mut all: Vec<Left> = entries.filter(|left| left.serial != 0 && left.lengths != [0; 3]).collect();
        all.sort_by_key(|left| left.serial);
        Ok(all)
    }

    /// A reproducer as `/proc/naiad/reproducers` has it.
    fn history(&self, left: &Left) -> Result<Vec<u8>> {
        let (mut sections, mut sums, mut at) = (Vec::new(), [SUM_START; 3], left.place);
        for (place, length) in sums.iter_mut().zip(left.lengths) {
            let section = self.bytes(at, length)?;
            *place = sum(*place, &section);
            sections.extend(section);
            at += length;
        }
        let header = ExportHeader {
            magic: EXPORT_MAGIC,
            version: EXPORT_VERSION,
            header_bytes: size_of::<ExportHeader>() as u32,
            snapshots: left.snapshots,
            settled: DIED,
            lengths: left.lengths,
            sums,
            sum: 0,
        };
        Ok([header.sealed().to_bytes(), sections].concat())
    }

    /// Bytes of the machine's memory.
    fn bytes(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let within = self.memory.as_file().metadata()?.len();
        ensure!(at.checked_add(length).is_some_and(|end| end <= within), "the kernel's page makes no sense");
        let mut bytes = vec![0; length as usize];
        self.memory.as_file().read_exact_at(&mut bytes, at).context("cannot read the machine's memory")?;
        Ok(bytes)
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory.as_file().read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn find(&self) -> Option<(u64, u64)> {
        let magic = u64::from_le_bytes(MAGIC);
        let at = (0..SEARCHED_BYTES)
            .step_by(PAGE_SIZE as usize)
            .find(|at| self.word(*at) == Some(magic) && self.word(at + 8) == Some(RING_BYTES))?;
        Some((at, RING_BYTES))
    }

    /// Copies what is new. Whether there was anything.
    fn drain(&mut self) -> bool {
        self.ring = self.ring.or_else(|| self.find());
        let Some((at, bytes)) = self.ring else { return false };
        let Some(written) = self.word(at + offset_of!(RingHeader, written) as u64) else { return false };
        let is_new = written > self.read;
        while self.read < written {
            let place = self.read % bytes;
            let length = (written - self.read).min(bytes - place).min(PIECE_BYTES);
            let mut piece = vec![0; length as usize];
            match self.memory.as_file().read_exact_at(&mut piece, at + RING_OFFSET + place) {
                Ok(()) => self.keep(&piece),
                Err(error) => _ = self.failed.get_or_insert(error.into()),
            }
            self.read += length;
            let read = self.read.to_le_bytes();
            // The kernel loses records when it is not told; that is seen in the trace.
            let _ = self.memory.as_file().write_all_at(&read, at + offset_of!(RingHeader, read) as u64);
        }
        is_new
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.failed.is_none()
            && let Err(error) = self.to.write_all(bytes)
        {
            self.failed = Some(error.into());
        }
    }
}

/// Removes what an earlier machine has left beside the trace of this name.
fn forget_left_beside(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name().map(|name| name.to_string_lossy()) else { return Ok(()) };
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let end = other.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        if end.is_some_and(|(kind, serial)| {
            [CORE.0, REPRODUCER.0].contains(&kind) && serial.parse::<u32>().is_ok()
        }) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use libipc::abi::trace::Reader;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::cli::{Cli, Command};

    /// A capture whose memory has an empty ring at its second page.
    fn capture(folder: &Path) -> Capture {
        let path = folder.join("trace");
        let line = ["xtask", "run", "--trace", path.to_str().unwrap(), "--trace-filter", "servers=vm"];
        let Command::Run(args) = Cli::parse_from(line).command else { panic!() };
        let kernel = folder.join("kernel");
        fs::write(&kernel, "image").unwrap();
        let servers = ["root".to_owned(), "vm".to_owned()];
        let capture = Capture::begin(&args, &servers, &kernel).unwrap().unwrap();
        capture.memory.as_file().set_len(2 * PAGE_SIZE + RING_BYTES).unwrap();
        store(&capture, 0, u64::from_le_bytes(MAGIC));
        store(&capture, 8, RING_BYTES);
        capture
    }

    fn store(capture: &Capture, offset: u64, word: u64) {
        capture.memory.as_file().write_all_at(&word.to_le_bytes(), PAGE_SIZE + offset).unwrap();
    }

    /// The kernel writes a record that fills up to a position with its own number.
    fn write(capture: &Capture, from: u64, to: u64) {
        for at in (from..to).step_by(64) {
            let header = Header { number: Event::Lost as u16, error: 0, values: 0, payload: 16 };
            let words = [header.pack(), at, 0, 0, 0, at, 0, 0];
            let place = 2 * PAGE_SIZE + at % RING_BYTES;
            let words: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            capture.memory.as_file().write_all_at(&words, place).unwrap();
        }
        store(capture, offset_of!(RingHeader, written) as u64, to);
    }

    #[test]
    fn what_is_written_round_the_rings_end_is_copied_in_order_and_the_kernel_told_how_far() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = capture(folder.path());
        assert!(!capture.drain());
        for part in 0..5 {
            let (from, to) = (part * RING_BYTES / 2, (part + 1) * RING_BYTES / 2);
            write(&capture, from, to);
            assert!(capture.drain() && !capture.drain());
            assert_eq!(capture.word(PAGE_SIZE + offset_of!(RingHeader, read) as u64), Some(to));
        }
        capture.finish().unwrap();
        let file = fs::read(folder.path().join("trace")).unwrap();
        let reader = Reader::new(&file).unwrap();
        assert_eq!((reader.names.name(2), reader.memory_bytes), (Some("vm"), 256 << 20));
        let times: Vec<u64> = reader.map(|record| record.unwrap().stamp.time_ns).collect();
        assert_eq!(times.len() as u64, 5 * RING_BYTES / 2 / 64);
        assert!(times.iter().zip((0..).step_by(64)).all(|(time, wanted)| *time == wanted));
    }

    #[test]
    fn what_the_kernel_could_not_tell_any_more_is_told_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = capture(folder.path());
        store(&capture, offset_of!(RingHeader, lost) as u64, 7);
        capture.follow(|| true);
        capture.finish().unwrap();
        let file = fs::read(folder.path().join("trace")).unwrap();
        let last = Reader::new(&file).unwrap().last().unwrap().unwrap();
        assert_eq!(last.what(), libipc::abi::trace::What::Lost { records: 7 });
    }

    #[test]
    fn what_is_left_of_servers_is_taken_out_beside_the_trace() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = capture(folder.path());
        let at = 5 * PAGE_SIZE;
        capture.memory.as_file().write_all_at(b"bootsnapjournal", at).unwrap();
        let left = Left { serial: 3, server: 2, place: at, lengths: [4, 4, 7], ..Left::default() };
        let core = Left { serial: 1, server: 1, place: at, lengths: [8, 0, 0], ..left };
        let page = capture.memory.as_file();
        page.write_all_at(core.as_bytes(), PAGE_SIZE + CORE.1 as u64).unwrap();
        page.write_all_at(left.as_bytes(), PAGE_SIZE + REPRODUCER.1 as u64 + 64).unwrap();
        capture.follow(|| true);
        let said = capture.finish().unwrap();
        assert!(said[0].contains("trace.core.1 is what is left of root"), "{said:?}");
        assert!(said[1].contains("what killed vm") && said.len() == 2, "{said:?}");
        let path = |name| folder.path().join(name);
        assert_eq!(fs::read(path("trace.core.1")).unwrap(), b"bootsnap");
        let file = fs::read(path("trace.reproducer.3")).unwrap();
        let (header, rest) = ExportHeader::read_from_prefix(&file).unwrap();
        assert_eq!((header.sum, rest), (header.own_sum(), &b"bootsnapjournal"[..]));
        assert_eq!(header.sums[1], sum(SUM_START, b"snap"));
    }

    #[test]
    fn what_an_earlier_machine_has_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let kept = ["trace", "trace.core.x", "trace.core", "trace2.core.1", "other.core.1"];
        for name in kept.iter().chain(&["trace.core.1", "trace.reproducer.12"]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        forget_left_beside(&folder.path().join("trace")).unwrap();
        assert!(kept.iter().all(|name| folder.path().join(name).exists()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), kept.len());
    }

    #[test]
    fn a_page_that_makes_no_sense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = capture(folder.path());
        let left = Left { serial: 1, place: u64::MAX - 1, lengths: [9, 0, 0], ..Left::default() };
        capture.memory.as_file().write_all_at(left.as_bytes(), PAGE_SIZE + CORE.1 as u64).unwrap();
        capture.follow(|| true);
        assert!(capture.finish().unwrap_err().to_string().contains("makes no sense"));
    }

    #[test]
    fn a_machine_whose_kernel_never_ran_has_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let capture = capture(folder.path());
        assert!(capture.finish().unwrap_err().to_string().contains("no trace"));
    }

    #[test]
    fn the_kernel_is_told_what_to_record() {
        let folder = tempfile::tempdir().unwrap();
        let line = capture(folder.path()).command_line();
        let filter = line.rsplit_once("trace-filter=").unwrap().1;
        assert!(
            Filter::read(filter).is_some_and(|filter| filter.passes_servers([2, 0]) && !filter.is_open())
        );
    }
}
