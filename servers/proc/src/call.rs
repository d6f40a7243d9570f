//! Which function serves which Linux call: one row per number, in order. `libipc::abi::foreign` says which calls come
//! here; a test keeps the two tables the same.

use libipc::linux::errno::{EINVAL, ENOSYS, ENOTTY, EPIPE, ESRCH};
use libipc::linux::signal::SIGPIPE;
use libipc::server::{Call, Foreign, ForeignReply};

use crate::Proc;
use crate::id::Tid;
use crate::signal::{Aim, SigInfo};
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

type Serve = fn(&mut Proc, &Asked, &mut Turn) -> Outcome;

/// The table, in order of numbers.
pub const CALLS: &[(u32, Serve)] = &[
    (13, Proc::rt_sigaction),
    (14, Proc::rt_sigprocmask),
    (15, Proc::rt_sigreturn),
    (34, Proc::pause),
    (35, Proc::nanosleep),
    (36, Proc::getitimer),
    (37, Proc::alarm),
    (38, Proc::setitimer),
    (56, Proc::clone),
    (57, Proc::fork),
    (58, Proc::vfork),
    (60, Proc::exit),
    (61, Proc::wait4),
    (62, Proc::kill),
    (63, Proc::uname),
    (96, Proc::gettimeofday),
    (97, Proc::getrlimit),
    (98, Proc::getrusage),
    (99, Proc::sysinfo),
    (100, Proc::times),
    (101, Proc::ptrace),
    (103, Proc::syslog),
    (105, Proc::setuid),
    (106, Proc::setgid),
    (109, Proc::setpgid),
    (112, Proc::setsid),
    (113, Proc::setreuid),
    (114, Proc::setregid),
    (115, Proc::getgroups),
    (116, Proc::setgroups),
    (117, Proc::setresuid),
    (118, Proc::getresuid),
    (119, Proc::setresgid),
    (120, Proc::getresgid),
    (121, Proc::getpgid),
    (122, Proc::setfsuid),
    (123, Proc::setfsgid),
    (124, Proc::getsid),
    (125, Proc::capget),
    (126, Proc::capset),
    (127, Proc::rt_sigpending),
    (128, Proc::rt_sigtimedwait),
    (129, Proc::rt_sigqueueinfo),
    (130, Proc::rt_sigsuspend),
    (131, Proc::sigaltstack),
    (135, Proc::personality),
    (140, Proc::getpriority),
    (141, Proc::setpriority),
    (142, Proc::sched_setparam),
    (143, Proc::sched_getparam),
    (144, Proc::sched_setscheduler),
    (145, Proc::sched_getscheduler),
    (146, Proc::sched_get_priority_max),
    (147, Proc::sched_get_priority_min),
    (148, Proc::sched_rr_get_interval),
    (157, Proc::prctl),
    (160, Proc::setrlimit),
    (164, Proc::set_clock),
    (169, Proc::reboot),
    (170, Proc::sethostname),
    (171, Proc::setdomainname),
    (200, Proc::tkill),
    (201, Proc::time),
    (202, Proc::futex),
    (203, Proc::sched_setaffinity),
    (204, Proc::sched_getaffinity),
    (218, Proc::set_tid_address),
    (219, Proc::restart_syscall),
    (222, Proc::timer_create),
    (223, Proc::timer_settime),
    (224, Proc::timer_gettime),
    (225, Proc::timer_getoverrun),
    (226, Proc::timer_delete),
    (227, Proc::set_clock),
    (228, Proc::clock_gettime),
    (229, Proc::clock_getres),
    (230, Proc::clock_nanosleep),
    (231, Proc::exit_group),
    (234, Proc::tgkill),
    (247, Proc::waitid),
    (270, Proc::masked_wait),
    (271, Proc::masked_wait),
    (273, Proc::set_robust_list),
    (274, Proc::get_robust_list),
    (281, Proc::masked_wait),
    (282, Proc::signalfd),
    (289, Proc::signalfd),
    (297, Proc::rt_tgsigqueueinfo),
    (302, Proc::prlimit64),
    (424, Proc::pidfd_send_signal),
    (434, Proc::pidfd_open),
    (435, Proc::clone3),
    (441, Proc::masked_wait),
];

/// The calls that write: forwarded here by the server of a pipe or socket that nobody reads any more.
const WRITES: [u32; 8] = [1, 18, 20, 40, 44, 46, 296, 307];

/// Calls on a descriptor of this server, a pidfd: all fail, the request for an unknown ioctl in its own way.
const IOCTL: u32 = 16;

impl Proc {
    /// Serves a Linux call.
    pub(crate) fn foreign(&mut self, call: &Call, foreign: &Foreign, turn: &mut Turn) -> Result<(), Refusal> {
        let tid = Tid(call.caller.tid);
        let outcome = match self.threads.get(&tid).map(|thread| thread.pid) {
            Some(pid) => self.serve(&Asked { id: call.id, foreign, call, pid, tid }, turn),
            None => errno(ESRCH),
        };
        match outcome {
            Ok(Reply::Value(result)) => turn.result(call.id, result),
            Ok(Reply::Pieces(result, outputs)) => {
                turn.out.foreign(call.id, ForeignReply { result, outputs, ..ForeignReply::default() });
            }
            Ok(Reply::Later) => {}
            Err(Refusal::Errno(number)) => turn.result(call.id, -i64::from(number)),
            Err(Refusal::Again) => return Err(Refusal::Again),
        }
        Ok(())
    }

    fn serve(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let number = asked.foreign.number;
        if self.signal_files.contains_key(&asked.call.badge.0) {
            return self.signalfd_call(asked, asked.call.badge.0, turn);
        }
        if asked.call.badge.0 != 0 {
            return errno(if number == IOCTL { ENOTTY } else { EINVAL });
        }
        if WRITES.contains(&number) {
            self.send(Aim::Thread(asked.tid), SigInfo::kernel(SIGPIPE), turn);
            return errno(EPIPE);
        }
        let row = CALLS.binary_search_by_key(&number, |(number, _)| *number).ok();
        match row.and_then(|index| CALLS.get(index)) {
            Some((_, serve)) => serve(self, asked, turn),
            None => errno(ENOSYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use libipc::abi::foreign::{KernelCall, LINUX, NO_ARGUMENT, Role, Route};

    use super::CALLS;

    #[test]
    fn every_call_that_the_kernel_sends_here_has_a_row_and_no_other() {
        assert!(CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let rows = LINUX.iter().enumerate();
        let routed = rows.filter(|(_, row)| {
            let own =
                matches!(row.route, Route::Server(Role::Proc) | Route::Kernel(KernelCall::ClockGettime));
            own || row.masks != NO_ARGUMENT
        });
        let routed: Vec<u32> = routed.map(|(number, _)| number as u32).collect();
        let served: Vec<u32> = CALLS.iter().map(|(number, _)| *number).collect();
        assert_eq!(served, routed);
    }
}
