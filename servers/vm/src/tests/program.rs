//! Building programs: what a fresh space contains, and every way in which a program is refused.

use libipc::abi::Protection;
use libipc::linux::errno::{E2BIG, EINVAL, ENOEXEC, ENOMEM};
use libipc::proto::space::{Answer, Build, Limits, RegionInfo, Request as Ask};

use super::machine::{FILES, Machine, PAGE, file_byte};
use crate::elf::tests::{INTERP, LOAD, RW, RX, file, program};

pub const RANDOM: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x07\x08abcdefgh";

/// A started program.
pub struct Started {
    pub space: u64,
    pub entry: u64,
    pub stack: u64,
}

pub fn request(object: u64, header: Vec<u8>) -> Build {
    Build {
        file: (FILES, object),
        header,
        argc: 1,
        envc: 1,
        strings: b"prog\0A=b\0".to_vec(),
        filename: b"/bin/prog".to_vec(),
        random: RANDOM,
        limits: Limits::default(),
        ..Build::default()
    }
}

pub fn try_build(machine: &mut Machine, build: Build, key: u64) -> Result<Started, i32> {
    let mut handles = vec![machine.session(build.file.1)];
    if let Some(((_, object), _)) = &build.interpreter {
        handles.push(machine.session(*object));
    }
    let (answer, given) = machine.ask(&Ask::Build(build), key, &handles);
    machine.check();
    match answer {
        Answer::Image { space, entry, stack, .. } => {
            assert_eq!(given.len(), 1);
            Ok(Started { space, entry, stack })
        }
        Answer::Failed(errno) => Err(errno),
        other => panic!("{other:?}"),
    }
}

/// Starts the small static program of the ELF tests, as file 1.
pub fn start(machine: &mut Machine) -> Started {
    machine.files.insert(1, 0x4800);
    try_build(machine, request(1, program()), 0).unwrap()
}

fn regions(machine: &mut Machine, space: u64) -> Vec<RegionInfo> {
    let Answer::Regions { regions, .. } = machine.ask(&Ask::Regions { space }, 0, &[]).0 else { panic!() };
    regions
}

fn word(machine: &mut Machine, space: u64, address: u64) -> u64 {
    (0..8).fold(0, |word, byte| word | u64::from(machine.read(space, address + byte).unwrap()) << (8 * byte))
}

#[test]
fn a_static_program_finds_its_code_data_zeroes_and_arguments() {
    let mut machine = Machine::new(400, b"");
    let Started { space, entry, stack } = start(&mut machine);
    assert_eq!(entry, 0x40_1000);
    machine.access(space, entry, Protection::EXECUTE).unwrap();
    assert_eq!(machine.read(space, 0x40_0123), Ok(file_byte(1, 0x123)));
    assert_eq!(machine.read(space, 0x40_47ff), Ok(file_byte(1, 0x47ff)));
    assert_eq!(machine.read(space, 0x40_4800), Ok(0));
    assert_eq!(machine.read(space, 0x40_6fff), Ok(0));
    assert_eq!(machine.read(space, 0x40_7000), Err((11, 1)));
    assert_eq!(machine.write(space, 0x40_0000, 1), Err((11, 2)));
    assert_eq!(machine.access(space, 0x40_3000, Protection::EXECUTE), Err((11, 2)));
    assert_eq!(word(&mut machine, space, stack), 1);
    let argument = word(&mut machine, space, stack + 8);
    let text: Vec<u8> = (0..5).map(|at| machine.read(space, argument + at).unwrap()).collect();
    assert_eq!(text, b"prog\0");
    machine.check();
    machine.destroy(space);
    machine.check();
}

#[test]
fn a_second_start_of_a_cached_program_fetches_nothing_and_has_its_first_pages_mapped() {
    let mut machine = Machine::new(400, b"");
    let first = start(&mut machine);
    machine.access(first.space, first.entry, Protection::EXECUTE).unwrap();
    machine.write(first.space, 0x40_4000, 1).unwrap();
    machine.destroy(first.space);
    machine.fetched.clear();
    let zeroed = machine.count("zero");
    let second = start(&mut machine);
    assert_eq!(machine.count("zero") - zeroed, 1, "one page of the stack is zeroed");
    let maps = machine.count("map");
    machine.access(second.space, second.entry, Protection::EXECUTE).unwrap();
    machine.write(second.space, 0x40_4800, 1).unwrap();
    machine.write(second.space, second.stack - 8, 1).unwrap();
    assert_eq!((machine.fetched.len(), machine.count("map")), (0, maps));
    assert_eq!(machine.read(second.space, 0x40_4000), Ok(file_byte(1, 0x4000)));
}

#[test]
fn a_dynamic_program_starts_in_its_interpreter() {
    let mut machine = Machine::new(400, &[0x90; 5000]);
    let code = (LOAD, RX, 0, 0, 0x3000, 0x3000, 0x1000);
    let data = (LOAD, RW, 0x3000, 0x4000, 0x800, 0x1800, 0x1000);
    let build = Build {
        interpreter: Some(((FILES, 2), file(3, 0x500, &[code]))),
        ..request(1, file(3, 0x1000, &[(INTERP, 4, 0x200, 0x200, 8, 8, 1), code, data]))
    };
    machine.files.extend([(1, 0x3800), (2, 0x3000)]);
    let Started { space, entry, .. } = try_build(&mut machine, build, 0).unwrap();
    machine.access(space, entry, Protection::EXECUTE).unwrap();
    let shown = regions(&mut machine, space);
    let interpreter = shown.iter().find(|region| region.file == Some((FILES, 2))).unwrap();
    assert_eq!(entry, interpreter.start + 0x500);
    let program = shown.iter().find(|region| region.file == Some((FILES, 1))).unwrap();
    assert!(program.start >= 0x5555_5555_4000 && interpreter.start > program.end);
    let vdso = shown.iter().find(|region| region.name == b"[vdso]").unwrap();
    assert_eq!(vdso.end - vdso.start, 2 * PAGE);
    assert_eq!(machine.read(space, vdso.start), Ok(0x90));
    assert_eq!(machine.read(space, vdso.end - 1), Ok(0));
    let vvar = shown.iter().find(|region| region.name == b"[vvar]").unwrap();
    assert_eq!((vvar.end, vvar.end - vvar.start, vvar.protection), (vdso.start, PAGE, 1));
    assert_eq!(machine.read(space, vvar.start), Ok(0x77), "where the counter stood");
    machine.destroy(space);
    machine.check();
}

#[test]
fn addresses_follow_from_the_random_bytes_alone() {
    let mut machine = Machine::new(400, b"");
    let (first, second) = (start(&mut machine), start(&mut machine));
    assert_eq!(first.stack, second.stack);
    let other = Build { random: [7; 16], ..request(1, program()) };
    assert_ne!(try_build(&mut machine, other, 0).unwrap().stack, first.stack);
}

#[test]
fn a_program_that_cannot_be_loaded_leaves_nothing_behind() {
    let mut machine = Machine::new(400, b"");
    let free = machine.free();
    let code = (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1000);
    let wants_interpreter = file(2, 0x40_1000, &[(INTERP, 4, 0x200, 0x200, 8, 8, 1), code]);
    let fixed_interpreter = Some(((FILES, 2), program()));
    let far = (LOAD, RX, 0, 0x7fff_ff00_0000, 0x3000, 0x3000, 0x1000);
    let cases = [
        (request(1, b"garbage".to_vec()), ENOEXEC),
        (request(1, wants_interpreter.clone()), ENOEXEC),
        (Build { interpreter: fixed_interpreter, ..request(1, wants_interpreter.clone()) }, ENOEXEC),
        (Build { interpreter: Some(((FILES, 2), vec![])), ..request(1, wants_interpreter) }, ENOEXEC),
        (request(1, file(2, 0x7fff_ff00_0000, &[far])), ENOMEM),
        (Build { strings: vec![b'a'; 200_000], ..request(1, program()) }, E2BIG),
        (Build { argc: 9, ..request(1, program()) }, EINVAL),
    ];
    for (build, errno) in cases {
        assert_eq!(try_build(&mut machine, build, 0).err(), Some(errno));
        assert_eq!(machine.free(), free);
    }
    machine.space_quota = 0;
    assert_eq!(try_build(&mut machine, request(1, program()), 0).err(), Some(ENOMEM));
    assert_eq!(machine.free(), free);
}

#[test]
fn a_start_with_too_little_memory_is_undone_wherever_it_stops() {
    for frames in 1..12 {
        let mut machine = Machine::new(frames, b"");
        if let Err(errno) = try_build(&mut machine, request(1, program()), 0) {
            assert_eq!((errno, machine.free()), (ENOMEM, frames));
        }
    }
}

/// Sends a piece of arguments and environment ahead of a build.
fn send(machine: &mut Machine, key: u64, arguments: &[u8], environment: &[u8]) -> Answer {
    let (arguments, environment) = (arguments.to_vec(), environment.to_vec());
    machine.ask(&Ask::Strings { key, arguments, environment }, 0, &[]).0
}

fn text(machine: &mut Machine, space: u64, address: u64) -> Vec<u8> {
    (address..).map(|at| machine.read(space, at).unwrap()).take_while(|byte| *byte != 0).collect()
}

#[test]
fn strings_that_do_not_fit_into_one_message_are_sent_before() {
    let mut machine = Machine::new(400, b"");
    let free = machine.free();
    let long = [b'a'; 5000];
    assert_eq!(send(&mut machine, 5, &long, b""), Answer::Done);
    assert_eq!(send(&mut machine, 5, b"aa\0\0three\0", b"A="), Answer::Done);
    assert_eq!(send(&mut machine, 5, b"", b"b\0C=d\0"), Answer::Done);
    let build = Build { argc: 3, envc: 2, strings: vec![], ..request(1, program()) };
    machine.files.insert(1, 0x4800);
    let Started { space, stack, .. } = try_build(&mut machine, build.clone(), 5).unwrap();
    assert_eq!((stack % 16, word(&mut machine, space, stack)), (0, 3));
    let pointers: Vec<u64> = (1..8).map(|at| word(&mut machine, space, stack + 8 * at)).collect();
    assert_eq!((pointers[3], pointers[6]), (0, 0));
    assert_eq!(text(&mut machine, space, pointers[0]).len(), 5002);
    let texts = [1, 2, 4, 5].map(|at| text(&mut machine, space, pointers[at]));
    assert_eq!(texts, [b"".to_vec(), b"three".to_vec(), b"A=b".to_vec(), b"C=d".to_vec()]);
    let mut at = stack + 8 * 8;
    let mut vector = std::collections::BTreeMap::new();
    while word(&mut machine, space, at) != 0 {
        vector.insert(word(&mut machine, space, at), word(&mut machine, space, at + 8));
        at += 16;
    }
    assert_eq!(text(&mut machine, space, vector[&31]), b"/bin/prog");
    assert_eq!(text(&mut machine, space, vector[&15]), b"x86_64");
    machine.write(space, stack - 9000, 1).unwrap();
    machine.check();
    assert_eq!(try_build(&mut machine, build.clone(), 5).err(), Some(EINVAL), "they are used once");
    machine.destroy(space);
    send(&mut machine, 6, b"a\0", b"");
    assert_eq!(try_build(&mut machine, build, 6).err(), Some(EINVAL), "their number must be right");
    assert_eq!(machine.free(), free);
}

#[test]
fn strings_for_an_exec_that_fails_give_their_frames_back() {
    let mut machine = Machine::new(2000, b"");
    let free = machine.free();
    send(&mut machine, 6, &[b'a'; 8000], b"");
    assert!(machine.free() < free);
    assert_eq!(send(&mut machine, 6, b"", b""), Answer::Done);
    assert_eq!(machine.free(), free);
    send(&mut machine, 7, b"a\0", b"b\0");
    assert_eq!(send(&mut machine, 7, b"a\0", b""), Answer::Failed(EINVAL), "arguments come first");
    assert_eq!(machine.free(), free);
    let pieces =
        (0..).map(|_| send(&mut machine, 8, &[b'a'; 7000], b"")).take_while(|it| *it == Answer::Done);
    assert!((860..920).contains(&pieces.count()), "6 MiB in all");
    assert_eq!(machine.free(), free);
}

#[test]
fn an_executable_stack_can_be_written_and_executed_in_turn() {
    let mut machine = Machine::new(400, b"");
    let code = (LOAD, RX, 0, 0x40_0000, 0x3000, 0x3000, 0x1000);
    let stack_flags = (0x6474_e551, RX | RW, 0, 0, 0, 0, 16);
    let build = request(1, file(2, 0x40_1000, &[code, stack_flags]));
    let Started { space, stack, .. } = try_build(&mut machine, build, 0).unwrap();
    machine.write(space, stack, 0xc3).unwrap();
    machine.access(space, stack, Protection::EXECUTE).unwrap();
    machine.write(space, stack, 0x90).unwrap();
    machine.check();
}
