//! Tests of the core over the emulated machine: threads are driven trap by trap, as entry code would.

mod account;
mod descriptors;
mod doom;
mod exhaustion;
mod faults;
mod fuzz;
mod history;
mod lists;
mod mend;
mod messages;
mod poison;
mod processes;
mod quota;
mod recall;
mod recovery;
mod short;
mod sweep;
mod trace;
mod upgrade;
mod watchdog;

use libipc::abi::delivery::{DELIVERY_OFFSET, Delivery, MessageBuffer, PAYLOAD_OFFSET};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Info, Syscall};
use libipc::abi::{Frame, KernelError, PAGE_SIZE, Protection, Rights, TaskWord};
use zerocopy::FromBytes;

use super::boot::Memory;
use super::object::*;
use super::{Kernel, Machine, Resume, Trap};
use crate::arch::emulated::{self, Emulated};

/// A kernel with a root and whatever a test makes.
pub struct World {
    pub kernel: Kernel<Emulated>,
    pub root: TaskId,
    next: u32,
    spaces: u64,
}

pub const BUFFER_PAGES: u32 = 3;
/// What a server may use for one event.
pub const PATIENCE_NS: u64 = 2_000_000_000;

impl World {
    pub fn new() -> World {
        World::over(emulated::memory(4096))
    }

    /// A world whose objects have this memory.
    pub fn over(memory: Memory) -> World {
        let (mut kernel, free) = emulated::kernel_over(memory, emulated::Blank::default());
        let top = free.first;
        let (root, server) = kernel.make_root(top, false).unwrap();
        kernel.frames.give(free, root.index() as u16);
        let buffer = FrameRange { first: Frame(top.0 + 1), count: BUFFER_PAGES };
        kernel.boot_server(server).unwrap().buffer = buffer;
        kernel.start_root(server, 0x1000, 0x2000).unwrap();
        let mut world = World { kernel, root, next: top.0 + 1 + BUFFER_PAGES, spaces: 10 };
        let _ = world.kernel.resume(0);
        world
    }

    pub fn frames(&mut self, count: u32) -> FrameRange {
        let range = FrameRange { first: Frame(self.next), count };
        self.next += count;
        range
    }

    pub fn thread_of(&self, task: TaskId) -> ThreadId {
        self.kernel.tasks.get(task).and_then(|task| task.first_thread).expect("a task with a thread")
    }

    /// Makes a task's thread trap, as if it ran. Its result, unless it waits.
    pub fn trap(
        &mut self,
        task: TaskId,
        call: Syscall,
        arguments: &[u64],
    ) -> Option<Result<[u64; 5], KernelError>> {
        let thread = self.thread_of(task);
        let mut a = [0; 6];
        a[..arguments.len()].copy_from_slice(arguments);
        let registers = &mut self.kernel.threads.get_mut(thread).unwrap().registers;
        registers.rax = call as u64;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = a;
        self.run_trap(thread, Trap::Call);
        self.result(task)
    }

    pub fn run_trap(&mut self, thread: ThreadId, trap: Trap) {
        self.kernel.unqueue(thread);
        if let Some(current) = self.kernel.current.replace(thread)
            && current != thread
        {
            self.kernel.make_ready(current);
        }
        let _: Resume = self.kernel.trap(trap);
    }

    /// What a task's last trap brought, unless it still waits.
    pub fn result(&self, task: TaskId) -> Option<Result<[u64; 5], KernelError>> {
        let state = self.kernel.threads.get(self.thread_of(task)).unwrap();
        if state.state != ThreadState::Runnable {
            return None;
        }
        let registers = &state.registers;
        let values = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8];
        Some(KernelError::from_number(registers.rax).map_or(Ok(values), Err))
    }

    pub fn ok(&mut self, task: TaskId, call: Syscall, arguments: &[u64]) -> [u64; 5] {
        self.trap(task, call, arguments).expect("the trap does not wait").expect("the trap succeeds")
    }

    /// The task of the server with a role.
    pub fn role(&self, role: Role) -> TaskId {
        let server = self.kernel.roles[role as usize].unwrap();
        self.kernel.servers.get(server).unwrap().task
    }

    /// What calls a server's inbox.
    pub fn inbox(&self, task: TaskId) -> Object {
        Object::Inbox(self.kernel.server_of(task).unwrap())
    }

    /// One with vm (2) and proc (3), both journaled, and a program.
    pub fn with_program() -> (World, TaskId, TaskId, Program) {
        let mut world = World::new();
        let (vm, proc) = (world.server(2, true), world.server(3, true));
        world.play(Role::Vm, 2);
        world.play(Role::Proc, 3);
        world.start(2);
        world.start(3);
        let program = world.program(vm, proc);
        (world, vm, proc, program)
    }

    /// A client (number 2), and a server (3) that it can call through slot 0: whether each is journaled. Both run.
    pub fn two([client, server]: [bool; 2]) -> (World, TaskId, TaskId) {
        let mut world = World::new();
        let (client, server) = (world.server(2, client), world.server(3, server));
        world.grant(2, 0, 3);
        world.start(3);
        world.start(2);
        (world, client, server)
    }

    /// Root starts a dead server again.
    pub fn restart(&mut self, number: u64) {
        self.ok(self.root, Syscall::ServerRestart, &[number + 100]);
    }

    /// A started server with a message buffer; its number is also root's slot for its task.
    pub fn server(&mut self, number: u32, journaled: bool) -> TaskId {
        let top = self.frames(1).first;
        let (root, slot) = (self.root, u64::from(number) + 100);
        self.ok(root, Syscall::SpaceCreate, &[slot + 100, u64::from(number), u64::from(top.0)]);
        self.ok(root, Syscall::ServerCreate, &[slot, slot + 100, u64::from(number), u64::from(journaled)]);
        let buffer = self.frames(BUFFER_PAGES);
        self.memory(number, 0, buffer);
        if journaled {
            let (journal, snapshots) = (self.frames(64), self.frames(12));
            self.memory(number, 2, journal);
            self.memory(number, 3, snapshots);
        }
        let Object::Task(task) = self.kernel.named(root, slot, Rights::CONTROL).unwrap() else {
            panic!("no task")
        };
        task
    }

    pub fn memory(&mut self, number: u32, what: u64, range: FrameRange) {
        let slot = u64::from(number) + 100;
        self.ok(
            self.root,
            Syscall::ServerMemory,
            &[slot, what, u64::from(range.first.0), u64::from(range.count)],
        );
    }

    pub fn start(&mut self, number: u32) {
        self.ok(
            self.root,
            Syscall::ServerStart,
            &[u64::from(number) + 100, 0x40_0000, 0x50_0000, 10, PATIENCE_NS],
        );
    }

    /// Lets one server call another through a slot of its own.
    pub fn grant(&mut self, caller: u32, slot: u64, callee: u32) {
        let arguments =
            [u64::from(caller) + 100, slot, u64::from(callee) + 100, u64::from(Rights::CALL.bits())];
        self.ok(self.root, Syscall::ServerGrant, &arguments);
    }

    pub fn buffer(&self, task: TaskId) -> FrameRange {
        self.kernel.payload_of(task).unwrap()
    }

    pub fn delivery(&mut self, task: TaskId) -> Delivery {
        let buffer = self.buffer(task);
        let bytes =
            self.kernel.machine.bytes(buffer, u64::from(DELIVERY_OFFSET), size_of::<Delivery>() as u64);
        Delivery::read_from_bytes(bytes).unwrap()
    }

    pub fn payload(&mut self, task: TaskId, length: u64) -> Vec<u8> {
        let buffer = self.buffer(task);
        self.kernel.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET), length).to_vec()
    }

    pub fn set_payload(&mut self, task: TaskId, bytes: &[u8]) {
        let buffer = self.buffer(task);
        let place = self.kernel.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET), bytes.len() as u64);
        place.copy_from_slice(bytes);
    }

    pub fn set_header(&mut self, task: TaskId, header: MessageBuffer) {
        let buffer = self.buffer(task);
        *Kernel::header(&mut self.kernel.machine, buffer).unwrap() = header;
    }

    /// A server that plays a role of the personality.
    pub fn play(&mut self, role: Role, number: u32) {
        self.ok(self.root, Syscall::Personality, &[role as u64, u64::from(number) + 100]);
    }

    /// A running Linux program made by `proc`, whose space `vm` made.
    pub fn program(&mut self, vm: TaskId, proc: TaskId) -> Program {
        self.spaces += 1;
        let badge = self.spaces;
        let top = self.frames(1);
        self.kernel.frames.give(top, vm.index() as u16);
        self.ok(vm, Syscall::SpaceCreate, &[badge, badge, u64::from(top.first.0)]);
        let space = self.kernel.named(vm, badge, Rights::CONTROL).unwrap();
        self.kernel.put(proc, badge, space, Rights::all()).unwrap();
        let (task_slot, thread_slot) = (badge + 1000, badge + 2000);
        self.ok(proc, Syscall::TaskCreate, &[task_slot, badge, u64::from(u32::MAX), 0]);
        self.ok(proc, Syscall::TaskWord, &[task_slot, TaskWord::Pid as u64, badge]);
        self.ok(proc, Syscall::ThreadCreate, &[thread_slot, task_slot, badge, u64::from(u32::MAX)]);
        self.ok(proc, Syscall::ThreadStart, &[thread_slot]);
        let Object::Task(task) = self.kernel.named(proc, task_slot, Rights::CONTROL).unwrap() else {
            panic!()
        };
        Program { task, badge, task_slot, thread_slot }
    }

    /// Maps fresh pages into a program.
    pub fn map(
        &mut self,
        vm: TaskId,
        program: &Program,
        address: u64,
        count: u32,
        protection: Protection,
    ) -> FrameRange {
        let (tables, pages) = (self.frames(3), self.frames(count));
        self.kernel.frames.give(tables, vm.index() as u16);
        self.kernel.frames.give(pages, vm.index() as u16);
        let mut payload: Vec<u8> = (0..3).flat_map(|table| (tables.first.0 + table).to_le_bytes()).collect();
        payload.resize(16, 0);
        for page in 0..count {
            payload.extend_from_slice(&(address + u64::from(page) * PAGE_SIZE).to_le_bytes());
            payload.extend_from_slice(&(pages.first.0 + page).to_le_bytes());
            payload.extend_from_slice(&u32::from(protection.bits()).to_le_bytes());
        }
        self.set_payload(vm, &payload);
        self.ok(vm, Syscall::Map, &[program.badge, 3, u64::from(count)]);
        pages
    }

    /// A Linux system call by a program; its result, unless it waits.
    pub fn linux(&mut self, program: &Program, number: impl Into<u64>, arguments: &[u64]) -> Option<i64> {
        let thread = self.thread_of(program.task);
        let mut a = [0; 6];
        a[..arguments.len()].copy_from_slice(arguments);
        let registers = &mut self.kernel.threads.get_mut(thread).unwrap().registers;
        registers.rax = number.into();
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = a;
        self.run_trap(thread, Trap::Call);
        self.linux_result(program)
    }

    /// The scheduler's choice falls on a program. Whether it runs on, or has something to see to first.
    pub fn schedule(&mut self, program: &Program) -> bool {
        let thread = self.thread_of(program.task);
        self.kernel.unqueue(thread);
        self.kernel.current = Some(thread);
        self.kernel.ready_to_return(thread)
    }

    pub fn linux_result(&self, program: &Program) -> Option<i64> {
        let state = self.kernel.threads.get(self.thread_of(program.task)).unwrap();
        (state.state == ThreadState::Runnable).then_some(state.registers.rax as i64)
    }
}

/// A Linux program and the names its makers have for it.
pub struct Program {
    pub task: TaskId,
    pub badge: u64,
    pub task_slot: u64,
    pub thread_slot: u64,
}

pub fn info(label: u32, payload_len: u32, handles: u32) -> u64 {
    Info { label, payload_len, handles }.pack()
}
