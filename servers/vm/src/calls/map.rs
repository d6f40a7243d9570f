//! mmap(2) and munmap(2).

use core::ops::Range;

use libipc::abi::{Handle, PAGE_SIZE, Protection};
use libipc::linux::errno::{EACCES, EBADF, EEXIST, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EOVERFLOW, EPERM};
use libipc::linux::open::{O_ACCMODE, O_PATH, O_RDWR, O_WRONLY, S_MAPPABLE};
use libipc::server::Foreign;

use super::{Errno, Target, is_charged, protection_of, range_of};
use crate::region::{Backing, Region};
use crate::tables::{MACHINE, ceil, page_of};

/// Flags of mmap (uapi/asm-generic/mman-common.h, asm/mman.h).
mod flag {
    pub const SHARED: u64 = 0x01;
    pub const PRIVATE: u64 = 0x02;
    pub const SHARED_VALIDATE: u64 = 0x03;
    pub const TYPE: u64 = 0x0f;
    pub const FIXED: u64 = 0x10;
    pub const ANONYMOUS: u64 = 0x20;
    pub const BELOW_2G: u64 = 0x40;
    pub const LOCKED: u64 = 0x2000;
    pub const NORESERVE: u64 = 0x4000;
    pub const HUGETLB: u64 = 0x4_0000;
    pub const FIXED_NOREPLACE: u64 = 0x10_0000;
    /// Those that MAP_SHARED_VALIDATE knows: besides the above GROWSDOWN, DENYWRITE, EXECUTABLE, LOCKED, POPULATE,
    /// NONBLOCK and STACK, which ask for nothing that is not so anyway.
    pub const KNOWN: u64 = 0x1f_f97f & !0x8_0000;
}

/// The lowest address that may be mapped, Linux's `vm.mmap_min_addr`.
const LOWEST: u64 = 0x1_0000;

impl Target<'_> {
    /// mmap(2). The session of a mapped file is taken out of `passed`; `status` are its flags.
    pub(super) fn mmap(
        &mut self,
        status: u32,
        foreign: &Foreign,
        passed: &mut Option<Handle>,
    ) -> Result<u64, Errno> {
        let [address, length, protection, flags, _, offset] = foreign.arguments;
        let anonymous = flags & flag::ANONYMOUS != 0;
        check_arguments(length, flags, offset)?;
        if !anonymous && passed.is_none() {
            return Err(Errno(EBADF));
        }
        let length = ceil(length).filter(|length| *length <= MACHINE.user_end).ok_or(Errno(ENOMEM))?;
        let pages = page_of(offset).checked_add(page_of(length)).filter(|end| *end <= page_of(u64::MAX));
        if !anonymous && pages.is_none() {
            return Err(Errno(EOVERFLOW));
        }
        let range = self.choose(address, length, flags)?;
        // Linux ignores bits of protection that it does not know here.
        let protection = protection_of(protection & 7).ok_or(Errno(EINVAL))?;
        let shared = flags & flag::TYPE != flag::PRIVATE;
        let mut region = Region { shared, ..Region::anonymous(range.clone(), protection) };
        if !anonymous {
            check_file(status, shared, protection)?;
            region.read_only = shared && status & O_ACCMODE != O_RDWR;
        } else if is_charged(&region) && flags & flag::NORESERVE == 0 {
            self.affordable(length)?;
        }
        let replaced = self.space.regions.total_in(range.clone());
        let data = if region.is_data() { length.saturating_sub(replaced.data) } else { 0 };
        if !self.space.may_grow(length - replaced.bytes, data) {
            return Err(Errno(ENOMEM));
        }
        region.locked = flags & flag::LOCKED != 0 || self.space.locks;
        if region.locked {
            self.may_lock(length)?;
        }
        let regions = &self.space.regions;
        if self.memory.crowded || regions.full() || regions.too_many_after_cuts(&[range.start, range.end]) {
            return Err(Errno(ENOMEM));
        }
        let object = match passed.take_if(|_| !anonymous) {
            Some(session) => {
                let [file, _] = foreign.names().named;
                let file = (file.server, file.object);
                Some(self.memory.objects.open(file, session, false, self.effects))
            }
            None => shared.then(|| self.memory.objects.open_anonymous()),
        };
        if let Some(object) = object {
            let page = if anonymous { 0 } else { page_of(offset) };
            region.backing = Backing::Object { object, page, limit: u64::MAX };
        }
        self.space.place(region, self.memory, self.effects);
        Ok(range.start)
    }

    /// Where a mapping goes.
    fn choose(&self, address: u64, length: u64, flags: u64) -> Result<Range<u64>, Errno> {
        if flags & (flag::FIXED | flag::FIXED_NOREPLACE) != 0 {
            let range = range_of(address, length, ENOMEM)?;
            if range.start < LOWEST {
                return Err(Errno(EPERM));
            }
            if flags & flag::FIXED_NOREPLACE != 0 && !self.space.regions.is_free(range.clone()) {
                return Err(Errno(EEXIST));
            }
            return Ok(range);
        }
        if flags & flag::BELOW_2G != 0 {
            return self.low_room(length).ok_or(Errno(ENOMEM));
        }
        let wish =
            ceil(address).filter(|wish| *wish >= LOWEST).and_then(|wish| range_of(wish, length, ENOMEM).ok());
        if let Some(wish) = wish.filter(|wish| self.space.regions.is_free(wish.clone())) {
            return Ok(wish);
        }
        let start = self.space.regions.room(length).ok_or(Errno(ENOMEM))?;
        Ok(start..start + length)
    }

    /// Room below 2 GiB, for code that is linked so (MAP_32BIT): from 1 GiB upward, as in Linux.
    fn low_room(&self, length: u64) -> Option<Range<u64>> {
        const FROM: u64 = 0x4000_0000;
        const TO: u64 = 0x8000_0000;
        let mut start = FROM;
        for region in self.space.regions.overlapping(FROM..TO) {
            if region.start >= start && region.start - start >= length {
                break;
            }
            start = region.end;
        }
        start.checked_add(length).filter(|end| *end <= TO).map(|end| start..end)
    }

    /// munmap(2). Holes are fine.
    pub(super) fn munmap(&mut self, address: u64, length: u64) -> Result<u64, Errno> {
        let range = range_of(address, length, EINVAL)?;
        if range.is_empty() {
            return Err(Errno(EINVAL));
        }
        let inside_one = |region: &Region| region.start < range.start && range.end < region.end;
        if self.space.regions.find(range.start).is_some_and(inside_one) && self.space.regions.full() {
            return Err(Errno(ENOMEM));
        }
        self.space.unmap(range, self.memory, self.effects);
        Ok(0)
    }
}

fn check_arguments(length: u64, flags: u64, offset: u64) -> Result<(), Errno> {
    if !offset.is_multiple_of(PAGE_SIZE) || length == 0 {
        return Err(Errno(EINVAL));
    }
    match flags & flag::TYPE {
        flag::SHARED | flag::PRIVATE => {}
        flag::SHARED_VALIDATE if flags & !flag::KNOWN == 0 => {}
        flag::SHARED_VALIDATE => return Err(Errno(EOPNOTSUPP)),
        _ => return Err(Errno(EINVAL)),
    }
    // There are no huge pages to reserve; that is what Linux says then.
    if flags & flag::HUGETLB != 0 { Err(Errno(ENOMEM)) } else { Ok(()) }
}

/// Whether a file may be mapped so: it has been opened for what is wanted, and it has pages.
fn check_file(status: u32, shared: bool, protection: Protection) -> Result<(), Errno> {
    if status & O_PATH != 0 {
        return Err(Errno(EBADF));
    }
    let access = status & O_ACCMODE;
    if access == O_WRONLY || shared && protection.contains(Protection::WRITE) && access != O_RDWR {
        return Err(Errno(EACCES));
    }
    if status & S_MAPPABLE == 0 { Err(Errno(ENODEV)) } else { Ok(()) }
}
