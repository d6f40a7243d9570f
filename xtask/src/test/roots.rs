//! Root file systems read as on the host: a folder with everything a UFS volume is made of, given as a folder and as
//! images of both versions and of small and large blocks, must show the same contents, links and attributes.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::{FileExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    TIMEOUT_S,
    report::{Report, same},
};
use crate::{cli::RunArgs, house, run::Built, script};

const BUSYBOX: &str = "/bin/busybox";
const MAKEFS: &str = "/usr/sbin/makefs";
/// Images that are made: UFS version, and bytes of a block and of a fragment.
const IMAGES: [(u32, u32, u32); 4] = [(1, 8192, 1024), (1, 32768, 4096), (2, 8192, 1024), (2, 32768, 4096)];
const BIG_BYTES: u64 = 30 << 20;
const SPARSE_BYTES: u64 = 12 << 20;
/// Lengths about the ends of fragments, blocks, direct and indirect blocks.
const LENGTHS: [u64; 10] = [0, 1, 1023, 1025, 8192, 8193, 98_304, 98_305, 393_217, 17_000_000];
/// Everything that is said about a tree, in any order. The same program says it on both sides.
const SURVEY: &str = "b=/bin/busybox
$b find . -xdev -type f | $b xargs $b sha256sum
$b find . -xdev -type f | $b xargs $b stat -c '%n %h %s %a'
$b find . -xdev -type l | $b xargs -n 40 $b ls -l | $b awk '{ print $9, $10, $11 }'
$b find . -xdev -type d
";

/// Runs the tests that are asked for.
pub fn run(built: &Built, report: &mut Report) -> Result<()> {
    let name = |what: &str| format!("root: {what} shows what the host sees");
    let images =
        IMAGES.map(|image| (name(&format!("UFS{} with blocks of {} bytes", image.0, image.1)), Some(image)));
    let wanted = |(name, _): &(String, _)| report.wants(name);
    let tests: Vec<_> = [(name("a folder"), None)].into_iter().chain(images).filter(wanted).collect();
    if tests.is_empty() {
        return Ok(());
    }
    report.start("root file systems", tests.len());
    let work = Work::new()?;
    let survey = work.survey()?;
    for (name, image) in tests {
        report.prove(&name, || prove(built, work.root(image)?, &survey));
    }
    Ok(())
}

fn prove(built: &Built, root: PathBuf, survey: &str) -> Result<()> {
    let args = RunArgs { root: Some(root), ..RunArgs::limited(TIMEOUT_S) };
    let ran = script::succeed(built, &args, &format!("cd /\n{SURVEY}"))?;
    same(survey.as_bytes(), sorted(&ran.output).as_bytes())
}

fn sorted(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

/// The folder that everything is made of, and the images made of it.
struct Work(tempfile::TempDir);

impl Work {
    fn new() -> Result<Work> {
        let work = Work(tempfile::Builder::new().prefix("roots-").tempdir_in(house::target())?);
        grow(&work.tree()).context("cannot make the folder for the test")?;
        Ok(work)
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree")
    }

    /// What the host says of the folder.
    fn survey(&self) -> Result<String> {
        let output = Command::new(BUSYBOX).args(["sh", "-c", SURVEY]).current_dir(self.tree()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(sorted(&output.stdout))
    }

    /// What `--root` is given: the folder, or an image of it.
    fn root(&self, image: Option<(u32, u32, u32)>) -> Result<PathBuf> {
        let Some((version, block, fragment)) = image else { return Ok(self.tree()) };
        let path = self.0.path().join(format!("ufs{version}-{block}.img"));
        let options = format!("version={version},bsize={block},fsize={fragment}");
        let output = Command::new(MAKEFS)
            .args(["-t", "ffs", "-b", "5%", "-f", "256", "-o", &options])
            .args([&path, &self.tree()])
            .output()
            .with_context(|| format!("cannot run {MAKEFS}"))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(path)
    }
}

/// Fills a folder: busybox under all its names, folders in folders, long names, links of all kinds, files of all sizes.
fn grow(root: &Path) -> Result<()> {
    for folder in ["bin", "dev", "etc", "proc", "tmp", "files"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    let list = Command::new(BUSYBOX).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("/bin/busybox", root.join("bin").join(applet))?;
    }
    let mut folder = root.to_owned();
    for depth in 0..24 {
        folder.push(format!("in{depth}"));
        fs::create_dir(&folder)?;
    }
    fs::write(folder.join("deepest"), "deep")?;
    for (letter, length) in [("x", 255), ("y", 254), ("z", 28)] {
        fs::write(root.join("files").join(letter.repeat(length)), letter)?;
    }
    // The longest targets that lie in an inode of UFS1 and UFS2, and others that do not.
    for length in [1, 59, 60, 119, 120, 1000] {
        symlink("t".repeat(length), root.join(format!("files/link{length}")))?;
    }
    for length in LENGTHS {
        fill(&root.join(format!("files/of{length}")), length)?;
    }
    fill(&root.join("files/big"), BIG_BYTES)?;
    fs::hard_link(root.join("files/of8193"), root.join("etc/second"))?;
    fs::hard_link(root.join("files/of8193"), root.join("files/third"))?;
    let sparse = File::create(root.join("files/sparse"))?;
    sparse.set_len(SPARSE_BYTES)?;
    for at in [5, 100_000, 4 << 20, SPARSE_BYTES - 1] {
        sparse.write_all_at(b"!", at)?;
    }
    Ok(())
}

/// Writes a file of bytes that look random and are the same every time.
fn fill(path: &Path, length: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = length.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = length;
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = state.to_le_bytes();
        let count = left.min(bytes.len() as u64);
        file.write_all(bytes.get(..count as usize).unwrap_or_default())?;
        left -= count;
    }
    Ok(file.flush()?)
}
