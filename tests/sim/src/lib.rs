//! The simulator: the real kernel core and the real servers in one host process, where one seed decides everything that
//! happens, crashes of servers included.
//!
//! What is real: the whole kernel core, root and every other server with the shell they are made of, the manifest, the
//! boot archive, a UFS volume made by makefs, and a log on a disk of its own. What stands for something else: programs
//! run on a processor of the simulator's own ([`cpu`]), the disks below the real block driver and the serial port are
//! models ([`devices`]), and a server's heap is the host's.
//!
//! Between two traps a server changes nothing but memory that its death throws away, so a crash at each of its traps is
//! a crash at every instruction. A server that runs out of heap panics, which is such a crash too. A server that writes
//! where it should not is one whose serialised state (of a journaled one) or message buffer changes by itself: nothing
//! else can be written by servers, for arenas, frames, journals and snapshots are not in their address spaces.
//!
//! [`world`] is one machine and one run of it. Below it, [`incarnation`] runs the server crates over the emulated
//! kernel, [`devices`] stands for disk and serial port, [`cpu`] for the processor that programs run on. Programs
//! are written in the words of [`assembler`].

pub mod assembler;
pub mod cpu;
pub mod devices;
pub mod explore;
pub mod image;
pub mod incarnation;
pub mod oracle;
mod patience;
pub mod plan;
pub mod random;
pub mod ticker;
pub mod trace;
pub mod workload;
pub mod world;
