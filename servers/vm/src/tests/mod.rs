//! vm as a whole, against a kernel that checks everything it is told.

pub mod machine;
mod model;
pub mod program;
mod scenarios;
