//! Servers that go on in another image.

use libipc::abi::crash::Fault;
use libipc::abi::journal::{SUM_START, sum};
use libipc::abi::syscall::Syscall;
use libipc::abi::upgrade::{ImageFigures, Stage, Step, Verdict};
use libipc::abi::{KernelError, PAGE_SIZE, Rights};
use libipc::server::{SAVE_BIT, UPGRADED_BIT};

use super::{World, info};
use crate::core::Machine;
use crate::core::death::Death;
use crate::core::object::{FrameRange, Object, ServerId, ServerState, TaskId};

/// Where the new image starts.
const NEW_ENTRY: u64 = 0x41_0000;
const IMAGE: &[u8] = &[7; 5000];
const DONE: Step = Step::End(Verdict::Done, ImageFigures { schema: 2, pages: 3 });

/// Somebody who has an image in its arena and may upgrade a server by its handle 5; and the server.
struct Scene {
    world: World,
    upgrader: TaskId,
    server: TaskId,
    id: ServerId,
}

fn scene(journaled: bool) -> Scene {
    let mut world = World::new();
    let (upgrader, server) = (world.server(2, false), world.server(3, journaled));
    let arena = world.frames(4);
    world.memory(2, 1, arena);
    world.kernel.machine.bytes(arena, 0, IMAGE.len() as u64).copy_from_slice(IMAGE);
    world.grant(2, 0, 3);
    world.start(3);
    world.start(2);
    world.kernel.put(upgrader, 5, Object::Task(server), Rights::CRASH).unwrap();
    let id = world.kernel.server_of(server).unwrap();
    Scene { world, upgrader, server, id }
}

impl Scene {
    fn hand_in(&mut self) {
        self.world.ok(self.upgrader, Syscall::Upgrade, &[5, 0, IMAGE.len() as u64]);
    }

    fn step(&mut self, step: Step) -> Result<Option<Stage>, KernelError> {
        let outcome = self.world.trap(self.world.root, Syscall::UpgradeStep, &step.to_words());
        outcome.unwrap().map(|[stage, ..]| Stage::from_number(stage))
    }

    fn stage(&self) -> Option<Stage> {
        self.world.kernel.upgrade_stage(self.id)
    }

    fn state(&self) -> ServerState {
        self.world.kernel.server(self.server).unwrap().state
    }

    fn restart(&mut self, entry: u64) {
        self.world.ok(self.world.root, Syscall::ServerRestart, &[103, entry]);
    }

    fn receive(&mut self) {
        self.world.trap(self.server, Syscall::Receive, &[]);
    }

    /// The server gets a message and answers it.
    fn serve(&mut self, word: u64) {
        self.world.ok(self.upgrader, Syscall::Send, &[0, info(1, 0, 0), word]);
        self.receive();
        let token = self.world.delivery(self.server).token;
        self.world.ok(self.server, Syscall::Reply, &[token, info(0, 0, 0), word]);
    }

    fn save(&mut self) {
        self.world.set_payload(self.server, b"state");
        self.world.ok(self.server, Syscall::SnapshotWrite, &[5, 0]);
        self.world.trap(self.server, Syscall::SnapshotCommit, &[sum(SUM_START, b"state"), 0]);
    }

    fn fault(&mut self) {
        self.world.kernel.server_fault(self.server, Fault::Exception, 6);
    }

    /// The server has saved its state, and the new image is about to start.
    fn stopped(journaled: bool) -> Scene {
        let mut scene = scene(journaled);
        scene.serve(1);
        scene.hand_in();
        scene.step(Step::Save).unwrap();
        if journaled {
            scene.receive();
            assert_eq!(scene.world.delivery(scene.server).words[0], SAVE_BIT);
            scene.save();
        }
        assert_eq!((scene.stage(), scene.state()), (Some(Stage::Stopped), ServerState::Dead));
        scene
    }

    fn on_trial(journaled: bool) -> Scene {
        let mut scene = Scene::stopped(journaled);
        assert_eq!(scene.step(Step::Try), Ok(Some(Stage::Trial)));
        scene.restart(NEW_ENTRY);
        scene
    }
}

#[test]
fn a_journaled_server_stops_in_the_step_in_which_it_has_saved_its_state() {
    let mut scene = scene(true);
    scene.hand_in();
    assert_eq!(scene.step(Step::Save), Ok(Some(Stage::Saving)));
    scene.receive();
    assert_eq!(scene.stage(), Some(Stage::Saving));
    scene.save();
    assert_eq!((scene.stage(), scene.state()), (Some(Stage::Stopped), ServerState::Dead));
    assert_eq!(scene.world.kernel.server(scene.server).unwrap().deaths, [1, 0]);
}

#[test]
fn a_server_that_cannot_save_its_state_stops_when_it_asks_for_more() {
    let mut scene = scene(true);
    scene.hand_in();
    scene.step(Step::Save).unwrap();
    scene.receive();
    assert_eq!(scene.world.delivery(scene.server).words[0], SAVE_BIT);
    assert_eq!(scene.state(), ServerState::Alive);
    scene.receive();
    assert_eq!((scene.stage(), scene.state()), (Some(Stage::Stopped), ServerState::Dead));
}

#[test]
fn a_server_killed_before_it_has_saved_its_state_is_asked_again_and_one_that_dies_by_itself_is_not() {
    let mut killed = scene(true);
    killed.hand_in();
    killed.step(Step::Save).unwrap();
    killed.world.kernel.die(killed.id, Death::Outside);
    assert_eq!(killed.stage(), Some(Stage::Saving));
    killed.restart(0);
    killed.receive();
    assert_eq!(killed.world.delivery(killed.server).words[0], SAVE_BIT);
    killed.fault();
    assert_eq!(killed.stage(), Some(Stage::Stopped));
}

#[test]
fn a_new_image_takes_over_where_the_journal_ends_and_is_what_starts_again_from_then_on() {
    let mut scene = Scene::on_trial(true);
    assert_eq!(scene.world.ok(scene.server, Syscall::SnapshotRead, &[0])[0], 5);
    assert_eq!(scene.stage(), Some(Stage::Trial));
    scene.receive();
    assert_eq!(scene.stage(), Some(Stage::Live));
    scene.step(DONE).unwrap();
    let server = scene.world.kernel.server(scene.server).unwrap();
    assert_eq!((server.upgrades, server.verdict, server.image.schema), (1, Some(Verdict::Done), 2));
    assert_eq!((server.entry, scene.stage()), (NEW_ENTRY, None));
    scene.world.kernel.die(scene.id, Death::Outside);
    scene.restart(0);
    let thread = scene.world.thread_of(scene.server);
    assert_eq!(scene.world.kernel.threads.get(thread).unwrap().registers.rip, NEW_ENTRY);
}

#[test]
fn an_image_that_dies_on_trial_has_failed_and_one_that_is_killed_starts_again() {
    let mut scene = Scene::on_trial(true);
    scene.world.kernel.die(scene.id, Death::Outside);
    assert_eq!(scene.stage(), Some(Stage::Trial));
    scene.restart(0);
    scene.fault();
    assert_eq!((scene.stage(), scene.state()), (Some(Stage::Failed), ServerState::Dead));
    // The old one goes on with what was saved.
    scene.step(Step::End(Verdict::Failed, ImageFigures::default())).unwrap();
    scene.restart(0x40_0000);
    assert_eq!(scene.world.ok(scene.server, Syscall::SnapshotRead, &[0])[0], 5);
    scene.serve(2);
    let server = scene.world.kernel.server(scene.server).unwrap();
    assert_eq!((server.upgrades, server.verdict), (0, Some(Verdict::Failed)));
}

#[test]
fn an_image_that_has_taken_over_dies_like_any_server() {
    let mut scene = Scene::on_trial(true);
    scene.receive();
    scene.fault();
    assert_eq!(scene.stage(), Some(Stage::Live));
}

#[test]
fn a_server_that_died_of_an_event_meets_it_again_in_its_new_image() {
    let mut scene = scene(true);
    scene.world.ok(scene.upgrader, Syscall::Send, &[0, info(1, 0, 0), 9]);
    scene.receive();
    let token = scene.world.delivery(scene.server).token;
    scene.fault();
    scene.hand_in();
    assert_eq!(scene.step(Step::Save), Ok(Some(Stage::Stopped)));
    scene.step(Step::Try).unwrap();
    scene.restart(NEW_ENTRY);
    scene.receive();
    assert_eq!(scene.world.delivery(scene.server).token, token);
    assert_eq!(scene.stage(), Some(Stage::Trial), "that was the journal's");
    scene.world.ok(scene.server, Syscall::Reply, &[token, info(0, 0, 0), 9]);
    assert_eq!(scene.stage(), Some(Stage::Live));
}

#[test]
fn an_image_that_does_something_else_than_the_journal_says_has_failed() {
    let mut scene = scene(true);
    scene.serve(1);
    scene.fault();
    scene.hand_in();
    scene.step(Step::Save).unwrap();
    scene.step(Step::Try).unwrap();
    scene.restart(NEW_ENTRY);
    scene.receive();
    scene.world.trap(scene.server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    assert_eq!(scene.stage(), Some(Stage::Failed));
}

#[test]
fn a_reissued_server_stops_at_once_and_its_calls_come_to_the_new_image() {
    let mut scene = scene(false);
    scene.world.ok(scene.upgrader, Syscall::Send, &[0, info(1, 0, 0), 9]);
    scene.receive();
    let token = scene.world.delivery(scene.server).token;
    scene.hand_in();
    assert_eq!(scene.step(Step::Save), Ok(Some(Stage::Stopped)));
    scene.step(Step::Try).unwrap();
    scene.restart(NEW_ENTRY);
    assert_eq!(scene.stage(), Some(Stage::Trial));
    scene.receive();
    assert_eq!((scene.world.delivery(scene.server).token, scene.stage()), (token, Some(Stage::Live)));
}

#[test]
fn a_server_that_was_given_up_serves_again_in_its_new_image() {
    let mut scene = scene(true);
    scene.fault();
    scene.world.ok(scene.world.root, Syscall::ServerAbandon, &[103]);
    let refused = scene.world.trap(scene.upgrader, Syscall::Call, &[0, info(1, 0, 0)]);
    assert_eq!(refused, Some(Err(KernelError::PeerDead)));
    scene.hand_in();
    assert_eq!(scene.step(Step::Save), Ok(Some(Stage::Stopped)));
    scene.step(Step::Try).unwrap();
    scene.restart(NEW_ENTRY);
    scene.serve(3);
    assert_eq!((scene.stage(), scene.state()), (Some(Stage::Live), ServerState::Alive));
}

#[test]
fn root_gets_the_image_page_by_page_and_zeroes_behind_its_end() {
    let mut scene = scene(true);
    let place = scene.world.frames(2);
    scene.world.kernel.machine.bytes(place, 0, place.bytes()).fill(1);
    let copy = |scene: &mut Scene, offset: u64, frame: u32, count: u64| {
        let arguments = [offset, u64::from(frame), count];
        scene.world.trap(scene.world.root, Syscall::UpgradeImage, &arguments).unwrap()
    };
    assert_eq!(copy(&mut scene, 0, place.first.0, 2), Err(KernelError::WrongState), "there is none yet");
    scene.hand_in();
    copy(&mut scene, 0, place.first.0, 1).unwrap();
    copy(&mut scene, PAGE_SIZE, place.first.0 + 1, 1).unwrap();
    let bytes = scene.world.kernel.machine.bytes(place, 0, place.bytes());
    assert_eq!(&bytes[..IMAGE.len()], IMAGE);
    assert!(bytes[IMAGE.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(copy(&mut scene, 1, place.first.0, 1), Err(KernelError::BadArgument));
    assert_eq!(copy(&mut scene, 2 * PAGE_SIZE, place.first.0, 1), Err(KernelError::BadArgument));
    assert_eq!(copy(&mut scene, 0, place.first.0, 65), Err(KernelError::BadArgument));
    assert_eq!(copy(&mut scene, 0, 1, 1), Err(KernelError::NoRight), "the kernel's own");
}

#[test]
fn there_is_one_upgrade_at_a_time_by_those_who_may_and_none_of_root() {
    let mut scene = scene(true);
    let upgrade = |scene: &mut Scene, handle, length| {
        scene.world.trap(scene.upgrader, Syscall::Upgrade, &[handle, 0, length]).unwrap()
    };
    let (root, whole) = (scene.world.root, FrameRange { count: 4, ..FrameRange::EMPTY }.bytes());
    scene.world.kernel.put(scene.upgrader, 6, Object::Task(root), Rights::CRASH).unwrap();
    scene.world.kernel.put(scene.upgrader, 7, Object::Task(scene.server), Rights::INSPECT).unwrap();
    assert_eq!(upgrade(&mut scene, 6, 10), Err(KernelError::NoRight), "root is the kernel's to start");
    assert_eq!(upgrade(&mut scene, 7, 10), Err(KernelError::NoRight));
    assert_eq!(upgrade(&mut scene, 5, whole + 1), Err(KernelError::BadArgument));
    assert_eq!(scene.step(Step::Save), Err(KernelError::WrongState));
    assert_eq!(upgrade(&mut scene, 5, whole).map(|_| ()), Ok(()));
    assert_eq!(upgrade(&mut scene, 5, whole), Err(KernelError::WrongState));
    let forged = scene.world.trap(scene.upgrader, Syscall::UpgradeStep, &DONE.to_words());
    assert_eq!(forged, Some(Err(KernelError::NoRight)));
    assert_eq!(scene.step(Step::Try), Err(KernelError::WrongState), "the server runs");
    scene.step(Step::End(Verdict::Schema, ImageFigures::default())).unwrap();
    scene.world.ok(scene.upgrader, Syscall::Receive, &[]);
    assert_eq!(scene.world.delivery(scene.upgrader).words[0], UPGRADED_BIT);
    scene.serve(1);
    assert_eq!(upgrade(&mut scene, 5, whole).map(|_| ()), Ok(()), "and again");
}
