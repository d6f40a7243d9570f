//! Tests of symlink.

use super::*;
use crate::layout::Order;
use crate::specimen::{DATA, FRAGMENT, KINDS, Specimen, addresses};

fn target_of(specimen: &Specimen, inode: &Inode) -> Result<Vec<u8>, Error> {
    specimen.volume.read_link(&specimen.disk, inode).map(<[u8]>::to_vec)
}

/// A link whose address field holds these bytes.
fn short_link(specimen: &mut Specimen, size: u64, bytes: &[u8]) -> Inode {
    let width = specimen.geometry.pointer_bytes() as usize;
    let mut field = [0; 15];
    for (address, chunk) in field.iter_mut().zip(bytes.chunks(width)) {
        let mut word = [0; 8];
        match specimen.geometry.order {
            Order::Little => {
                word[..chunk.len()].copy_from_slice(chunk);
                *address = u64::from_le_bytes(word);
            }
            Order::Big => {
                word[8 - width..8 - width + chunk.len()].copy_from_slice(chunk);
                *address = u64::from_be_bytes(word);
            }
        }
    }
    specimen.put_inode(7, 0o120_777, size, field);
    specimen.inode(7)
}

#[test]
fn a_short_target_lies_in_the_inode() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        let longest = specimen.geometry.short_link_limit as usize - 1;
        for target in [b"a".to_vec(), b"usr/share/misc".to_vec(), vec![b'x'; longest]] {
            let link = short_link(&mut specimen, target.len() as u64, &target);
            assert_eq!(target_of(&specimen, &link), Ok(target));
        }
    }
}

#[test]
fn a_long_target_lies_in_its_block() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        for len in [u64::from(specimen.geometry.short_link_limit), 1025, TARGET_MAX] {
            let text: Vec<u8> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
            specimen.disk.put(DATA * FRAGMENT, &text);
            specimen.put_inode(7, 0o120_777, len, addresses(&[DATA]));
            let link = specimen.inode(7);
            assert_eq!(target_of(&specimen, &link), Ok(text));
        }
    }
}

#[test]
fn a_link_that_is_empty_has_a_nul_or_no_block_or_is_too_long_is_corrupt() {
    let mut specimen = Specimen::new(KINDS[0]);
    let odd = "a symbolic link that is empty or holds a NUL";
    for (size, bytes) in [(0, b"x".as_slice()), (3, b"a\0b"), (9, b"short")] {
        let link = short_link(&mut specimen, size, bytes);
        assert_eq!(target_of(&specimen, &link), Err(link.corrupt(odd)));
    }
    specimen.put_inode(7, 0o120_777, 100, [0; 15]);
    let link = specimen.inode(7);
    assert_eq!(target_of(&specimen, &link), Err(link.corrupt("a symbolic link without its block")));
    specimen.put_inode(7, 0o120_777, TARGET_MAX + 1, addresses(&[DATA]));
    let link = specimen.inode(7);
    assert_eq!(target_of(&specimen, &link), Err(link.corrupt("a symbolic link that is too long")));
}

#[test]
fn a_file_is_not_a_link() {
    let mut specimen = Specimen::new(KINDS[0]);
    let file = specimen.file(5, addresses(&[DATA]));
    assert_eq!(target_of(&specimen, &file), Err(Error::NotSymlink));
}
