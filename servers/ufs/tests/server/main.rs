//! The server as vfs, vm and programs see it, over images made by makefs and a disk that answers in any order.

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod model;
mod names;
mod restart;
mod tree;
mod warm;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::{Format, make_image, small_tree};
use tempfile::TempDir;

/// An image of a folder, in memory.
fn image(tree: fn(&Path), format: Format) -> Vec<u8> {
    let temporary = TempDir::new().unwrap();
    let folder = temporary.path().join("tree");
    fs::create_dir(&folder).unwrap();
    tree(&folder);
    fs::read(make_image(&temporary, &folder, format)).unwrap()
}

/// The small tree on a volume of small blocks, made once.
fn small_image() -> Vec<u8> {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    let format = Format { version: 2, order: "le", block: 4096, fragment: 512 };
    IMAGE.get_or_init(|| image(small_tree, format)).clone()
}
