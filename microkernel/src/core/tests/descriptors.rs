//! Foreign calls: words, descriptors, inputs and outputs.

use libipc::abi::delivery::{Kind, MessageBuffer};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Restart, Syscall, reply_flags};
use libipc::abi::{Protection, Readiness, Rights, TaskWord};
use libipc::linux::call::{CLOSE, DUP, DUP2, FCNTL, FSTAT, GETPID, OPEN, READ, WRITE};
use libipc::linux::errno;

use super::{Program, World, info};
use crate::core::Machine;
use crate::core::object::{Object, TaskId};

pub struct Linux {
    pub world: World,
    pub vm: TaskId,
    pub vfs: TaskId,
    pub program: Program,
}

pub fn linux() -> Linux {
    linux_in(World::new())
}

pub fn linux_in(mut world: World) -> Linux {
    let (vm, proc, vfs) = (world.server(2, false), world.server(3, false), world.server(4, false));
    (2..=4).for_each(|number| world.start(number));
    world.play(Role::Vfs, 4);
    world.play(Role::Proc, 3);
    world.play(Role::Vm, 2);
    let program = world.program(vm, proc);
    Linux { world, vm, vfs, program }
}

impl Linux {
    /// Opens a file whose session has this badge: the descriptor.
    fn open(&mut self, badge: u64) -> i64 {
        let (token, slot) = self.begin_open();
        self.world.ok(self.vfs, Syscall::SessionCreate, &[badge, badge, 0, 0, 0]);
        let flags = reply_flags::INSTALL_FIRST;
        self.world.ok(self.vfs, Syscall::ReplyForeign, &[token, flags, slot, 0, badge]);
        self.world.linux_result(&self.program).unwrap()
    }

    /// The program opens a file: the call, and the descriptor reserved for it.
    fn begin_open(&mut self) -> (u64, u64) {
        let pages = self.world.map(self.vm, &self.program, 0x10_0000, 1, Protection::READ);
        self.world.kernel.machine.bytes(pages, 0, 5).copy_from_slice(b"file\0");
        assert_eq!(self.world.linux(&self.program, OPEN, &[0x10_0000, 0, 0]), None);
        self.world.ok(self.vfs, Syscall::Receive, &[]);
        let delivery = self.world.delivery(self.vfs);
        assert_eq!((delivery.kind, delivery.label, delivery.inputs[0]), (Kind::Foreign as u32, 2, 4));
        assert_eq!(self.world.payload(self.vfs, 4), b"file");
        (delivery.token, u64::from(delivery.slots[0]))
    }
}

#[test]
fn getpid_is_answered_from_a_word() {
    let mut linux = linux();
    let pid = linux.program.badge as i64;
    assert_eq!(linux.world.linux(&linux.program, GETPID, &[]), Some(pid));
}

#[test]
fn an_unknown_call_is_enosys_and_counted() {
    let mut linux = linux();
    for number in [334, 9999, u64::MAX] {
        let result = linux.world.linux(&linux.program, number, &[]);
        assert_eq!(result, Some(-i64::from(errno::ENOSYS)));
    }
    assert_eq!(linux.world.kernel.enosys[334], 1);
}

#[test]
fn descriptors_take_the_lowest_free_number() {
    let mut linux = linux();
    assert_eq!(linux.open(70), 0);
    let Linux { world, program, .. } = &mut linux;
    assert_eq!(world.linux(program, DUP, &[0]), Some(1));
    assert_eq!(world.linux(program, DUP2, &[0, 5]), Some(5));
    assert_eq!(world.linux(program, FCNTL, &[0, 0, 3]), Some(3));
    assert_eq!(world.linux(program, CLOSE, &[1]), Some(0));
    assert_eq!(world.linux(program, CLOSE, &[1]), Some(-i64::from(errno::EBADF)));
    assert_eq!(world.linux(program, DUP, &[5]), Some(1));
    assert_eq!(world.linux(program, DUP, &[5]), Some(2));
    assert_eq!(world.linux(program, DUP, &[5]), Some(4));
    assert_eq!(world.linux(program, DUP2, &[9, 1]), Some(-i64::from(errno::EBADF)));
    assert_eq!(world.linux(program, DUP2, &[0, 1 << 20]), Some(-i64::from(errno::EBADF)));
    assert_eq!(world.linux(program, READ, &[77, 0, 0]), Some(-i64::from(errno::EBADF)));
}

#[test]
fn closing_the_last_descriptor_tells_the_file_server() {
    let mut linux = linux();
    assert_eq!(linux.open(70), 0);
    let Linux { world, program, vfs, .. } = &mut linux;
    world.linux(program, DUP, &[0]);
    world.linux(program, CLOSE, &[0]);
    assert_eq!(world.trap(*vfs, Syscall::Receive, &[]), None);
    world.linux(program, CLOSE, &[1]);
    assert_eq!(world.delivery(*vfs).kind, Kind::LastClose as u32);
}

/// No handle of the server's own, in the flags of `reply_open`.
const NO_OWNER: u64 = (u32::MAX as u64) << 32;

#[test]
fn an_answer_can_make_the_session_that_is_its_descriptor() {
    let mut linux = linux();
    let (token, slot) = linux.begin_open();
    linux.world.ok(linux.vfs, Syscall::ReplyOpen, &[token, 70 << 32, 9, 5, 0, 0]);
    assert_eq!(linux.world.linux_result(&linux.program), Some(slot as i64));
    let Linux { world, program, vfs, .. } = &mut linux;
    assert_eq!(world.linux(program, READ, &[slot, 0, 0]), None);
    world.ok(*vfs, Syscall::Receive, &[]);
    assert_eq!(world.delivery(*vfs).badge, 9);
}

#[test]
fn a_session_without_a_handle_of_its_server_goes_silently_unless_the_server_wants_to_know() {
    for tells in [false, true] {
        let mut linux = linux();
        let sessions = linux.world.kernel.sessions.used();
        let (token, slot) = linux.begin_open();
        let flags = NO_OWNER | if tells { reply_flags::TELL_CLOSE } else { 0 };
        linux.world.ok(linux.vfs, Syscall::ReplyOpen, &[token, flags, 9, 5, 0, 0]);
        let Linux { world, program, vfs, .. } = &mut linux;
        assert_eq!(world.trap(*vfs, Syscall::Receive, &[]), None);
        world.linux(program, CLOSE, &[slot]);
        let delivery = world.delivery(*vfs);
        let told = (delivery.kind, delivery.badge, delivery.owner) == (Kind::LastClose as u32, 9, u32::MAX);
        assert_eq!(told, tells);
        assert_eq!(world.kernel.sessions.used(), sessions);
    }
}

#[test]
fn an_answer_can_say_what_a_session_is_ready_for() {
    let mut linux = linux();
    assert_eq!(linux.open(70), 0);
    let (token, slot) = linux.begin_open();
    let session = 70 | u64::from(Readiness::IN.bits()) << 32;
    let answer = [token, reply_flags::READY, slot, 0, 0, session];
    linux.world.ok(linux.vfs, Syscall::ReplyForeign, &answer);
    assert_eq!(linux.world.linux_result(&linux.program), Some(slot as i64));
    let kernel = &linux.world.kernel;
    let table = kernel.tasks.get(linux.program.task).unwrap().table;
    let Object::Session(id) = kernel.slot(table, 0).object else { panic!("a session") };
    assert_eq!(kernel.sessions.get(id).unwrap().readiness, Readiness::IN);
}

#[test]
fn no_descriptor_is_left_when_the_limit_is_reached() {
    let mut linux = linux();
    let Linux { world, program, vfs, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    world.ok(proc, Syscall::TaskWord, &[program.task_slot, TaskWord::DescriptorLimit as u64, 0]);
    world.map(*vm, program, 0x10_0000, 1, Protection::READ);
    let result = world.linux(program, OPEN, &[0x10_0000, 0, 0]);
    assert_eq!(result, Some(-i64::from(errno::EMFILE)), "refused before the server has heard of it");
    assert_eq!(world.trap(*vfs, Syscall::Receive, &[]), None);
}

#[test]
fn a_missing_page_is_faulted_in_before_the_call_is_delivered() {
    let mut linux = linux();
    let Linux { world, program, vfs, vm, .. } = &mut linux;
    assert_eq!(world.trap(*vfs, Syscall::Receive, &[]), None);
    let pages = world.map(*vm, program, 0x10_0000, 1, Protection::READ);
    world.kernel.machine.bytes(pages, 4092, 4).copy_from_slice(b"long");
    assert_eq!(world.linux(program, OPEN, &[0x10_0ffc, 0, 0]), None);
    world.ok(*vm, Syscall::Receive, &[]);
    let fault = world.delivery(*vm);
    assert_eq!((fault.kind, fault.words[0], fault.words[3]), (Kind::Fault as u32, 0x10_1000, 1));
    let more = world.map(*vm, program, 0x10_1000, 1, Protection::READ);
    world.kernel.machine.bytes(more, 0, 5).copy_from_slice(b"name\0");
    world.ok(*vm, Syscall::Reply, &[fault.token, 0]);
    assert_eq!(world.delivery(*vfs).inputs[0], 8);
    assert_eq!(world.payload(*vfs, 8), b"longname");
}

#[test]
fn a_bad_address_is_efault_and_the_server_never_hears_of_it() {
    let mut linux = linux();
    let Linux { world, program, vfs, vm, .. } = &mut linux;
    assert_eq!(world.trap(*vfs, Syscall::Receive, &[]), None);
    for address in [0x10_0000, u64::MAX - 3, 0x7fff_ffff_f000] {
        if world.linux(program, OPEN, &[address, 0, 0]).is_none() {
            world.ok(*vm, Syscall::Receive, &[]);
            let token = world.delivery(*vm).token;
            world.ok(*vm, Syscall::Reply, &[token, 1]);
        }
        assert_eq!(world.linux_result(program), Some(-i64::from(errno::EFAULT)), "{address:#x}");
    }
    assert_eq!(world.result(*vfs), None);
}

#[test]
fn a_copy_that_misses_a_page_copies_nothing_and_says_when_it_is_there() {
    let mut linux = linux();
    assert_eq!(linux.open(70), 0);
    let Linux { world, program, vfs, vm, .. } = &mut linux;
    let pages = world.map(*vm, program, 0x20_0000, 1, Protection::READ | Protection::WRITE);
    assert_eq!(world.linux(program, WRITE, &[0, 0x20_0ffe, 4]), None, "write(2) from the end of a page");
    world.ok(*vfs, Syscall::Receive, &[]);
    let token = world.delivery(*vfs).token;
    world.set_header(*vfs, MessageBuffer::default());
    let missing = world.trap(*vfs, Syscall::LeaseRead, &[token, 0x20_0ffe, 4]);
    assert_eq!(missing, Some(Err(libipc::abi::KernelError::NotResident)));
    world.ok(*vm, Syscall::Receive, &[]);
    let fault = world.delivery(*vm);
    assert_eq!(fault.words[0], 0x20_1000);
    let more = world.map(*vm, program, 0x20_1000, 1, Protection::READ);
    world.kernel.machine.bytes(pages, 4094, 2).copy_from_slice(b"ab");
    world.kernel.machine.bytes(more, 0, 2).copy_from_slice(b"cd");
    world.ok(*vm, Syscall::Reply, &[fault.token, 0]);
    world.ok(*vfs, Syscall::Receive, &[]);
    let ready = world.delivery(*vfs);
    assert_eq!((ready.kind, ready.token, ready.words[0]), (Kind::Ready as u32, token, 0));
    assert_eq!(world.ok(*vfs, Syscall::LeaseRead, &[token, 0x20_0ffe, 4])[0], 4);
    assert_eq!(world.payload(*vfs, 4), b"abcd");
}

/// The token of a call on a descriptor that its server has received.
fn held(linux: &mut Linux, descriptor: i64) -> u64 {
    assert_eq!(linux.world.linux(&linux.program, FSTAT, &[descriptor as u64, 0]), None);
    linux.world.ok(linux.vfs, Syscall::Receive, &[]);
    linux.world.delivery(linux.vfs).token
}

#[test]
fn a_kept_watch_tells_by_its_name_until_it_is_ended() {
    let mut linux = linux();
    let descriptor = linux.open(50);
    let token = held(&mut linux, descriptor);
    let vfs = linux.vfs;
    let kept = linux.world.ok(vfs, Syscall::WatchKeep, &[token, descriptor as u64, 77, 1]);
    assert_eq!(kept[0], 0, "nothing yet");
    linux.world.ok(vfs, Syscall::ReplyForeign, &[token, 0, 0, 0, 0]);
    for _ in 0..2 {
        linux.world.ok(vfs, Syscall::SessionReady, &[50, 1]);
        linux.world.ok(vfs, Syscall::SessionReady, &[50, 1]);
        linux.world.ok(vfs, Syscall::Receive, &[]);
        let delivery = linux.world.delivery(vfs);
        assert_eq!((delivery.kind, delivery.words[..3].to_vec()), (Kind::Watched as u32, vec![77, 1, 0]));
        assert_eq!(linux.world.ok(vfs, Syscall::WatchChange, &[kept[1], 1])[0], 1);
    }
    assert_eq!(linux.world.linux(&linux.program, CLOSE, &[descriptor as u64]), Some(0));
    linux.world.ok(vfs, Syscall::Receive, &[]);
    let delivery = linux.world.delivery(vfs);
    assert_eq!((delivery.kind, delivery.words[2]), (Kind::Watched as u32, 1), "it is gone");
    linux.world.ok(vfs, Syscall::Receive, &[]);
    assert_eq!(linux.world.delivery(vfs).kind, Kind::LastClose as u32);
    linux.world.ok(vfs, Syscall::WatchEnd, &[kept[1]]);
    assert!(linux.world.trap(vfs, Syscall::WatchEnd, &[kept[1]]).unwrap().is_err());
}

#[test]
fn a_descriptor_that_is_taken_and_given_is_the_same_file() {
    let mut linux = linux();
    let descriptor = linux.open(50);
    let token = held(&mut linux, descriptor);
    let vfs = linux.vfs;
    let taken = linux.world.ok(vfs, Syscall::DescriptorTake, &[token, descriptor as u64, 60]);
    assert_eq!(taken[1], 50, "its badge");
    assert!(linux.world.trap(vfs, Syscall::DescriptorTake, &[token, 99, 61]).unwrap().is_err());
    linux.world.ok(vfs, Syscall::SessionMove, &[60, 4096]);
    let given = linux.world.ok(vfs, Syscall::DescriptorGive, &[token, 60, 0])[0];
    assert_ne!(given as i64, descriptor);
    linux.world.ok(vfs, Syscall::Close, &[60]);
    linux.world.ok(vfs, Syscall::ReplyForeign, &[token, 0, 0, 0, 0]);
    assert_eq!(linux.world.linux(&linux.program, CLOSE, &[descriptor as u64]), Some(0));
    let token = held(&mut linux, given as i64);
    let delivery = linux.world.delivery(vfs);
    assert_eq!((delivery.badge, delivery.position), (50, 4096));
    linux.world.ok(vfs, Syscall::ReplyForeign, &[token, 0, 0, 0, 0]);
}

#[test]
fn a_call_that_was_handed_on_with_a_new_message_restarts_as_the_call_it_was() {
    let Linux { mut world, vm, vfs, program } = linux();
    let proc = world.role(Role::Proc);
    world.kernel.put(vfs, 20, world.inbox(proc), Rights::CALL).unwrap();
    let pages = world.map(vm, &program, 0x10_0000, 1, Protection::READ);
    world.kernel.machine.bytes(pages, 0, 5).copy_from_slice(b"file\0");
    assert_eq!(world.linux(&program, OPEN, &[0x10_0000, 0, 0]), None);
    world.ok(vfs, Syscall::Receive, &[]);
    let token = world.delivery(vfs).token;
    world.ok(vfs, Syscall::Forward, &[token, 20, info(0x77, 0, 0)]);
    world.ok(proc, Syscall::Receive, &[]);
    let delivery = world.delivery(proc);
    assert_eq!((delivery.kind, delivery.label), (Kind::Call as u32, 0x77));
    let flags = (Restart::Always as u64) << reply_flags::RESTART_SHIFT;
    let interrupted = (-i64::from(errno::EINTR)) as u64;
    world.ok(proc, Syscall::ReplyForeign, &[delivery.token, flags, interrupted]);
    assert!(world.schedule(&program));
    assert_eq!(world.linux_result(&program), Some(OPEN as i64), "the register holds the number again");
}
