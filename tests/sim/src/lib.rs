//! The simulator: the real kernel core and the real servers in one host process, where one seed decides everything that
//! happens, crashes of servers included.
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
pub mod plan;

pub mod random;
pub mod trace;
pub mod workload;
pub mod world;
