//! Installs what the build and QEMU need from Debian, and only that.

use std::{
    env, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::terminal;

/// A file that must be there, and the package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/bin/gdb", "gdb"),
    ("/usr/sbin/makefs", "makefs"),
    ("/var/lib/dpkg/info/busybox-static.list", "busybox-static"),
    ("/usr/bin/ld.lld-19", "lld-19"),
    ("/usr/bin/strace", "strace"),
];

/// What some tests need besides: programs of others, that look at what Naiad's tools write.
const FOR_TESTS: &[(&str, &str)] = &[
    ("/usr/bin/tshark", "tshark"),
    ("/usr/bin/chromium", "chromium"),
    ("/usr/bin/node", "nodejs"),
    ("/usr/bin/pip3", "python3-pip"),
];

/// Debian's matching compiler and library sources.
const TOOLCHAIN: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler that has the sources of the library, which `no_std` targets are built from.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub rustc: PathBuf,
    pub cargo: PathBuf,
}

/// Installs what is missing; at once done when nothing is.
pub fn ensure() -> Result<()> {
    let mut missing = missing(NEEDED);
    if toolchain().is_none() {
        missing.extend(TOOLCHAIN);
    }
    install(&missing)
}

/// The same for a test that has a program of others look at something. The program.
pub fn ensure_for_test(package: &str) -> Result<&'static Path> {
    let row = FOR_TESTS.iter().find(|(_, other)| *other == package);
    let row = row.with_context(|| format!("no test needs {package}"))?;
    install(&missing(&[*row]))?;
    Ok(Path::new(row.0))
}

fn missing(needed: &[(&str, &'static str)]) -> Vec<&'static str> {
    needed.iter().filter(|(file, _)| !Path::new(file).exists()).map(|&(_, package)| package).collect()
}

/// The default toolchain if it has the library's sources, else Debian's.
pub fn toolchain() -> Option<Toolchain> {
    let default = env::var_os("CARGO").map(PathBuf::from).or_else(default_cargo);
    default
        .iter()
        .filter_map(|cargo| cargo.parent()?.parent())
        .chain([Path::new("/usr")])
        .find_map(in_sysroot)
}

/// Without cargo's own word for it, which comes with `cargo xtask`, rustc is asked; that takes longer.
fn default_cargo() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    Some(Path::new(String::from_utf8(output.stdout).ok()?.trim()).join("bin/cargo"))
}

fn in_sysroot(sysroot: &Path) -> Option<Toolchain> {
    let toolchain = Toolchain { rustc: sysroot.join("bin/rustc"), cargo: sysroot.join("bin/cargo") };
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    [&toolchain.rustc, &toolchain.cargo, &sources].iter().all(|path| path.exists()).then_some(toolchain)
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let root = rustix::process::geteuid().is_root();
    let update = ["apt-get", "update"];
    let install: Vec<&str> =
        ["apt-get", "install", "--yes", "--no-install-recommends"].iter().chain(packages).copied().collect();
    let prefix: &[&str] = if root { &[] } else { &["sudo"] };
    let by_hand = format!(
        "{} && {}",
        [prefix, &update].concat().join(" "),
        [prefix, install.as_slice()].concat().join(" ")
    );
    ensure!(in_path("apt-get"), "needed and not there: {}; on Debian: {by_hand}", packages.join(", "));
    ensure!(root || in_path("sudo"), "missing packages; as root, run: {}", by_hand.replace("sudo ", ""));

    terminal::tell(&format!("naiad: installing {}", packages.join(", ")));
    for command in [&update[..], &install] {
        let command = [prefix, command].concat();
        terminal::tell(&format!("+ {}", command.join(" ")));
        let status = Command::new(command[0])
            .args(&command[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
            .status()
            .with_context(|| format!("cannot run {}", command[0]))?;
        if !status.success() {
            bail!("`{}` failed; to install by hand: {by_hand}", command.join(" "));
        }
    }
    Ok(())
}

fn in_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysroot_counts_only_with_sources_and_both_programs() {
        let sysroot = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = sysroot.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        put("bin/rustc");
        put("bin/cargo");
        assert!(in_sysroot(sysroot.path()).is_none());
        put("lib/rustlib/src/rust/library/core/src/lib.rs");
        assert!(in_sysroot(sysroot.path()).is_some());
    }
}
