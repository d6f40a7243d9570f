//! The bench as a program: one image, of which the name in the manifest says which part it plays.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
libipc::image_note!(libipc::server::image::Note::new(env!("CARGO_PKG_NAME"), 1, 1));

#[cfg(target_os = "none")]
libipc::bare_entry!(|kernel, boot| bench::run(kernel, boot));

#[cfg(not(target_os = "none"))]
fn main() {
    println!("the kernel's bench: it runs on the machine (cargo xtask bench)");
}
