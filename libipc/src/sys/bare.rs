//! The trap on the bare machine, a server's entry point, its heap and its panic.

use core::fmt::Write;
use core::panic::PanicInfo;

use zerocopy::FromBytes;

use talc::Span;

use super::heap::Heap;
use super::{BUFFER_BYTES, Trapped, Traps};
use crate::abi::delivery::PAYLOAD_OFFSET;
use crate::abi::syscall::{Syscall, THEN_RECEIVE};
use crate::abi::{KernelError, PAYLOAD_MAX};
use crate::server::boot::{BOOT_ADDRESS, BOOT_PAGES, HEAP_ADDRESS, MESSAGE_BUFFER_ADDRESS};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// The kernel below this server.
#[derive(Debug)]
pub struct Kernel(());

impl Kernel {
    #[inline]
    fn syscall(&mut self, number: u64, arguments: [u64; 6]) -> Trapped {
        let [mut value0, mut value1, mut value2, mut value3, mut value4, argument5] = arguments;
        let status: u64;
        // SAFETY: the system call changes the message buffer (not borrowed here) and these registers, nothing else.
        unsafe {
            core::arch::asm!(
                "syscall",
                inlateout("rax") number => status,
                inlateout("rdi") value0,
                inlateout("rsi") value1,
                inlateout("rdx") value2,
                inlateout("r10") value3,
                inlateout("r8") value4,
                inlateout("r9") argument5 => _,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        match KernelError::from_number(status) {
            None => Ok([value0, value1, value2, value3, value4]),
            Some(error) => Err(error),
        }
    }
}

impl Traps for Kernel {
    #[inline]
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        self.syscall(call as u64, arguments)
    }

    #[inline]
    fn trap_then_receive(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        self.syscall(call as u64 | THEN_RECEIVE, arguments)
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        // SAFETY: root has mapped the buffer there before the start; `Kernel` is the only way to it.
        unsafe { &mut *(MESSAGE_BUFFER_ADDRESS as *mut [u8; BUFFER_BYTES]) }
    }
}

/// Reads an I/O port of 1, 2 or 4 bytes at once. Only for drivers of class reissued: the value is in no journal.
///
/// # Panics
/// When the manifest does not give this server the port.
pub fn port_read(port: u16, width: u8) -> u32 {
    match Kernel(()).trap(Syscall::PortIn, [u64::from(port), u64::from(width), 0, 0, 0, 0]) {
        Ok(values) => values[0] as u32,
        Err(error) => panic!("{error}: reading port {port:#x}"),
    }
}

/// Writes an I/O port of 1, 2 or 4 bytes at once. Only for drivers of class reissued, whose steps are never run
/// again.
///
/// # Panics
/// When the manifest does not give this server the port.
pub fn port_write(port: u16, width: u8, value: u32) {
    let arguments = [u64::from(port), u64::from(width), u64::from(value), 0, 0, 0];
    if let Err(error) = Kernel(()).trap(Syscall::PortOut, arguments) {
        panic!("{error}: writing port {port:#x}");
    }
}

/// Readies the heap, and reads the boot block: its first four bytes are its length, the next eight the heap's.
pub fn boot() -> (Kernel, crate::server::Boot) {
    let block = boot_block();
    let heap_bytes = block.get(4..12).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    claim_heap(heap_bytes);
    (Kernel(()), crate::server::Boot::from_block(block).expect("root writes a boot block that decodes"))
}

/// Root's own start: the kernel, and the words it left.
pub fn root_boot() -> (Kernel, crate::server::boot::RootBoot) {
    let block = boot_block();
    let Ok((words, _)) = crate::server::boot::RootBoot::read_from_prefix(block) else { die() };
    claim_heap(words.heap_bytes);
    (Kernel(()), words)
}

fn claim_heap(bytes: u64) {
    let heap = Span::from_base_size(HEAP_ADDRESS as *mut u8, bytes as usize);
    // SAFETY: whoever started this server has mapped so much there; this runs once, before anything is allocated.
    if unsafe { HEAP.claim(heap) }.is_err() {
        die();
    }
}

fn boot_block() -> &'static [u8] {
    let bytes = (BOOT_PAGES * crate::abi::PAGE_SIZE) as usize;
    // SAFETY: mapped read-only before the start.
    unsafe { core::slice::from_raw_parts(BOOT_ADDRESS as *const u8, bytes) }
}

/// The boot archive, which only root has.
pub fn archive(bytes: u64) -> &'static [u8] {
    // SAFETY: the kernel has mapped it read-only for root before the start.
    unsafe { core::slice::from_raw_parts(crate::server::boot::ARCHIVE_ADDRESS as *const u8, bytes as usize) }
}

/// Text being put into the payload for the console log.
struct Message<'a> {
    payload: &'a mut [u8],
    length: usize,
}

impl Write for Message<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if let Some(place) = self.payload.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// A server's panic: said on the console log, then a fault, which is how the kernel learns of it.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let mut kernel = Kernel(());
    let from = PAYLOAD_OFFSET as usize;
    let payload = &mut kernel.buffer()[from..from + PAYLOAD_MAX as usize];
    let mut message = Message { payload, length: 0 };
    let _ = writeln!(message, "{info}");
    let length = message.length as u64;
    let _ = kernel.trap(Syscall::Log, [length, 1, 0, 0, 0, 0]);
    die()
}

/// Allocates until nothing is left, which ends the server.
pub extern "C" fn exhaust_heap() -> ! {
    loop {
        core::hint::black_box(alloc::vec::Vec::<u8>::with_capacity(PAYLOAD_MAX as usize)).leak();
    }
}

/// An instruction that no CPU knows.
fn die() -> ! {
    // SAFETY: it only faults.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}
