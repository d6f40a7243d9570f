//! What programs, and odd situations, do to the miniature kernel: short names for the tests.

use libipc::abi::foreign::{Input, LINUX};
use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Handle};
use libipc::proto::process::{self as protocol, Exec};
use libipc::server::{Effects, Foreign, ForeignReply, Message, Request};

/// The number of the call that [`World::silence`] makes.
pub const SILENT: u32 = 7;

use super::{DATA, Event, ON_BEHALF, Open, STACK, World, audit};

/// Short names for the calls that nearly every test makes.
impl World {
    pub fn fork(&mut self, tid: u32) -> u32 {
        let child = self.syscall(tid, 57, &[]).expect("fork is answered");
        u32::try_from(child).unwrap_or_else(|_| panic!("fork failed: {child}"))
    }

    pub fn thread(&mut self, tid: u32) -> u32 {
        let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000;
        self.syscall(tid, 56, &[flags, STACK + 0x4000]).expect("clone is answered") as u32
    }

    /// exit_group(2).
    pub fn exit(&mut self, tid: u32, code: u64) {
        self.syscall(tid, 231, &[code]);
    }

    /// exit(2), of one thread.
    pub fn exit_thread(&mut self, tid: u32, code: u64) {
        self.syscall(tid, 60, &[code]);
    }

    /// wait4(2), with the status at DATA.
    pub fn wait(&mut self, tid: u32, pid: i32, options: u32) -> Option<i64> {
        self.poke(DATA, &0xdead_beef_u32.to_le_bytes());
        self.syscall(tid, 61, &[pid as u64, DATA, u64::from(options), 0])
    }

    /// waitid(2), with the siginfo at DATA + 64.
    pub fn waitid(&mut self, tid: u32, kind: u64, id: u64, options: u32) -> Option<i64> {
        self.poke(DATA + 64, &[0xff; 128]);
        self.syscall(tid, 247, &[kind, id, DATA + 64, u64::from(options), 0])
    }

    pub fn status(&mut self) -> u32 {
        self.peek32(DATA)
    }

    /// si_signo, si_code, si_pid, si_status of the last waitid.
    pub fn info(&mut self) -> [u32; 4] {
        [0, 8, 16, 24].map(|at| self.peek32(DATA + 64 + at))
    }

    pub fn kill_process(&mut self, tid: u32, pid: i32, signal: u8) -> i64 {
        self.syscall(tid, 62, &[pid as u64, u64::from(signal)]).unwrap_or(i64::MIN)
    }

    /// rt_sigaction(2).
    pub fn action(&mut self, tid: u32, signal: u8, handler: u64, flags: u64) {
        let words = [handler, flags | 0x0400_0000, 0x40_2000, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.poke(DATA + 256, &bytes);
        assert_eq!(self.syscall(tid, 13, &[u64::from(signal), DATA + 256, 0, 8]), Some(0));
    }

    /// rt_sigprocmask(2) with SIG_SETMASK.
    pub fn mask(&mut self, tid: u32, set: u64) {
        self.poke(DATA + 320, &set.to_le_bytes());
        assert_eq!(self.syscall(tid, 14, &[2, DATA + 320, 0, 8]), Some(0));
    }

    pub fn setpgid(&mut self, tid: u32, pid: u32, pgid: u32) -> i64 {
        self.syscall(tid, 109, &[u64::from(pid), u64::from(pgid)]).unwrap()
    }

    pub fn prctl(&mut self, tid: u32, option: u64, argument: u64) -> i64 {
        self.syscall(tid, 157, &[option, argument]).unwrap()
    }

    /// execve(2), as vfs hands it on, of a program without arguments.
    pub fn begin_exec(&mut self, tid: u32, exec: &Exec) -> CallId {
        let handle = self.new_handle();
        self.on_behalf(tid, true, Message::typed(protocol::EXEC, exec).with_handles(&[handle]))
    }

    pub fn exec(&mut self, tid: u32) -> CallId {
        self.begin_exec(
            tid,
            &Exec { filename: b"/bin/true".to_vec(), path: b"/bin/true".to_vec(), ..Exec::default() },
        )
    }

    /// Takes a handler's first instruction for its last: back to the program through rt_sigreturn(2).
    pub fn sigreturn(&mut self, tid: u32) {
        self.registers(tid).rsp += 8;
        self.syscall(tid, 15, &[]);
    }

    /// Whether a thread is at the start of this handler.
    pub fn handles(&mut self, tid: u32, handler: u64) -> bool {
        self.runs(tid) && self.registers(tid).rip == handler
    }
}

/// Odd situations.
impl World {
    /// A process that is nobody's relation, for sending signals from: a child of init in a session of its own.
    pub fn outsider(&mut self) -> u32 {
        let middle = self.fork(2);
        let outsider = self.fork(middle);
        self.exit(middle, 0);
        self.syscall(outsider, 112, &[]);
        self.syscall(2, 61, &[u64::from(middle), 0, 0, 0]);
        outsider
    }

    /// A thread enters a call of a server that never answers.
    pub fn silence(&mut self, tid: u32) {
        let thread = self.handle(tid);
        let id = CallId(1 << 40 | u64::from(tid));
        self.calls.insert(id, Open { thread, number: SILENT, foreign: true, cancelled: true });
        self.threads.get_mut(&thread).unwrap().call = Some(id);
    }
}

impl World {
    /// A thread makes a call on a session of this server.
    pub fn call_session(
        &mut self,
        tid: u32,
        badge: u64,
        status: u32,
        number: u32,
        arguments: &[u64],
    ) -> CallId {
        let id = self.begin(tid, number, arguments);
        if let Some(Event::Call(call)) = self.queue.back_mut() {
            (call.badge.0, call.status) = (badge, status);
        }
        self.run();
        id
    }

    /// The other server answers that has a thread's call.
    pub fn answer_elsewhere(&mut self, result: i64, restart: Restart) {
        let call = self.elsewhere.pop().expect("a call that was handed on");
        self.reply(
            call,
            Some(ForeignReply { result, restart, ..ForeignReply::default() }),
            Message::default(),
        );
        self.run();
    }

    /// The server that was silent gives a thread's call back, to be made again as it says.
    pub fn speak(&mut self, tid: u32, restart: Restart) {
        let thread = self.handle(tid);
        let id = self.threads[&thread].call.expect("a thread in a call");
        self.reply(id, Some(ForeignReply { restart, ..ForeignReply::default() }), Message::default());
        self.run();
    }
}

/// For the random tests.
impl World {
    /// A message on a thread's behalf, not yet served.
    pub fn queue_on_behalf(&mut self, tid: u32, foreign: bool, message: Message) -> CallId {
        let thread = self.handle(tid);
        self.registers(tid).rip += 2;
        self.registers(tid).rax = ON_BEHALF;
        // A call that was rewritten on its way has the message's label where its number was.
        self.enqueue(thread, message.label, foreign, Request::Native(message))
    }

    /// Carries out effects that came about outside a step.
    pub fn carry_out(&mut self, effects: Effects) {
        self.apply(effects);
        audit::check(self);
    }

    /// A Linux call with any arguments and any inputs, as a kernel that checks nothing would deliver it.
    pub fn begin_raw(&mut self, tid: u32, number: u32, arguments: [u64; 6], bytes: &[u8]) {
        let mut inputs = [None, None];
        for (slot, input) in inputs.iter_mut().zip(LINUX[number as usize].inputs) {
            *slot = match input {
                Input::None | Input::Text(_) | Input::Small(..) => None,
                Input::Bytes(at, length) => {
                    (arguments[at as usize] != 0).then(|| bytes[..length.min(128) as usize].to_vec())
                }
                Input::Array(at, ..) | Input::PerDescriptor(at, ..) => {
                    (arguments[at as usize] != 0).then(|| bytes.to_vec())
                }
            };
        }
        let foreign = Foreign { number, arguments, inputs, ..Foreign::default() };
        let thread = self.handle(tid);
        self.lenient = true;
        self.enqueue(thread, number, true, Request::Foreign(foreign));
        self.run();
    }
}

impl World {
    /// A call that the server has received, and will serve when a page of its caller is there.
    pub fn begin_and_miss(&mut self, tid: u32, number: u32, arguments: &[u64]) -> Event {
        let id = self.begin(tid, number, arguments);
        let index = self.queue.iter().position(|event| matches!(event, Event::Call(call) if call.id == id));
        let mut event = self.queue.remove(index.unwrap()).unwrap();
        self.gather_inputs(&mut event);
        event
    }
}

/// For the test beside the model, which says itself what comes next.
impl World {
    /// Serves the first event that is wanted; false when there is none.
    pub fn serve(&mut self, wanted: impl Fn(&Event) -> bool) -> bool {
        let Some(index) = self.queue.iter().position(wanted) else { return false };
        let mut event = self.queue.remove(index).unwrap();
        self.gather_inputs(&mut event);
        self.step(event);
        true
    }

    /// The task of a thread, dead or alive.
    pub fn task_of(&self, thread: Handle) -> Option<Handle> {
        self.threads.get(&thread).map(|thread| thread.task)
    }
}
