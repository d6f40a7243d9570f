//! The root file system: an image as it is, a folder packed, or the small tree that comes with Naiad.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    cli::Addition,
    house,
    qemu::Disk,
    tree::{Owner, Tree},
};

const BUSYBOX: &str = "/bin/busybox";
const MAKEFS: &str = "/usr/sbin/makefs";
/// UFS2 with room to work in, however little the tree holds.
const MAKEFS_OPTIONS: [&str; 10] =
    ["-t", "ffs", "-o", "version=2,bsize=8192,fsize=1024", "-b", "25%", "-f", "4096", "-M", "64m"];
/// Folders that the system expects, some of them mount points.
const FOLDERS: [(&str, u32); 15] = [
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/mnt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sbin", 0o755),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/local/bin", 0o755),
    ("/usr/sbin", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
];
/// Where the Linux test programs are in the guest.
pub const PROGRAMS: &str = "/usr/lib/naiad/tests";

/// The disk to boot from: what `--root` names, or else the tree of Naiad with `programs`.
pub fn root_disk(root: Option<&Path>, additions: &[Addition], programs: &[PathBuf]) -> Result<Disk> {
    let path = match root {
        Some(folder) if folder.is_dir() => from_folder(folder, additions)?,
        Some(image) => {
            let disk = Disk::parse(image)?;
            ensure!(
                additions.is_empty(),
                "--add needs a folder or the default tree; {} is an image",
                image.display()
            );
            return Ok(disk);
        }
        None => pack(&with_additions(own_tree(programs)?, additions)?, &slot(None, additions), None)?,
    };
    Ok(Disk { path, writable: false })
}

fn from_folder(folder: &Path, additions: &[Addition]) -> Result<PathBuf> {
    let folder = fs::canonicalize(folder)?;
    let mut tree = Tree::default();
    tree.take(&folder, Path::new("/"), Owner::Host)?;
    let tree = with_additions(tree, additions)?;
    pack(&tree, &slot(Some(&folder), additions), additions.is_empty().then_some(&folder))
}

/// The name of the image for what was asked: machines that run at the same time and want different files must not
/// take turns at one image.
fn slot(folder: Option<&Path>, additions: &[Addition]) -> String {
    let mut hasher = DefaultHasher::new();
    (folder, additions).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn with_additions(mut tree: Tree, additions: &[Addition]) -> Result<Tree> {
    for Addition { host, guest } in additions {
        tree.take(host, guest, Owner::Root)?;
    }
    tree.check()?;
    Ok(tree)
}

/// The tree that comes with Naiad: busybox under all its names, `boot/rootfs`, and the test programs.
fn own_tree(programs: &[PathBuf]) -> Result<Tree> {
    let mut tree = Tree::default();
    for (path, mode) in FOLDERS {
        tree.folder(path, mode);
    }
    tree.take(&house::root().join("boot/rootfs"), Path::new("/"), Owner::Root)?;
    tree.take(Path::new(BUSYBOX), Path::new(BUSYBOX), Owner::Root)?;
    let list =
        Command::new(BUSYBOX).arg("--list-full").output().with_context(|| format!("cannot run {BUSYBOX}"))?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "bin/busybox") {
        tree.link(applet, BUSYBOX);
    }
    tree.link("/etc/mtab", "/proc/mounts");
    tree.folder(PROGRAMS, 0o755);
    for program in programs {
        let name = program.file_name().with_context(|| format!("{} has no name", program.display()))?;
        tree.take(program, &Path::new(PROGRAMS).join(name), Owner::Root)?;
    }
    Ok(tree)
}

/// The same tree without the test programs, in an empty folder of the host.
pub fn stage(folder: &Path) -> Result<()> {
    own_tree(&[])?.stage(folder)
}

/// Makes an image of `tree`, unless the one in this slot was made of an equal tree. What is in `folder` as it is need
/// not be staged.
fn pack(tree: &Tree, slot: &str, folder: Option<&PathBuf>) -> Result<PathBuf> {
    let images = house::target().join("images");
    fs::create_dir_all(&images)?;
    let image = images.join(format!("{slot}.img"));
    let listing_path = images.join(format!("{slot}.list"));
    let listing = format!("{MAKEFS_OPTIONS:?}\n{}", tree.listing());
    if image.exists() && fs::read_to_string(&listing_path).is_ok_and(|made_of| made_of == listing) {
        return Ok(image);
    }

    // Others may be running from the old image: it is replaced by name, never changed. The listing goes first and
    // comes last, so that an interrupted run leaves no listing that lies.
    let work = tempfile::tempdir_in(&images)?;
    let new = work.path().join("image");
    match folder {
        Some(folder) => makefs(&[], &new, folder)?,
        None => {
            let (stage, specification) = (work.path().join("stage"), work.path().join("specification"));
            fs::create_dir(&stage)?;
            tree.stage(&stage)?;
            fs::write(&specification, tree.specification())?;
            makefs(&[Path::new("-F"), &specification], &new, &stage)?;
        }
    }
    let _ = fs::remove_file(&listing_path);
    fs::rename(&new, &image)?;
    fs::write(&listing_path, listing)?;
    Ok(image)
}

fn makefs(options: &[&Path], image: &Path, folder: &Path) -> Result<()> {
    let output = Command::new(MAKEFS)
        .args(MAKEFS_OPTIONS)
        .args(options)
        .args([image, folder])
        .output()
        .with_context(|| format!("cannot run {MAKEFS}"))?;
    ensure!(
        output.status.success(),
        "cannot make an image of {}:\n{}",
        folder.display(),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
