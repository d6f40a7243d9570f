//! Spaces come to be in two steps, since the kernel may refuse to make one: first its object is asked for, and the
//! caller waits; then, when it is there, fork or exec fills it and answers. What the first step took is given back
//! when the kernel refuses or memory runs out.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::{CallId, Frame, Handle, KernelError, Tag};
use libipc::linux::errno::{ENOMEM, ESRCH};
use libipc::proto::space::{Answer, Build};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, Message, Operation};
use serde::{Deserialize, Serialize};

use crate::Vm;
use crate::build::Plan;
use crate::fault::FRAMES_NEEDED;
use crate::fork::fork;
use crate::frames::Frames;
use crate::gather::Gathered;
use crate::reclaim::reserve;
use crate::space::{MAP_MAX, Space};
use crate::tables::page_of;

/// Frames that a fork is glad to have: for tables, and for pages copied at once.
const FORK_FRAMES: u32 = 320;

/// A space whose kernel object has been asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Creation {
    call: CallId,
    badge: u64,
    handle: Handle,
    top: Frame,
    contents: Contents,
}

/// What is to fill it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Contents {
    /// A copy of this space.
    Fork(u64),
    /// A program.
    Build(Box<Plan>),
}

/// The answer to a request of proc's.
pub fn answer(answer: &Answer) -> Message {
    Message::typed(0, answer)
}

impl Vm {
    /// fork(2): asks for a space to copy another into.
    pub(crate) fn begin_fork(&mut self, call: &Call, parent: u64, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        if !self.spaces.contains_key(&parent) {
            effects.reply(call.id, answer(&Answer::Failed(ESRCH)));
            return effects;
        }
        reserve(FORK_FRAMES, &mut self.memory, &mut self.spaces, &mut effects);
        self.begin(call.id, Contents::Fork(parent), env, effects)
    }

    /// execve(2): checks the program and asks for a space to put it into. `key` names strings sent before.
    pub(crate) fn begin_build(
        &mut self,
        call: &Call,
        build: Build,
        key: u64,
        sessions: &[Handle],
        env: &mut dyn Env,
    ) -> Effects {
        let mut effects = Effects::none();
        let vdso_bytes = self.vdso.map_or(0, |(_, bytes)| bytes);
        let mut gathered = self.strings.remove(&key);
        let top = gathered.as_ref().map(Gathered::top);
        let plan = Plan::new(build, sessions, vdso_bytes, top);
        let kept: Vec<Handle> = plan.iter().flat_map(Plan::sessions).collect();
        for handle in sessions.iter().filter(|handle| !kept.contains(handle)) {
            effects.act(Operation::Close { handle: *handle });
        }
        match plan {
            Ok(mut plan) => {
                plan.gathered = gathered.take();
                reserve(plan.frames_needed(), &mut self.memory, &mut self.spaces, &mut effects);
                self.begin(call.id, Contents::Build(Box::new(plan)), env, effects)
            }
            Err(error) => {
                gathered.into_iter().for_each(|gathered| gathered.release(&mut self.memory.frames));
                effects.reply(call.id, answer(&Answer::Failed(error.errno())));
                effects
            }
        }
    }

    fn begin(
        &mut self,
        call: CallId,
        contents: Contents,
        env: &mut dyn Env,
        mut effects: Effects,
    ) -> Effects {
        let room = ((self.spaces.len() + self.creations.len()) as u64) < self.spaces_max;
        let top = if room && !self.memory.crowded { self.memory.frames.take() } else { None };
        let Some(top) = top else {
            abandon(contents, &mut self.memory.frames, &mut effects);
            effects.reply(call, answer(&Answer::Failed(ENOMEM)));
            return effects;
        };
        self.last_space += 1;
        self.last_tag += 1;
        let (badge, tag, handle) = (self.last_space, Tag(self.last_tag), env.new_handle());
        let (into, frame) = (handle, top);
        effects.attempt(tag, Operation::SpaceCreate { into, badge: libipc::abi::Badge(badge), frame });
        effects.park(call, Reason::Server);
        self.creations.insert(tag, Creation { call, badge, handle, top, contents });
        effects
    }

    /// The kernel has made the space, or refused.
    pub(crate) fn created(
        &mut self,
        tag: Tag,
        result: Result<u64, KernelError>,
        env: &mut dyn Env,
    ) -> Effects {
        let mut effects = Effects::none();
        let Some(creation) = self.creations.remove(&tag) else { return effects };
        let call = creation.call;
        let filled = match result {
            Ok(_) => self.fill(creation, env.now(), &mut effects),
            Err(_) => {
                self.memory.frames.release(creation.top);
                abandon(creation.contents, &mut self.memory.frames, &mut effects);
                Err(ENOMEM)
            }
        };
        let message = match filled {
            Ok((given, handle)) => answer(&given).with_handles(&[handle]),
            Err(errno) => answer(&Answer::Failed(errno)),
        };
        effects.reply(call, message);
        effects
    }

    fn fill(&mut self, creation: Creation, now: u64, effects: &mut Effects) -> Result<(Answer, Handle), i32> {
        let Creation { badge, handle, top, contents, .. } = creation;
        let memory = &mut self.memory;
        let (space, filled) = match contents {
            Contents::Fork(parent) => match self.spaces.get_mut(&parent) {
                Some(parent) => {
                    let child = fork(parent, badge, handle, top, memory, effects);
                    (child, Ok(Answer::Space { space: badge }))
                }
                None => (Space::new(badge, handle, top, 0..0), Err(ESRCH)),
            },
            Contents::Build(plan) => {
                let mut space = Space::new(badge, handle, top, plan.window());
                let filled = plan.carry_out(&mut space, self.vdso, now, memory, effects);
                (space, filled.map_err(|error| error.errno()))
            }
        };
        match filled {
            Ok(given) => {
                self.spaces.insert(badge, space);
                Ok((given, handle))
            }
            Err(errno) => {
                space.destroy(memory, effects);
                Err(errno)
            }
        }
    }

    /// Keeps strings for an exec to come. More than any program may get is not kept.
    pub(crate) fn keep_strings(
        &mut self,
        key: u64,
        arguments: &[u8],
        environment: &[u8],
        effects: &mut Effects,
    ) -> Answer {
        let kept = self.strings.remove(&key);
        let mut gathered = kept.unwrap_or_else(|| Gathered::new(key));
        if arguments.is_empty() && environment.is_empty() {
            gathered.release(&mut self.memory.frames);
            return Answer::Done;
        }
        let need = page_of((arguments.len() + environment.len()) as u64) as u32 * 9 + FRAMES_NEEDED;
        reserve(need, &mut self.memory, &mut self.spaces, effects);
        match gathered.add(arguments, environment, &mut self.memory.frames, effects) {
            Ok(()) => {
                self.strings.insert(key, gathered);
                Answer::Done
            }
            Err(error) => {
                gathered.release(&mut self.memory.frames);
                Answer::Failed(error.errno())
            }
        }
    }
}

/// Closes what would have been mapped.
fn abandon(contents: Contents, frames: &mut Frames, effects: &mut Effects) {
    if let Contents::Build(mut plan) = contents {
        plan.gathered.take().into_iter().for_each(|gathered| gathered.release(frames));
        for handle in plan.sessions() {
            effects.act(Operation::Close { handle });
        }
    }
}

const _: () = assert!(FORK_FRAMES as usize > MAP_MAX);
