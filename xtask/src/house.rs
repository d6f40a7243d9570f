//! Where things are: the folders of this repository, and the tool that builds it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The repository's root folder.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where everything built for Naiad goes.
pub fn target() -> PathBuf {
    root().join("target/naiad")
}

/// The cargo that runs xtask, in the repository's root folder.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}
