//! The ways into the kernel, in assembly: from the boot loader, by SYSCALL, by interrupt; and the way back.
//!
//! While a thread runs, `gs:[16]` in the kernel's view points to its register block ([`UserRegisters`], followed by
//! the entry kind). Entry code stores everything there, so the core finds the thread's registers in the thread.
//!
//! [`UserRegisters`]: libipc::abi::UserRegisters

use core::arch::global_asm;
use core::mem::offset_of;

use libipc::abi::UserRegisters;

use super::machine::Pc;
use crate::core::Kernel;
use crate::core::object::Thread;
use crate::core::trace::TRACED;

const _: () = assert!(TRACED == 1, "nothing is 0, and all else is more");
const _: () = assert!(offset_of!(Thread, registers) == 0);

global_asm!(
    r#"
.pushsection .note.Xen, "a", @note
.balign 4
.long 4, 8, 18
.asciz "Xen"
.quad pvh_start
.popsection

.pushsection .boot, "awx"
.code32
.global pvh_start
pvh_start:
    cli
    mov esp, offset {boot_stack} + {boot_stack_bytes} - 0xffffffff80000000
    lea edi, [{boot_tables} - 0xffffffff80000000]
    lea eax, [edi + 0x1003]
    mov [edi], eax                  // identity, until the jump to the high half
    mov [edi + 256 * 8], eax        // the direct map
    mov [edi + 511 * 8], eax        // the kernel image
    lea eax, [edi + 0x2003]
    mov [edi + 0x1000], eax
    mov [edi + 0x1000 + 510 * 8], eax
    add edi, 0x2000
    mov eax, 0x83
    mov ecx, 512
2:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b
    mov eax, cr4
    or eax, 0x620                   // PAE, FXSAVE, SIMD exceptions
    mov cr4, eax
    lea eax, [{boot_tables} - 0xffffffff80000000]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x901                   // long mode, NX, SYSCALL
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb             // no FPU emulation
    or eax, 0x80010023              // paging, write protect, native FPU errors, monitor coprocessor
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    ljmp 8, offset long_start
.balign 8
boot_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer: .word 23
    .long boot_gdt
.code64
long_start:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov rsp, offset {boot_stack} + {boot_stack_bytes}
    xor ebp, ebp
    mov edi, ebx
    mov rax, offset {start}
    call rax
    ud2
.popsection

.macro store_common
    mov [rsp + {r15}], r15
    mov [rsp + {r14}], r14
    mov [rsp + {r13}], r13
    mov [rsp + {r12}], r12
    mov [rsp + {rbp}], rbp
    mov [rsp + {rbx}], rbx
    mov [rsp + {r10}], r10
    mov [rsp + {r9}], r9
    mov [rsp + {r8}], r8
    mov [rsp + {rdx}], rdx
    mov [rsp + {rsi}], rsi
    mov [rsp + {rdi}], rdi
.endm

// What is compared is told by the flags.
unusual_system_call_entry:
    jne 2f
    call {traced_system_call}
    jmp resume_thread
2:  call {unusual_system_call}
    jmp resume_thread

.global system_call_entry
system_call_entry:
    swapgs
    mov gs:[0], rsp
    mov rsp, gs:[16]
    store_common
    mov [rsp + {rax}], rax
    mov [rsp + {rip}], rcx
    mov [rsp + {rflags}], r11
    mov rax, gs:[0]
    mov [rsp + {rsp_}], rax
    mov byte ptr [rsp + {entry}], 0
    mov rsp, gs:[8]
    xor ebp, ebp
    cmp byte ptr [rip + {core} + {unusual}], {traced}
    jae unusual_system_call_entry
    call {system_call}

// rax: register block of the thread to run.
.global resume_thread
resume_thread:
    mov r15, [rax + {r15}]
    mov r14, [rax + {r14}]
    mov r13, [rax + {r13}]
    mov r12, [rax + {r12}]
    mov rbp, [rax + {rbp}]
    mov rbx, [rax + {rbx}]
    mov r10, [rax + {r10}]
    mov r9, [rax + {r9}]
    mov r8, [rax + {r8}]
    mov rdx, [rax + {rdx}]
    mov rsi, [rax + {rsi}]
    mov rdi, [rax + {rdi}]
    cmp byte ptr [rax + {entry}], 0
    jne 3f
    mov rcx, [rax + {rip}]
    mov r11, [rax + {rflags}]
    mov rsp, [rax + {rsp_}]
    mov rax, [rax + {rax}]
    swapgs
    sysretq
3:  push {user_data}
    push qword ptr [rax + {rsp_}]
    push qword ptr [rax + {rflags}]
    push {user_code}
    push qword ptr [rax + {rip}]
    mov rcx, [rax + {rcx}]
    mov r11, [rax + {r11}]
    mov rax, [rax + {rax}]
    swapgs
    iretq

// Stack: vector, error code, then what the CPU pushed.
interrupt_common:
    test byte ptr [rsp + 24], 3
    jz 4f
    swapgs
    mov gs:[0], rax
    mov gs:[24], rsp
    mov rsp, gs:[16]
    store_common
    mov rax, gs:[0]
    mov [rsp + {rax}], rax
    mov [rsp + {rcx}], rcx
    mov [rsp + {r11}], r11
    mov byte ptr [rsp + {entry}], 1
    mov rax, rsp
    mov rsp, gs:[24]
    mov rcx, [rsp + 16]
    mov [rax + {rip}], rcx
    mov rcx, [rsp + 32]
    mov [rax + {rflags}], rcx
    mov rcx, [rsp + 40]
    mov [rax + {rsp_}], rcx
    mov rdi, [rsp]
    mov rsi, [rsp + 8]
    mov rsp, gs:[8]
    xor ebp, ebp
    // An interrupt leaves the program's direction flag as it is, and the kernel copies forwards.
    cld
    call {user_interrupt}
    jmp resume_thread
4:  push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rdi, [rsp + 72]
    mov rsi, [rsp + 80]
    mov rdx, [rsp + 88]
    mov rcx, rbp
    cld
    call {kernel_interrupt}
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

.altmacro
.macro stub number
    .balign 16
    .if \number == 8 || (\number >= 10 && \number <= 14) || \number == 17 || \number == 21
    .else
    push 0
    .endif
    push \number
    jmp interrupt_common
.endm

.balign 16
.global interrupt_stubs
interrupt_stubs:
.set number, 0
.rept {vectors}
    stub %number
    .set number, number + 1
.endr
"#,
    boot_stack = sym super::cpu::STACK,
    boot_stack_bytes = const super::cpu::STACK_BYTES,
    boot_tables = sym super::paging::BOOT_TABLES,
    start = sym super::boot::start,
    core = sym super::trap::CORE,
    unusual = const offset_of!(Kernel<Pc>, unusual),
    system_call = sym super::trap::system_call,
    traced = const TRACED,
    traced_system_call = sym super::trap::traced_system_call,
    unusual_system_call = sym super::trap::unusual_system_call,
    user_interrupt = sym super::trap::user_interrupt,
    kernel_interrupt = sym super::trap::kernel_interrupt,
    user_code = const super::tables::USER_CODE,
    user_data = const super::tables::USER_DATA,
    vectors = const super::tables::VECTORS,
    entry = const offset_of!(Thread, entry),
    r15 = const offset_of!(UserRegisters, r15),
    r14 = const offset_of!(UserRegisters, r14),
    r13 = const offset_of!(UserRegisters, r13),
    r12 = const offset_of!(UserRegisters, r12),
    rbp = const offset_of!(UserRegisters, rbp),
    rbx = const offset_of!(UserRegisters, rbx),
    r11 = const offset_of!(UserRegisters, r11),
    r10 = const offset_of!(UserRegisters, r10),
    r9 = const offset_of!(UserRegisters, r9),
    r8 = const offset_of!(UserRegisters, r8),
    rax = const offset_of!(UserRegisters, rax),
    rcx = const offset_of!(UserRegisters, rcx),
    rdx = const offset_of!(UserRegisters, rdx),
    rsi = const offset_of!(UserRegisters, rsi),
    rdi = const offset_of!(UserRegisters, rdi),
    rip = const offset_of!(UserRegisters, rip),
    rflags = const offset_of!(UserRegisters, rflags),
    rsp_ = const offset_of!(UserRegisters, rsp),
);

unsafe extern "C" {
    /// Where SYSCALL enters.
    pub fn system_call_entry();
    /// Runs a thread from its register block, given in rax.
    pub fn resume_thread();
    /// The first of the interrupt entries, 16 bytes apart.
    pub fn interrupt_stubs();
}
