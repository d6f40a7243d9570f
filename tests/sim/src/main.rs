//! The simulator as a program: `cargo xtask chaos --sim` runs it.
use anyhow::Result;
use sim::{image, plan::Plan, program, world};

fn main() -> Result<()> {
    let manifest = image::manifest()?;
    let setup = world::Setup {
        names: manifest.servers.iter().map(|server| server.name.clone()).collect(),
        archive: image::archive(&manifest, "/init")?.into(),
        volume: image::volume(&[("init", program::init())])?,
    };
    let begin = std::time::Instant::now();
    let outcome = world::run(&setup, &Plan::quiet(1));
    println!(
        "{:?} {:?} {} traps {:?} messages {:?} used {:?}",
        begin.elapsed(),
        outcome.end,
        outcome.log,
        outcome.traps,
        outcome.messages,
        outcome.used
    );
    println!("{:?} {:?}", String::from_utf8_lossy(&outcome.output), outcome.notes);
    Ok(())
}
