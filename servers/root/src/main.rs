//! The root server as a program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
libipc::root_entry!(|kernel, boot, archive| root::run(kernel, boot, archive));

#[cfg(not(target_os = "none"))]
fn main() {
    println!("the root server of Naiad: it runs on the machine (cargo xtask run)");
}
