//! The memory of a stopped thread: read through the call that holds it, written by vm, which gives the program a page
//! of its own where the one that is there is a file's.

use alloc::{vec, vec::Vec};

use libipc::abi::{CallId, KernelError, Tag};
use libipc::linux::errno::{EAGAIN, EIO};
use libipc::proto::space::{Answer, REQUEST, Request};
use libipc::server::{LeaseError, Message, Output};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::Tid;
use crate::jobs::Job;
use crate::thread::On;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

const WORD_BYTES: u32 = 8;

/// A word being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PokeJob {
    /// The tracer's call.
    call: CallId,
    tracer: Tid,
    /// Whose memory it is, and the call that holds it.
    tid: Tid,
    held: CallId,
    address: u64,
    word: u64,
}

impl Proc {
    /// PTRACE_PEEKTEXT and PTRACE_PEEKDATA.
    pub(super) fn peek(&mut self, asked: &Asked, held: CallId, turn: &mut Turn) -> Outcome {
        let bytes = self.read_held(held, asked.word(2), turn)?;
        Ok(Reply::Pieces(0, vec![Output { address: asked.word(3), bytes }]))
    }

    /// The word at an address. The page is there then.
    fn read_held(&self, held: CallId, address: u64, turn: &mut Turn) -> Result<Vec<u8>, Refusal> {
        match turn.env.read_user(held, address, WORD_BYTES) {
            Err(LeaseError::BadAddress | LeaseError::Gone) => errno(EIO),
            Err(LeaseError::NotResident) => Err(Refusal::Again),
            Ok(bytes) => Ok(bytes),
        }
    }

    /// PTRACE_POKETEXT and PTRACE_POKEDATA.
    pub(super) fn poke(&mut self, asked: &Asked, tid: Tid, held: CallId, turn: &mut Turn) -> Outcome {
        let (address, word) = (asked.word(2), asked.word(3));
        self.read_held(held, address, turn)?;
        self.send_poke(PokeJob { call: asked.id, tracer: asked.tid, tid, held, address, word }, turn);
        self.park(asked.tid, asked.id, On::Server, turn);
        Ok(Reply::Later)
    }

    fn send_poke(&mut self, job: PokeJob, turn: &mut Turn) {
        let process = self.threads.get(&job.tid).and_then(|thread| self.processes.get(&thread.pid));
        let space = process.map_or(0, |process| process.space);
        let request = Request::Poke { space, address: job.address, bytes: job.word.to_le_bytes().to_vec() };
        let tag = self.start(Job::Poke(job));
        turn.out.send(self.vm, tag, Message::typed(REQUEST, &request));
    }

    /// vm has written a word, or could not. When the page has gone meanwhile, it is fetched once more.
    pub(crate) fn poked(
        &mut self,
        tag: Tag,
        job: PokeJob,
        answer: &Result<Message, KernelError>,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let waits = self.calls.get(&job.call) == Some(&job.tracer);
        let mut errno = match answer.as_ref().map(Message::decode) {
            Ok(Ok(Answer::Done)) => 0,
            Ok(Ok(Answer::Failed(errno))) => errno,
            _ => EIO,
        };
        if errno == EAGAIN && waits {
            match self.read_held(job.held, job.address, turn) {
                Ok(_) => {
                    self.jobs.remove(&tag);
                    self.send_poke(job, turn);
                    return Ok(());
                }
                Err(Refusal::Errno(gone)) => errno = gone,
                Err(Refusal::Again) => return Err(Refusal::Again),
            }
        }
        self.jobs.remove(&tag);
        if waits {
            self.finish_wait(job.tracer, -i64::from(errno), Vec::new(), turn);
        }
        Ok(())
    }
}
