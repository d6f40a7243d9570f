//! Puts the boot archive of one run together: manifest, session, and the servers' images without their symbols.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use elf::{ElfBytes, endian::LittleEndian};
use libipc::{
    archive::{Builder, MANIFEST, SESSION, VDSO},
    manifest::{Manifest, Session, encode},
};

use crate::build::Images;

/// Where the section headers' offset, count and name index are in a 64-bit ELF header.
const SECTIONS_OFFSET: std::ops::Range<usize> = 0x28..0x30;
const SECTIONS_COUNT_AND_NAMES: std::ops::Range<usize> = 0x3c..0x40;

/// The archive's bytes.
pub fn compose(manifest: &Manifest, images: &Images, session: &Session) -> Result<Vec<u8>> {
    let mut archive = Builder::new();
    archive.add(MANIFEST, encode(manifest)?)?;
    archive.add(SESSION, encode(session)?)?;
    let vdso = fs::read(&images.vdso).with_context(|| format!("cannot read {}", images.vdso.display()))?;
    archive.add(VDSO, strip(vdso).context("the vdso is not a shared object")?)?;
    for (name, path) in &images.servers {
        archive.add(name, server_image(name, path)?)?;
    }
    Ok(archive.finish())
}

/// A server's image without what is not loaded.
pub fn server_image(name: &str, path: &Path) -> Result<Vec<u8>> {
    let image = fs::read(path)
        .with_context(|| format!("the server `{name}` has no image: cannot read {}", path.display()))?;
    strip(image).with_context(|| format!("{} is not a server's image", path.display()))
}

/// Cuts off what is not loaded. The linker puts loaded segments first, so symbols and debug information are the tail.
fn strip(mut image: Vec<u8>) -> Result<Vec<u8>> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&image)?;
    let segments = elf.segments().context("it has no program headers")?;
    let headers_end = elf.ehdr.e_phoff + u64::from(elf.ehdr.e_phnum) * u64::from(elf.ehdr.e_phentsize);
    let end = segments
        .iter()
        .filter(|segment| segment.p_type == elf::abi::PT_LOAD)
        .map(|segment| segment.p_offset.saturating_add(segment.p_filesz))
        .fold(headers_end, u64::max);
    ensure!(end <= image.len() as u64, "a segment reaches behind the end of the file");
    image.truncate(end as usize);
    image[SECTIONS_OFFSET].fill(0);
    image[SECTIONS_COUNT_AND_NAMES].fill(0);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(image: &[u8]) -> Vec<Vec<u8>> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(image).unwrap();
        let segments = elf.segments().unwrap();
        let loads = segments.iter().filter(|segment| segment.p_type == elf::abi::PT_LOAD);
        loads.map(|segment| elf.segment_data(&segment).unwrap().to_vec()).collect()
    }

    #[test]
    fn a_stripped_image_loads_the_same_and_is_smaller() {
        let image = fs::read(std::env::current_exe().unwrap()).unwrap();
        let stripped = strip(image.clone()).unwrap();
        assert!(stripped.len() < image.len());
        let sections = |bytes: &[u8]| bytes[SECTIONS_OFFSET].iter().any(|&byte| byte != 0);
        assert!(sections(&image) && !sections(&stripped));
        let (before, after) = (loaded(&image), loaded(&stripped));
        assert_eq!(before.len(), after.len());
        // The first segment holds the ELF header itself, whose fields about sections are cleared.
        assert_eq!(before[1..], after[1..]);
    }

    #[test]
    fn what_is_not_an_elf_file_is_refused() {
        assert!(
            strip(b"#!/bin/sh, made longer than sixty-four bytes so that a header could fit".to_vec())
                .is_err()
        );
        assert!(strip(Vec::new()).is_err());
    }

    #[test]
    fn a_missing_image_is_named() {
        let manifest = crate::system::load(crate::system::SYSTEM).unwrap();
        let vdso = std::env::current_exe().unwrap();
        let images =
            Images { kernel: "k".into(), servers: vec![("vm".into(), "/nonexistent/vm".into())], vdso };
        let session =
            Session { path: vec![], argv: vec![], env: vec![], rows: 0, cols: 0, exit_on_end: true };
        let error = compose(&manifest, &images, &session).unwrap_err();
        assert!(error.to_string().contains("`vm`"), "{error}");
    }
}
