//! The system calls that reach this server, straight or through a descriptor: which function serves which.

use crate::Tmpfs;
use crate::file::F_SEAL_SEAL;
use crate::locking;
use crate::node::{Body, File, NOWHERE, Node};
use crate::open::{Kind, New, OpenFile};
use crate::transfer::{Outcome, Ranges, Refusal, small, value};
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::*;
use libipc::proto::fs::Credentials;
use libipc::server::files::{self, DirentLayout};
use libipc::server::vectors::COUNT_MAX;
use libipc::server::{Call, Change, Effects, Env, Foreign, ForeignReply};

const FIONREAD: u64 = 0x541b;
/// Bytes sent that nobody has received (SIOCOUTQ of sockets).
const TIOCOUTQ: u64 = 0x5411;
const FIONBIO: u64 = 0x5421;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const MFD_CLOEXEC: u64 = 1;
const MFD_ALLOW_SEALING: u64 = 2;
const MFD_NOEXEC_SEAL: u64 = 8;
const MFD_EXEC: u64 = 16;
/// Longest name of a memfd: NAME_MAX less the `memfd:` that Linux puts before it.
const MEMFD_NAME_MAX: usize = 249;

impl Tmpfs {
    /// Serves a system call.
    pub(crate) fn foreign(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Outcome {
        if call.badge.0 == 0 {
            return self.direct(call, foreign, env);
        }
        let open = *self.opens.get(&call.badge.0).ok_or(EBADF)?;
        if let Kind::Socket(ino) = open.kind {
            match foreign.number {
                number::READ | number::READV => return self.receive(call, foreign, ino, env),
                number::WRITE | number::WRITEV => return self.send(call, foreign, ino, env),
                _ => {}
            }
        }
        match foreign.number {
            number::READ | number::PREAD64 | number::READV | number::PREADV => {
                self.read(call, foreign, open, env)
            }
            number::WRITE | number::PWRITE64 | number::WRITEV | number::PWRITEV => {
                self.write(call, foreign, open, env)
            }
            number::LSEEK => self.seek(call, foreign, open),
            number::FSTAT => {
                let stat = match open.kind {
                    Kind::Device(device) => self.device_stat(device),
                    kind => self.stat(kind.node().ok_or(EBADF)?)?,
                };
                small(call.id, 0, foreign.arguments[1], &stat.to_bytes())
            }
            number::FSTATFS => small(call.id, 0, foreign.arguments[1], &self.stat_fs().to_bytes()),
            _ if open.status & O_PATH != 0 => Err(Refusal::Errno(EBADF)),
            number::TIMERFD_SETTIME | number::TIMERFD_GETTIME => match open.kind {
                Kind::Alarm(ino) if foreign.number == number::TIMERFD_SETTIME => {
                    self.set_alarm(call, foreign, ino, env)
                }
                Kind::Alarm(ino) => self.tell_alarm(call, foreign.arguments[1], ino, env),
                _ => Err(Refusal::Errno(EINVAL)),
            },
            number::IOCTL => self.control(call, foreign, open, env),
            number::FCNTL => self.fcntl(call, foreign, open, env),
            number::FLOCK => self.flock(call, open.kind, foreign.arguments[1]),
            number::GETDENTS => self.list(call, foreign, open, DirentLayout::Old, env),
            number::GETDENTS64 => self.list(call, foreign, open, DirentLayout::Wide, env),
            number::FCHMOD | number::FCHOWN => self.change_attributes(call, foreign, open, env),
            number if number::is_of_sockets(number) => self.socket_call(call, foreign, open, env),
            _ => self.manage_file(call, foreign, open, env),
        }
    }

    /// The calls that are about the storage of a file.
    fn manage_file(&mut self, call: &Call, foreign: &Foreign, open: OpenFile, env: &mut dyn Env) -> Outcome {
        let file = match open.kind {
            Kind::Node(ino) => Ok(ino),
            Kind::Device(_) => Err(EINVAL),
            _ => Err(ESPIPE),
        };
        match foreign.number {
            number::FSYNC | number::FDATASYNC => {
                file.or(Err(EINVAL)).map_err(Refusal::from).and_then(|_| value(call.id, 0))
            }
            number::SYNCFS => value(call.id, 0),
            number::FADVISE64 => match foreign.arguments[3] {
                0..=5 => file.map_err(Refusal::from).and_then(|_| value(call.id, 0)),
                _ => Err(Refusal::Errno(EINVAL)),
            },
            number::READAHEAD => {
                files::check_readable(open.status)?;
                file.or(Err(EINVAL)).map_err(Refusal::from).and_then(|_| value(call.id, 0))
            }
            number::FTRUNCATE => {
                let ino = file.or(Err(EINVAL))?;
                files::check_writable(open.status).or(Err(EINVAL))?;
                self.truncate_open(call, ino, foreign.arguments[1], env)
            }
            number::FALLOCATE => {
                files::check_writable(open.status)?;
                self.allocate(call, file?, foreign.arguments, env)
            }
            number => Err(Refusal::Errno(number::misdirected(number).unwrap_or(ENOSYS))),
        }
    }

    /// The calls that are about no descriptor.
    fn direct(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Outcome {
        let arguments = foreign.arguments;
        match foreign.number {
            number::PIPE => self.make_pipe(call, foreign, 0, env),
            number::PIPE2 => self.make_pipe(call, foreign, arguments[1], env),
            number::SOCKET => self.make_socket(call, foreign, env),
            number::SOCKETPAIR => self.make_socket_pair(call, foreign, env),
            number::EVENTFD => self.make_counter(call, [arguments[0], 0, 0, 0, 0, 0], env),
            number::TIMERFD_CREATE => self.make_alarm(call, arguments, env),
            number::EVENTFD2 => self.make_counter(call, arguments, env),
            number::GETRANDOM => self.get_random(call, arguments, env),
            number::MEMFD_CREATE => self.make_memory_file(call, foreign, env),
            _ => Err(Refusal::Errno(ENOSYS)),
        }
    }

    fn read(&mut self, call: &Call, foreign: &Foreign, open: OpenFile, env: &mut dyn Env) -> Outcome {
        files::check_readable(open.status)?;
        let at = own_offset(foreign)?;
        let ranges = self.buffers(call, foreign, env)?;
        match open.kind {
            Kind::Node(ino) => self.file_read(call, ino, &ranges, at, env),
            Kind::Device(device) => self.device_read(call, device, &ranges, env),
            _ if at.is_some() => Err(Refusal::Errno(ESPIPE)),
            Kind::Pipe(ino) => self.pipe_read(call, ino, ranges, env),
            Kind::Socket(_) => Err(Refusal::Errno(ESPIPE)),
            Kind::Counter(ino) => self.counter_read(call, ino, &ranges),
            Kind::Alarm(ino) => self.alarm_read(call, ino, ranges, env),
        }
    }

    fn write(&mut self, call: &Call, foreign: &Foreign, open: OpenFile, env: &mut dyn Env) -> Outcome {
        files::check_writable(open.status)?;
        let at = own_offset(foreign)?;
        let ranges = self.buffers(call, foreign, env)?;
        match open.kind {
            Kind::Node(ino) => self.file_write(call, ino, &ranges, at, env),
            Kind::Device(device) => self.device_write(call, device, &ranges, env),
            _ if at.is_some() => Err(Refusal::Errno(ESPIPE)),
            Kind::Pipe(ino) => self.pipe_write(call, ino, ranges, env),
            Kind::Socket(_) => Err(Refusal::Errno(ESPIPE)),
            Kind::Counter(ino) => self.counter_write(call, ino, &ranges, env),
            Kind::Alarm(_) => Err(Refusal::Errno(EINVAL)),
        }
    }

    fn buffers(&self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Ranges, Refusal> {
        match foreign.number {
            number::READV | number::WRITEV | number::PREADV | number::PWRITEV => {
                Ranges::vectored(foreign, call.id, env)
            }
            _ => Ok(Ranges::one(foreign.arguments[1], foreign.arguments[2].min(COUNT_MAX))?),
        }
    }

    fn seek(&self, call: &Call, foreign: &Foreign, open: OpenFile) -> Outcome {
        let [_, offset, whence, ..] = foreign.arguments;
        match open.kind {
            _ if open.status & O_PATH != 0 => Err(Refusal::Errno(EBADF)),
            Kind::Node(ino) => self.file_seek(call, ino, offset as i64, whence),
            Kind::Device(device) => self.device_seek(call, device),
            _ => Err(Refusal::Errno(ESPIPE)),
        }
    }

    fn list(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        open: OpenFile,
        layout: DirentLayout,
        env: &mut dyn Env,
    ) -> Outcome {
        let Kind::Node(ino) = open.kind else { return Err(Refusal::Errno(ENOTDIR)) };
        let ranges = Ranges::one(foreign.arguments[1], foreign.arguments[2] & u64::from(u32::MAX))?;
        self.read_directory(call, ino, layout, &ranges, env)
    }

    fn change_attributes(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        open: OpenFile,
        env: &mut dyn Env,
    ) -> Outcome {
        let [_, first, second, ..] = foreign.arguments;
        let (uid, gid, umask) = (call.caller.uid, call.caller.gid, call.caller.umask);
        let who = Credentials { uid, gid, umask, groups: alloc::vec::Vec::new() };
        let now_ns = self.wall_ns(env);
        let ino = self.node_of(open.kind).ok_or(EPERM)?;
        if foreign.number == number::FCHMOD {
            self.set_mode(ino, first as u32, &who, now_ns)?;
        } else {
            let [uid, gid] = [first, second].map(|id| Some(id as u32).filter(|id| *id != u32::MAX));
            self.set_owner(ino, uid, gid, &who, now_ns)?;
        }
        value(call.id, 0)
    }

    /// ioctl(2).
    fn control(&mut self, call: &Call, foreign: &Foreign, open: OpenFile, env: &mut dyn Env) -> Outcome {
        let [_, request, address, ..] = foreign.arguments;
        match request & u64::from(u32::MAX) {
            FIONREAD => {
                let ready = match open.kind {
                    Kind::Pipe(ino) => self.pipes.get(&ino).map_or(0, |pipe| pipe.length()),
                    Kind::Socket(ino) => self.socket_queue(ino, false)?,
                    Kind::Node(ino) => {
                        let file = self.tree.node(ino)?.file().ok_or(ENOTTY)?;
                        file.contents.size().saturating_sub(call.position)
                    }
                    _ => return Err(Refusal::Errno(ENOTTY)),
                };
                let ready = i32::try_from(ready).unwrap_or(i32::MAX);
                small(call.id, 0, address, &ready.to_le_bytes())
            }
            TIOCOUTQ if matches!(open.kind, Kind::Socket(_)) => {
                let waiting = self.socket_queue(open.kind.node().ok_or(EBADF)?, true)?;
                small(call.id, 0, address, &(waiting as u32).to_le_bytes())
            }
            FIONBIO => {
                let wanted = env.read_user(call.id, address, 4)?;
                let nonblock = if wanted.iter().any(|byte| *byte != 0) { O_NONBLOCK } else { 0 };
                let status = call.status & !O_NONBLOCK | nonblock;
                let mut effects = Effects::none();
                let change = Change::Status(status);
                effects.foreign(call.id, ForeignReply { change, ..ForeignReply::default() });
                Ok(effects)
            }
            request => match open.kind {
                Kind::Device(device) => self.device_control(call, device, request, address),
                _ => Err(Refusal::Errno(ENOTTY)),
            },
        }
    }

    /// fcntl(2): the commands that the kernel leaves to the file's server.
    fn fcntl(&mut self, call: &Call, foreign: &Foreign, open: OpenFile, env: &mut dyn Env) -> Outcome {
        let [_, command, argument, ..] = foreign.arguments;
        match (command as u32, open.kind) {
            (command, _) if locking::COMMANDS.contains(&command) => {
                self.record_lock(call, open, command, argument, env)
            }
            (F_GETPIPE_SZ, Kind::Pipe(ino)) => value(call.id, self.pipes.get(&ino).ok_or(EBADF)?.capacity()),
            (F_SETPIPE_SZ, Kind::Pipe(ino)) => self.set_pipe_size(call, ino, argument, env),
            (F_GETPIPE_SZ | F_SETPIPE_SZ, _) => Err(Refusal::Errno(EBADF)),
            (F_GET_SEALS, Kind::Node(ino)) => self.seals(call, ino),
            (F_ADD_SEALS, Kind::Node(ino)) => {
                files::check_writable(open.status).or(Err(EPERM))?;
                self.add_seals(call, ino, argument)
            }
            (F_SETOWN | F_GETOWN, _) => value(call.id, 0),
            _ => Err(Refusal::Errno(EINVAL)),
        }
    }

    /// memfd_create(2).
    fn make_memory_file(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Outcome {
        let flags = foreign.arguments[1];
        let name = foreign.inputs[0].as_ref().ok_or(EFAULT)?;
        let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
        let contradicts = flags & MFD_NOEXEC_SEAL != 0 && flags & MFD_EXEC != 0;
        if flags & !known != 0 || contradicts || name.len() > MEMFD_NAME_MAX {
            return Err(Refusal::Errno(EINVAL));
        }
        let sealable = flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL) != 0;
        let permissions = if flags & MFD_NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
        let body = Body::File(File { seals: if sealable { 0 } else { F_SEAL_SEAL }, ..File::default() });
        let owner = (call.caller.uid, call.caller.gid);
        let node = Node::new(NOWHERE, mode::S_IFREG | permissions, owner, self.wall_ns(env), body);
        let ino = self.tree.insert(node)?;
        let new = New { kind: Kind::Node(ino), status: O_RDWR | O_LARGEFILE };
        Ok(self.answer_opened(call.id, new, flags & MFD_CLOEXEC != 0, env))
    }
}

/// The offset of the calls that have one of their own.
fn own_offset(foreign: &Foreign) -> Result<Option<u64>, i32> {
    match foreign.number {
        number::PREAD64 | number::PWRITE64 | number::PREADV | number::PWRITEV => {
            let offset = foreign.arguments[3];
            if i64::try_from(offset).is_ok() { Ok(Some(offset)) } else { Err(EINVAL) }
        }
        _ => Ok(None),
    }
}
