//! The entry point of a server program.

/// Makes a server's `main.rs`: on the bare machine its entry point, on the host a program that says what it is.
#[macro_export]
macro_rules! server_main {
    ($server:ty) => {
        #[cfg(target_os = "none")]
        $crate::image_note!($crate::server::image::Note::of::<$server>(env!("CARGO_PKG_NAME")));

        #[cfg(target_os = "none")]
        $crate::bare_entry!(|kernel: $crate::sys::bare::Kernel, boot: &$crate::server::Boot| {
            $crate::server::shell::Shell::<$server, _>::start(boot, kernel).run()
        });

        #[cfg(not(target_os = "none"))]
        fn main() {
            println!("a server of Naiad: it runs on the machine (cargo xtask run)");
        }
    };
}

/// The note by which root knows an image.
#[macro_export]
macro_rules! image_note {
    ($note:expr) => {
        #[used]
        // SAFETY: nothing but notes is in that section, and nothing in the program reads it.
        #[unsafe(link_section = ".note.naiad")]
        static IMAGE_NOTE: $crate::server::image::Note = $note;
    };
}

/// The bare entry point of every program: a stack, a panic, and a function that must not return.
#[macro_export]
macro_rules! bare_start {
    ($run:expr) => {
        core::arch::global_asm!(
            ".pushsection .text.start, \"ax\"",
            // What tests make a server run into: see `abi::Injection`, whose numbers count backwards from the start.
            ".balign {fault_bytes}",
            "xor ecx, ecx",
            "div ecx",
            ".balign {fault_bytes}",
            "and rsp, -16",
            "call {exhaust_heap}",
            ".balign {fault_bytes}",
            "9: jmp 9b",
            ".balign {fault_bytes}",
            "8: call 8b",
            ".balign {fault_bytes}",
            "movabs rax, 0x8000000000000000",
            "mov rax, [rax]",
            ".balign {fault_bytes}",
            "ud2",
            ".balign {fault_bytes}",
            ".global _start",
            "_start:",
            "xor ebp, ebp",
            "call {main}",
            "ud2",
            ".popsection",
            main = sym main,
            exhaust_heap = sym $crate::sys::bare::exhaust_heap,
            fault_bytes = const $crate::abi::doom::FAULT_BYTES,
        );

        extern "C" fn main() -> ! {
            let run: fn() -> ! = $run;
            run()
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::sys::bare::panic(info)
        }
    };
}

/// The entry point of a server: its function gets the kernel and the boot block.
#[macro_export]
macro_rules! bare_entry {
    ($run:expr) => {
        mod bare {
            use super::*;

            $crate::bare_start!(|| {
                let (kernel, boot) = $crate::sys::bare::boot();
                let run: fn($crate::sys::bare::Kernel, &$crate::server::Boot) -> ! = $run;
                run(kernel, &boot)
            });
        }
    };
}

/// The entry point of root: its function gets the kernel, the words the kernel left, and the archive.
#[macro_export]
macro_rules! root_entry {
    ($run:expr) => {
        $crate::image_note!($crate::server::image::Note::new(env!("CARGO_PKG_NAME"), 1, 1));

        mod bare {
            $crate::bare_start!(|| {
                let (kernel, words) = $crate::sys::bare::root_boot();
                let archive = $crate::sys::bare::archive(words.archive_bytes);
                let run: fn($crate::sys::bare::Kernel, &$crate::server::boot::RootBoot, &[u8]) -> ! = $run;
                run(kernel, &words, archive)
            });
        }
    };
}
