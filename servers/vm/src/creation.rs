//! Spaces come to be in two steps, since the kernel may refuse to make one: first its object is asked for, and the
//! caller waits; then, when it is there, fork or exec fills it and answers. What the first step took is given back
//! when the kernel refuses or memory runs out.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::{CallId, Frame, Handle, KernelError, Tag};
use libipc::linux::errno::{E2BIG, ENOMEM, ESRCH};
use libipc::proto::space::{Answer, Build};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, Message, Operation};
use serde::{Deserialize, Serialize};

use crate::Vm;
use crate::build::Plan;
use crate::fork::fork;
use crate::reclaim::reserve;
use crate::space::{MAP_MAX, Space};

/// Most bytes of strings that are kept for one exec to come.
const STRINGS_MAX: usize = 6 << 20;
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
        mut build: Build,
        key: u64,
        sessions: &[Handle],
        env: &mut dyn Env,
    ) -> Effects {
        let mut effects = Effects::none();
        if let Some(mut before) = self.strings.remove(&key) {
            before.append(&mut build.strings);
            build.strings = before;
        }
        let vdso_bytes = self.vdso.map_or(0, |(_, bytes)| bytes);
        let plan = Plan::new(build, sessions, vdso_bytes);
        let kept: Vec<Handle> = plan.iter().flat_map(Plan::sessions).collect();
        for handle in sessions.iter().filter(|handle| !kept.contains(handle)) {
            effects.act(Operation::Close { handle: *handle });
        }
        match plan {
            Ok(plan) => {
                reserve(plan.frames_needed(), &mut self.memory, &mut self.spaces, &mut effects);
                self.begin(call.id, Contents::Build(Box::new(plan)), env, effects)
            }
            Err(error) => {
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
        let Some(top) = self.memory.frames.take() else {
            abandon(contents, &mut effects);
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
                abandon(creation.contents, &mut effects);
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
    pub(crate) fn keep_strings(&mut self, key: u64, mut bytes: Vec<u8>) -> Answer {
        if bytes.is_empty() {
            self.strings.remove(&key);
            return Answer::Done;
        }
        let kept = self.strings.entry(key).or_default();
        if kept.len() + bytes.len() > STRINGS_MAX {
            self.strings.remove(&key);
            return Answer::Failed(E2BIG);
        }
        kept.append(&mut bytes);
        Answer::Done
    }
}

/// Closes what would have been mapped.
fn abandon(contents: Contents, effects: &mut Effects) {
    if let Contents::Build(plan) = contents {
        for handle in plan.sessions() {
            effects.act(Operation::Close { handle });
        }
    }
}

const _: () = assert!(FORK_FRAMES as usize > MAP_MAX);
