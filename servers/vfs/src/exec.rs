//! exec: finding the program, its interpreter if it is a script, and its dynamic linker, and handing all to proc.
//!
//! vfs opens the files and reads their first bytes; whether an image can run is for proc and vm to judge. The
//! program's call is forwarded to proc with what was found, and proc's answer goes straight to the program.

use alloc::{boxed::Box, format, vec, vec::Vec};

use libipc::abi::Handle;
use libipc::abi::PAYLOAD_MAX;
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::linux::{Stat, mode};
use libipc::proto::fs::{self, Found, Operation};
use libipc::proto::process::{self, Exec};
use libipc::server::files::{X_OK, permits};
use libipc::server::{Effect, Effects, Message};

use crate::calls::{AT, Args, PLAIN};
use crate::image::{HEADER_BYTES, Image, linker_path, recognise};
use crate::row::{ExecStage, Expects, Outcome, Program, Purpose, Row, Spawn, Target, Wanted};
use crate::walk::{Aim, Walk};
use crate::who::Who;
use crate::{Vfs, close_all};

/// Most interpreters of scripts, one naming the next.
const LEVELS_MAX: u32 = 4;
/// How a file is opened to be executed: nobody writes it, and a FIFO must not wait for its other end.
const EXEC_FLAGS: u32 = O_RDONLY | O_NONBLOCK | O_RUNS;

impl Vfs {
    /// execve(2) and execveat(2).
    pub(crate) fn exec(&mut self, args: &Args<'_>) -> Result<Effects, i32> {
        let at = args.foreign.number == 322;
        let flags = if at { args.word(4) } else { 0 };
        if flags & !u64::from(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) & 0xffff_ffff != 0 {
            return Err(EINVAL);
        }
        let path = if at { AT.flags(flags) } else { PLAIN };
        let target = args.target(path)?;
        let given = args.input(0).unwrap_or_default();
        let descriptor = at && !given.starts_with(b"/") && args.int(0) as i32 != AT_FDCWD;
        let filename = match (descriptor, given) {
            (false, given) => given.to_vec(),
            (true, []) => format!("/dev/fd/{}", args.int(0)).into_bytes(),
            (true, given) => [format!("/dev/fd/{}/", args.int(0)).as_bytes(), given].concat(),
        };
        let first = if at { 2 } else { 1 };
        let exec = Exec { argv: args.word(first), envp: args.word(first + 1), filename, ..Exec::default() };
        let program = Program::new(exec);
        let follow = flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0;
        let mut row = args.row(&target, follow, open_to_execute(), Purpose::Nothing);
        if given.starts_with(b"/") {
            row.walk.trail = Some(b"/".to_vec());
        } else if !given.is_empty() {
            // Where the path begins must be known for /proc/PID/exe.
            return Ok(self.locate(row, Wanted::Exec(Box::new(program), target)));
        }
        row.purpose = Purpose::Exec(Box::new(program));
        Ok(self.advance(row))
    }

    /// Begins the walk to a program once it is known where its path begins.
    pub(crate) fn exec_from(
        &mut self,
        mut row: Row,
        program: Box<Program>,
        target: &Target,
        trail: Option<Vec<u8>>,
    ) -> Effects {
        row.walk = Walk::new(target.at, &target.path, row.walk.follow, Aim::Do(open_to_execute()));
        row.walk.trail = trail;
        row.purpose = Purpose::Exec(program);
        self.advance(row)
    }

    /// Finds the program of the first session.
    pub(crate) fn exec_first(&mut self, who: Who, path: &[u8]) -> Effects {
        let exec = Exec { filename: path.to_vec(), ..Exec::default() };
        let mut walk = Walk::new(who.root.place, path, true, Aim::Do(open_to_execute()));
        walk.trail = Some(b"/".to_vec());
        let purpose = Purpose::Exec(Box::new(Program::new(exec)));
        self.advance(Row { call: None, who, walk, expects: Expects::Found, purpose })
    }

    /// Goes on with an exec: a file was opened, or its bytes have come.
    pub(crate) fn exec_step(
        &mut self,
        mut row: Row,
        mut program: Program,
        outcome: Outcome,
        handle: Option<Handle>,
    ) -> Effects {
        match (outcome, handle, program.file) {
            (Outcome::Found(Found::Opened { stat, .. }), Some(file), None) => {
                program.file = Some(file);
                match program.check(&stat, &row.who) {
                    Ok(()) => self.read_file(row, program, 0..HEADER_BYTES),
                    Err(errno) => {
                        row.purpose = Purpose::Exec(Box::new(program));
                        self.fail(row, errno)
                    }
                }
            }
            (Outcome::Bytes(object, bytes), None, Some(file)) => {
                self.exec_bytes(row, program, file, object, bytes)
            }
            // A device node is no program.
            (_, handle, _) => {
                row.purpose = Purpose::Exec(Box::new(program));
                let mut effects = self.fail(row, EACCES);
                close_all(&mut effects, handle.as_slice());
                effects
            }
        }
    }

    fn read_file(&mut self, mut row: Row, program: Program, range: core::ops::Range<u64>) -> Effects {
        let Some(file) = program.file else { return self.fail(row, EIO) };
        row.expects = Expects::Bytes;
        row.purpose = Purpose::Exec(Box::new(program));
        self.send(row, file, Message::words(fs::READ_AT, [range.start, range.end - range.start, 0, 0]))
    }

    fn exec_bytes(
        &mut self,
        mut row: Row,
        mut program: Program,
        file: Handle,
        object: u64,
        bytes: Vec<u8>,
    ) -> Effects {
        let server = u64::from(row.walk.at.server);
        // A server that does not tell its object has nothing better than the inode number.
        let object = if object == 0 { program.inode } else { object };
        let image = match program.stage {
            ExecStage::LinkerPath => linker_path(&bytes).map(Next::Linker),
            ExecStage::Program => {
                program.exec.file = (server, object);
                recognise(&bytes).and_then(|image| program.take_image(image, &bytes))
            }
            ExecStage::Linker => recognise(&bytes).and_then(|image| match image {
                Image::Elf { headers, .. } => {
                    program.exec.interpreter = Some(((server, object), first(&bytes, headers)));
                    Ok(Next::Ready)
                }
                Image::Script { .. } => Err(ENOEXEC),
            }),
        };
        if program.stage == ExecStage::Program && image.is_ok() {
            program.exec.path = row.walk.full_path().unwrap_or_else(|| program.exec.filename.clone());
        }
        match image {
            Err(errno) => {
                row.purpose = Purpose::Exec(Box::new(program));
                self.fail(row, errno)
            }
            Ok(Next::Ready) => self.exec_ready(row, program, file),
            Ok(Next::LinkerPath(range)) => {
                program.stage = ExecStage::LinkerPath;
                self.read_file(row, program, range)
            }
            Ok(Next::Linker(path)) => {
                program.stage = ExecStage::Linker;
                program.program = program.file.take();
                self.exec_open(row, program, &path)
            }
            Ok(Next::Script(path)) => {
                program.file = None;
                let mut effects = Effects::none();
                close_all(&mut effects, &[file]);
                effects.append(self.exec_open(row, program, &path));
                effects
            }
        }
    }

    /// Walks to an interpreter or a dynamic linker.
    fn exec_open(&mut self, mut row: Row, program: Program, path: &[u8]) -> Effects {
        let absolute = path.starts_with(b"/");
        let at = if absolute { row.who.root.place } else { row.who.cwd };
        row.walk = Walk::new(at, path, true, Aim::Do(open_to_execute()));
        row.walk.trail = absolute.then(|| b"/".to_vec());
        row.purpose = Purpose::Exec(Box::new(program));
        self.advance(row)
    }

    /// All is found: proc takes over.
    fn exec_ready(&mut self, mut row: Row, program: Program, file: Handle) -> Effects {
        let handles = program.program.map_or_else(|| vec![file], |program| vec![program, file]);
        let message = Message::typed(process::EXEC, &program.exec).with_handles(&handles);
        let Some(call) = row.call else {
            let handles = vec![program.program.unwrap_or(file), file];
            return self.spawn_open(row, Spawn { exec: program.exec, handles });
        };
        let Some(proc) =
            self.server("proc").filter(|_| message.payload.len() as u64 <= u64::from(PAYLOAD_MAX))
        else {
            row.purpose = Purpose::Exec(Box::new(program));
            return self.fail(row, E2BIG);
        };
        let mut effects = Effects::one(Effect::Forward { call, to: proc, message });
        close_all(&mut effects, &handles);
        effects
    }
}

/// What an image asks for next.
enum Next {
    /// Nothing: the exec is complete.
    Ready,
    /// Another program in its place, and the prefix of its arguments.
    Script(Vec<u8>),
    /// Its dynamic linker's path, which stands there in the file.
    LinkerPath(core::ops::Range<u64>),
    /// Its dynamic linker.
    Linker(Vec<u8>),
}

impl Program {
    fn new(exec: Exec) -> Program {
        Program { exec, stage: ExecStage::Program, level: 0, inode: 0, file: None, program: None }
    }

    /// Whether the file may be executed; notes what exec does with its mode.
    fn check(&mut self, stat: &Stat, who: &Who) -> Result<(), i32> {
        if !stat.is(mode::S_IFREG) || !permits(stat.mode, stat.uid, stat.gid, &who.credentials(), X_OK) {
            return Err(EACCES);
        }
        if self.stage == ExecStage::Program {
            const GROUP_EXECUTE: u32 = 0o010;
            let set_gid = mode::S_ISGID | GROUP_EXECUTE;
            self.exec.set_uid = (stat.mode & mode::S_ISUID != 0).then_some(stat.uid);
            self.exec.set_gid = (stat.mode & set_gid == set_gid).then_some(stat.gid);
        }
        self.inode = stat.ino;
        Ok(())
    }

    fn take_image(&mut self, image: Image, bytes: &[u8]) -> Result<Next, i32> {
        match image {
            Image::Script { interpreter, argument } => {
                self.level += 1;
                if self.level > LEVELS_MAX {
                    return Err(ELOOP);
                }
                let script = core::mem::take(&mut self.exec.prefix);
                let script = if script.is_empty() { vec![self.exec.filename.clone()] } else { script };
                let interpreter_first = core::iter::once(interpreter.clone());
                self.exec.prefix = interpreter_first.chain(argument).chain(script).collect();
                Ok(Next::Script(interpreter))
            }
            Image::Elf { headers, interpreter } => {
                self.exec.header = first(bytes, headers);
                Ok(match interpreter {
                    None => Next::Ready,
                    Some(range) => match slice(bytes, &range) {
                        Some(path) => Next::Linker(linker_path(path)?),
                        None => Next::LinkerPath(range),
                    },
                })
            }
        }
    }
}

fn open_to_execute() -> Operation {
    Operation::Open { flags: EXEC_FLAGS, mode: 0 }
}

fn first(bytes: &[u8], count: u64) -> Vec<u8> {
    bytes.iter().copied().take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
}

fn slice<'a>(bytes: &'a [u8], range: &core::ops::Range<u64>) -> Option<&'a [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}
