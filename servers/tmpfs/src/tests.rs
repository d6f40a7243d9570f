//! The server as programs and vfs see it, driven event by event on the host.

mod calls;
mod devices;
mod files;
mod locks;
mod model;
mod names;
mod paging;
mod pipes;
mod queue;
mod sockets;
mod world;
