//! `cargo xtask run`: builds everything, boots it, and ends with the status of the guest's first program.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use libipc::manifest::{Manifest, ROOT, Session};

use crate::{
    build::{self, Images},
    bundle,
    capture::Capture,
    cli::{Addition, Arch, RunArgs},
    gdb, house, image,
    machine::{self, Ending, Terminal},
    qemu::{Disk, Qemu},
    setup, sizes,
    symbols::Symbols,
    system,
    terminal::{self, tell},
};

/// The environment that every first program finds, besides TERM.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    ("HOME", "/root"),
    ("LOGNAME", "root"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
    ("SHELL", "/bin/sh"),
    ("USER", "root"),
];

/// Rows and columns of a terminal that nobody looks at.
pub const SCREEN: (u16, u16) = (24, 80);

/// Where QEMU listens for gdb.
const GDB_PORT: &str = ":1234";

/// Everything that is built once and then booted any number of times.
#[derive(Clone)]
pub struct Built {
    manifest: Manifest,
    images: Images,
    pub programs: Vec<PathBuf>,
    /// The servers' names and images, whatever the machine boots from. Root cannot be upgraded.
    sound: Vec<(String, PathBuf)>,
}

/// Where the guest has the images of `--images`.
const BOOT: &str = "/boot";

impl Built {
    /// Installs what is missing and builds what is out of date.
    pub fn new() -> Result<Self> {
        Self::of(system::SYSTEM)
    }

    /// The same for another manifest.
    pub fn of(manifest: &str) -> Result<Self> {
        let manifest = system::load(manifest)?;
        setup::ensure()?;
        let images = build::images(&manifest)?;
        let programs = build::linux_programs()?;
        let sound = images.servers.iter().filter(|(name, _)| name != ROOT).cloned().collect();
        Ok(Self { manifest, images, programs, sound })
    }

    /// How much code each server has for recovery alone, as a table.
    pub fn sizes(&self) -> Result<String> {
        sizes::table(&self.images.servers)
    }

    /// The servers' names, in the order of their numbers, which begin at 1.
    pub fn server_names(&self) -> Vec<String> {
        self.manifest.servers.iter().map(|server| server.name.clone()).collect()
    }

    /// A server's image, with its symbols.
    pub fn server_image(&self, name: &str) -> Option<&Path> {
        let mut servers = self.images.servers.iter();
        servers.find(|(server, _)| server == name).map(|(_, image)| image.as_path())
    }

    /// Writes the script by which gdb looks at a machine that listens there.
    pub fn gdb_script(&self, target: &str) -> Result<PathBuf> {
        gdb::script(&self.images, target)
    }

    /// The same with a server that has a bug on purpose in the place of the sound one.
    pub fn with_seeded_bug(mut self) -> Result<Self> {
        let (name, image) = build::seeded_bug()?;
        for (server, place) in &mut self.images.servers {
            if server == name {
                place.clone_from(&image);
            }
        }
        Ok(self)
    }

    /// Names for the addresses in the console log.
    pub fn symbols(&self) -> Symbols {
        Symbols::new(&self.images.kernel, &self.images.servers)
    }

    /// A folder with the image of each server, as it is in the sources.
    fn server_images(&self) -> Result<PathBuf> {
        let folder = house::target().join("boot");
        fs::create_dir_all(&folder)?;
        for (name, path) in &self.sound {
            let (image, place) = (bundle::server_image(name, path)?, folder.join(name));
            if fs::read(&place).ok().as_ref() != Some(&image) {
                fs::write(place, image)?;
            }
        }
        Ok(folder)
    }

    /// Boots one machine as `args` say.
    pub fn boot(
        &self,
        args: &RunArgs,
        session: &Session,
        terminal: Terminal<'_>,
        tell: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Ending> {
        let mut additions = args.add.clone();
        if args.images {
            additions.push(Addition { host: self.server_images()?, guest: BOOT.into() });
        }
        let mut disks = vec![image::root_disk(args.root.as_deref(), &additions, &self.programs)?];
        for disk in &args.disk {
            disks.push(Disk::parse(disk)?);
        }
        let archive = tempfile::Builder::new().prefix("archive-").tempfile_in(house::target())?;
        fs::write(archive.path(), bundle::compose(&self.manifest, &self.images, session)?)?;
        let mut capture = Capture::begin(args, &self.server_names(), &self.images.kernel)?;
        let qemu = Qemu {
            kernel: self.images.kernel.clone(),
            archive: archive.path().to_owned(),
            disks,
            mem_mib: args.mem,
            escape_key: matches!(terminal, Terminal::Own) && on_terminal(),
            seed: args.seed,
            shared: capture.as_ref().map(|capture| (capture.memory().to_owned(), capture.command_line())),
            icount: args.icount,
            panic: args.panic,
            gdb: args.gdb,
            extra: args.qemu.clone(),
        };
        let timeout = args.timeout.map(Duration::from_secs);
        let ending = machine::run(&qemu, terminal, timeout, capture.as_mut(), tell)?;
        match capture.map(Capture::finish) {
            Some(Ok(said)) => said.iter().for_each(|line| tell(&format!("naiad: {line}"))),
            Some(Err(error)) => tell(&format!("naiad: {error:#}")),
            None => {}
        }
        Ok(ending)
    }
}

/// Runs the machine on xtask's own terminal and returns the status to end with.
pub fn run(args: &RunArgs) -> Result<u8> {
    check(args)?;
    let mut built = Built::new()?;
    if args.seeded_bug {
        built = built.with_seeded_bug()?;
    }
    if args.gdb {
        let script = built.gdb_script(GDB_PORT)?;
        tell(&format!(
            "naiad: waiting for `gdb -x {}`, which has commands that begin with `naiad`",
            script.display()
        ));
    }
    if args.command.is_none() && on_terminal() {
        tell("naiad: ^A x ends the machine");
    }
    let term = env::var("TERM").ok().filter(|_| on_terminal()).unwrap_or_else(|| "dumb".to_owned());
    let session = session(args.command.as_deref(), terminal::size(), &term);
    let symbols = built.symbols();
    let mut tell_more = |line: &str| {
        tell(line);
        symbols.explain(line).iter().for_each(|place| tell(place));
    };
    let ending = built.boot(args, &session, Terminal::Own, &mut tell_more)?;
    if let Some(message) = ending.message() {
        tell(&format!("naiad: {message}"));
    }
    Ok(ending.status())
}

/// Refuses what the command line promises and this version cannot do yet.
pub fn check(args: &RunArgs) -> Result<()> {
    ensure!(args.arch == Arch::X86_64, "--arch i386: Naiad does not run on i386 yet");
    ensure!(args.smp == 1, "--smp {}: Naiad does not run on more than one processor yet", args.smp);
    ensure!(args.mem >= 48, "--mem {}: Naiad needs 48 MiB or more", args.mem);
    Ok(())
}

/// The first program: `command` in a shell, or a login shell.
pub fn session(command: Option<&str>, (rows, cols): (u16, u16), term: &str) -> Session {
    let argv: Vec<&str> = command.map_or_else(|| vec!["-sh"], |command| vec!["/bin/sh", "-c", command]);
    let variables = ENVIRONMENT.iter().copied().chain([("TERM", term)]);
    Session {
        path: b"/bin/sh".to_vec(),
        argv: argv.into_iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        env: variables.map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        rows,
        cols,
        exit_on_end: true,
    }
}

fn on_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn refusal(line: &str) -> String {
        let Command::Run(args) = Cli::parse_from(line.split(' ')).command else { panic!("not `run`") };
        check(&args).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_done_yet_is_refused_by_name() {
        assert!(refusal("xtask run --arch i386").contains("i386"));
        assert!(refusal("xtask run --smp 2").contains("--smp 2"));
        assert!(refusal("xtask run --mem 8").contains("--mem 8"));
    }

    #[test]
    fn a_command_runs_in_a_shell_and_nothing_is_a_login_shell() {
        let command = session(Some("exit 3"), (24, 80), "vt100");
        assert_eq!(command.argv, [b"/bin/sh".to_vec(), b"-c".to_vec(), b"exit 3".to_vec()]);
        assert!(command.env.contains(&b"TERM=vt100".to_vec()));
        let login = session(None, (0, 0), "dumb");
        assert_eq!((login.argv, login.path), (vec![b"-sh".to_vec()], b"/bin/sh".to_vec()));
    }
}
