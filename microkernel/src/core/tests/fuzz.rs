//! Random system calls hurt only their caller: the kernel goes on, and so does everybody else.

use libipc::abi::Protection;
use libipc::abi::delivery::Kind;
use libipc::abi::syscall::{Syscall, TABLE};
use proptest::prelude::*;

use super::descriptors::linux;
use super::{World, info};
use crate::core::object::{ServerState, ThreadState};

/// Small numbers, handles and addresses that mean something, and anything.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..8u64,
        40..60u64,
        Just(u64::from(u32::MAX)),
        Just(0x10_0000),
        Just(0x10_0ffc),
        (0x1000..0x2000u64),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_native_program_calling_anything_hurts_only_itself(
        calls in prop::collection::vec((0..TABLE.len() as u64 + 2, prop::array::uniform6(argument())), 1..120),
    ) {
        let mut world = World::new();
        let (wild, good) = (world.server(2, false), world.server(3, true));
        let client = world.server(4, false);
        world.grant(2, 0, 3);
        world.grant(4, 0, 3);
        (2..=4).for_each(|number| world.start(number));
        for (number, arguments) in calls {
            let thread = world.thread_of(wild);
            if world.kernel.threads.get(thread).unwrap().state != ThreadState::Runnable {
                break;
            }
            let call = Syscall::from_number(number).unwrap_or(Syscall::Null);
            world.trap(wild, call, &arguments);
        }
        prop_assert_eq!(world.kernel.server(good).unwrap().state, ServerState::Alive);
        prop_assert!(world.kernel.off.is_none());
        // The good server still serves.
        prop_assert_eq!(world.trap(client, Syscall::Call, &[0, info(1234, 0, 0)]), None);
        for _ in 0..1000 {
            world.ok(good, Syscall::Receive, &[]);
            let delivery = world.delivery(good);
            if delivery.kind == Kind::Call as u32 && delivery.label == 1234 {
                world.ok(good, Syscall::Reply, &[delivery.token, info(5, 0, 0)]);
                break;
            }
        }
        prop_assert_eq!(world.result(client), Some(Ok([info(5, 0, 0), 0, 0, 0, 0])));
    }

    #[test]
    fn a_linux_program_calling_anything_hurts_only_itself(
        calls in prop::collection::vec((0..470u64, prop::array::uniform6(argument())), 1..120),
    ) {
        let mut linux = linux();
        let (world, program) = (&mut linux.world, &linux.program);
        world.map(linux.vm, program, 0x10_0000, 1, Protection::READ | Protection::WRITE);
        for (number, arguments) in calls {
            let thread = world.thread_of(program.task);
            if world.kernel.threads.get(thread).unwrap().state != ThreadState::Runnable {
                break;
            }
            world.linux(program, number, &arguments);
        }
        for task in [linux.vm, linux.vfs] {
            prop_assert_eq!(world.kernel.server(task).unwrap().state, ServerState::Alive);
        }
        prop_assert!(world.kernel.off.is_none());
    }
}
