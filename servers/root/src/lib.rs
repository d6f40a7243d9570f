//! The root server: it starts every other server from the boot archive, gives each what the manifest says and nothing
//! else, and starts the next incarnation of one that has died, if need be in another image.
//!
//! It is journaled like any other: all it does are traps, so a root that runs again over its journal ends up where it
//! was. It owns all memory at first and keeps only the archive and what is set aside.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod error;
mod image;
mod kernel;
mod memory;
mod pci;
mod policy;
mod replay;
mod start;
mod supervise;
mod tables;
#[cfg(test)]
mod tests;
mod upgrade;

use libipc::archive::{Archive, MANIFEST, SESSION};
use libipc::manifest::{self, Manifest, Session};
use libipc::server::boot::RootBoot;
use libipc::sys::Traps;

pub use error::StartError;
use kernel::Kernel;
pub use supervise::{Root, State};

/// Starts the system, and sees to every server that dies or is to be upgraded, for ever.
pub fn run<T: Traps>(traps: T, boot: &RootBoot, archive: &[u8]) -> ! {
    let mut root = begin(traps, boot, archive);
    loop {
        root.serve_one();
    }
}

/// Starts the system. A later incarnation goes on from the snapshot of the first.
pub fn begin<T: Traps>(traps: T, boot: &RootBoot, archive: &[u8]) -> Root<T> {
    let mut kernel = Kernel::new(traps);
    let state = kernel.restore().unwrap_or_else(|| match start_system(&mut kernel, boot, archive) {
        Ok(state) => {
            supervise::keep(&mut kernel, &state);
            state
        }
        Err(error) => give_up(&mut kernel, &error),
    });
    Root::new(kernel, state)
}

fn give_up<T: Traps>(kernel: &mut Kernel<T>, error: &StartError) -> ! {
    kernel.log(&alloc::format!("root: the system cannot start: {error}\n"));
    kernel.power_off(127);
    loop {
        kernel.receive();
    }
}

fn start_system<T: Traps>(
    kernel: &mut Kernel<T>,
    boot: &RootBoot,
    archive: &[u8],
) -> Result<supervise::State, StartError> {
    let archive = Archive::new(archive).map_err(|_| StartError::Archive)?;
    let manifest: Manifest = manifest::decode(archive.find(MANIFEST).ok_or(StartError::Archive)?)?;
    let session: Session = manifest::decode(archive.find(SESSION).ok_or(StartError::Archive)?)?;
    start::Start::new(kernel, boot, &archive, &manifest, &session).all()
}
