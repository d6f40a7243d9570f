//! Users and groups of a process, and the calls that change them (credentials(7)). They are the process's, not the
//! thread's, as POSIX has it.

use alloc::{vec, vec::Vec};

use libipc::abi::TaskWord;
use libipc::linux::errno::{EFAULT, EINVAL, EPERM, ESRCH};
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::Pid;
use crate::memory::half_at;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// "Leave it" in the calls that set several ids.
const KEEP: u32 = u32::MAX;
/// Most supplementary groups.
const GROUPS_MAX: usize = 2048;
/// All capabilities there are, which the superuser has and nobody else.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;
const CAPABILITY_VERSION_1: u32 = 0x1998_0330;
const CAPABILITY_VERSION_2: u32 = 0x2007_1026;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Whose a process is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// Whether it may do what is the superuser's.
    pub fn is_superuser(&self) -> bool {
        self.euid == 0
    }

    /// Set-id bits of a program, then the saved ids.
    pub fn after_exec(&mut self, set_uid: Option<u32>, set_gid: Option<u32>) {
        self.euid = set_uid.unwrap_or(self.euid);
        self.egid = set_gid.unwrap_or(self.egid);
        (self.suid, self.sgid) = (self.euid, self.egid);
    }

    fn users(&mut self) -> Ids<'_> {
        Ids { real: &mut self.uid, effective: &mut self.euid, saved: &mut self.suid }
    }

    fn groups(&mut self) -> Ids<'_> {
        Ids { real: &mut self.gid, effective: &mut self.egid, saved: &mut self.sgid }
    }
}

/// The three ids of a kind: users and groups change by the same rules.
struct Ids<'a> {
    real: &'a mut u32,
    effective: &'a mut u32,
    saved: &'a mut u32,
}

impl Ids<'_> {
    fn has(&self, id: u32) -> bool {
        id == *self.real || id == *self.effective || id == *self.saved
    }

    /// setuid(2): all three for the superuser, the effective one for others.
    fn set(self, id: u32, privileged: bool) -> Result<(), Refusal> {
        if privileged {
            (*self.real, *self.effective, *self.saved) = (id, id, id);
        } else if id == *self.real || id == *self.saved {
            *self.effective = id;
        } else {
            return errno(EPERM);
        }
        Ok(())
    }

    /// setreuid(2).
    fn set_two(self, real: u32, effective: u32, privileged: bool) -> Result<(), Refusal> {
        let real_allowed = real == KEEP || real == *self.real || real == *self.effective;
        if !privileged && !(real_allowed && (effective == KEEP || self.has(effective))) {
            return errno(EPERM);
        }
        let old_real = *self.real;
        if real != KEEP {
            *self.real = real;
        }
        if effective != KEEP {
            *self.effective = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old_real) {
            *self.saved = *self.effective;
        }
        Ok(())
    }

    /// setresuid(2).
    fn set_three(self, ids: [u32; 3], privileged: bool) -> Result<(), Refusal> {
        if !privileged && !ids.iter().all(|id| *id == KEEP || self.has(*id)) {
            return errno(EPERM);
        }
        for (slot, id) in [self.real, self.effective, self.saved].into_iter().zip(ids) {
            if id != KEEP {
                *slot = id;
            }
        }
        Ok(())
    }
}

impl Proc {
    fn credentials(&self, pid: Pid) -> Result<&Credentials, Refusal> {
        self.processes.get(&pid).map(|process| &process.credentials).ok_or(Refusal::Errno(ESRCH))
    }

    /// Whether a process is the superuser's.
    pub(crate) fn is_superuser(&self, pid: Pid) -> bool {
        self.processes.get(&pid).is_some_and(|process| process.credentials.is_superuser())
    }

    /// Changes a process's credentials and the words the kernel answers from.
    fn set_credentials(
        &mut self,
        asked: &Asked,
        turn: &mut Turn,
        set: impl FnOnce(&mut Credentials, bool) -> Result<(), Refusal>,
    ) -> Outcome {
        let mut new = self.credentials(asked.pid)?.clone();
        let privileged = new.is_superuser();
        set(&mut new, privileged)?;
        let Some(process) = self.processes.get_mut(&asked.pid) else { return Reply::DONE };
        let task = process.task;
        let words = [
            (TaskWord::Uid, new.uid),
            (TaskWord::EffectiveUid, new.euid),
            (TaskWord::Gid, new.gid),
            (TaskWord::EffectiveGid, new.egid),
        ];
        process.credentials = new;
        for (word, value) in words {
            turn.act(Operation::TaskWord { task, word, value: u64::from(value) });
        }
        Reply::DONE
    }

    pub(crate) fn setuid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let id = valid(asked.unsigned(0))?;
        self.set_credentials(asked, turn, |own, privileged| own.users().set(id, privileged))
    }

    pub(crate) fn setgid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let id = valid(asked.unsigned(0))?;
        self.set_credentials(asked, turn, |own, privileged| own.groups().set(id, privileged))
    }

    pub(crate) fn setreuid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let (real, effective) = (asked.unsigned(0), asked.unsigned(1));
        self.set_credentials(asked, turn, |own, privileged| own.users().set_two(real, effective, privileged))
    }

    pub(crate) fn setregid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let (real, effective) = (asked.unsigned(0), asked.unsigned(1));
        self.set_credentials(asked, turn, |own, privileged| own.groups().set_two(real, effective, privileged))
    }

    pub(crate) fn setresuid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let ids = [0, 1, 2].map(|index| asked.unsigned(index));
        self.set_credentials(asked, turn, |own, privileged| own.users().set_three(ids, privileged))
    }

    pub(crate) fn setresgid(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let ids = [0, 1, 2].map(|index| asked.unsigned(index));
        self.set_credentials(asked, turn, |own, privileged| own.groups().set_three(ids, privileged))
    }

    pub(crate) fn getresuid(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let own = self.credentials(asked.pid)?;
        Ok(three(asked, [own.uid, own.euid, own.suid]))
    }

    pub(crate) fn getresgid(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let own = self.credentials(asked.pid)?;
        Ok(three(asked, [own.gid, own.egid, own.sgid]))
    }

    /// The ids that only file access looks at follow the effective ones: setting them changes nothing.
    pub(crate) fn setfsuid(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(self.credentials(asked.pid)?.euid)))
    }

    /// As [`Proc::setfsuid`].
    pub(crate) fn setfsgid(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(self.credentials(asked.pid)?.egid)))
    }

    pub(crate) fn getgroups(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let groups = &self.credentials(asked.pid)?.groups;
        let room = asked.int(0);
        if room < 0 || (room > 0 && (room.unsigned_abs() as usize) < groups.len()) {
            return errno(EINVAL);
        }
        if room > 0 && !groups.is_empty() {
            let bytes = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
            turn.copy_out(asked.id, asked.word(1), bytes);
        }
        Ok(Reply::Value(groups.len() as i64))
    }

    pub(crate) fn setgroups(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let count = asked.unsigned(0) as usize;
        let bytes = asked.input(0).unwrap_or_default();
        if count > GROUPS_MAX {
            return errno(EINVAL);
        }
        if bytes.len() < 4 * count {
            return errno(EFAULT);
        }
        let groups = bytes.chunks_exact(4).take(count).map(|group| half_at(group, 0)).collect();
        self.set_credentials(asked, turn, |own, privileged| {
            if !privileged {
                return errno(EPERM);
            }
            own.groups = groups;
            Ok(())
        })
    }

    pub(crate) fn capget(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let Some(words) = self.capability_words(asked)? else {
            // An unknown version is answered with the one to use; without a place for the data that is no error.
            let outputs = piece(asked.word(0), CAPABILITY_VERSION_3.to_le_bytes().to_vec());
            return Ok(Reply::Pieces(if asked.word(1) == 0 { 0 } else { -i64::from(EINVAL) }, outputs));
        };
        let pid = half_at(asked.needed(0)?, 4);
        let own = self.credentials(if pid == 0 { asked.pid } else { Pid(pid) })?;
        let held = if own.is_superuser() { ALL_CAPABILITIES } else { 0 };
        let halves = [held as u32, (held >> 32) as u32].into_iter().take(words);
        let bytes = halves.flat_map(|half| [half, half, 0]).flat_map(u32::to_le_bytes).collect();
        Reply::bytes(asked.word(1), bytes)
    }

    /// How many words of capabilities a header's version has; `None` when it is unknown.
    fn capability_words(&self, asked: &Asked) -> Result<Option<usize>, Refusal> {
        Ok(match half_at(asked.needed(0)?, 0) {
            CAPABILITY_VERSION_1 => Some(1),
            CAPABILITY_VERSION_2 | CAPABILITY_VERSION_3 => Some(2),
            _ => None,
        })
    }

    /// Capabilities come with the superuser's id and go with it: only a request that changes nothing, or that drops
    /// what then is held all the same, is accepted.
    pub(crate) fn capset(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let Some(words) = self.capability_words(asked)? else { return errno(EINVAL) };
        let pid = half_at(asked.needed(0)?, 4);
        if pid != 0 && Pid(pid) != asked.pid {
            return errno(EPERM);
        }
        let wanted = turn.env.read_user(asked.id, asked.word(1), 12 * words as u32)?;
        let raises = wanted.chunks_exact(12).any(|word| half_at(word, 0) != 0 || half_at(word, 4) != 0);
        if raises && !self.is_superuser(asked.pid) { errno(EPERM) } else { Reply::DONE }
    }
}

/// An id that is none.
fn valid(id: u32) -> Result<u32, Refusal> {
    if id == KEEP { errno(EINVAL) } else { Ok(id) }
}

/// Three ids for three addresses.
fn three(asked: &Asked, ids: [u32; 3]) -> Reply {
    let mut outputs = vec![];
    for (index, id) in ids.iter().enumerate() {
        outputs.extend(piece(asked.word(index), id.to_le_bytes().to_vec()));
    }
    Reply::Pieces(0, outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(real: u32, effective: u32, saved: u32) -> Credentials {
        Credentials { uid: real, euid: effective, suid: saved, ..Credentials::default() }
    }

    fn ids(own: &Credentials) -> [u32; 3] {
        [own.uid, own.euid, own.suid]
    }

    #[test]
    fn setuid_of_the_superuser_sets_all_three_ids() {
        let mut own = user(0, 0, 0);
        own.users().set(5, true).unwrap();
        assert_eq!(ids(&own), [5, 5, 5]);
        assert_eq!(own.users().set(0, false), errno(EPERM));
    }

    #[test]
    fn setuid_of_others_goes_back_and_forth_between_real_and_saved() {
        let mut own = user(5, 7, 7);
        own.users().set(5, false).unwrap();
        assert_eq!(ids(&own), [5, 5, 7]);
        own.users().set(7, false).unwrap();
        assert_eq!(ids(&own), [5, 7, 7]);
    }

    #[test]
    fn setreuid_saves_the_effective_id_when_the_real_one_is_set() {
        let mut own = user(5, 7, 7);
        own.users().set_two(7, 5, false).unwrap();
        assert_eq!(ids(&own), [7, 5, 5]);
        assert_eq!(own.users().set_two(9, KEEP, false), errno(EPERM));
    }

    #[test]
    fn setresuid_keeps_what_is_minus_one() {
        let mut own = user(5, 7, 9);
        own.users().set_three([KEEP, 9, KEEP], false).unwrap();
        assert_eq!(ids(&own), [5, 9, 9]);
        assert_eq!(own.users().set_three([1, KEEP, KEEP], false), errno(EPERM));
    }
}
