//! The tree of `/proc`: which names there are, and what each node is.
//!
//! Fixed names stand in one table; below it hang a directory per process, per thread and per server. A node's number
//! says all about it (kind, process, thread), so that nothing is kept about nodes.

use libipc::linux::mode::{S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use libipc::proto::process::{self, DIRECTORY_KIND};

/// What a node is. The numbers are part of inode numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Kind {
    Root = 1,
    SelfLink,
    ThreadSelf,
    MemInfo,
    Uptime,
    LoadAverage,
    SystemStat,
    CpuInfo,
    Version,
    Mounts,
    FileSystems,
    Sys,
    SysKernel,
    CorePattern,
    HostName,
    OsType,
    OsRelease,
    PidMax,
    Random,
    BootId,
    SysVm,
    Overcommit,
    Naiad,
    Servers,
    Incarnations,
    Counters,
    Waits,
    Trace,
    Crashes,
    Cores,
    Core,
    Reproducers,
    Reproducer,
    Enosys,
    Server,
    ServerStatus,
    ServerControl,
    ServerDigest,
    ServerJournal,
    ServerImage,
    Process = DIRECTORY_KIND,
    Stat,
    StatM,
    Status,
    CommandLine,
    Environment,
    Name,
    Maps,
    Exe,
    Limits,
    ProcessMounts,
    MountInfo,
    Tasks,
    Thread,
    ThreadStat,
    ThreadStatus,
    ThreadName,
    WorkingDirectory,
    RootDirectory,
    Descriptors,
    Descriptor,
    DescriptorInfos,
    DescriptorInfo,
}

/// One fixed name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The directory it stands in.
    pub parent: Kind,
    /// The name.
    pub name: &'static str,
    /// What it names.
    pub kind: Kind,
    /// Type and permission bits.
    pub mode: u32,
}

const fn entry(parent: Kind, name: &'static str, kind: Kind, mode: u32) -> Entry {
    Entry { parent, name, kind, mode }
}

const FILE: u32 = S_IFREG | 0o444;
const DIRECTORY: u32 = S_IFDIR | 0o555;
const LINK: u32 = S_IFLNK | 0o777;

/// All fixed names, in the order in which directories show them.
pub const ENTRIES: &[Entry] = &[
    entry(Kind::Root, "cpuinfo", Kind::CpuInfo, FILE),
    entry(Kind::Root, "filesystems", Kind::FileSystems, FILE),
    entry(Kind::Root, "loadavg", Kind::LoadAverage, FILE),
    entry(Kind::Root, "meminfo", Kind::MemInfo, FILE),
    entry(Kind::Root, "mounts", Kind::Mounts, FILE),
    entry(Kind::Root, "naiad", Kind::Naiad, DIRECTORY),
    entry(Kind::Root, "self", Kind::SelfLink, LINK),
    entry(Kind::Root, "stat", Kind::SystemStat, FILE),
    entry(Kind::Root, "sys", Kind::Sys, DIRECTORY),
    entry(Kind::Root, "thread-self", Kind::ThreadSelf, LINK),
    entry(Kind::Root, "uptime", Kind::Uptime, FILE),
    entry(Kind::Root, "version", Kind::Version, FILE),
    entry(Kind::Sys, "kernel", Kind::SysKernel, DIRECTORY),
    entry(Kind::Sys, "vm", Kind::SysVm, DIRECTORY),
    entry(Kind::SysKernel, "core_pattern", Kind::CorePattern, S_IFREG | 0o644),
    entry(Kind::SysKernel, "hostname", Kind::HostName, FILE),
    entry(Kind::SysKernel, "osrelease", Kind::OsRelease, FILE),
    entry(Kind::SysKernel, "ostype", Kind::OsType, FILE),
    entry(Kind::SysKernel, "pid_max", Kind::PidMax, FILE),
    entry(Kind::SysKernel, "random", Kind::Random, DIRECTORY),
    entry(Kind::Random, "boot_id", Kind::BootId, FILE),
    entry(Kind::SysVm, "overcommit_memory", Kind::Overcommit, FILE),
    entry(Kind::Naiad, "cores", Kind::Cores, DIRECTORY),
    entry(Kind::Naiad, "counters", Kind::Counters, FILE),
    entry(Kind::Naiad, "crashes", Kind::Crashes, FILE),
    entry(Kind::Naiad, "enosys", Kind::Enosys, FILE),
    entry(Kind::Naiad, "incarnations", Kind::Incarnations, FILE),
    entry(Kind::Naiad, "reproducers", Kind::Reproducers, DIRECTORY),
    entry(Kind::Naiad, "servers", Kind::Servers, DIRECTORY),
    entry(Kind::Naiad, "trace", Kind::Trace, S_IFREG | 0o600),
    entry(Kind::Naiad, "waits", Kind::Waits, FILE),
    entry(Kind::Server, "ctl", Kind::ServerControl, S_IFREG | 0o200),
    entry(Kind::Server, "digest", Kind::ServerDigest, S_IFREG | 0o400),
    entry(Kind::Server, "image", Kind::ServerImage, S_IFREG | 0o200),
    entry(Kind::Server, "journal", Kind::ServerJournal, S_IFREG | 0o400),
    entry(Kind::Server, "status", Kind::ServerStatus, FILE),
    entry(Kind::Process, "cmdline", Kind::CommandLine, FILE),
    entry(Kind::Process, "comm", Kind::Name, FILE),
    entry(Kind::Process, "cwd", Kind::WorkingDirectory, LINK),
    entry(Kind::Process, "environ", Kind::Environment, S_IFREG | 0o400),
    entry(Kind::Process, "exe", Kind::Exe, LINK),
    entry(Kind::Process, "fd", Kind::Descriptors, S_IFDIR | 0o500),
    entry(Kind::Process, "fdinfo", Kind::DescriptorInfos, DIRECTORY),
    entry(Kind::Process, "limits", Kind::Limits, FILE),
    entry(Kind::Process, "maps", Kind::Maps, FILE),
    entry(Kind::Process, "mountinfo", Kind::MountInfo, FILE),
    entry(Kind::Process, "mounts", Kind::ProcessMounts, FILE),
    entry(Kind::Process, "root", Kind::RootDirectory, LINK),
    entry(Kind::Process, "stat", Kind::Stat, FILE),
    entry(Kind::Process, "statm", Kind::StatM, FILE),
    entry(Kind::Process, "status", Kind::Status, FILE),
    entry(Kind::Process, "task", Kind::Tasks, DIRECTORY),
    entry(Kind::Thread, "comm", Kind::ThreadName, FILE),
    entry(Kind::Thread, "stat", Kind::ThreadStat, FILE),
    entry(Kind::Thread, "status", Kind::ThreadStatus, FILE),
];

/// What has a number for a name, the directory in which it stands, and its type and permission bits.
const FAMILIES: [(Kind, Kind, u32); 7] = [
    (Kind::Process, Kind::Root, DIRECTORY),
    (Kind::Thread, Kind::Tasks, DIRECTORY),
    (Kind::Server, Kind::Servers, DIRECTORY),
    (Kind::Core, Kind::Cores, S_IFREG | 0o400),
    (Kind::Reproducer, Kind::Reproducers, S_IFREG | 0o400),
    (Kind::Descriptor, Kind::Descriptors, S_IFLNK | 0o700),
    (Kind::DescriptorInfo, Kind::DescriptorInfos, S_IFREG | 0o400),
];

/// A node: a kind, and the process (or server) and thread (or descriptor) it belongs to; 0 for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Process id or server number.
    pub id: u32,
    /// Thread id, or the number of a descriptor.
    pub tid: u32,
}

/// Bits of an inode number for the kind, and for each id: process ids stay below [`PID_MAX`].
const KIND_BITS: u32 = process::KIND_BITS;
const ID_BITS: u32 = process::ID_BITS;
/// One more than the highest process id.
pub const PID_MAX: u32 = 1 << ID_BITS;

impl Node {
    /// The root directory.
    pub const ROOT: Node = Node { kind: Kind::Root, id: 0, tid: 0 };

    /// Its inode number.
    pub fn number(self) -> u64 {
        u64::from(self.kind as u16)
            | u64::from(self.id) << KIND_BITS
            | u64::from(self.tid) << (KIND_BITS + ID_BITS)
    }

    /// The node with this inode number, whether or not its process is there.
    pub fn from_number(number: u64) -> Option<Node> {
        let id = (number >> KIND_BITS) as u32 & (PID_MAX - 1);
        let tid = u32::try_from(number >> (KIND_BITS + ID_BITS)).ok().filter(|tid| *tid < PID_MAX)?;
        let families = FAMILIES.iter().map(|(kind, ..)| *kind);
        let mut kinds = ENTRIES.iter().map(|entry| entry.kind).chain(families).chain([Kind::Root]);
        let kind = kinds.find(|kind| *kind as u16 == number as u16)?;
        Some(Node { kind, id, tid })
    }

    /// Type and permission bits.
    pub fn mode(self) -> u32 {
        let fixed = ENTRIES.iter().find(|entry| entry.kind == self.kind).map(|entry| entry.mode);
        let family = || FAMILIES.iter().find(|(kind, ..)| *kind == self.kind).map(|(.., mode)| *mode);
        fixed.or_else(family).unwrap_or(DIRECTORY)
    }

    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        self.mode() & S_IFMT == S_IFDIR
    }

    /// What a fixed name in it names.
    pub fn child(self, name: &[u8]) -> Option<Node> {
        let entry =
            ENTRIES.iter().find(|entry| entry.parent == self.kind && entry.name.as_bytes() == name)?;
        Some(Node { kind: entry.kind, ..self })
    }

    /// The fixed names in it.
    pub fn children(self) -> impl Iterator<Item = (&'static str, Node)> {
        let own = ENTRIES.iter().filter(move |entry| entry.parent == self.kind);
        own.map(move |entry| (entry.name, Node { kind: entry.kind, ..self }))
    }

    /// The directory it stands in; the root stands in itself.
    pub fn parent(self) -> Node {
        let fixed = ENTRIES.iter().find(|entry| entry.kind == self.kind).map(|entry| entry.parent);
        let family = FAMILIES.iter().find(|(kind, ..)| *kind == self.kind).map(|(_, parent, _)| *parent);
        match (fixed, family) {
            (Some(kind), _) => Node { kind, ..self },
            (None, Some(kind @ (Kind::Tasks | Kind::Descriptors | Kind::DescriptorInfos))) => {
                Node { kind, id: self.id, tid: 0 }
            }
            (None, Some(kind)) => Node { kind, id: 0, tid: 0 },
            (None, None) => Node::ROOT,
        }
    }

    /// Whether it is about a server.
    fn is_about_server(self) -> bool {
        matches!(self.kind, Kind::Server | Kind::Core | Kind::Reproducer)
            || ENTRIES.iter().any(|entry| (entry.parent, entry.kind) == (Kind::Server, self.kind))
    }

    /// The process it is about; servers have none.
    pub fn process(self) -> Option<u32> {
        (self.id != 0 && !self.is_about_server()).then_some(self.id)
    }
}

/// The number of a descriptor as a name.
pub fn descriptor_of_name(name: &[u8]) -> Option<u32> {
    if name == b"0" { Some(0) } else { id_of_name(name) }
}

/// A process or thread id as a name: decimal, without leading zeroes.
pub fn id_of_name(name: &[u8]) -> Option<u32> {
    let plain = !name.starts_with(b"0") && name.iter().all(u8::is_ascii_digit);
    let id = core::str::from_utf8(name).ok().filter(|_| plain)?.parse().ok()?;
    (id < PID_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_found_again_by_its_number() {
        let kinds = ENTRIES.iter().map(|entry| entry.kind).chain([Kind::Root, Kind::Process, Kind::Thread]);
        for kind in kinds {
            let node = Node { kind, id: PID_MAX - 1, tid: 77 };
            assert_eq!(Node::from_number(node.number()), Some(node));
        }
        assert_eq!(Node::from_number(0), None);
        assert_eq!(Node::from_number(999), None);
        assert_eq!(Node::from_number(u64::MAX), None);
    }

    #[test]
    fn every_name_leads_up_to_the_root() {
        for entry in ENTRIES {
            let node = Node { kind: entry.kind, id: 5, tid: 6 };
            assert_eq!(node.parent().child(entry.name.as_bytes()), Some(Node { ..node }), "{}", entry.name);
            let mut at = node;
            for _ in 0..6 {
                at = at.parent();
            }
            assert_eq!(at.kind, Kind::Root, "{}", entry.name);
        }
    }

    #[test]
    fn names_are_given_once_in_a_directory() {
        for (index, entry) in ENTRIES.iter().enumerate() {
            let before = &ENTRIES[..index];
            assert!(before.iter().all(|other| (other.parent, other.name) != (entry.parent, entry.name)));
            assert!(before.iter().all(|other| other.kind != entry.kind));
        }
    }

    #[test]
    fn ids_are_plain_decimal_numbers() {
        assert_eq!(id_of_name(b"123"), Some(123));
        for name in [&b""[..], b"0", b"01", b"+1", b"1x", b"4194304", b"99999999999"] {
            assert_eq!(id_of_name(name), None, "{name:?}");
        }
    }
}
