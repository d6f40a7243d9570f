//! vfs against model file servers: a small world of four volumes in which programs make calls.

mod boot;
mod exec;
pub(crate) mod model;
mod mounting;
mod names;
mod paths;
mod reference;
pub(crate) mod world;
