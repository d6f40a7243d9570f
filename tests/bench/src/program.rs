//! A program without a file: a page of machine code in an address space of its own, whose pager is the bench.

use libipc::abi::syscall::Syscall;
use libipc::abi::{Frame, Handle, Protection, UserRegisters};
use libipc::server::effect::PageMap;
use libipc::server::map_pages;
use libipc::sys::Traps;
use zerocopy::IntoBytes;

use crate::native::Native;

/// Where the code lies.
const CODE: u64 = 0x40_0000;
/// Where pages are mapped and unmapped: the tables for them are there.
pub const DATA: u64 = 0x1000_0000;
/// Bytes that one lowest table maps.
const TABLE_SPAN: u64 = 2 << 20;
/// Lowest tables of the data.
const TABLES: u64 = 8;

/// Stores to one page after the other, from rdi on.
pub const TOUCH: &[u8] = &[
    0x88, 0x07, // mov [rdi], al
    0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, // add rdi, 4096
    0xeb, 0xf5, // back
];
/// sched_yield(2), rbx times; then a store to where rdi points.
pub const YIELD: &[u8] = &[
    0xb8, 0x18, 0x00, 0x00, 0x00, // mov eax, 24
    0x0f, 0x05, // syscall
    0x48, 0xff, 0xcb, // dec rbx
    0x75, 0xf4, // back
    0x88, 0x07, // mov [rdi], al
    0xeb, 0xfc, // the store again
];

/// Frames that the bench may use, given out from the low end.
pub struct Frames {
    next: Frame,
}

impl Frames {
    pub fn new(first: Frame) -> Frames {
        Frames { next: first }
    }

    pub fn take(&mut self) -> Frame {
        let frame = self.next;
        self.next = Frame(frame.0 + 1);
        frame
    }
}

/// A task with its space.
pub struct Program {
    pub space: Handle,
    task: Handle,
}

impl Program {
    /// Makes a space with the code in it, the tables for [`DATA`], and a task.
    pub fn new<T: Traps>(native: &mut Native<T>, frames: &mut Frames, code: &[u8]) -> Program {
        let (space, task) = (native.handle(), native.handle());
        let top = frames.take();
        native.must(Syscall::SpaceCreate, [u64::from(space.0), 1, u64::from(top.0), 0, 0, 0]);
        let page = frames.take();
        native.must(Syscall::FrameZero, [u64::from(page.0), 1, 0, 0, 0, 0]);
        native.payload(code);
        native.must(Syscall::FrameWrite, [u64::from(page.0), 0, code.len() as u64, 0, 0, 0]);
        let program = Program { space, task };
        let tables = [frames.take(), frames.take(), frames.take()];
        program.map(native, &tables, CODE, page, Protection::READ | Protection::EXECUTE);
        // The tables stay when their pages go.
        let page = frames.take();
        for table in 0..TABLES {
            let address = DATA + table * TABLE_SPAN;
            program.map(native, &[frames.take()], address, page, Protection::READ);
            program.unmap(native, address, 1);
        }
        let none = u64::from(Handle::NONE.0);
        native.must(Syscall::TaskCreate, [u64::from(task.0), u64::from(space.0), none, 0, 0, 0]);
        program
    }

    /// Maps one page.
    pub fn map<T: Traps>(
        &self,
        native: &mut Native<T>,
        tables: &[Frame],
        address: u64,
        frame: Frame,
        protection: Protection,
    ) {
        let page = PageMap { address, frame, protection };
        let mapped = map_pages(&mut native.traps, self.space, tables, &[page]);
        mapped.unwrap_or_else(|error| panic!("{error}: mapping {address:#x}"));
    }

    /// Unmaps pages.
    pub fn unmap<T: Traps>(&self, native: &mut Native<T>, address: u64, pages: u64) {
        native.must(Syscall::Unmap, [u64::from(self.space.0), address, pages, 0, 0, 0]);
    }

    /// Starts a thread at the code's beginning.
    pub fn start<T: Traps>(&self, native: &mut Native<T>, rdi: u64, rbx: u64) -> Handle {
        let thread = native.handle();
        let none = u64::from(Handle::NONE.0);
        native.must(Syscall::ThreadCreate, [u64::from(thread.0), u64::from(self.task.0), 1, none, 0, 0]);
        let registers = UserRegisters { rip: CODE, rdi, rbx, ..UserRegisters::default() };
        native.payload(registers.as_bytes());
        native.must(Syscall::ThreadSetRegisters, [u64::from(thread.0), 1, 0, 0, 0, 0]);
        native.must(Syscall::ThreadStart, [u64::from(thread.0), 0, 0, 0, 0, 0]);
        thread
    }
}
