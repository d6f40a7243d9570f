//! epoll(7): sets of descriptors that are watched from one call to the next.
//!
//! The kernel keeps a watch per descriptor and tells of it by the name given here, so that a wait looks only at what
//! has something to tell. A set is a session of this server; what is on its list of ready descriptors makes it
//! readable, so that sets can be polled, and be in sets.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use libipc::abi::{Badge, CallId, Handle, KernelError, Readiness, Tag};
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::open::{O_CLOEXEC, O_RDWR};
use libipc::linux::{Stat, StatFs};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effect, Effects, Env, Foreign, ForeignReply, Operation, Output};
use serde::{Deserialize, Serialize};

use crate::Vfs;
use crate::poll::Wait;
use crate::settle::value;

const ADD: u32 = 1;
const DELETE: u32 = 2;
const MODIFY: u32 = 3;
const EXCLUSIVE: u32 = 1 << 28;
const ONE_SHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
/// Bytes of `struct epoll_event`, which is packed.
const EVENT_BYTES: u64 = 12;
/// Most events that a call may ask for.
const EVENTS_MAX: u64 = i32::MAX as u64 / EVENT_BYTES;
/// Most events that one answer tells; the rest stays ready.
const EVENTS_AT_ONCE: usize = 512;
/// How deep sets may stand in sets.
const DEPTH_MAX: u32 = 5;
/// Type of the file system of files without names, in statfs(2).
const ANONYMOUS_MAGIC: u64 = 0x0904_1934;
/// Each readiness, and the events that are told of it: the normal and band ones go with the plain ones.
const EVENTS: [(Readiness, u32); 6] = [
    (Readiness::IN, 0x001 | 0x040),
    (Readiness::PRI, 0x002 | 0x080),
    (Readiness::OUT, 0x004 | 0x100 | 0x200),
    (Readiness::ERR, 0x008),
    (Readiness::HUP, 0x010),
    (Readiness::RDHUP, 0x2000),
];

/// A descriptor in a set: its number, and the session behind it by server and badge.
type Key = (u32, u64, u64);

/// A set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Epoll {
    owner: Handle,
    /// Its descriptors, by the names of their watches.
    items: BTreeMap<Key, u64>,
    /// Those that may have something to tell, in order.
    ready: VecDeque<u64>,
    /// Calls that wait, in order.
    waiting: VecDeque<CallId>,
    /// It has been told to be readable.
    told: bool,
}

/// A descriptor in a set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Item {
    /// The set.
    epoll: u64,
    key: Key,
    events: u32,
    data: u64,
    /// The kernel's name for the watch.
    watch: u64,
    /// It is on the set's list.
    queued: bool,
    /// It tells nothing until it is changed (EPOLLONESHOT).
    spent: bool,
}

/// All sets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Epolls {
    sets: BTreeMap<u64, Epoll>,
    items: BTreeMap<u64, Item>,
    /// Sets whose session is being made: the call, the descriptor reserved, and whether exec closes it.
    making: BTreeMap<u64, (CallId, u32, bool)>,
    last_badge: u64,
    last_cookie: u64,
}

/// What a waiting call wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The set.
    pub badge: u64,
    /// Where the events go.
    pub address: u64,
    /// How many at most.
    pub room: u32,
}

fn wanted_by(events: u32) -> Readiness {
    let kinds = EVENTS.iter().filter(|(_, bits)| events & bits != 0).map(|(kind, _)| *kind);
    kinds.fold(Readiness::empty(), |all, kind| all | kind)
}

/// The events to tell of a readiness to whoever asked for these.
fn told_of(ready: Readiness, events: u32) -> u32 {
    let always = 0x008 | 0x010;
    let bits = EVENTS.iter().filter(|(kind, _)| ready.contains(*kind)).map(|(_, bits)| *bits);
    bits.fold(0, |all, bits| all | bits) & (events | always)
}

impl Vfs {
    /// epoll_create(2) and epoll_create1(2).
    pub(crate) fn make_epoll(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Effects {
        let first = foreign.arguments[0];
        let flags = if foreign.number == number::EPOLL_CREATE { 0 } else { first as u32 };
        let nothing = foreign.number == number::EPOLL_CREATE && first as i32 <= 0;
        if nothing || flags & !O_CLOEXEC != 0 {
            return value(call.id, -i64::from(EINVAL));
        }
        self.epolls.last_badge += 1;
        let badge = self.epolls.last_badge;
        let owner = env.new_handle();
        let set = Epoll {
            owner,
            items: BTreeMap::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            told: false,
        };
        self.epolls.sets.insert(badge, set);
        self.epolls.making.insert(badge, (call.id, foreign.slots[0], flags & O_CLOEXEC != 0));
        let mut effects = Effects::none();
        effects.park(call.id, Reason::Server);
        let session = Operation::SessionCreate {
            owner,
            badge: Badge(badge),
            object: badge,
            status: O_RDWR,
            readiness: Readiness::empty(),
            position: 0,
        };
        effects.attempt(Tag(badge), session);
        effects
    }

    /// The session of a set is there, or the kernel has none to spare.
    pub(crate) fn epoll_made(&mut self, badge: u64, made: Result<u64, KernelError>) -> Effects {
        let Some((call, slot, close_on_exec)) = self.epolls.making.remove(&badge) else {
            return Effects::none();
        };
        let owner = self.epolls.sets.get(&badge).map(|set| set.owner);
        match (made, owner) {
            (Ok(_), Some(owner)) => {
                let mut effects = Effects::none();
                let install = [owner].into();
                let result = i64::from(slot);
                effects.foreign(call, ForeignReply { result, install, close_on_exec, ..Default::default() });
                effects
            }
            _ => {
                self.epolls.sets.remove(&badge);
                value(call, -i64::from(ENFILE))
            }
        }
    }

    /// A call on a set.
    pub(crate) fn epoll_call(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Effects {
        let words = foreign.arguments;
        let errno = match foreign.number {
            number::EPOLL_CTL => match self.epoll_control(call, foreign, env) {
                Ok(effects) => return effects,
                Err(errno) => errno,
            },
            number::EPOLL_WAIT | number::EPOLL_PWAIT | number::EPOLL_PWAIT2 => {
                return self.wait_for_readiness(call, foreign, env);
            }
            number::FSTAT => {
                let stat =
                    Stat { ino: call.badge.0, mode: 0o600, nlink: 1, blksize: 4096, ..Stat::default() };
                return crate::settle::bytes(call.id, words[1], stat.to_bytes().to_vec(), 0);
            }
            number::FSTATFS => {
                let stat = StatFs { kind: ANONYMOUS_MAGIC, bsize: 4096, ..StatFs::default() };
                return crate::settle::bytes(call.id, words[1], stat.to_bytes().to_vec(), 0);
            }
            number::LSEEK | number::PREAD64 | number::PWRITE64 => ESPIPE,
            number::IOCTL => ENOTTY,
            number::GETDENTS | number::GETDENTS64 => ENOTDIR,
            number => number::misdirected(number).unwrap_or(EINVAL),
        };
        value(call.id, -i64::from(errno))
    }

    /// epoll_ctl(2).
    fn epoll_control(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Effects, i32> {
        let [_, operation, descriptor, ..] = foreign.arguments;
        let (badge, descriptor) = (call.badge.0, descriptor as u32);
        let [own, named] = foreign.names().named;
        if named.server == 0 {
            return Err(EBADF);
        }
        let key = (descriptor, named.server, named.badge);
        let event = foreign.inputs[0].as_deref().map(|bytes| {
            let (events, data) = bytes.split_at(4.min(bytes.len()));
            let events = events.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            (events, data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
        });
        if (named.server, named.badge) == (own.server, own.badge) {
            return Err(EINVAL);
        }
        let known = self.epolls.sets.get(&badge).ok_or(EBADF)?.items.get(&key).copied();
        match (operation as u32, known) {
            (ADD, Some(_)) => Err(EEXIST),
            (ADD, None) if self.crowded => Err(ENOSPC),
            (ADD, None) => {
                if named.server == own.server {
                    self.check_nesting(badge, named.badge)?;
                }
                self.epoll_add(call, key, event.ok_or(EFAULT)?, env)
            }
            (DELETE | MODIFY, None) => Err(ENOENT),
            (DELETE, Some(cookie)) => {
                let mut effects = value(call.id, 0);
                self.forget_item(cookie, &mut effects);
                Ok(effects)
            }
            (MODIFY, Some(cookie)) => {
                let (events, data) = event.ok_or(EFAULT)?;
                let item = self.epolls.items.get_mut(&cookie).ok_or(ENOENT)?;
                if (events | item.events) & EXCLUSIVE != 0 {
                    return Err(EINVAL);
                }
                (item.events, item.data, item.spent) = (events, data, false);
                let ready = env.change_watch(item.watch, wanted_by(events)).map_err(|_| ENOENT)?;
                let mut effects = self.tell_of_edges(key, events);
                effects.append(value(call.id, 0));
                self.epoll_event(cookie, ready, env, &mut effects);
                Ok(effects)
            }
            _ => Err(EINVAL),
        }
    }

    fn epoll_add(
        &mut self,
        call: &Call,
        key: Key,
        (events, data): (u32, u64),
        env: &mut dyn Env,
    ) -> Result<Effects, i32> {
        let cookie = self.epolls.last_cookie + 1;
        let (ready, watch) =
            env.keep_watch(call.id, key.0, cookie, wanted_by(events)).map_err(|error| match error {
                KernelError::WrongKind => EPERM,
                KernelError::BadHandle => EBADF,
                _ => ENOSPC,
            })?;
        self.epolls.last_cookie = cookie;
        let epoll = call.badge.0;
        let item = Item { epoll, key, events, data, watch, queued: false, spent: false };
        self.epolls.items.insert(cookie, item);
        if let Some(set) = self.epolls.sets.get_mut(&epoll) {
            set.items.insert(key, cookie);
        }
        let mut effects = self.tell_of_edges(key, events);
        effects.append(value(call.id, 0));
        self.epoll_event(cookie, ready, env, &mut effects);
        Ok(effects)
    }

    /// A server tells of every event of a session only when it is asked to, since few want to know.
    fn tell_of_edges(&mut self, (_, server, badge): Key, events: u32) -> Effects {
        let server = u32::try_from(server).ok().and_then(|server| self.servers.get(&server));
        let mut effects = Effects::none();
        if let Some(server) = server.filter(|_| events & EDGE != 0) {
            let message = libipc::server::Message::words(libipc::proto::fs::EDGES, [badge, 0, 0, 0]);
            effects.tell(*server, message);
        }
        effects
    }

    /// Sets may stand in sets, but not in circles and not too deep.
    fn check_nesting(&self, outer: u64, inner: u64) -> Result<(), i32> {
        let mut seen = BTreeSet::new();
        let mut layer = BTreeSet::from([inner]);
        let own = u64::from(self.own_number);
        for _ in 0..DEPTH_MAX {
            if layer.contains(&outer) {
                return Err(ELOOP);
            }
            seen.extend(layer.iter().copied());
            let sets = layer.iter().filter_map(|badge| self.epolls.sets.get(badge));
            let nested = sets.flat_map(|set| set.items.keys());
            let nested = nested.filter(|(_, server, badge)| *server == own && !seen.contains(badge));
            layer = nested.map(|(_, _, badge)| *badge).collect();
            if layer.is_empty() {
                return Ok(());
            }
        }
        Err(ELOOP)
    }

    /// A watched descriptor has something to tell, or its session is gone.
    pub(crate) fn epoll_watched(
        &mut self,
        cookie: u64,
        ready: Option<Readiness>,
        env: &mut dyn Env,
    ) -> Effects {
        let mut effects = Effects::none();
        match ready {
            Some(ready) => self.epoll_event(cookie, ready, env, &mut effects),
            None => self.forget_item(cookie, &mut effects),
        }
        effects
    }

    fn epoll_event(&mut self, cookie: u64, ready: Readiness, env: &mut dyn Env, effects: &mut Effects) {
        let Some(item) = self.epolls.items.get_mut(&cookie) else { return };
        if item.spent || told_of(ready, item.events) == 0 {
            return;
        }
        let badge = item.epoll;
        if !core::mem::replace(&mut item.queued, true)
            && let Some(set) = self.epolls.sets.get_mut(&badge)
        {
            set.ready.push_back(cookie);
        }
        self.serve_epoll(badge, env, effects);
    }

    /// Answers those who wait for a set, as long as there is something to tell.
    fn serve_epoll(&mut self, badge: u64, env: &mut dyn Env, effects: &mut Effects) {
        while let Some(set) = self.epolls.sets.get_mut(&badge)
            && !set.ready.is_empty()
            && let Some(call) = set.waiting.pop_front()
        {
            let Some(wanted) = self.waits.get(&call).and_then(Wait::epoll).cloned() else { continue };
            let events = self.collect(badge, wanted.room, env);
            if events.is_empty() {
                if let Some(set) = self.epolls.sets.get_mut(&badge) {
                    set.waiting.push_front(call);
                }
                break;
            }
            self.forget_wait(call, effects);
            answer(effects, call, wanted.address, &events);
        }
        self.tell_readable(badge, effects);
    }

    /// Tells the kernel whether a set is readable, if that has changed.
    fn tell_readable(&mut self, badge: u64, effects: &mut Effects) {
        let Some(set) = self.epolls.sets.get_mut(&badge) else { return };
        let readable = !set.ready.is_empty();
        if core::mem::replace(&mut set.told, readable) != readable {
            let readiness = if readable { Readiness::IN } else { Readiness::empty() };
            effects.act(Operation::SessionReady { session: set.owner, readiness });
        }
    }

    /// What there is to tell now: events and data, at most so many. What is told once goes off the list; what is told
    /// as long as it lasts goes to its end.
    fn collect(&mut self, badge: u64, room: u32, env: &mut dyn Env) -> Vec<(u32, u64)> {
        let mut events = Vec::new();
        let room = (room as usize).min(EVENTS_AT_ONCE);
        let Some(set) = self.epolls.sets.get_mut(&badge) else { return events };
        for _ in 0..set.ready.len() {
            if events.len() == room {
                break;
            }
            let Some(cookie) = set.ready.pop_front() else { break };
            let Some(item) = self.epolls.items.get_mut(&cookie) else { continue };
            let ready = env.change_watch(item.watch, wanted_by(item.events)).unwrap_or(Readiness::empty());
            let told = told_of(ready, item.events);
            item.queued = false;
            if told == 0 || item.spent {
                continue;
            }
            events.push((told, item.data));
            if item.events & ONE_SHOT != 0 {
                item.spent = true;
            } else if item.events & EDGE == 0 {
                item.queued = true;
                set.ready.push_back(cookie);
            }
        }
        events
    }

    /// epoll_wait(2) and its relatives, as they begin: whether the call could be answered at once.
    ///
    /// # Errors
    /// `EBADF` when the set is gone.
    pub(crate) fn epoll_look(
        &mut self,
        call: CallId,
        wanted: &Wanted,
        env: &mut dyn Env,
        effects: &mut Effects,
    ) -> Result<bool, i32> {
        if !self.epolls.sets.contains_key(&wanted.badge) {
            return Err(EBADF);
        }
        let events = self.collect(wanted.badge, wanted.room, env);
        self.tell_readable(wanted.badge, effects);
        if !events.is_empty() {
            answer(effects, call, wanted.address, &events);
        }
        Ok(!events.is_empty())
    }

    /// A call begins to wait for a set.
    pub(crate) fn epoll_park(&mut self, call: CallId, wanted: &Wanted) {
        if let Some(set) = self.epolls.sets.get_mut(&wanted.badge) {
            set.waiting.push_back(call);
        }
    }

    /// A call waits for a set no longer.
    pub(crate) fn epoll_leave(&mut self, call: CallId, wanted: &Wanted) {
        if let Some(set) = self.epolls.sets.get_mut(&wanted.badge) {
            set.waiting.retain(|waiting| *waiting != call);
        }
    }

    fn forget_item(&mut self, cookie: u64, effects: &mut Effects) {
        let Some(item) = self.epolls.items.remove(&cookie) else { return };
        effects.act(Operation::WatchEnd { watch: item.watch });
        if let Some(set) = self.epolls.sets.get_mut(&item.epoll) {
            set.items.remove(&item.key);
            if item.queued {
                set.ready.retain(|ready| *ready != cookie);
            }
        }
        self.tell_readable(item.epoll, effects);
    }

    /// A set's session is gone without its last close having been told.
    pub(crate) fn epoll_lost(&mut self, owner: Handle) -> Effects {
        let lost = self.epolls.sets.iter().find(|(_, set)| set.owner == owner).map(|(badge, _)| *badge);
        lost.map_or_else(Effects::none, |badge| self.epoll_closed(badge, owner))
    }

    /// The last descriptor of a set is closed.
    pub(crate) fn epoll_closed(&mut self, badge: u64, owner: Handle) -> Effects {
        let mut effects = Effects::none();
        if let Some(set) = self.epolls.sets.remove(&badge) {
            for cookie in set.items.values() {
                if let Some(item) = self.epolls.items.remove(cookie) {
                    effects.act(Operation::WatchEnd { watch: item.watch });
                }
            }
            for call in set.waiting {
                self.forget_wait(call, &mut effects);
                effects.append(value(call, -i64::from(EBADF)));
            }
        }
        effects.act(Operation::Close { handle: owner });
        effects
    }

    /// What a call of the family asks for.
    ///
    /// # Errors
    /// `EINVAL` for room for no events, or too many.
    pub(crate) fn epoll_wanted(badge: u64, [_, address, room, ..]: [u64; 6]) -> Result<Wanted, i32> {
        let room =
            u32::try_from(room as i32).ok().filter(|room| (1..=EVENTS_MAX).contains(&u64::from(*room)));
        Ok(Wanted { badge, address, room: room.ok_or(EINVAL)? })
    }
}

/// Answers a wait with events.
fn answer(effects: &mut Effects, call: CallId, address: u64, events: &[(u32, u64)]) {
    let mut bytes = Vec::with_capacity(events.len() * EVENT_BYTES as usize);
    for (events, data) in events {
        bytes.extend(events.to_le_bytes());
        bytes.extend(data.to_le_bytes());
    }
    let result = events.len() as i64;
    let mut outputs = Vec::new();
    if bytes.len() > 512 {
        effects.push(Effect::CopyOut { call, address, bytes });
    } else {
        outputs.push(Output { address, bytes });
    }
    effects.foreign(call, ForeignReply { result, outputs, ..ForeignReply::default() });
}

#[cfg(test)]
mod tests;
