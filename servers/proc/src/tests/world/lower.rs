//! The servers below, as far as this one asks them: vm, which makes and destroys spaces, and tty.

use libipc::abi::{Handle, Tag};
use libipc::proto::{space, terminal};
use libipc::server::Message;

use super::{DATA, Event, SHARED, STACK, TTY, VM, World};

/// What vm answers at once.
pub fn asked_of_vm(message: &Message) -> space::Answer {
    match message.decode() {
        Ok(space::Request::Place { address, .. }) if (SHARED..STACK).contains(&address) => {
            space::Answer::Place { object: 9, offset: address }
        }
        Ok(space::Request::Place { address, .. }) if address >= DATA => {
            space::Answer::Place { object: 0, offset: address }
        }
        Ok(space::Request::Place { .. }) => space::Answer::Failed(14),
        _ => space::Answer::Memory { total: 1000, free: 400, cached: 100 },
    }
}

impl World {
    pub(super) fn send(&mut self, to: Handle, tag: Tag, message: &Message) {
        let answer = match to {
            VM => self.vm(message),
            TTY => self.tty(message),
            other => panic!("sent to {other:?}"),
        };
        let Some(answer) = answer else { return };
        let event = Event::Answer { tag, answer: Ok(answer) };
        if self.hold_vm && to == VM { self.held.push(event) } else { self.queue.push_back(event) }
    }

    fn vm(&mut self, message: &Message) -> Option<Message> {
        let request = message.decode().expect("a request of vm's protocol");
        if let space::Request::Destroy { space } = request {
            self.spaces.remove(&space).expect("a space is destroyed once");
            return Some(Message::typed(0, &space::Answer::Done));
        }
        if let space::Request::Strings { key, arguments, environment } = &request {
            if arguments.is_empty() && environment.is_empty() {
                self.strings.remove(key);
            } else if let Some(errno) = self.vm_fails {
                self.strings.remove(key);
                return Some(Message::typed(0, &space::Answer::Failed(errno)));
            } else {
                let kept = self.strings.entry(*key).or_default();
                assert!(
                    arguments.is_empty() || kept[1].is_empty(),
                    "no arguments come after the environment"
                );
                kept[0].extend(arguments);
                kept[1].extend(environment);
            }
            return Some(Message::typed(0, &space::Answer::Done));
        }
        if let space::Request::Build(build) = &request {
            let before = self.strings.remove(&message.words[0]).map(|kept| kept.concat());
            self.built = (build.argc, build.envc, before.unwrap_or_else(|| build.strings.clone()));
        }
        if let Some(errno) = self.vm_fails {
            return Some(Message::typed(0, &space::Answer::Failed(errno)));
        }
        if let space::Request::Limits { space, limits } = request {
            assert!(self.spaces.contains_key(&space), "limits of a space that is gone");
            self.limits = Some(limits);
            return Some(Message::typed(0, &space::Answer::Done));
        }
        if let space::Request::Poke { address, bytes, .. } = request {
            self.poke(address, &bytes);
            return Some(Message::typed(0, &space::Answer::Done));
        }
        let space = self.next_space;
        self.next_space += 1;
        let handle = self.new_handle();
        self.spaces.insert(space, handle);
        let answer = match request {
            space::Request::Fork { space: old } => {
                assert!(self.spaces.contains_key(&old), "a space is forked that is gone");
                space::Answer::Space { space }
            }
            space::Request::Build(_) => {
                space::Answer::Image { space, entry: self.entry, stack: STACK + 0x8000, vdso: self.vdso }
            }
            other => panic!("not asked by this server: {other:?}"),
        };
        Some(Message::typed(0, &answer).with_handles(&[handle]))
    }

    fn tty(&mut self, message: &Message) -> Option<Message> {
        Some(match message.label {
            terminal::TAKE_EVENTS => Message::typed(0, &std::mem::take(&mut self.tty_events)),
            terminal::SESSION_ENDED => {
                self.ended_sessions.push(message.words[0]);
                let group = if message.words[0] == 2 { std::mem::take(&mut self.foreground) } else { 0 };
                Message::words(0, [u64::from(group), 0, 0, 0])
            }
            other => panic!("not asked of tty: {other:#x}"),
        })
    }
}
