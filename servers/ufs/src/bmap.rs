//! From a place in a file to a place on the volume: twelve direct addresses, then up to three levels of blocks
//! full of addresses.

use zerocopy::FromBytes;
use zerocopy::byteorder::{BigEndian, ByteOrder, LittleEndian, U32, U64};

use crate::blocks::Blocks;
use crate::error::Error;
use crate::geometry::{Geometry, Run};
use crate::inode::{Addresses, Content, Inode};
use crate::layout::{DIRECT, Order, Version};

/// The run that holds a file's block of this index, or nothing if the block is a hole. The run is shorter than a
/// block at the end of a small file. The index must lie within the file's size.
pub(crate) fn map_block(
    geometry: &Geometry,
    blocks: &impl Blocks,
    inode: &Inode,
    index: u64,
) -> Result<Option<Run>, Error> {
    let Content::Blocks(addresses) = &inode.content else { return Ok(None) };
    let address = match usize::try_from(index).ok().and_then(|index| addresses.direct.get(index)) {
        Some(address) => *address,
        None => indirect_address(geometry, blocks, inode, addresses, index - DIRECT as u64)?,
    };
    checked_run(geometry, inode, address, fragments_in_block(geometry, inode, index))
}

/// How many fragments a file's block has: all of a block's, but for the last of a file without indirect blocks.
fn fragments_in_block(geometry: &Geometry, inode: &Inode, index: u64) -> u32 {
    let whole = geometry.fragments_per_block();
    if index >= DIRECT as u64 {
        return whole;
    }
    let left = inode.size.saturating_sub(index << geometry.block_shift);
    left.div_ceil(geometry.fragment_bytes()).min(u64::from(whole)) as u32
}

/// The address of the block that is `rest` blocks behind the direct ones.
fn indirect_address(
    geometry: &Geometry,
    blocks: &impl Blocks,
    inode: &Inode,
    addresses: &Addresses,
    mut rest: u64,
) -> Result<u64, Error> {
    let fan_out = geometry.pointers_per_block();
    // How many blocks of data one address of the level at hand leads to.
    let mut reach = 1;
    for (level, root) in (1..).zip(addresses.indirect) {
        if rest < reach * fan_out {
            return descend(geometry, blocks, inode, root, level, rest);
        }
        reach *= fan_out;
        rest -= reach;
    }
    Err(inode.corrupt("a block beyond triple indirection"))
}

/// Follow `level` indirect blocks, from the one at `address`, to the address of data block `rest` below it.
fn descend(
    geometry: &Geometry,
    blocks: &impl Blocks,
    inode: &Inode,
    mut address: u64,
    level: u32,
    mut rest: u64,
) -> Result<u64, Error> {
    let fan_out = geometry.pointers_per_block();
    for below in (0..level).rev() {
        let Some(run) = checked_run(geometry, inode, address, geometry.fragments_per_block())? else {
            return Ok(0); // a hole as wide as all that this block would lead to
        };
        let reach = fan_out.pow(below);
        let block = blocks.get(geometry.extent(run))?;
        address = address_at(geometry, block, rest / reach)
            .ok_or_else(|| inode.corrupt("an indirect block that is cut short"))?;
        rest %= reach;
    }
    Ok(address)
}

/// One of the addresses in an indirect block.
fn address_at(geometry: &Geometry, block: &[u8], index: u64) -> Option<u64> {
    let start = usize::try_from(index * geometry.pointer_bytes()).ok()?;
    let bytes = block.get(start..)?;
    match geometry.order {
        Order::Little => address_in::<LittleEndian>(geometry.version, bytes),
        Order::Big => address_in::<BigEndian>(geometry.version, bytes),
    }
}

fn address_in<O: ByteOrder>(version: Version, bytes: &[u8]) -> Option<u64> {
    match version {
        Version::Ufs1 => U32::<O>::read_from_prefix(bytes).ok().map(|(address, _)| u64::from(address.get())),
        Version::Ufs2 => U64::<O>::read_from_prefix(bytes).ok().map(|(address, _)| address.get()),
    }
}

/// An address as a run of data, or nothing if it is zero.
fn checked_run(
    geometry: &Geometry,
    inode: &Inode,
    address: u64,
    fragments: u32,
) -> Result<Option<Run>, Error> {
    if address == 0 {
        return Ok(None);
    }
    let run = Run { fragment: address, fragments };
    if geometry.is_data(run) {
        Ok(Some(run))
    } else {
        Err(inode.corrupt("a block address outside the data area"))
    }
}

#[cfg(test)]
mod tests;
