//! The memory of programs as the kernel reaches into it: what lies behind a user address, whether it is there, and
//! copies from and to it.
//!
//! It borrows only what it needs of the kernel, so that the objects of a call can be held meanwhile. It never asks for
//! a page that is missing; its callers do.

use libipc::abi::foreign::SMALL_MAX;
use libipc::abi::{Frame, PAGE_SIZE, Protection};

use super::Kernel;
use super::frames::Frames;
use super::machine::{Machine, Mapping, physical};
use super::pmap::index;

/// Walks that are remembered.
const WALKS: usize = 8;

/// Where a walk through the tables of a space ended: the lowest table for all addresses of a span. It holds until
/// tables are taken away, which happens when a space is given up, and in no other way.
#[derive(Clone, Copy, Debug)]
struct Walk {
    root: Frame,
    span: u64,
    leaf: Frame,
}

/// The last walks through page tables.
#[derive(Debug)]
pub(crate) struct Walks([Walk; WALKS]);

impl Walks {
    /// None.
    pub(crate) const NONE: Walks = Walks([Walk { root: Frame(0), span: u64::MAX, leaf: Frame(0) }; WALKS]);
}

/// Which way a copy goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    FromCaller,
    ToCaller,
}

/// Whether there are bytes, and a page has them all.
#[inline]
pub(crate) fn is_in_one_page(address: u64, length: u64) -> bool {
    length.wrapping_sub(1) < PAGE_SIZE - (address & (PAGE_SIZE - 1))
}

/// How many of the bytes that are left are in the page of an address.
pub(crate) fn part(address: u64, left: u64) -> u64 {
    (PAGE_SIZE - (address & (PAGE_SIZE - 1))).min(left)
}

/// What it takes to reach into a program's memory.
pub(crate) struct UserMemory<'a, M> {
    pub(crate) machine: &'a mut M,
    pub(crate) walks: &'a mut Walks,
    pub(crate) frames: &'a Frames,
}

impl<M: Machine> Kernel<M> {
    /// The way to programs' memory.
    #[inline(always)]
    pub(crate) fn user_memory(&mut self) -> UserMemory<'_, M> {
        UserMemory { machine: &mut self.machine, walks: &mut self.walks, frames: &self.frames }
    }

    /// The physical address behind a user address, if it is mapped for this access.
    pub(crate) fn translate(&mut self, root: Frame, address: u64, access: Protection) -> Option<u64> {
        self.user_memory().translate(root, address, access)
    }
}

impl<M: Machine> UserMemory<'_, M> {
    /// The table of the lowest level for an address, if every level above is there.
    #[inline(always)]
    pub(crate) fn leaf_table(&mut self, root: Frame, address: u64) -> Option<Frame> {
        let span = address / (PAGE_SIZE << M::LEVEL_BITS);
        let at = (span ^ u64::from(root.0)) as usize % WALKS;
        let walk = self.walks.0[at];
        if walk.span == span && walk.root == root {
            return Some(walk.leaf);
        }
        let leaf = self.walk(root, address)?;
        self.walks.0[at] = Walk { root, span, leaf };
        Some(leaf)
    }

    #[cold]
    fn walk(&mut self, root: Frame, address: u64) -> Option<Frame> {
        let mut table = root;
        for level in (1..M::LEVELS).rev() {
            match self.machine.entry(table, index::<M>(address, level)) {
                Mapping::Table(lower) => table = lower,
                _ => return None,
            }
        }
        Some(table)
    }

    /// The physical address behind a user address, if it is mapped for this access.
    #[inline(always)]
    pub(crate) fn translate(&mut self, root: Frame, address: u64, access: Protection) -> Option<u64> {
        if address >= M::USER_END {
            return None;
        }
        let table = self.leaf_table(root, address)?;
        match self.machine.entry(table, index::<M>(address, 0)) {
            Mapping::Page(frame, protection)
                if protection.contains(access) && self.frames.contains(frame) =>
            {
                Some(physical(frame) | (address & (PAGE_SIZE - 1)))
            }
            _ => None,
        }
    }

    /// The first address in a range that is not mapped for the access.
    #[inline(never)]
    pub(crate) fn first_missing(
        &mut self,
        root: Frame,
        address: u64,
        length: u64,
        access: Protection,
    ) -> Option<u64> {
        let (mut at, mut left) = (address, length);
        while left > 0 {
            if self.translate(root, at, access).is_none() {
                return Some(at);
            }
            let step = part(at, left);
            at = at.wrapping_add(step);
            left -= step;
        }
        None
    }

    /// Whether a range is mapped for the access.
    #[inline(always)]
    pub(crate) fn is_there(&mut self, root: Frame, address: u64, length: u64, access: Protection) -> bool {
        match is_in_one_page(address, length) {
            true => self.translate(root, address, access).is_some(),
            false => self.first_missing(root, address, length, access).is_none(),
        }
    }

    /// Copies between a range that is known to be there and one piece of physical memory.
    #[inline(never)]
    pub(crate) fn transfer(
        &mut self,
        root: Frame,
        address: u64,
        other: u64,
        length: u64,
        direction: Direction,
    ) {
        let access = match direction {
            Direction::FromCaller => Protection::READ,
            Direction::ToCaller => Protection::WRITE,
        };
        let (mut at, mut other, mut left) = (address, other, length);
        while left > 0 {
            let step = part(at, left);
            if let Some(mine) = self.translate(root, at, access) {
                match direction {
                    Direction::FromCaller => self.machine.copy(mine, other, step),
                    Direction::ToCaller => self.machine.copy(other, mine, step),
                }
            }
            at += step;
            other += step;
            left -= step;
        }
    }

    /// Brings few bytes to a piece of physical memory; none when there are more, or one of them is not there now.
    #[inline]
    pub(crate) fn gather_small(&mut self, root: Frame, address: u64, length: u64, to: u64) -> Option<u32> {
        if length == 0 || length > SMALL_MAX || address.checked_add(length)? > M::USER_END {
            return None;
        }
        if is_in_one_page(address, length) {
            let mine = self.translate(root, address, Protection::READ)?;
            self.machine.copy(mine, to, length);
            return Some(length as u32);
        }
        if self.first_missing(root, address, length, Protection::READ).is_some() {
            return None;
        }
        self.transfer(root, address, to, length, Direction::FromCaller);
        Some(length as u32)
    }
}
