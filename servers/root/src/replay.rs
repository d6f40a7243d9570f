//! Root run again over its journal, on the host.
//!
//! Its history begins with a snapshot: the first is made when the system has been started, and from then on root needs
//! neither the boot archive nor what the kernel left for it.

use libipc::server::Boot;
use libipc::server::replay::{Recorded, Replayable};
use serde::Serialize;

use crate::kernel::Kernel;
use crate::supervise::Root;

impl Replayable for Root<Recorded> {
    fn begin(_: &Boot, traps: Recorded) -> Self {
        let mut kernel = Kernel::new(traps);
        let state = kernel.restore().unwrap_or_default();
        Root::new(kernel, state)
    }

    fn serve_one(&mut self) {
        Root::serve_one(self);
    }

    fn traps(&mut self) -> &mut Recorded {
        &mut self.kernel.traps
    }

    fn digest(&self) -> u64 {
        self.state.digest()
    }

    fn state(&self) -> impl Serialize + '_ {
        &*self.state
    }
}
