//! Upgrades, as far as root sees to them: which image may take the place of which, where images lie, and how one is put
//! in the place of another. What the server does meanwhile is the kernel's (`core/upgrade.rs`).
//!
//! All of it happens while the server is stopped, and root is journaled: one that dies in the middle goes on there. The
//! old image stays where it is until the new one has taken over.

use alloc::{format, vec::Vec};

use libipc::abi::upgrade::{ImageFigures, Stage, Step, Verdict};
use libipc::abi::{Frame, Handle, KernelError, PAGE_SIZE};
use libipc::server::boot::IMAGE_BYTES;
use libipc::server::effect::PageMap;
use libipc::server::image::Note;
use libipc::sys::Traps;
use serde::{Deserialize, Serialize};

use crate::image::{Identity, Image, Part, copied_pages};
use crate::kernel::{Kernel, READ_WRITE};
use crate::policy::History;
use crate::supervise::{Charge, State};

/// Most bytes of a file: what is loaded, and its headers.
const FILE_BYTES_MAX: u64 = IMAGE_BYTES + PAGE_SIZE;

/// A part of an image, and its memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Placed {
    /// The part.
    pub part: Part,
    /// Its first page in the file.
    pub source: Frame,
    /// Its first page in the server: of the file, or of a copy.
    pub frames: Frame,
}

/// An image that a server can run in: all of its memory is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Installed {
    /// Where it starts.
    pub entry: u64,
    /// What it says of itself.
    pub identity: Identity,
    /// Its parts.
    pub parts: Vec<Placed>,
    /// Its place in the memory for images: first frame and count. None is taken by one from the boot archive.
    area: Option<(Frame, u32)>,
}

impl Installed {
    /// An image whose file begins at a frame, with so many frames for copies, as [`Image::copied_pages`] says, from
    /// another on.
    pub fn new(image: &Image, file: Frame, copies: Frame) -> Installed {
        let place = |part: &Part| {
            let source = Frame(file.0 + part.file_page);
            Placed { part: *part, source, frames: source }
        };
        let parts = image.parts.iter().map(place).collect();
        let identity = image.identity.clone();
        Installed { entry: image.entry, identity, parts, area: None }.with_copies(copies)
    }

    /// The same, with other frames for copies.
    fn with_copies(&self, copies: Frame) -> Installed {
        let (mut image, mut next) = (self.clone(), copies.0);
        for Placed { part, frames, .. } in image.parts.iter_mut().filter(|placed| placed.part.is_copied()) {
            *frames = Frame(next);
            next += part.pages;
        }
        image
    }

    /// Pages of copies that it needs.
    fn copied_pages(&self) -> u32 {
        copied_pages(self.parts.iter().map(|placed| &placed.part))
    }

    /// What the kernel is told of it.
    pub fn figures(&self) -> ImageFigures {
        let pages = self.parts.iter().map(|placed| placed.part.pages).sum();
        ImageFigures { schema: self.identity.schemas.0, pages }
    }
}

/// Fills the copy of a part as the file says.
pub fn fill<T: Traps>(
    kernel: &mut Kernel<T>,
    Placed { part, source, frames }: &Placed,
) -> Result<(), KernelError> {
    kernel.zero(*frames, part.pages)?;
    for page in 0..part.file_pages() {
        kernel.copy(Frame(source.0 + page), Frame(frames.0 + page))?;
    }
    // Behind the part's end there may be more in the file.
    let end = part.file_bytes % PAGE_SIZE as u32;
    if end == 0 {
        return Ok(());
    }
    let rest = alloc::vec![0; PAGE_SIZE as usize - end as usize];
    kernel.write(Frame(frames.0 + part.file_pages() - 1), end, &rest)
}

/// Takes one image out of a stopped server, and puts another in.
fn exchange<T: Traps>(
    kernel: &mut Kernel<T>,
    (space, task): (Handle, Handle),
    out: &Installed,
    into: &Installed,
) -> Result<(), KernelError> {
    for Placed { part, .. } in &out.parts {
        kernel.unmap(space, part.address, part.pages)?;
        if part.is_copied() {
            kernel.forget_segment(task, part.address)?;
        }
    }
    for placed @ Placed { part, source, frames } in &into.parts {
        let mut protection = part.protection;
        if part.is_copied() {
            fill(kernel, placed)?;
            kernel.segment(task, part.address, part.pages, *source, part.file_bytes)?;
            protection = READ_WRITE;
        }
        let page = |number: u32| PageMap {
            address: part.address + u64::from(number) * PAGE_SIZE,
            frame: Frame(frames.0 + number),
            protection,
        };
        let pages: Vec<PageMap> = (0..part.pages).map(page).collect();
        kernel.map(space, &[], &pages)?;
    }
    Ok(())
}

impl State {
    /// So many frames in one piece of the memory for images.
    fn room(&self, wanted: u32) -> Option<Frame> {
        let images = self.servers.iter().flat_map(|server| [Some(&server.image), server.other.as_ref()]);
        let mut taken: Vec<(Frame, u32)> = images.flatten().filter_map(|image| image.area).collect();
        taken.sort_unstable();
        let (Frame(mut at), count) = self.images;
        let end = at + count;
        for (Frame(first), count) in taken {
            if first - at >= wanted {
                break;
            }
            at = first + count;
        }
        (end - at >= wanted).then_some(Frame(at))
    }

    /// The image that was handed in for a server, in memory of its own.
    fn take_in<T: Traps>(&self, kernel: &mut Kernel<T>, server: &Charge) -> Result<Installed, Verdict> {
        let refused = |_: KernelError| Verdict::Failed;
        let bytes = kernel.upgrade_bytes(server.task);
        if bytes == 0 {
            return self.take_booted(server);
        }
        if bytes > FILE_BYTES_MAX {
            return Err(Verdict::TooLarge);
        }
        let scratch = self.room(1).ok_or(Verdict::NoRoom)?;
        let mut page = |number: u64| {
            kernel.upgrade_image(number * PAGE_SIZE, scratch, 1)?;
            kernel.read(scratch, PAGE_SIZE as u32)
        };
        let mut first = page(0).map_err(refused)?;
        let image = Image::of_file(&mut first, bytes, |offset| {
            let place = (offset % PAGE_SIZE) as usize;
            Note::read(page(offset / PAGE_SIZE).ok()?.get(place..)?)
        })?;
        image.identity.check_successor_of(&server.image.identity)?;
        let pages = bytes.div_ceil(PAGE_SIZE) as u32;
        let wanted = pages + image.copied_pages();
        let file = self.room(wanted).ok_or(Verdict::NoRoom)?;
        kernel.take_image(file, pages).map_err(refused)?;
        let installed = Installed::new(&image, file, Frame(file.0 + pages));
        Ok(Installed { area: Some((file, wanted)), ..installed })
    }

    /// The image that a server booted from.
    fn take_booted(&self, server: &Charge) -> Result<Installed, Verdict> {
        server.booted.identity.check_successor_of(&server.image.identity)?;
        let wanted = server.booted.copied_pages();
        let copies = self.room(wanted).ok_or(Verdict::NoRoom)?;
        Ok(Installed { area: Some((copies, wanted)), ..server.booted.with_copies(copies) })
    }

    /// Goes on with the upgrade of a server, as far as it has come.
    pub(crate) fn upgrade<T: Traps>(&mut self, kernel: &mut Kernel<T>, index: usize, stage: Stage) {
        if stage == Stage::Asked {
            let taken = self.take_in(kernel, &self.servers[index]);
            let server = &mut self.servers[index];
            match taken {
                Ok(image) => {
                    server.other = Some(image);
                    if kernel.upgrade_step(Step::Save) == Ok(Some(Stage::Stopped)) {
                        try_other(kernel, server);
                    }
                }
                Err(verdict) => end(kernel, server, verdict),
            }
            return;
        }
        let server = &mut self.servers[index];
        match stage {
            Stage::Stopped => try_other(kernel, server),
            Stage::Live => {
                // What is known of the old image says nothing of the new one.
                server.history = History::default();
                end(kernel, server, Verdict::Done);
            }
            Stage::Failed => go_back(kernel, server),
            Stage::Asked | Stage::Saving | Stage::Trial => {}
        }
    }
}

/// The image in waiting takes the place of the other, on trial.
fn try_other<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge) {
    let Some(new) = server.other.take() else { return };
    let done = exchange(kernel, (server.space, server.task), &server.image, &new);
    server.other = Some(core::mem::replace(&mut server.image, new));
    let tried = done.and_then(|()| kernel.upgrade_step(Step::Try));
    match tried.and_then(|_| kernel.restart(server.task, server.image.entry)) {
        Ok(()) => (server.due_ns, server.gone) = (None, false),
        Err(_) => go_back(kernel, server),
    }
}

/// The new image has failed: the old one goes on where it stood.
fn go_back<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge) {
    let Some(old) = server.other.take() else { return };
    let done = exchange(kernel, (server.space, server.task), &server.image, &old);
    server.image = old;
    end(kernel, server, Verdict::Failed);
    if let Err(error) = done.and_then(|()| kernel.restart(server.task, server.image.entry)) {
        kernel.log(&format!("root: {} cannot be seen to: {error}\n", server.name));
    }
}

/// The upgrade is over: only the image that the server runs in is kept.
fn end<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge, verdict: Verdict) {
    server.other = None;
    let _ = kernel.upgrade_step(Step::End(verdict, server.image.figures()));
    kernel.log(&format!("root: upgrade of {} {verdict}\n", server.name));
}
