//! Tests of the whole server against a kernel in miniature. `world` is that kernel; each other module proves one part
//! of the conformance list, a test per sentence.

mod audit;
mod dump;
mod exec;
mod exit;
mod fork;
mod futex;
mod identity;
mod jobs;
mod masks;
mod misc;
mod model;
mod random;
mod signals;
mod trace;
mod wait;
mod world;
