//! QEMU's command line: the machine that Naiad runs on, as a value.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::capture::RING_MIB;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Makes the kernel end QEMU when xtask dies in a way that leaves it no time to do so itself.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A disk of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub path: PathBuf,
    /// The guest's changes reach the file; otherwise they are gone when the machine ends.
    pub writable: bool,
}

impl Disk {
    /// Reads `IMG` or `IMG:rw`.
    pub fn parse(argument: &Path) -> Result<Self> {
        let writable = argument.to_str().and_then(|text| text.strip_suffix(":rw"));
        let disk =
            Self { path: writable.map_or(argument, Path::new).to_owned(), writable: writable.is_some() };
        ensure!(disk.path.exists(), "there is no disk image {}", disk.path.display());
        Ok(disk)
    }
}

/// A machine, ready to be started.
#[derive(Clone, Debug)]
pub struct Qemu {
    pub kernel: PathBuf,
    pub archive: PathBuf,
    pub disks: Vec<Disk>,
    pub mem_mib: u32,
    /// The guest's terminal is a real one: ^A is QEMU's escape key, ^A x ends the machine.
    pub escape_key: bool,
    /// The scheduling seed, a word of the kernel's command line.
    pub seed: Option<u64>,
    /// The file that is its memory, for somebody to look on, and what the kernel is told of that.
    pub shared: Option<(PathBuf, String)>,
    pub icount: bool,
    /// When the kernel is to panic, in seconds.
    pub panic: Option<u32>,
    pub gdb: bool,
    pub extra: Vec<String>,
}

impl Qemu {
    /// The command that starts it: COM1 on stdin and stdout, COM2 on stderr, between QEMU's own complaints.
    pub fn command(&self) -> Command {
        let mut command = if Path::new(SETPRIV).exists() {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "KILL", "--", QEMU]);
            command
        } else {
            Command::new(QEMU)
        };
        command.args(self.arguments());
        command
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        let memory = self.mem_mib + if self.shared.is_some() { RING_MIB } else { 0 };
        let machine = if self.shared.is_some() { "pc,memory-backend=ram" } else { "pc" };
        add(&["-machine", machine, "-m", &memory.to_string(), "-rtc", "base=utc"]);
        add(&["-nodefaults", "-no-reboot", "-display", "none"]);
        let mux = if self.escape_key { "on" } else { "off" };
        add(&["-chardev", &format!("stdio,id=com1,signal=off,mux={mux}"), "-serial", "chardev:com1"]);
        add(&["-chardev", "file,id=com2,path=/dev/stderr,append=on", "-serial", "chardev:com2"]);
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if self.icount {
            add(&["-icount", "shift=0,sleep=off"]);
        }
        if self.gdb {
            add(&["-s", "-S"]);
        }
        arguments.extend(["-kernel".into(), self.kernel.clone().into()]);
        arguments.extend(["-initrd".into(), self.archive.clone().into()]);
        if let Some((path, _)) = &self.shared {
            let mut object =
                OsString::from(format!("memory-backend-file,id=ram,size={memory}M,share=on,mem-path="));
            object.push(in_option(path));
            arguments.extend(["-object".into(), object]);
        }
        let seed = self.seed.map(|seed| format!("seed={seed}"));
        let panic = self.panic.map(|seconds| format!("panic={seconds}"));
        let words = seed.iter().chain(&panic).chain(self.shared.iter().map(|(_, line)| line));
        let words: Vec<&str> = words.map(String::as_str).collect();
        if !words.is_empty() {
            arguments.extend(["-append".into(), words.join(" ").into()]);
        }
        for (number, disk) in self.disks.iter().enumerate() {
            arguments.extend(["-drive".into(), drive(number, disk)]);
            arguments.extend(["-device".into(), format!("virtio-blk-pci,drive=disk{number}").into()]);
        }
        arguments.extend(self.extra.iter().map(OsString::from));
        arguments
    }
}

fn drive(number: usize, disk: &Disk) -> OsString {
    let snapshot = if disk.writable { "off" } else { "on" };
    let mut option = OsString::from(format!("if=none,id=disk{number},format=raw,snapshot={snapshot},file="));
    option.push(in_option(&disk.path));
    option
}

/// A path as an option's value: a comma is written twice.
fn in_option(path: &Path) -> OsString {
    let mut option = OsString::new();
    for (index, part) in path.as_os_str().as_encoded_bytes().split(|&byte| byte == b',').enumerate() {
        if index > 0 {
            option.push(",,");
        }
        option.push(std::os::unix::ffi::OsStrExt::from_bytes(part) as &std::ffi::OsStr);
    }
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(change: impl FnOnce(&mut Qemu)) -> String {
        let mut qemu = Qemu {
            kernel: "K".into(),
            archive: "A".into(),
            disks: vec![Disk { path: "one,two.img".into(), writable: false }],
            mem_mib: 256,
            escape_key: false,
            seed: None,
            shared: None,
            icount: false,
            panic: None,
            gdb: false,
            extra: vec!["-d".into(), "int".into()],
        };
        change(&mut qemu);
        qemu.arguments().join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn the_machine_never_uses_kvm_and_always_ends() {
        let line = arguments(|_| {});
        assert!(!line.contains("kvm") && line.contains("-no-reboot") && line.contains("isa-debug-exit"));
    }

    #[test]
    fn disks_are_numbered_in_order_and_kept_unless_writable() {
        let line = arguments(|qemu| qemu.disks.push(Disk { path: "b".into(), writable: true }));
        assert!(line.contains("id=disk0,format=raw,snapshot=on,file=one,,two.img "), "{line}");
        assert!(line.contains("id=disk1,format=raw,snapshot=off,file=b "), "{line}");
        assert!(line.find("drive=disk0") < line.find("drive=disk1"));
    }

    #[test]
    fn switches_add_their_flags_and_the_users_come_last() {
        assert!(!arguments(|_| {}).contains("-icount") && !arguments(|_| {}).contains(" -S"));
        assert!(arguments(|qemu| qemu.icount = true).contains("-icount shift=0,sleep=off"));
        assert!(!arguments(|_| {}).contains("-append"));
        assert!(arguments(|qemu| qemu.seed = Some(7)).contains("-append seed=7 "));
        assert!(arguments(|qemu| qemu.panic = Some(9)).contains("-append panic=9 "));
        let shared = arguments(|qemu| {
            qemu.seed = Some(7);
            qemu.shared = Some(("/a,b".into(), "trace=1".to_owned()));
        });
        assert!(shared.contains("-append seed=7 trace=1 ") && shared.contains("-m 273 "), "{shared}");
        assert!(shared.contains("size=273M,share=on,mem-path=/a,,b "), "{shared}");
        assert!(arguments(|qemu| qemu.gdb = true).contains("-s -S"));
        assert!(arguments(|_| {}).ends_with("-d int"));
    }

    #[test]
    fn a_disk_may_ask_to_be_written_and_must_exist() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        assert!(!Disk::parse(file.path()).unwrap().writable);
        assert!(Disk::parse(Path::new(&format!("{name}:rw"))).unwrap().writable);
        assert!(Disk::parse(Path::new("/nonexistent.img")).is_err());
    }
}
