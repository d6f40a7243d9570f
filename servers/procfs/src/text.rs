//! What the files say, in Linux's words where Linux has the file.

mod mounts;
mod naiad;
mod process;
mod system;

use alloc::{format, string::String, vec::Vec};

use libipc::linux::errno::*;
use libipc::server::Env;

use crate::Procfs;
use crate::tree::{Kind, Node, PID_MAX};

/// Clock ticks in a second, as programs take them to be (sysconf _SC_CLK_TCK).
const TICKS_PER_S: u64 = 100;
const NS_PER_S: u64 = 1_000_000_000;
const PAGE_KIB: u64 = 4;

impl Procfs {
    /// The text of a file, as it is now.
    ///
    /// # Errors
    /// `ENOENT` when its process is gone, `EISDIR` for a directory, `EIO` when a server below does not answer.
    pub(crate) fn text(&self, node: Node, env: &mut dyn Env) -> Result<Vec<u8>, i32> {
        Ok(match node.kind {
            Kind::MemInfo => system::meminfo(&self.memory(env)?).into_bytes(),
            Kind::Uptime => system::uptime(env).into_bytes(),
            Kind::LoadAverage => system::load_average(&self.load(env)?).into_bytes(),
            Kind::SystemStat => system::stat(&self.load(env)?, self.epoch_s, env).into_bytes(),
            Kind::CpuInfo => system::cpuinfo().into_bytes(),
            Kind::Version => system::version().into_bytes(),
            Kind::FileSystems => b"nodev\tproc\nnodev\ttmpfs\n\tufs\n".to_vec(),
            Kind::Mounts | Kind::ProcessMounts => mounts::mounts(&self.mounts),
            Kind::MountInfo => mounts::mount_info(&self.mounts),
            Kind::CorePattern => [&self.core_pattern[..], b"\n"].concat(),
            Kind::HostName => [&self.host_name(env)[..], b"\n"].concat(),
            Kind::OsType => system::line(libipc::linux::uts::SYSNAME),
            Kind::OsRelease => system::line(libipc::linux::uts::RELEASE),
            Kind::PidMax => system::line(&format!("{PID_MAX}")),
            Kind::BootId => system::line(&system::boot_id(self.seed)),
            Kind::Overcommit => system::line("0"),
            Kind::Incarnations => self.incarnations(env).into_bytes(),
            Kind::Crashes => self.crashes(env).into_bytes(),
            Kind::Counters => naiad::counters(env).into_bytes(),
            Kind::Waits => self.waits(env).into_bytes(),
            Kind::Enosys => naiad::enosys(env).into_bytes(),
            Kind::ServerStatus => self.server_status(node.id, env)?.into_bytes(),
            Kind::ServerControl
            | Kind::ServerImage
            | Kind::ServerDigest
            | Kind::ServerJournal
            | Kind::Reproducer
            | Kind::Trace
            | Kind::Core => Vec::new(),
            _ => return self.process_text(node, env),
        })
    }

    fn process_text(&self, node: Node, env: &mut dyn Env) -> Result<Vec<u8>, i32> {
        if node.is_directory() {
            return Err(EISDIR);
        }
        if node.kind == Kind::DescriptorInfo {
            return Ok(process::descriptor(&self.descriptor(node.id, node.tid, env)?).into_bytes());
        }
        let info = self.process(node.id, env)?;
        Ok(match node.kind {
            Kind::CommandLine => info.command_line,
            Kind::Environment => info.environment,
            Kind::Name | Kind::ThreadName => [&info.name[..], b"\n"].concat(),
            Kind::Stat => process::stat(&info, info.pid, &self.space(info.space, env)?),
            Kind::ThreadStat => process::stat(&info, node.tid, &self.space(info.space, env)?),
            Kind::StatM => process::statm(&self.space(info.space, env)?).into_bytes(),
            Kind::Status => process::status(&info, info.pid, &self.space(info.space, env)?),
            Kind::ThreadStatus => process::status(&info, node.tid, &self.space(info.space, env)?),
            Kind::Maps => process::maps(&info, &self.space(info.space, env)?),
            Kind::Limits => process::limits(&self.limits(node.id, env)?).into_bytes(),
            _ => return Err(EINVAL),
        })
    }
}

/// Pads a table's columns to their widest cells; numbers stand right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let width = width(column);
            let number = cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            line.push_str(&match (number, column + 1 == columns) {
                (true, _) => format!("{gap}{cell:>width$}"),
                (false, true) => format!("{gap}{cell}"),
                (false, false) => format!("{gap}{cell:<width$}"),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
