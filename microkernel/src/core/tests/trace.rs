//! What is in the trace of a few traps, and that a filter keeps back what it should.

use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Syscall, THEN_RECEIVE};
use libipc::abi::trace::{Filter, Names, Reader, To, What, Who};
use libipc::abi::{CallId, KernelError, Kind, Rights, TaskWord};
use libipc::linux::call::{GETPID, READ};

use super::{Program, World, info};
use crate::core::object::{Object, TaskId};

const DISK: u64 = 0;

/// Two servers, of which one asks the other, and two programs with files of the first.
struct Scene {
    world: World,
    file: TaskId,
    disk: TaskId,
    programs: [Program; 2],
    position: u64,
}

/// Who, about which call, because of which, what.
type Line = (Who, Option<CallId>, Option<CallId>, What);

impl Scene {
    fn new(filter: &str) -> Scene {
        let mut world = World::new();
        let [vm, proc, vfs, file, disk] = [2, 3, 4, 5, 6].map(|number| world.server(number, false));
        world.grant(5, DISK, 6);
        (2..=6).for_each(|number| world.start(number));
        world.play(Role::Vfs, 4);
        world.play(Role::Proc, 3);
        world.play(Role::Vm, 2);
        let programs = [world.program(vm, proc), world.program(vm, proc)];
        world.ok(file, Syscall::SessionCreate, &[20, 77, 78, 0, 5]);
        let Ok(Object::OwnSession(session)) = world.kernel.named(file, 20, Rights::CONTROL) else { panic!() };
        for program in &programs {
            let rights = Rights::CALL | Rights::TRANSFER;
            world.kernel.put(program.task, 3, Object::Session(session), rights).unwrap();
        }
        for server in [vm, proc, vfs, file, disk] {
            world.trap(server, Syscall::Receive, &[]);
        }
        let names = Names::new(["root", "vm", "proc", "vfs", "file", "disk"]);
        world.kernel.set_trace(true, Filter::parse(filter, &names).unwrap());
        let position = world.kernel.trace.ring.end();
        Scene { world, file, disk, programs, position }
    }

    fn lines(&mut self) -> Vec<Line> {
        let mut bytes = Vec::new();
        self.world.kernel.take_trace(&mut self.position, &mut bytes);
        let records = Reader::of_records(&bytes).map(Result::unwrap);
        records
            .map(|record| (record.stamp.who, record.stamp.call, record.stamp.cause, record.what()))
            .collect()
    }

    /// A read by a program, for which the file server asks the disk.
    fn read(&mut self, program: usize) -> CallId {
        assert_eq!(self.world.linux(&self.programs[program], READ, &[3, 0, 0]), None);
        let call = CallId(self.world.delivery(self.file).token);
        self.world.ok(self.file, Syscall::Send, &[DISK, info(7, 0, 0), 1]);
        self.world.trap(self.file, Syscall::Receive, &[]);
        let asked = self.world.delivery(self.disk).token;
        self.world.ok(self.disk, Syscall::Reply, &[asked, 0, 0, 0, 0, 0]);
        self.world.trap(self.disk, Syscall::Receive, &[]);
        self.world.ok(self.file, Syscall::ReplyForeign, &[call.0, 0, 4096, 0, 0, 0]);
        self.world.trap(self.file, Syscall::Receive, &[]);
        call
    }
}

#[test]
fn what_is_done_for_a_call_has_it_as_its_cause_and_so_has_what_is_done_when_the_answer_comes() {
    let mut scene = Scene::new("");
    let call = scene.read(0);
    let lines = scene.lines();
    let [.., (_, Some(sent), ..)] = lines[..3] else { panic!("{lines:?}") };
    let program = Who::Program { pid: 11, tid: 11 };
    let (file, disk) = (Who::Server(5), Who::Server(6));
    let mut expected = vec![
        (program, Some(call), None),
        (file, Some(call), None),
        (file, Some(sent), Some(call)),
        (disk, Some(sent), Some(call)),
        (disk, Some(sent), Some(sent)),
        (file, Some(sent), Some(call)),
        (file, Some(call), Some(call)),
    ];
    // With the call, its receiver runs at once.
    if let What::Linux { to: To { at_once: true, .. }, .. } = lines[0].3 {
        expected.remove(1);
    }
    let found: Vec<_> = lines.iter().map(|(who, call, cause, _)| (*who, *call, *cause)).collect();
    assert_eq!(found, expected, "{lines:#?}");
    assert!(matches!(lines.last(), Some((.., What::Native { call: Syscall::ReplyForeign, .. }))));
    let answer = What::Delivered {
        kind: Some(Kind::Answer),
        label: 0,
        badge: 0,
        words: [0; 2],
        lengths: [0, u32::MAX],
    };
    assert!(lines.iter().any(|(.., what)| *what == answer), "{lines:#?}");
}

#[test]
fn a_process_that_is_given_its_number_after_its_thread_is_known_by_it() {
    let mut scene = Scene::new("");
    let task = scene.programs[0].task;
    let thread = scene.world.thread_of(task);
    let tid = scene.world.kernel.threads.get(thread).unwrap().tid;
    scene.world.kernel.set_word(task, TaskWord::Pid, 77);
    scene.read(0);
    let callers: Vec<Who> = scene.lines().into_iter().map(|(who, ..)| who).collect();
    assert!(callers.contains(&Who::Program { pid: 77, tid }), "{callers:?}");
    assert!(!callers.contains(&Who::Program { pid: 11, tid }), "{callers:?}");
}

#[test]
fn what_the_kernel_answers_by_itself_is_one_record() {
    let mut scene = Scene::new("");
    assert_eq!(scene.world.linux(&scene.programs[1], GETPID, &[]), Some(12));
    assert_eq!(scene.world.linux(&scene.programs[1], READ, &[9]), Some(-9));
    let results: Vec<_> = scene
        .lines()
        .into_iter()
        .map(|line| match line {
            (Who::Program { pid: 12, .. }, None, None, What::Linux { result, .. }) => result,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(results, [Some(12), Some(-9)]);
}

#[test]
fn a_refused_system_call_is_told_with_its_error_and_one_that_waits_for_nothing_is_not() {
    let mut scene = Scene::new("");
    let root = scene.world.root;
    let refused = scene.world.trap(root, Syscall::Reply, &[99, 0, 0, 0, 0, 0]);
    assert_eq!(refused, Some(Err(KernelError::NoSuchCall)));
    let error = Some(KernelError::NoSuchCall);
    let what = What::Native { call: Syscall::Reply, error, to: None };
    assert_eq!(scene.lines(), [(Who::Server(1), Some(CallId(99)), None, what)]);
    scene.world.trap(root, Syscall::Receive, &[]);
    assert_eq!(scene.lines(), []);
}

#[test]
fn a_filter_lets_pass_what_is_done_on_behalf_of_the_processes_and_calls_that_it_names() {
    for (filter, program, records) in [
        ("pids=11", 0, 7),
        ("pids=11", 1, 0),
        ("calls=read", 1, 7),
        ("calls=write", 1, 0),
        ("pids=11 calls=read", 0, 7),
        ("servers=disk", 0, 3),
        ("natives=reply", 0, 5),
    ] {
        let mut scene = Scene::new(filter);
        scene.read(program);
        let lines = scene.lines();
        assert_eq!(lines.len(), records, "{filter}: {lines:#?}");
    }
}

#[test]
fn nothing_is_recorded_while_tracing_is_off() {
    let mut scene = Scene::new("");
    scene.world.kernel.set_trace(false, Filter::default());
    scene.read(0);
    assert_eq!(scene.lines(), []);
}

#[test]
fn a_message_that_goes_the_short_way_is_one_record_and_its_receiver_handles_it() {
    let mut scene = Scene::new("");
    let (world, file, disk) = (&mut scene.world, scene.file, scene.disk);
    let (root, thread) = (world.root, world.thread_of(file));
    world.trap(root, Syscall::Receive, &[]);
    world.kernel.post_bits(world.kernel.server_of(file).unwrap(), 1);
    let _ = world.kernel.resume(0);
    assert_eq!(world.kernel.current, Some(thread));
    let taken = world.kernel.short.1;
    let registers = &mut world.kernel.threads.get_mut(thread).unwrap().registers;
    (registers.rax, registers.rdi, registers.rsi) = (Syscall::Call as u64, DISK, info(7, 0, 0));
    let _ = world.kernel.trap(crate::core::Trap::Call);
    assert_eq!(world.kernel.short.1, taken + 1);
    let token = world.delivery(disk).token;
    let own = world.thread_of(disk);
    let registers = &mut world.kernel.threads.get_mut(own).unwrap().registers;
    (registers.rax, registers.rdi, registers.rsi) = (Syscall::Reply as u64 | THEN_RECEIVE, token, 0);
    let _ = world.kernel.trap(crate::core::Trap::Call);
    assert_eq!(world.kernel.short.1, taken + 2);
    let lines = scene.lines();
    let [
        ..,
        (Who::Server(5), Some(made), None, called),
        (Who::Server(6), Some(answered), Some(cause), replied),
    ] = lines[..]
    else {
        panic!("{lines:#?}")
    };
    assert_eq!((made, answered, cause), (CallId(token), CallId(token), CallId(token)));
    let to = Some(To { server: 6, at_once: true });
    assert_eq!(called, What::Native { call: Syscall::Call, error: None, to });
    assert_eq!(replied, What::Native { call: Syscall::Reply, error: None, to: None });
}
