//! Calls cargo: once for the kernel, once for all servers, once for the Linux test programs.
//!
//! The three differ in flags and toolchain, so each has its own target folder and none rebuilds what another built.

use std::{
    collections::BTreeSet,
    env, fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use libipc::manifest::{Manifest, ServerEntry};

use crate::{house, setup};

const TARGET: &str = "x86_64-unknown-none";
const LINUX_TARGET: &str = "x86_64-unknown-linux-gnu";
const LINKER: &str = "/usr/bin/ld.lld-19";

/// Frame pointers are what the kernel's epitaph walks along.
const FRAME_POINTERS: &str = "-Cforce-frame-pointers=yes";
/// What always lies where it was linked for.
const STATIC: &[&str] = &["-Crelocation-model=static"];

/// Variables by which the user's flags, meant for the host, would reach what is built for Naiad.
const INHERITED: [&str; 4] = ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"];

/// What the machine boots from.
#[derive(Clone)]
pub struct Images {
    pub kernel: PathBuf,
    /// A server's name and its image, as in the manifest.
    pub servers: Vec<(String, PathBuf)>,
    /// The shared object that is in every program's memory.
    pub vdso: PathBuf,
}

/// What is built at once for the bare machine.
struct Part {
    /// Its name, which is its target folder's.
    name: &'static str,
    /// Of `boot/`.
    script: &'static str,
    code_model: &'static str,
    link: &'static [&'static str],
    /// How it names addresses of its own.
    addresses: &'static [&'static str],
    features: &'static [&'static str],
    /// How much debuggers are told: what of it there is stays out of the machine.
    debug: &'static str,
}

/// Names and lines of code.
const LINES: &str = "1";

const KERNEL: Part = Part {
    name: "kernel",
    script: "kernel.ld",
    code_model: "kernel",
    link: &[],
    addresses: STATIC,
    features: &[],
    // The script for gdb (`xtask/src/gdb/naiad.py`) reads its types.
    debug: "2",
};
const SERVERS: Part = Part {
    name: "servers",
    script: "server.ld",
    code_model: "small",
    link: &[],
    addresses: STATIC,
    features: &[],
    debug: LINES,
};
/// A server with a bug on purpose.
const SEEDED: Part = Part { name: "seeded", features: &["proc/seeded-bug"], ..SERVERS };
const VDSO: Part = Part {
    name: "vdso",
    script: "vdso.ld",
    code_model: "small",
    link: &["-no-pie", "-shared", "-soname=linux-vdso.so.1", "--hash-style=both", "-znorelro"],
    // It lies elsewhere in each program, and has no table of addresses that somebody would have to fill in.
    addresses: &["-Crelocation-model=pic", "-Zplt=yes"],
    features: &[],
    debug: LINES,
};

/// Builds the kernel and the servers of the manifest.
pub fn images(manifest: &Manifest) -> Result<Images> {
    let kernel = freestanding(&KERNEL, &["microkernel"])?;
    let packages: BTreeSet<&str> = manifest.servers.iter().map(ServerEntry::package).collect();
    let built = freestanding(&SERVERS, &Vec::from_iter(packages))?;
    let vdso = freestanding(&VDSO, &["vdso"])?;
    let servers = manifest.servers.iter();
    Ok(Images {
        kernel: kernel.join("microkernel"),
        servers: servers.map(|server| (server.name.clone(), built.join(server.package()))).collect(),
        vdso: vdso.join("vdso"),
    })
}

/// The image of a server with a bug on purpose, and the server's name.
pub fn seeded_bug() -> Result<(&'static str, PathBuf)> {
    const BUGGY: &str = "proc";
    let built = freestanding(&SEEDED, &[BUGGY])?;
    Ok((BUGGY, built.join(BUGGY)))
}

/// Builds `packages` for the bare machine and returns the folder with the results.
fn freestanding(part: &Part, packages: &[&str]) -> Result<PathBuf> {
    let toolchain =
        setup::toolchain().context("no toolchain has the library's sources; run `cargo xtask setup`")?;
    let script = house::root().join("boot").join(part.script);
    let mut flags: Vec<String> = part.addresses.iter().map(|flag| (*flag).to_owned()).collect();
    flags.push(FRAME_POINTERS.to_owned());
    flags.push(format!("-Clinker={LINKER}"));
    flags.push(format!("-Ccode-model={}", part.code_model));
    flags.push(format!("-Clink-arg=-T{}", script.display()));
    flags.extend(part.link.iter().map(|argument| format!("-Clink-arg={argument}")));

    let folder = house::target().join(part.name);
    let built = folder.join(TARGET).join("release");
    forget_older_than(&script, &built.join("deps"), packages)?;
    let mut cargo = cargo(&toolchain.cargo, &folder);
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"])
        .args(["--target", TARGET]);
    // What runs in the machine is small and on every path: each image is optimised as a whole. Who waits for builds
    // more than for the machine sets cargo's own variables: `CARGO_PROFILE_RELEASE_LTO=off` halves a build.
    for (key, value) in [("LTO", "fat"), ("CODEGEN_UNITS", "1"), ("OPT_LEVEL", "3")] {
        let key = format!("CARGO_PROFILE_RELEASE_{key}");
        if env::var_os(&key).is_none() {
            cargo.env(key, value);
        }
    }
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", part.debug);
    for package in packages {
        cargo.args(["--package", package]);
    }
    for feature in part.features {
        cargo.args(["--features", feature]);
    }
    finish(cargo, part.name)?;
    Ok(built)
}

/// Removes the programs that were linked before their linker script changed: cargo does not know that they depend on
/// it, but links what is not there.
fn forget_older_than(script: &Path, deps: &Path, packages: &[&str]) -> Result<()> {
    let changed =
        fs::metadata(script).with_context(|| format!("cannot read {}", script.display()))?.modified()?;
    let Ok(entries) = fs::read_dir(deps) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let program =
            name.to_str().and_then(|name| name.rsplit_once('-')).filter(|(_, hash)| !hash.contains('.'));
        if program.is_some_and(|(name, _)| packages.contains(&name))
            && entry.metadata()?.modified()? < changed
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Builds the programs of `tests/linux`, static, with the toolchain that programs for Linux are built with.
pub fn linux_programs() -> Result<Vec<PathBuf>> {
    let package = house::root().join("tests/linux");
    if !package.exists() {
        return Ok(Vec::new());
    }
    let folder = house::target().join("linux");
    let mut cargo = cargo(&env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from), &folder);
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        // Small files in the image, and panics that a thread can catch.
        .envs(
            [("STRIP", "true"), ("DEBUG", "false"), ("PANIC", "unwind"), ("LTO", "off")]
                .map(|(key, value)| (format!("CARGO_PROFILE_RELEASE_{key}"), value)),
        )
        .args(["--target", LINUX_TARGET, "--bins", "--manifest-path"])
        .arg(package.join("Cargo.toml"));
    finish(cargo, "Linux test programs")?;
    let built = folder.join(LINUX_TARGET).join("release");
    Ok(linux_sources()?.iter().filter_map(|source| Some(built.join(source.file_stem()?))).collect())
}

/// The sources of the Linux test programs, one a program, in order of their names.
pub fn linux_sources() -> Result<Vec<PathBuf>> {
    let folder = house::root().join("tests/linux/src/bin");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut sources = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn cargo(program: &Path, target_dir: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in INHERITED {
        command.env_remove(variable);
    }
    command.current_dir(house::root()).args(["build", "--release", "--target-dir"]).arg(target_dir);
    command
}

/// Cargo's own progress is the best there is, on a terminal; elsewhere only complaints are of interest.
fn finish(mut cargo: Command, what: &str) -> Result<()> {
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    let status = cargo.status().with_context(|| format!("cannot run {}", cargo.get_program().display()))?;
    ensure!(status.success(), "the {what} cannot be built");
    Ok(())
}
