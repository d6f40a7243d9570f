//! Groups, sessions, users, limits.

use libipc::abi::TaskWord;

use super::world::{DATA, World};

const EPERM: i64 = -1;
const ESRCH: i64 = -3;
const EACCES: i64 = -13;
const EINVAL: i64 = -22;

#[test]
fn setpgid_on_a_child_after_its_exec_is_eacces() {
    let mut world = World::started();
    let child = world.fork(2);
    assert_eq!(world.setpgid(2, child, child), 0);
    world.exec(child);
    assert_eq!(world.setpgid(2, child, 2), EACCES);
    assert_eq!(world.setpgid(child, 0, 2), 0, "for itself it may");
}

#[test]
fn setpgid_on_a_session_leader_or_across_sessions_is_eperm() {
    let mut world = World::started();
    assert_eq!(world.setpgid(2, 0, 0), EPERM);
    let child = world.fork(2);
    world.syscall(child, 112, &[]);
    assert_eq!(world.setpgid(2, child, 0), EPERM);
    assert_eq!(world.setpgid(child, 0, 0), EPERM);
    let grandchild = world.fork(child);
    assert_eq!(world.setpgid(grandchild, 0, 2), EPERM);
    assert_eq!(world.setpgid(grandchild, 0, 99), EPERM);
}

#[test]
fn setpgid_on_anybody_else_is_esrch() {
    let mut world = World::started();
    let child = world.fork(2);
    let grandchild = world.fork(child);
    assert_eq!(world.setpgid(2, grandchild, 0), ESRCH);
    assert_eq!(world.setpgid(child, 2, 0), ESRCH);
    assert_eq!(world.setpgid(child, 99, 0), ESRCH);
    assert_eq!(world.setpgid(child, 0, -1_i32 as u32), EINVAL);
    let thread = world.thread(child);
    assert_eq!(world.setpgid(child, thread, 0), EINVAL);
}

#[test]
fn setsid_makes_a_session_and_a_group_unless_it_leads_one() {
    let mut world = World::started();
    assert_eq!(world.syscall(2, 112, &[]), Some(EPERM));
    let child = world.fork(2);
    assert_eq!(world.syscall(child, 112, &[]), Some(i64::from(child)));
    let words = [TaskWord::Pgid, TaskWord::Sid].map(|word| world.word(child, word));
    assert_eq!(words, [u64::from(child); 2]);
    assert_eq!(world.syscall(2, 124, &[u64::from(child)]), Some(i64::from(child)));
    assert_eq!(world.syscall(2, 121, &[0]), Some(2));
    let leader = world.fork(2);
    world.setpgid(2, leader, leader);
    assert_eq!(world.syscall(leader, 112, &[]), Some(EPERM));
}

#[test]
fn the_kernels_words_follow_the_credentials() {
    let mut world = World::started();
    assert_eq!(world.syscall(2, 117, &[-1_i64 as u64, 1000, -1_i64 as u64]), Some(0));
    let words = [TaskWord::Uid, TaskWord::EffectiveUid].map(|word| world.word(2, word));
    assert_eq!(words, [0, 1000]);
    assert_eq!(world.syscall(2, 105, &[7]), Some(EPERM));
    assert_eq!(world.syscall(2, 105, &[0]), Some(0));
    assert_eq!(world.syscall(2, 118, &[DATA, DATA + 4, DATA + 8]), Some(0));
    assert_eq!([0, 4, 8].map(|at| world.peek32(DATA + at)), [0, 0, 0]);
    let child = world.fork(2);
    assert_eq!(world.word(child, TaskWord::Uid), 0);
}

#[test]
fn supplementary_groups_are_the_superusers_to_set() {
    let mut world = World::started();
    world.poke(DATA, &[5_u32.to_le_bytes(), 6_u32.to_le_bytes()].concat());
    assert_eq!(world.syscall(2, 116, &[2, DATA]), Some(0));
    assert_eq!(world.syscall(2, 115, &[0, 0]), Some(2));
    assert_eq!(world.syscall(2, 115, &[1, DATA + 64]), Some(EINVAL));
    assert_eq!(world.syscall(2, 115, &[2, DATA + 64]), Some(2));
    assert_eq!([64, 68].map(|at| world.peek32(DATA + at)), [5, 6]);
    world.syscall(2, 105, &[1000]);
    assert_eq!(world.syscall(2, 116, &[0, 0]), Some(EPERM));
}

#[test]
fn capabilities_come_with_the_superuser_and_go_with_it() {
    let mut world = World::started();
    world.poke(DATA, &[0x2008_0522_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat());
    assert_eq!(world.syscall(2, 125, &[DATA, DATA + 64]), Some(0));
    assert_eq!([64, 76].map(|at| world.peek32(DATA + at)), [u32::MAX, 0x1ff]);
    assert_eq!(world.syscall(2, 126, &[DATA, DATA + 64]), Some(0));
    world.syscall(2, 105, &[1000]);
    assert_eq!(world.syscall(2, 126, &[DATA, DATA + 64]), Some(EPERM));
    assert_eq!(world.syscall(2, 125, &[DATA, DATA + 64]), Some(0));
    assert_eq!(world.peek32(DATA + 64), 0);
    world.poke(DATA, &7_u32.to_le_bytes());
    assert_eq!(world.syscall(2, 125, &[DATA, 0]), Some(0));
    assert_eq!(world.peek32(DATA), 0x2008_0522, "the version to use");
}

#[test]
fn limits_are_kept_within_their_bounds_and_the_kernel_is_told_of_descriptors() {
    let mut world = World::started();
    let limit = |soft: u64, hard: u64| [soft.to_le_bytes(), hard.to_le_bytes()].concat();
    world.poke(DATA, &limit(100, 200));
    assert_eq!(world.syscall(2, 302, &[0, 7, DATA, DATA + 64]), Some(0));
    assert_eq!([64, 72].map(|at| world.peek32(DATA + at)), [1024, 4096]);
    assert_eq!(world.word(2, TaskWord::DescriptorLimit), 100);
    world.poke(DATA, &limit(300, 200));
    assert_eq!(world.syscall(2, 160, &[7, DATA]), Some(EINVAL));
    world.poke(DATA, &limit(300, 300));
    assert_eq!(world.syscall(2, 160, &[7, DATA]), Some(EPERM), "the hard limit only falls");
    assert_eq!(world.syscall(2, 97, &[16, DATA]), Some(EINVAL));
    assert_eq!(world.syscall(2, 302, &[99, 7, 0, DATA]), Some(ESRCH));
    let child = world.fork(2);
    assert_eq!(world.word(child, TaskWord::DescriptorLimit), 100);
}
