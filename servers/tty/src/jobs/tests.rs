//! Tests of jobs.

use super::*;

const SHELL: Session = Session(10);

/// The leader of a session, in the foreground of a terminal of its own.
fn shell() -> Caller {
    Caller {
        session: SHELL,
        group: Group(10),
        leads_session: true,
        controlling: Controlling::This,
        ignores_background_read: false,
        ignores_background_write: false,
        group_is_orphaned: false,
        privileged: false,
    }
}

/// A job of the shell's, in a group of its own.
fn job() -> Caller {
    Caller { group: Group(20), leads_session: false, ..shell() }
}

fn newcomer() -> Caller {
    Caller { session: Session(30), group: Group(30), controlling: Controlling::None, ..shell() }
}

fn terminal_of_the_shell() -> JobControl {
    let mut jobs = JobControl::default();
    let leader = Caller { controlling: Controlling::None, ..shell() };
    assert_eq!(jobs.acquire(&leader, true, false), Ok(None));
    jobs
}

#[test]
fn the_foreground_group_reads_and_writes_freely() {
    let jobs = terminal_of_the_shell();
    assert_eq!(jobs.check_read(&shell()), Verdict::Proceed);
    assert_eq!(jobs.check_write(&shell(), true), Verdict::Proceed);
    assert_eq!(jobs.check_change(&shell()), Verdict::Proceed);
}

#[test]
fn a_background_read_stops_the_group() {
    let jobs = terminal_of_the_shell();
    assert_eq!(jobs.check_read(&job()), Verdict::StopGroup(Signal::BackgroundRead));
}

#[test]
fn a_background_read_fails_where_stopping_is_impossible() {
    let jobs = terminal_of_the_shell();
    for reader in
        [Caller { ignores_background_read: true, ..job() }, Caller { group_is_orphaned: true, ..job() }]
    {
        assert_eq!(jobs.check_read(&reader), Verdict::Refuse(JobError::Background));
    }
    let writer = Caller { ignores_background_write: true, ..job() };
    assert_eq!(jobs.check_read(&writer), Verdict::StopGroup(Signal::BackgroundRead));
}

#[test]
fn a_background_write_stops_the_group_only_with_tostop() {
    let jobs = terminal_of_the_shell();
    assert_eq!(jobs.check_write(&job(), false), Verdict::Proceed);
    assert_eq!(jobs.check_write(&job(), true), Verdict::StopGroup(Signal::BackgroundWrite));
}

#[test]
fn whoever_ignores_the_signal_writes_from_the_background_even_when_orphaned() {
    let jobs = terminal_of_the_shell();
    let ignoring = Caller { ignores_background_write: true, ..job() };
    assert_eq!(jobs.check_write(&ignoring, true), Verdict::Proceed);
    assert_eq!(jobs.check_change(&Caller { group_is_orphaned: true, ..ignoring }), Verdict::Proceed);
    let orphan = Caller { group_is_orphaned: true, ..job() };
    assert_eq!(jobs.check_write(&orphan, true), Verdict::Refuse(JobError::Background));
}

#[test]
fn a_terminal_that_is_not_the_callers_own_knows_no_background() {
    let jobs = terminal_of_the_shell();
    for controlling in [Controlling::None, Controlling::Another] {
        let stranger = Caller { controlling, ..job() };
        assert_eq!(jobs.check_read(&stranger), Verdict::Proceed);
        assert_eq!(jobs.check_change(&stranger), Verdict::Proceed);
    }
}

#[test]
fn only_a_leader_without_a_terminal_acquires_one() {
    for caller in [
        Caller { leads_session: false, ..newcomer() },
        Caller { controlling: Controlling::Another, ..newcomer() },
    ] {
        assert_eq!(JobControl::default().acquire(&caller, true, false), Err(JobError::NotPermitted));
    }
    let mut jobs = JobControl::default();
    assert_eq!(jobs.acquire(&newcomer(), true, false), Ok(None));
    assert_eq!(jobs.control(), Some(Control { session: Session(30), foreground: Group(30) }));
}

#[test]
fn acquiring_a_terminal_once_more_changes_nothing() {
    let mut jobs = terminal_of_the_shell();
    assert_eq!(jobs.set_foreground(&shell(), 20, Some(SHELL)), Verdict::Proceed);
    assert_eq!(jobs.acquire(&shell(), true, false), Ok(None));
    assert_eq!(jobs.foreground(&shell()), Ok(20));
}

#[test]
fn a_terminal_is_taken_from_another_session_only_with_privilege_and_on_request() {
    let root = Caller { privileged: true, ..newcomer() };
    for (caller, steal) in [(newcomer(), true), (root, false)] {
        assert_eq!(terminal_of_the_shell().acquire(&caller, true, steal), Err(JobError::NotPermitted));
    }
    let mut jobs = terminal_of_the_shell();
    assert_eq!(jobs.acquire(&root, true, true), Ok(Some(SHELL)));
    assert_eq!(jobs.control().map(|control| control.session), Some(Session(30)));
}

#[test]
fn a_file_that_cannot_be_read_gives_no_control_without_privilege() {
    let root = Caller { privileged: true, ..newcomer() };
    assert_eq!(JobControl::default().acquire(&newcomer(), false, false), Err(JobError::NotPermitted));
    assert_eq!(JobControl::default().acquire(&root, false, false), Ok(None));
}

#[test]
fn opening_acquires_a_free_terminal_unless_asked_not_to() {
    let root = Caller { privileged: true, ..newcomer() };
    assert!(JobControl::default().acquire_by_open(&newcomer(), true, false));
    assert!(!JobControl::default().acquire_by_open(&newcomer(), true, true));
    assert!(!JobControl::default().acquire_by_open(&root, false, false));
    assert!(!JobControl::default().acquire_by_open(&job(), true, false));
    let mut jobs = terminal_of_the_shell();
    assert!(!jobs.acquire_by_open(&root, true, false));
    assert_eq!(jobs, terminal_of_the_shell());
}

#[test]
fn a_leader_gives_the_terminal_up_for_its_session_and_others_for_themselves() {
    let mut jobs = terminal_of_the_shell();
    assert_eq!(jobs.give_up(&job()), Ok(GivenUp::ByCaller));
    assert_eq!(jobs, terminal_of_the_shell());
    assert_eq!(jobs.give_up(&newcomer()), Err(JobError::NotControlling));
    let control = Control { session: SHELL, foreground: Group(10) };
    assert_eq!(jobs.give_up(&shell()), Ok(GivenUp::BySession(control)));
    assert_eq!(jobs.control(), None);
}

#[test]
fn the_foreground_and_the_session_are_told_to_the_session_only() {
    let jobs = terminal_of_the_shell();
    assert_eq!(jobs.foreground(&job()), Ok(10));
    assert_eq!(jobs.session(&job()), Ok(SHELL));
    assert_eq!(jobs.foreground(&newcomer()), Err(JobError::NotControlling));
    assert_eq!(jobs.session(&newcomer()), Err(JobError::NotControlling));
    assert_eq!(JobControl::default().foreground(&shell()), Ok(0));
    assert_eq!(JobControl::default().session(&shell()), Err(JobError::NotControlling));
}

#[test]
fn the_foreground_changes_to_a_group_of_the_same_session() {
    let mut jobs = terminal_of_the_shell();
    assert_eq!(jobs.set_foreground(&shell(), 20, Some(SHELL)), Verdict::Proceed);
    assert_eq!(jobs.check_read(&job()), Verdict::Proceed);
    assert_eq!(jobs.check_read(&shell()), Verdict::StopGroup(Signal::BackgroundRead));
}

#[test]
fn a_wrong_foreground_group_is_refused_with_the_right_reason() {
    let mut jobs = terminal_of_the_shell();
    let before = jobs.clone();
    for (caller, id, session_of_group, error) in [
        (shell(), -1, None, JobError::BadGroup),
        (newcomer(), -1, None, JobError::BadGroup),
        (newcomer(), 30, Some(Session(30)), JobError::NotControlling),
        (Caller { session: Session(30), ..shell() }, 30, Some(Session(30)), JobError::NotControlling),
        (shell(), 0, None, JobError::NoSuchGroup),
        (shell(), 30, Some(Session(30)), JobError::NotPermitted),
    ] {
        assert_eq!(jobs.set_foreground(&caller, id, session_of_group), Verdict::Refuse(error));
    }
    assert_eq!(jobs, before);
}

#[test]
fn a_background_group_that_takes_the_foreground_is_stopped_unless_it_ignores_that() {
    let mut jobs = terminal_of_the_shell();
    let stop = Verdict::StopGroup(Signal::BackgroundWrite);
    assert_eq!(jobs.set_foreground(&job(), 20, Some(SHELL)), stop);
    let orphan = Caller { group_is_orphaned: true, ..job() };
    assert_eq!(jobs.set_foreground(&orphan, 20, Some(SHELL)), Verdict::Refuse(JobError::NotControlling));
    let ignoring = Caller { ignores_background_write: true, ..job() };
    assert_eq!(jobs.set_foreground(&ignoring, 20, Some(SHELL)), Verdict::Proceed);
    assert_eq!(jobs.foreground(&shell()), Ok(20));
}

#[test]
fn a_hang_up_tells_whom_it_concerns_and_frees_the_terminal() {
    let mut jobs = terminal_of_the_shell();
    assert_eq!(jobs.hang_up(), Some(Control { session: SHELL, foreground: Group(10) }));
    assert_eq!(jobs.hang_up(), None);
    assert!(jobs.acquire_by_open(&newcomer(), true, false));
}

#[test]
fn the_exit_of_the_leader_hangs_up_its_own_terminal_only() {
    let mut jobs = terminal_of_the_shell();
    assert_eq!(jobs.leader_exited(Session(30)), None);
    assert_eq!(jobs, terminal_of_the_shell());
    assert_eq!(jobs.leader_exited(SHELL), Some(Group(10)));
    assert_eq!(jobs.control(), None);
}

#[test]
fn errors_have_the_numbers_programs_know() {
    let numbers = [
        (JobError::NotPermitted, 1),
        (JobError::NoSuchGroup, 3),
        (JobError::Background, 5),
        (JobError::BadGroup, 22),
        (JobError::NotControlling, 25),
    ];
    for (error, number) in numbers {
        assert_eq!(error.errno(), number);
    }
}
