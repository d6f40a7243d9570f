//! The system calls of programs on an open terminal: which function serves which, and how a call by a process in the
//! background finds its way through the process server and back.

use libipc::abi::CallId;
use libipc::linux::StatFs;
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::open::O_PATH;
use libipc::proto::process::BACKGROUND;
use libipc::server::{Call, Effect, Foreign, Message};
use serde::{Deserialize, Serialize};

use super::Tty;
use super::control::Process;
use super::ranges::Ranges;
use super::turn::{Outcome, Refusal, Turn};
use crate::jobs::Verdict;

/// Type of a file system in memory, which is what device nodes stand on, in statfs(2).
const MEMORY_MAGIC: u64 = 0x0102_1994;

/// A system call on an open terminal.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub id: CallId,
    pub process: Process,
    pub uid: u32,
    pub badge: u64,
    pub status: u32,
    pub number: u32,
    pub arguments: [u64; 6],
    /// What was gathered of the caller's memory.
    vectors: Option<&'a [u8]>,
    /// The process server lets it go on from the background.
    pub permitted: bool,
}

impl<'a> Asked<'a> {
    fn new(call: &Call, foreign: &'a Foreign) -> Asked<'a> {
        Asked {
            id: call.id,
            process: Process::of(&call.caller),
            uid: call.caller.uid,
            badge: call.badge.0,
            status: call.status,
            number: foreign.number,
            arguments: foreign.arguments,
            vectors: foreign.inputs[0].as_deref(),
            permitted: false,
        }
    }
}

/// What goes up to the process server with a call, so that it comes back with it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    number: u32,
    arguments: [u64; 6],
    badge: u64,
    status: u32,
}

impl Tty {
    /// Serves a system call.
    pub(super) fn foreign(&mut self, call: &Call, foreign: &Foreign, turn: &mut Turn) -> Outcome {
        self.asked(&Asked::new(call, foreign), turn)
    }

    /// A call comes back from the process server, which lets it go on.
    pub(super) fn permitted(&mut self, call: &Call, message: &Message, turn: &mut Turn) -> Outcome {
        if call.caller.pid == 0 {
            turn.out.reply(call.id, Message::label(EINVAL as u32));
            return Ok(());
        }
        let Sealed { number, arguments, badge, status } = message.decode().map_err(|_| EINVAL)?;
        let (process, uid) = (Process::of(&call.caller), call.caller.uid);
        let asked = Asked {
            id: call.id,
            process,
            uid,
            badge,
            status,
            number,
            arguments,
            vectors: None,
            permitted: true,
        };
        self.asked(&asked, turn)
    }

    fn asked(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let open = self.open_file(asked.badge)?;
        if open.hung_up {
            return self.after_hang_up(asked, turn);
        }
        match asked.number {
            number::FSTAT => {
                turn.structure(asked.id, asked.arguments[1], &self.stat(&open).to_bytes());
                Ok(())
            }
            number::FSTATFS => {
                let statfs = StatFs { kind: MEMORY_MAGIC, bsize: 4096, frsize: 4096, ..StatFs::default() };
                turn.structure(asked.id, asked.arguments[1], &statfs.to_bytes());
                Ok(())
            }
            _ if open.status & O_PATH != 0 => Err(EBADF.into()),
            number::READ | number::READV => self.read(asked, buffers(asked, turn)?, turn),
            number::WRITE | number::WRITEV => self.write(asked, buffers(asked, turn)?, turn),
            number::IOCTL => self.control(asked, turn),
            number::FCHMOD => done(asked, self.set_mode(asked.arguments[1] as u32, asked.uid), turn),
            number::FCHOWN => {
                let [uid, gid] = [asked.arguments[1], asked.arguments[2]].map(|id| id as u32);
                let ids = [uid, gid].map(|id| Some(id).filter(|id| *id != u32::MAX));
                done(asked, self.set_owner(ids, asked.uid), turn)
            }
            // Whatever was written and answered has left already.
            number::FSYNC | number::FDATASYNC | number::SYNCFS => done(asked, Ok(()), turn),
            number => Err(Refusal::Errno(match number {
                number::LSEEK | number::PREAD64 | number::PWRITE64 | number::PREADV | number::PWRITEV => {
                    ESPIPE
                }
                number::GETDENTS | number::GETDENTS64 => ENOTDIR,
                number::FCNTL | number::FTRUNCATE | number::READAHEAD => EINVAL,
                number::FALLOCATE => ENODEV,
                _ => number::misdirected(number).unwrap_or(ENOSYS),
            })),
        }
    }

    /// What is left of a file whose terminal was taken away: its end, and errors.
    fn after_hang_up(&self, asked: &Asked, turn: &mut Turn) -> Outcome {
        match asked.number {
            number::READ | number::READV => done(asked, Ok(()), turn),
            _ => Err(EIO.into()),
        }
    }

    /// Acts on what job control says: answers whether the call goes on here and now. Whether a process can be stopped
    /// only the process server knows, so it decides for those that are to be.
    pub(super) fn may_proceed(
        &self,
        verdict: Verdict,
        kind: u64,
        asked: &Asked,
        turn: &mut Turn,
    ) -> Result<bool, Refusal> {
        match verdict {
            Verdict::Proceed => Ok(true),
            Verdict::Refuse(error) => Err(error.into()),
            Verdict::StopGroup(_) => {
                let Asked { number, arguments, badge, status, .. } = *asked;
                let sealed = Sealed { number, arguments, badge, status };
                let message = Message { words: [kind, 0, 0, 0], ..Message::typed(BACKGROUND, &sealed) };
                turn.out.push(Effect::Forward { call: asked.id, to: self.proc, message });
                Ok(false)
            }
        }
    }
}

/// Answers a call that has no value.
pub fn done(asked: &Asked, outcome: Result<(), i32>, turn: &mut Turn) -> Outcome {
    outcome?;
    turn.out.result(asked.id, 0);
    Ok(())
}

fn buffers(asked: &Asked, turn: &mut Turn) -> Result<Ranges, Refusal> {
    let [_, address, count, ..] = asked.arguments;
    match asked.number {
        number::READV | number::WRITEV => {
            Ranges::vectored(asked.id, (address, count), asked.vectors, turn.env)
        }
        _ => Ranges::one(address, count),
    }
}
