//! The vdso: a shared object that is in every program's memory, and that its C library asks for the time instead of
//! the kernel. Names and version are Linux's (vdso(7)); what cannot be told from the page before it is asked of the
//! kernel after all. It must need nothing: no data of its own, no relocations, no panics.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod dump;
#[cfg(target_os = "none")]
mod entry;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("the vdso of Naiad: it is in the memory of programs on the machine (cargo xtask run)");
}
