//! The kernel as a program: what the boot loader loads. On the host it is nothing; the kernel's core is a library
//! there.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use core::alloc::{GlobalAlloc, Layout};
    use core::panic::PanicInfo;

    /// The kernel never allocates; a library that would is refused.
    struct NoHeap;

    // SAFETY: it never hands out memory.
    unsafe impl GlobalAlloc for NoHeap {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static HEAP: NoHeap = NoHeap;

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        microkernel::arch::x86_64::panic::panic(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("The microkernel runs on the bare machine: cargo xtask run");
}
