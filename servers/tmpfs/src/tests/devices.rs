//! The memory devices and /dev.

use super::world::{BUFFER, World, from_root};
use libipc::abi::Handle;
use libipc::linux::errno::*;
use libipc::linux::mode::{S_IFCHR, S_IFMT};
use libipc::linux::open::*;
use libipc::proto::fs::{Answer, Credentials, Found, From, OPEN_DEVICE, Operation, Request, Stop};
use libipc::server::Message;

impl World {
    fn open_device(&mut self, minor: u64) -> Result<u64, i32> {
        let words = [1 << 8 | minor, u64::from(O_RDWR), 0, 0];
        let answer = self.native(0, Message::words(OPEN_DEVICE, words));
        if answer.label != 0 {
            return Err(answer.label as i32);
        }
        let owner: Handle = answer.handles[0];
        let session = self.sessions.iter().find(|(_, session)| session.owner == owner);
        Ok(*session.expect("a session").0)
    }

    fn dev(&mut self, path: &str, operation: Operation) -> Answer {
        let request = from_root(&Credentials::default(), path, operation);
        let call = self.begin_request(&Request { from: From::Root(1), ..request });
        self.answer(call).expect("answered").0
    }
}

#[test]
fn dev_has_its_nodes_and_links() {
    let mut world = World::new();
    let open = Operation::Open { flags: O_RDWR, mode: 0 };
    let Answer::Found(Found::Device { stat }) = world.dev("null", open) else { panic!("a device") };
    assert_eq!((stat.mode, stat.rdev), (S_IFCHR | 0o666, 0x103));
    let Answer::Stopped(Stop::Symlink { target, rest, .. }) = world.dev("fd/3", Operation::Stat) else {
        panic!("a link")
    };
    assert_eq!((target.as_slice(), rest.as_slice()), (b"/proc/self/fd".as_slice(), b"3".as_slice()));
    let Answer::Found(Found::Stat(console)) = world.dev("console", Operation::Stat) else { panic!("a node") };
    assert_eq!((console.rdev, console.mode & 0o777), (0x501, 0o600));
    assert!(matches!(world.dev("shm", Operation::Stat), Answer::Found(_)));
}

#[test]
fn null_zero_and_full_are_what_they_are_called() {
    let mut world = World::new();
    let [null, zero, full] = [3, 5, 7].map(|minor| world.open_device(minor).expect("a device"));
    assert_eq!(world.read(null, 10), Ok(vec![]));
    assert_eq!(world.write(null, b"gone"), 4);
    assert_eq!(world.linux(null, 1, [3, 0xdead_0000_0000, 4, 0, 0, 0]), 4, "nobody looks at the bytes");
    assert_eq!(world.read(zero, 200_000), Ok(vec![0; 200_000]));
    assert_eq!(world.read(full, 10), Ok(vec![0; 10]));
    assert_eq!(world.write(full, b"x"), -i64::from(ENOSPC));
    assert_eq!(world.linux(zero, 8, [3, 77, 0, 0, 0, 0]), 0);
    assert_eq!(world.linux(null, 16, [3, 0x5401, 0, 0, 0, 0]), -i64::from(ENOTTY));
    assert_eq!(world.linux(null, 5, [3, BUFFER, 0, 0, 0, 0]), 0);
    let stat = world.load(BUFFER, 144);
    let mode = u32::from_le_bytes(stat[24..28].try_into().expect("four bytes"));
    assert_eq!((mode & S_IFMT, &stat[40..48]), (S_IFCHR, 0x103u64.to_le_bytes().as_slice()));
    assert_eq!(world.open_device(1), Err(ENXIO));
}

#[test]
fn random_bytes_differ_and_flags_are_checked() {
    let mut world = World::new();
    let device = world.open_device(9).expect("urandom");
    let (first, second) = (world.read(device, 600).expect("bytes"), world.read(device, 600).expect("bytes"));
    assert_eq!((first.len(), second.len()), (600, 600));
    assert_ne!(first, second);
    assert_eq!(world.write(device, b"stir"), 4);
    for (flags, result) in [(0, 256), (1, 256), (2, 256), (3, 256), (4, 256), (6, -22), (8, -22)] {
        assert_eq!(world.linux(0, 318, [BUFFER, 256, flags, 0, 0, 0]), result);
    }
    assert_ne!(world.load(BUFFER, 256), vec![0; 256]);
    assert_eq!(world.linux(device, 16, [3, 0x8004_5200, BUFFER, 0, 0, 0]), 0);
    assert_eq!(world.load(BUFFER, 4), 256u32.to_le_bytes());
}

#[test]
fn what_is_written_to_kmsg_is_logged() {
    let mut world = World::new();
    let device = world.open_device(11).expect("kmsg");
    assert_eq!(world.write(device, b"<6>hello\n"), 9);
    assert_eq!(world.log, b"<6>hello\n");
    assert_eq!(world.write(device, &[b'x'; 2000]), -i64::from(EINVAL));
}
