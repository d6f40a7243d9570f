//! Requests there and back, and bytes that are none.

use alloc::vec;
use proptest::prelude::*;

use super::super::{Answer, Stop};
use super::*;

fn operations() -> Vec<Operation> {
    vec![
        Operation::Stat,
        Operation::Open { flags: 0o2000000, mode: 0o644 },
        Operation::Access(4),
        Operation::ReadLink,
        Operation::MakeDirectory { mode: 0o755 },
        Operation::MakeNode { mode: 0o20666, device: 0x103 },
        Operation::MakeSymlink { target: b"to".to_vec() },
        Operation::Link { node: u64::MAX },
        Operation::Unlink,
        Operation::RemoveDirectory,
        Operation::Parent,
        Operation::Rename { directory: 7, name: b"name".to_vec(), flags: 2 },
        Operation::SetMode(0o4755),
        Operation::SetOwner(None, Some(0)),
        Operation::SetTimes(Some(-1), None),
        Operation::Touch(i64::MIN),
        Operation::Truncate(1 << 40),
        Operation::StatFs,
        Operation::PathOf,
    ]
}

fn request(operation: Operation) -> Request {
    Request {
        from: From::Session(Badge(9)),
        path: b"a/b/".to_vec(),
        barrier: Some(3),
        covers: vec![1, u64::MAX],
        follow: true,
        credentials: Credentials { uid: 1, gid: 2, umask: 0o22, groups: vec![4, 5, 6] },
        operation,
        program: Some(Program { wants: Wants::Descriptor(3), ticket: [1, 2, 3, 4, 5] }),
    }
}

#[test]
fn every_request_arrives_as_it_was() {
    for operation in operations() {
        let asked = request(operation);
        assert_eq!(Request::from_message(&asked.message()), Ok(asked.clone()));
        let bare = Request {
            barrier: None,
            covers: vec![],
            follow: false,
            credentials: Credentials::default(),
            program: None,
            from: From::Root(1),
            ..asked
        };
        assert_eq!(Request::from_message(&bare.message()), Ok(bare));
    }
}

#[test]
fn what_is_handed_back_tells_the_request_and_why() {
    let asked = request(Operation::Unlink);
    let why = Answer::Stopped(Stop::Covered { node: 5, rest: b"b/".to_vec() });
    let back = asked.handed_back(&why);
    assert_eq!(Request::from_handed_back(&back), Ok((asked, why)));
    assert!(Request::from_message(&back).is_err(), "it is no request");
}

proptest! {
    #[test]
    fn no_bytes_are_more_than_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let message = Message { payload: bytes, ..Message::default() };
        let _ = Request::from_message(&message);
        let _ = Request::from_handed_back(&message);
    }

    #[test]
    fn a_request_cut_short_is_an_error(cut in 0_usize..170) {
        let mut message = request(Operation::MakeSymlink { target: b"target".to_vec() }).message();
        let cut = cut.min(message.payload.len() - 1);
        message.payload.truncate(cut);
        prop_assert!(Request::from_message(&message).is_err());
    }
}
