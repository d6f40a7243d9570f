//! Questions to the servers below. They answer at once and change nothing, so a step may ask while it runs.

use alloc::vec::Vec;

use libipc::abi::Handle;
use libipc::linux::errno::*;
use libipc::linux::uts;
use libipc::proto::process::{self, ProcessInfo};
use libipc::proto::space::{self, RegionInfo};
use libipc::server::env::Descriptor;
use libipc::server::{Env, Message};
use serde::de::DeserializeOwned;

use crate::Procfs;

/// Most questions about the mappings of one space; each answer holds hundreds.
const REGION_QUESTIONS_MAX: u32 = 64;

/// The load of the system.
pub(crate) struct Load {
    /// 1, 5 and 15 minutes, in hundredths.
    pub averages: [u64; 3],
    pub running: u32,
    pub threads: u32,
    pub last_pid: u32,
}

/// Frames of the machine.
pub(crate) struct Memory {
    pub total: u64,
    pub free: u64,
    pub cached: u64,
}

/// The mappings of a process.
#[derive(Default)]
pub(crate) struct Space {
    pub regions: Vec<RegionInfo>,
    pub resident_pages: u64,
    /// Start and end of code, bottom of the stack, start of the break, the break.
    pub marks: [u64; 5],
    /// Start and end of the arguments and of the environment.
    pub strings: [u64; 4],
}

impl Space {
    /// Bytes mapped.
    pub fn bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.end.saturating_sub(region.start)).sum()
    }
}

impl Procfs {
    /// A process.
    ///
    /// # Errors
    /// `ENOENT` when it is not there (any more).
    pub(crate) fn process(&self, pid: u32, env: &mut dyn Env) -> Result<ProcessInfo, i32> {
        match self.ask_proc(process::Request::Process { pid }, env)? {
            process::Answer::Process(info) => Ok(info),
            process::Answer::Failed(_) => Err(ENOENT),
            _ => Err(EIO),
        }
    }

    /// All process ids in order.
    pub(crate) fn pids(&self, env: &mut dyn Env) -> Result<Vec<u32>, i32> {
        match self.ask_proc(process::Request::Pids, env)? {
            process::Answer::Pids { pids, .. } => Ok(pids),
            _ => Err(EIO),
        }
    }

    pub(crate) fn load(&self, env: &mut dyn Env) -> Result<Load, i32> {
        match self.ask_proc(process::Request::Load, env)? {
            process::Answer::Load { averages, running, threads, last_pid } => {
                Ok(Load { averages, running, threads, last_pid })
            }
            _ => Err(EIO),
        }
    }

    pub(crate) fn host_name(&self, env: &mut dyn Env) -> Vec<u8> {
        let answer = env.ask(self.proc, &Message::label(process::HOST_NAME));
        let name = answer.ok().filter(|message| message.label == 0).map(|message| message.payload);
        name.unwrap_or_else(|| uts::NODENAME.as_bytes().to_vec())
    }

    /// Soft and hard limits of a process, in the order of Linux's numbers.
    pub(crate) fn limits(&self, pid: u32, env: &mut dyn Env) -> Result<Vec<[u64; 2]>, i32> {
        let message = Message::words(process::LIMITS, [pid.into(), 0, 0, 0]);
        let answer = env.ask(self.proc, &message).map_err(|_| EIO)?;
        if answer.label != 0 {
            return Err(ENOENT);
        }
        let (words, _) = answer.payload.as_chunks::<8>();
        let (pairs, _) = words.as_chunks::<2>();
        Ok(pairs.iter().map(|pair| pair.map(u64::from_le_bytes)).collect())
    }

    /// What is behind the descriptors of a process from a number on, in order; a directory's is answered alone.
    /// More may follow when there are as many as one answer holds.
    pub(crate) fn descriptors(&self, pid: u32, from: u32, env: &mut dyn Env) -> Result<Vec<Descriptor>, i32> {
        let message = Message::words(process::DESCRIPTORS, [pid.into(), from.into(), 0, 0]);
        let answer = env.ask(self.proc, &message).map_err(|_| EIO)?;
        if answer.label != 0 {
            return Err(ENOENT);
        }
        answer.decode().map_err(|_| EIO)
    }

    /// The descriptor with a number, or a directory ([`libipc::abi::syscall::descriptor_slot`]).
    pub(crate) fn descriptor(&self, pid: u32, slot: u32, env: &mut dyn Env) -> Result<Descriptor, i32> {
        let first = self.descriptors(pid, slot, env)?.into_iter().next();
        first.filter(|descriptor| descriptor.slot == slot).ok_or(ENOENT)
    }

    /// The numbers of all descriptors of a process, in order.
    pub(crate) fn descriptor_numbers(&self, pid: u32, env: &mut dyn Env) -> Result<Vec<u32>, i32> {
        let mut numbers = Vec::new();
        let mut from = 0;
        loop {
            let some = self.descriptors(pid, from, env)?;
            numbers.extend(some.iter().map(|descriptor| descriptor.slot));
            match some.last() {
                Some(last) if some.len() == process::DESCRIPTORS_MAX => from = last.slot.saturating_add(1),
                _ => return Ok(numbers),
            }
        }
    }

    pub(crate) fn memory(&self, env: &mut dyn Env) -> Result<Memory, i32> {
        match self.ask_vm(space::Request::Memory, 0, env)? {
            space::Answer::Memory { total, free, cached } => Ok(Memory { total, free, cached }),
            _ => Err(EIO),
        }
    }

    /// The mappings of a space, gathered from as many answers as they fill. A process without a space has none.
    pub(crate) fn space(&self, badge: u64, env: &mut dyn Env) -> Result<Space, i32> {
        let mut all = Space::default();
        let mut from = 0;
        if badge == 0 {
            return Ok(all);
        }
        for _ in 0..REGION_QUESTIONS_MAX {
            match self.ask_vm(space::Request::Regions { space: badge }, from, env)? {
                space::Answer::Regions { regions, resident_pages, marks, strings } => {
                    (all.resident_pages, all.marks, all.strings) = (resident_pages, marks, strings);
                    match regions.last() {
                        Some(last) if last.end > from => from = last.end,
                        _ => break,
                    }
                    all.regions.extend(regions);
                }
                // The process has ended since it was asked for.
                space::Answer::Failed(_) => return Ok(Space::default()),
                _ => return Err(EIO),
            }
        }
        Ok(all)
    }

    fn ask_proc(&self, request: process::Request, env: &mut dyn Env) -> Result<process::Answer, i32> {
        answer(self.proc, Message::typed(process::REQUEST, &request), env)
    }

    fn ask_vm(&self, request: space::Request, from: u64, env: &mut dyn Env) -> Result<space::Answer, i32> {
        let mut message = Message::typed(space::REQUEST, &request);
        message.words[0] = from;
        answer(self.vm, message, env)
    }
}

fn answer<A: DeserializeOwned>(server: Handle, message: Message, env: &mut dyn Env) -> Result<A, i32> {
    env.ask(server, &message).map_err(|_| EIO)?.decode().map_err(|_| EIO)
}
