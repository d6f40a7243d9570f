//! Why the system cannot start.

use alloc::string::String;
use core::fmt;

use libipc::abi::KernelError;

/// Why the system cannot start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The archive or one of its fixed entries is damaged or missing.
    Archive,
    /// The manifest or the session does not decode.
    Manifest,
    /// The archive has no image of a server, or it is no program root can load.
    Image(String),
    /// There is not enough memory for what the manifest asks.
    Memory {
        /// For which server.
        server: String,
    },
    /// The kernel refused something.
    Kernel(KernelError),
}

impl From<KernelError> for StartError {
    fn from(error: KernelError) -> StartError {
        StartError::Kernel(error)
    }
}

impl From<libipc::manifest::ManifestError> for StartError {
    fn from(_: libipc::manifest::ManifestError) -> StartError {
        StartError::Manifest
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Archive => f.write_str("the boot archive is damaged"),
            StartError::Manifest => f.write_str("the manifest in the boot archive does not decode"),
            StartError::Image(name) => write!(f, "the archive has no sound image of {name}"),
            StartError::Memory { server } => {
                write!(f, "not enough memory for {server}: give the machine more")
            }
            StartError::Kernel(error) => write!(f, "the kernel refuses: {error}"),
        }
    }
}

impl core::error::Error for StartError {}
