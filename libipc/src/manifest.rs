//! The manifest: what the system consists of, and who may call whom.
//!
//! The build reads it from `boot/system.toml`, checks it, and puts it into the boot archive in postcard form; root
//! starts the system from it. It describes and nothing more: no addresses, no handles, nothing known only at boot.

use alloc::{
    borrow::ToOwned,
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::abi::Owned;

/// The server that starts the others. It stands outside the order of calls and holds every handle.
pub const ROOT: &str = "root";

/// How a line of the console log (COM2) begins that tells the host the status with which the machine ends, in
/// decimal.
pub const OFF_LINE: &str = "naiad: off status=";
/// The line of the console log that tells the host that the machine was asked to start again.
pub const REBOOT_LINE: &str = "naiad: reboot";
/// How the first line of the kernel's epitaph begins.
pub const PANIC_LINE: &str = "naiad: panic";
/// The I/O port whose writing ends QEMU; what was said on the console log before counts, not the value.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;

/// The whole system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the vfs server mounts at start, in this order.
    pub mounts: Vec<Mount>,
    /// How foreign system calls find their servers.
    pub personality: Personality,
    /// KiB of memory in which is kept what servers die of.
    #[serde(default)]
    pub reproducers_kib: u32,
    /// KiB of memory for images that servers are upgraded to.
    #[serde(default)]
    pub images_kib: u32,
    /// The servers, in the order in which root starts them.
    #[serde(rename = "server")]
    pub servers: Vec<ServerEntry>,
}

/// What root does when a server dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Starts from nothing; the calls that were outstanding are delivered again.
    Reissued,
    /// Runs again from its snapshot with its traps answered from its journal.
    Journaled,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerEntry {
    /// Its name, and that of its image in the archive.
    pub name: String,
    /// The package it is built from, when that has another name.
    #[serde(default)]
    pub package: Option<String>,
    /// Its recovery class.
    pub class: Class,
    /// Its fixed priority; larger runs first. It is higher than that of all who call it.
    pub priority: u8,
    /// KiB of heap.
    pub heap_kib: u32,
    /// KiB of journal since its last snapshot, and as much again before that; none for a reissued server.
    #[serde(default)]
    pub journal_kib: u32,
    /// KiB for each of its three snapshots: the last two, and one that is being made; none for a reissued server.
    #[serde(default)]
    pub snapshot_kib: u32,
    /// KiB of arena that outlive an incarnation.
    #[serde(default)]
    pub arena_kib: u32,
    /// KiB of memory for DMA.
    #[serde(default)]
    pub dma_kib: u32,
    /// The servers that it may call, in the order in which root hands it their handles.
    #[serde(default)]
    pub calls: Vec<String>,
    /// The servers above it to which it may forward a caller or post a notification, never a call of its own.
    #[serde(default)]
    pub forwards: Vec<String>,
    /// It gets every frame that is left.
    #[serde(default)]
    pub frames: bool,
    /// It may look at every server, make it fail, and see to the trace.
    #[serde(default)]
    pub observes: bool,
    /// Milliseconds of CPU that it may use for one event; then it is taken to loop for ever, and dies.
    #[serde(default = "watchdog_ms")]
    pub watchdog_ms: u32,
    /// The machine stops when it is given up: no program can go on without it.
    #[serde(default)]
    pub vital: bool,
    /// What it may own of the machine's kernel objects.
    #[serde(default)]
    pub quotas: Quotas,
    /// The I/O ports that it may use.
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// The ISA interrupt lines that it receives.
    #[serde(default)]
    pub irqs: Vec<u8>,
    /// The PCI devices that it drives: every one present with one of these ids.
    #[serde(default)]
    pub pci: Vec<PciId>,
}

/// What no event takes, even where the machine is slow: a death too many is not noticed, a hang is.
fn watchdog_ms() -> u32 {
    4000
}

/// How many objects of each kind a server may own at a time, in thousandths of what the machine has of it: large
/// machines have more. What is not given is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// Tasks of programs.
    pub tasks: u32,
    /// Their threads.
    pub threads: u32,
    /// Address spaces.
    pub spaces: u32,
    /// Sessions.
    pub sessions: u32,
    /// Watches that outlive a call.
    pub watches: u32,
    /// Calls it has sent and not yet had answered.
    pub calls: u32,
}

impl Quotas {
    /// By kind.
    pub fn of(&self, kind: Owned) -> u32 {
        match kind {
            Owned::Tasks => self.tasks,
            Owned::Threads => self.threads,
            Owned::Spaces => self.spaces,
            Owned::Sessions => self.sessions,
            Owned::Watches => self.watches,
            Owned::Calls => self.calls,
        }
    }
}

/// A range of I/O ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first port.
    pub base: u16,
    /// How many.
    pub len: u16,
}

/// A PCI device's identity, written `vendor:device` in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
}

impl TryFrom<String> for PciId {
    type Error = ManifestError;

    fn try_from(text: String) -> Result<Self, ManifestError> {
        let number = |digits: &str| match digits.len() {
            4 if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                u16::from_str_radix(digits, 16).ok()
            }
            _ => None,
        };
        text.split_once(':')
            .and_then(|(vendor, device)| Some(Self { vendor: number(vendor)?, device: number(device)? }))
            .ok_or(ManifestError::PciId(text))
    }
}

impl From<PciId> for String {
    fn from(id: PciId) -> Self {
        format!("{:04x}:{:04x}", id.vendor, id.device)
    }
}

/// Where foreign system calls go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personality {
    /// Programs for Linux.
    pub linux: Fallback,
}

/// The servers of a personality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The servers that answer calls which are not about an open descriptor, in the order of the task's slots.
    pub default: Vec<String>,
}

/// One file system in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The absolute path of the mount point.
    pub at: String,
    /// The server that answers for everything below.
    pub server: String,
    /// What the server takes its files from, such as `disk0`; none for one that makes them up.
    pub source: Option<String>,
    /// How it is mounted.
    #[serde(default)]
    pub flags: BTreeSet<MountFlag>,
}

/// A property of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountFlag {
    /// Nothing below can be changed.
    Ro,
}

/// The first program and the terminal that it finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The program's path.
    pub path: Vec<u8>,
    /// Its arguments, beginning with the name it is called by.
    pub argv: Vec<Vec<u8>>,
    /// Its environment, as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Rows of the terminal; 0 when it is not known.
    pub rows: u16,
    /// Columns of the terminal; 0 when it is not known.
    pub cols: u16,
    /// The machine ends with the program, and hands its status to the host.
    pub exit_on_end: bool,
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// The encoded bytes are cut or damaged.
    Damaged,
    /// Two servers have this name.
    Duplicate(String),
    /// No server is called root.
    NoRoot,
    /// `by` refers to a server that the manifest does not have.
    UnknownServer {
        /// Who refers: a server, a mount point or a personality.
        by: String,
        /// The name that is not there.
        name: String,
    },
    /// Servers that call each other in a circle; the first one is named again at the end.
    Cycle(Vec<String>),
    /// A server is called by one that is at least as important, and so could keep it waiting for its inferiors.
    Priority {
        /// Who calls.
        caller: String,
        /// Whom it calls.
        callee: String,
    },
    /// A journaled server without journal or snapshot, or a reissued one with either.
    Journal(String),
    /// A mount point that is not an absolute path, or is given twice, or the first is not `/`.
    MountPoint(String),
    /// A quota of more than all there is.
    Quota(String),
    /// Not a PCI identity.
    PciId(String),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the encoded bytes are damaged"),
            Self::Duplicate(name) => write!(f, "there are two servers called `{name}`"),
            Self::NoRoot => f.write_str("there is no server called `root`"),
            Self::UnknownServer { by, name } => {
                write!(f, "{by} names the server `{name}`, which does not exist")
            }
            Self::Cycle(names) => write!(f, "the order of calls has a cycle: {}", names.join(" -> ")),
            Self::Priority { caller, callee } => write!(
                f,
                "`{caller}` calls `{callee}`, so `{callee}` must have the higher priority: whoever is waited for runs first"
            ),
            Self::Journal(name) => write!(
                f,
                "`{name}`: a journaled server needs journal_kib and snapshot_kib, a reissued one has neither"
            ),
            Self::MountPoint(at) => {
                write!(f, "the mount point `{at}` must be an absolute path given once, and `/` comes first")
            }
            Self::Quota(name) => write!(f, "`{name}` has a quota of more than a thousand thousandths"),
            Self::PciId(text) => write!(f, "`{text}` is not a PCI identity such as `1af4:1001`"),
        }
    }
}

impl core::error::Error for ManifestError {}

impl ServerEntry {
    /// The package it is built from.
    pub fn package(&self) -> &str {
        self.package.as_deref().unwrap_or(&self.name)
    }
}

impl Manifest {
    /// The server called `name`.
    pub fn server(&self, name: &str) -> Option<&ServerEntry> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Checks what the types do not: names, the order of calls, journals and mount points.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut calls = BTreeMap::new();
        for server in &self.servers {
            if calls.insert(server.name.as_str(), server.calls.as_slice()).is_some() {
                return Err(ManifestError::Duplicate(server.name.clone()));
            }
            let recorded = server.journal_kib != 0 && server.snapshot_kib != 0;
            let bare = server.journal_kib == 0 && server.snapshot_kib == 0;
            if !(if server.class == Class::Journaled { recorded } else { bare }) {
                return Err(ManifestError::Journal(server.name.clone()));
            }
            if Owned::ALL.iter().any(|kind| server.quotas.of(*kind) > 1000) {
                return Err(ManifestError::Quota(server.name.clone()));
            }
        }
        if !calls.contains_key(ROOT) {
            return Err(ManifestError::NoRoot);
        }
        self.check_references(&calls)?;
        self.check_mount_points()?;
        check_order(&calls)?;
        self.check_priorities()
    }

    /// A server runs before all that call it, so that nobody ever waits for one that less important ones keep from
    /// running: no priority has to be inherited.
    fn check_priorities(&self) -> Result<(), ManifestError> {
        for caller in &self.servers {
            for callee in caller.calls.iter().filter_map(|name| self.server(name)) {
                if callee.priority <= caller.priority {
                    let (caller, callee) = (caller.name.clone(), callee.name.clone());
                    return Err(ManifestError::Priority { caller, callee });
                }
            }
        }
        Ok(())
    }

    fn check_references(&self, known: &BTreeMap<&str, &[String]>) -> Result<(), ManifestError> {
        let calls = self.servers.iter().flat_map(|server| {
            server.calls.iter().chain(&server.forwards).map(move |name| (format!("`{}`", server.name), name))
        });
        let mounts = self.mounts.iter().map(|mount| (format!("the mount `{}`", mount.at), &mount.server));
        let fallbacks =
            self.personality.linux.default.iter().map(|name| ("the Linux personality".to_owned(), name));
        for (by, name) in calls.chain(mounts).chain(fallbacks) {
            if !known.contains_key(name.as_str()) {
                return Err(ManifestError::UnknownServer { by, name: name.clone() });
            }
        }
        Ok(())
    }

    fn check_mount_points(&self) -> Result<(), ManifestError> {
        let mut seen = BTreeSet::new();
        for mount in &self.mounts {
            let first = seen.is_empty();
            let sound = if first {
                mount.at == "/"
            } else {
                mount.at.starts_with('/') && !mount.at.ends_with('/') && !mount.at.contains("//")
            };
            if !sound || !seen.insert(&mount.at) {
                return Err(ManifestError::MountPoint(mount.at.clone()));
            }
        }
        Ok(())
    }
}

/// Takes away servers that call none of those left until nothing is left; what remains then calls in circles.
fn check_order(calls: &BTreeMap<&str, &[String]>) -> Result<(), ManifestError> {
    let mut left: BTreeSet<&str> = calls.keys().copied().collect();
    loop {
        let waits =
            |name: &&str| calls.get(name).is_some_and(|to| to.iter().any(|to| left.contains(to.as_str())));
        let stuck: BTreeSet<&str> = left.iter().copied().filter(waits).collect();
        if stuck.is_empty() {
            return Ok(());
        }
        if stuck.len() == left.len() {
            return Err(ManifestError::Cycle(circle(calls, &stuck)));
        }
        left = stuck;
    }
}

/// Walks from one stuck server to the next until one comes again.
fn circle(calls: &BTreeMap<&str, &[String]>, stuck: &BTreeSet<&str>) -> Vec<String> {
    let next =
        |name: &str| calls.get(name)?.iter().find(|to| stuck.contains(to.as_str())).map(String::as_str);
    let mut path: Vec<&str> = stuck.first().copied().into_iter().collect();
    while let Some(name) = path.last().and_then(|last| next(last)) {
        let before = path.iter().position(|&seen| seen == name);
        path.push(name);
        if let Some(start) = before {
            path.drain(..start);
            break;
        }
    }
    path.into_iter().map(ToOwned::to_owned).collect()
}

/// The form in which [`Manifest`] and [`Session`] travel in the boot archive.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ManifestError> {
    postcard::to_allocvec(value).map_err(|_| ManifestError::Damaged)
}

/// Reads what [`encode`] made.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ManifestError> {
    postcard::from_bytes(bytes).map_err(|_| ManifestError::Damaged)
}

#[cfg(test)]
mod tests;
