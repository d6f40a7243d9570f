//! Where things are: the folders of this repository.

use std::path::{Path, PathBuf};

/// The repository's root folder.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where everything built for Naiad goes.
pub fn target() -> PathBuf {
    root().join("target/naiad")
}
