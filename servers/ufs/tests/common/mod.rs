//! What the tests on real images share: host folders, images of them, and a disk read through the cache.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use ufs::{Cache, Error, Miss, SECTOR_BYTES};

/// The format of an image.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub version: u32,
    /// `le` or `be`.
    pub order: &'static str,
    pub block: u32,
    pub fragment: u32,
}

impl Format {
    /// UFS1 and UFS2 in both byte orders, with these sizes.
    pub fn all(block: u32, fragment: u32) -> [Format; 4] {
        [(1, "le"), (1, "be"), (2, "le"), (2, "be")].map(|(version, order)| Format {
            version,
            order,
            block,
            fragment,
        })
    }
}

/// Make an image of a folder with makefs, in the same temporary folder.
pub fn make_image(temporary: &TempDir, tree: &Path, format: Format) -> PathBuf {
    let Format { version, order, block, fragment } = format;
    let image = temporary.path().join(format!("ufs{version}-{order}-{block}-{fragment}.img"));
    let mut command = Command::new(makefs());
    command.args(["-t", "ffs", "-B", order, "-M", "2m", "-b", "10%", "-o"]);
    command.arg(format!("version={version},bsize={block},fsize={fragment}"));
    let output = command.arg(&image).arg(tree).output().expect("makefs should start");
    assert!(output.status.success(), "makefs failed: {}", String::from_utf8_lossy(&output.stderr));
    image
}

/// The program makefs; it often lies where only an administrator's PATH leads.
fn makefs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let program = folders.map(|folder| folder.join("makefs")).find(|program| program.is_file());
    program.expect("these tests need makefs (Debian and Ubuntu: apt install makefs)")
}

/// Bytes that differ from block to block and from seed to seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

/// A folder with one of everything that is small.
pub fn small_tree(root: &Path) {
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    write("empty", b"");
    write("one", b"1");
    for (index, len) in [511, 512, 513, 4095, 4096, 4097, 49151, 49152, 49153, 70_000].into_iter().enumerate()
    {
        write(&format!("file-of-{len}"), &noise(len, index as u64));
    }
    write(&"n".repeat(255), b"the longest name");
    fs::hard_link(root.join("one"), root.join("another-name-for-one")).unwrap();
    for len in [1, 2, 4, 58, 59, 60, 61, 118, 119, 120, 121, 600, 1023] {
        symlink("t".repeat(len), root.join(format!("link-of-{len}"))).unwrap();
    }
    let mut deep = root.to_path_buf();
    for level in 0..12 {
        deep.push(format!("level-{level}"));
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("file"), format!("at level {level}")).unwrap();
    }
    let made = Command::new("mkfifo").arg(root.join("fifo")).status().expect("mkfifo should start");
    assert!(made.success());
}

/// The small tree, and with it a directory and a file that need indirect blocks.
pub fn large_tree(root: &Path) {
    small_tree(root);
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for index in 0..500 {
        fs::write(many.join(format!("{index:-<200}")), index.to_string()).unwrap();
    }
    fs::write(root.join("large"), noise(5_000_001, 99)).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 3_000_000).unwrap();
    sparse.set_len(4_500_000).unwrap();
}

/// An image as a disk: every byte of metadata comes through a cache of the smallest size.
pub struct Disk {
    file: File,
    pub sectors: u64,
    cache: Cache,
}

impl Disk {
    pub fn open(image: &Path) -> Self {
        let file = File::open(image).unwrap();
        let sectors = file.metadata().unwrap().len() / u64::from(SECTOR_BYTES);
        Self { file, sectors, cache: Cache::new(0) }
    }

    /// Carry an operation out, fetching what it misses.
    pub fn run<T>(&mut self, mut operation: impl FnMut(&Cache) -> Result<T, Error>) -> Result<T, Error> {
        let mut misses = 0;
        loop {
            match operation(&self.cache) {
                Err(Error::Miss(Miss(extent))) => {
                    misses += 1;
                    assert!(misses < 1000, "an operation does not end");
                    let bytes = self.read(extent.sector * u64::from(SECTOR_BYTES), extent.bytes());
                    self.cache.fill(extent, bytes.into()).unwrap();
                }
                done => return done,
            }
        }
    }

    pub fn read(&self, address: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, address).expect("the library should stay on the disk");
        bytes
    }
}
