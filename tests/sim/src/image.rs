//! What the machine starts from: the boot archive with the real manifest, made small, and a stub per server; and the
//! disk with the programs, a UFS volume made by makefs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libipc::archive::{Builder, MANIFEST, SESSION};
use libipc::manifest::{self, Manifest, ServerEntry, Session};
use libipc::server::image::Note;

use crate::assembler;
use crate::incarnation::Version;

/// KiB of heap of a server: the simulator only copies through it. Real heaps are the host's.
const HEAP_KIB: u32 = 128;
/// The same for the server that reckons with the size of its heap before it promises anything.
const MEMORY_HEAP_KIB: u32 = 2048;
/// Bytes of the disk for the log.
const LOG_BYTES: usize = 1 << 20;
/// KiB of journal: few, so that there are many snapshots.
const JOURNAL_KIB_MAX: u32 = 128;
/// KiB of arena at most.
const ARENA_KIB_MAX: u32 = 2048;

/// The repository's folder.
fn house() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// The manifest of the real system, with memory as a small machine has it.
///
/// # Errors
/// It cannot be read, or is not sound.
pub fn manifest() -> Result<Manifest> {
    let path = house().join("boot/system.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut manifest: Manifest = toml::from_str(&text).context("the manifest is not sound")?;
    add_log(&mut manifest);
    manifest.check().context("the manifest is not sound")?;
    for server in &mut manifest.servers {
        server.heap_kib = if server.frames { MEMORY_HEAP_KIB } else { HEAP_KIB };
        server.journal_kib = server.journal_kib.min(JOURNAL_KIB_MAX);
        server.arena_kib = server.arena_kib.min(ARENA_KIB_MAX);
    }
    Ok(manifest)
}

/// Puts the log server into a system, which has no use for it on a real machine yet.
fn add_log(manifest: &mut Manifest) {
    let Some(ufs) = manifest.servers.iter().find(|server| server.name == "ufs").cloned() else { return };
    let (calls, forwards) = (vec!["blk".into()], Vec::new());
    let name = "logfile".to_owned();
    for vfs in manifest.servers.iter_mut().filter(|server| server.name == "vfs") {
        vfs.calls.push(name.clone());
    }
    let place = manifest.servers.iter().position(|server| server.name == "ufs").unwrap_or_default();
    manifest.servers.insert(place, ServerEntry { name, calls, forwards, ..ufs });
}

/// The boot archive of a system whose first program is at this path of the disk.
///
/// # Errors
/// Nothing that is in an archive can be encoded.
pub fn archive(manifest: &Manifest, program: &str) -> Result<Vec<u8>> {
    let session = Session {
        path: program.into(),
        argv: vec![program.into()],
        env: vec![b"HOME=/".to_vec()],
        rows: 24,
        cols: 80,
        exit_on_end: true,
    };
    let mut archive = Builder::new();
    archive.add(MANIFEST, manifest::encode(manifest)?)?;
    archive.add(SESSION, manifest::encode(&session)?)?;
    for server in &manifest.servers {
        archive.add(&server.name, assembler::stub(&Note::new(&server.name, Version::Booted.schema(), 1)))?;
    }
    Ok(archive.finish())
}

/// A UFS volume with these files: path and contents.
///
/// # Errors
/// makefs is not there, or complains.
pub fn volume(files: &[(&str, Vec<u8>)]) -> Result<Arc<[u8]>> {
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("tree");
    for mount in ["tmp", "dev", "proc"] {
        fs::create_dir_all(tree.join(mount))?;
    }
    for (path, contents) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&tree))?;
        fs::write(&path, contents)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode)?;
    }
    let image = folder.path().join("image");
    let mut command = Command::new(makefs()?);
    command.args(["-t", "ffs", "-B", "le", "-M", "1m", "-o", "version=2,bsize=4096,fsize=1024"]);
    let output = command.arg(&image).arg(&tree).output().context("cannot run makefs")?;
    ensure!(output.status.success(), "makefs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(fs::read(&image)?.into())
}

/// A disk for the log, as it comes from the shop.
pub fn log() -> Arc<[u8]> {
    vec![0; LOG_BYTES].into()
}

/// The program makefs; it often lies where only an administrator's PATH leads.
fn makefs() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let program = folders.map(|folder| folder.join("makefs")).find(|program| program.is_file());
    program.context("makefs is not installed: run `cargo xtask setup`")
}
