//! The names of sockets: calls that the server of a socket hands up because there is a path in them.
//!
//! bind(2) makes a node, the others look one up. With the node's identity the program goes back to where it came from.

use alloc::{boxed::Box, vec::Vec};

use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::mode::S_IFSOCK;
use libipc::linux::{Stat, mode};
use libipc::proto::fs::{self, Operation, SocketPlace};
use libipc::server::files::{W_OK, permits, strip_slashes};
use libipc::server::{Effect, Effects, Env, Message, Refusal};

use super::Args;
use crate::Vfs;
use crate::row::{Named, Purpose, Row, Target};

/// The server that has the sockets with such names.
const SERVER: &str = "tmpfs";
/// Bytes of the family before the path in `struct sockaddr_un`.
const FAMILY: usize = 2;
/// Longest address that is looked at (sockaddr_storage).
const ADDRESS_MAX: u32 = 128;

impl Vfs {
    /// Takes a call with a socket's name.
    pub(crate) fn socket_name(&mut self, args: &Args<'_>, env: &mut dyn Env) -> Result<Effects, i32> {
        let address = match address(args, env) {
            Ok(address) => address,
            Err(Refusal::Again) => return Ok(Effects::again()),
            Err(Refusal::Errno(errno)) => return Err(errno),
        };
        let path: Vec<u8> = address.into_iter().skip(FAMILY).take_while(|byte| *byte != 0).collect();
        if path.is_empty() {
            return Err(EINVAL);
        }
        let at = if path.starts_with(b"/") { args.who.root.place } else { args.who.cwd };
        let target = Target { at, path: strip_slashes(&path).to_vec() };
        let binds = args.foreign.number == number::BIND;
        let operation = match binds {
            true => Operation::MakeNode { mode: S_IFSOCK | 0o777, device: 0 },
            false => Operation::Stat,
        };
        let named = Named { number: args.foreign.number, arguments: args.foreign.arguments, path };
        Ok(self.advance(args.row(&target, !binds, operation, Purpose::Socket(Box::new(named)))))
    }

    /// The name is made or found: the program goes back with it.
    pub(crate) fn socket_found(&mut self, row: Row, named: Named, stat: &Stat) -> Effects {
        let (Some(call), Some(server)) = (row.call, self.server(SERVER)) else { return self.fail(row, EIO) };
        if named.number != number::BIND {
            if !permits(stat.mode, stat.uid, stat.gid, &row.who.credentials(), W_OK) {
                return self.fail(row, EACCES);
            }
            if !stat.is(mode::S_IFSOCK) {
                return self.fail(row, ECONNREFUSED);
            }
        }
        let Named { number, arguments, path } = named;
        let place = SocketPlace { number, arguments, path, device: stat.dev, node: stat.ino };
        let message = Message::typed(fs::SOCKET_PLACE, &place);
        Effects::one(Effect::Forward { call, to: server, message })
    }
}

/// The address in a call's arguments.
fn address(args: &Args<'_>, env: &mut dyn Env) -> Result<Vec<u8>, Refusal> {
    if args.foreign.number != number::SENDMSG {
        return Ok(args.input(0).ok_or(EFAULT)?.to_vec());
    }
    let (words, _) = args.input(0).ok_or(EFAULT)?.as_chunks::<8>();
    let [address, length, ..] = words else { return Err(Refusal::Errno(EFAULT)) };
    let [address, length] = [*address, *length].map(u64::from_le_bytes);
    Ok(env.read_user(args.call.id, address, (length as u32).min(ADDRESS_MAX))?)
}
