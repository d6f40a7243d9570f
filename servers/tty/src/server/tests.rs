//! The server against a small kernel, a serial port as the data sheet has it, and a process server that is only told.

mod input;
mod job_control;
mod names;
mod output;
mod random;
mod world;
