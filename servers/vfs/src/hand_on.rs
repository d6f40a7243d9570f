//! Programs that are handed on: most calls with a path are answered by the file server at the end of the walk, not by
//! vfs. What vfs would have to remember meanwhile travels with the call as a ticket, and comes back with it when the
//! walk leaves the file server before its end.

use libipc::linux::errno::EIO;
use libipc::proto::fs::{Answer, Found, From, Operation, Program, Request, TICKET_WORDS, Wants};
use libipc::server::{Call, Effects, Message};

use crate::Vfs;
use crate::row::{Expects, Outcome, Purpose, Row};
use crate::settle::value;
use crate::walk::{Aim, Limits, Walk};
use crate::who::{Place, RootDirectory, RootNode, Who};

/// Where the parts of a ticket's first word stand: links, stops, limits, the kinds of the root directory's place and
/// node. Its low half is the server of the root directory.
const LINKS_SHIFT: u32 = 32;
const STOPS_SHIFT: u32 = 40;
const NO_LINKS: u64 = 1 << 56;
const NO_CROSSING: u64 = 1 << 57;
const ROOT_SESSION: u64 = 1 << 58;
const ROOT_NODE: u64 = 1 << 59;
const ROOT_NAMESPACE: u64 = 1 << 60;
const ROOT_KNOWN: u64 = 1 << 61;

impl Vfs {
    /// What the file server answers the program of a row, if it can.
    pub(crate) fn program_of(&self, row: &Row) -> Option<Program> {
        let wants = match row.purpose {
            Purpose::Nothing => Wants::Nothing,
            Purpose::Stat(address) => Wants::Stat(address),
            Purpose::StatX(address) => Wants::StatX(address),
            Purpose::Open { slot, .. } => Wants::Descriptor(slot),
            _ => return None,
        };
        let whole = matches!(row.walk.aim, Aim::Do(_)) && row.walk.trail.is_none() && row.call.is_some();
        (whole && self.answering.contains(&row.walk.at.server))
            .then(|| Program { wants, ticket: ticket(row) })
    }

    /// Goes on with a program whose walk comes back from a file server.
    pub(crate) fn handed_back(&mut self, call: &Call, message: &Message) -> Effects {
        let Ok((request, why)) = Request::from_handed_back(message) else {
            return value(call.id, -i64::from(EIO));
        };
        let Some(row) = row_of(call, request) else { return value(call.id, -i64::from(EIO)) };
        match why {
            Answer::Stopped(stop) => self.stopped(row, &stop),
            Answer::Found(found @ Found::Device { .. }) => self.settle(row, Ok(Outcome::Found(found)), None),
            Answer::Found(_) => self.fail(row, EIO),
            Answer::Failed(errno) => self.fail(row, errno),
        }
    }
}

/// What has to be known of a row besides the request made of it.
fn ticket(row: &Row) -> [u64; TICKET_WORDS] {
    let RootDirectory { place, object, node } = row.who.root;
    let Walk { limits, links, stops, .. } = row.walk;
    let (kind, root) = match place.from {
        From::Root(volume) => (0, u64::from(volume)),
        From::Node(number) => (ROOT_NODE, number),
        From::Session(badge) => (ROOT_SESSION, badge.0),
    };
    let (known, node) = match node {
        RootNode::Unknown => (0, 0),
        RootNode::Namespace => (ROOT_NAMESPACE, 0),
        RootNode::Node(node) => (ROOT_KNOWN, node),
    };
    let mut first = u64::from(place.server) | u64::from(links) << LINKS_SHIFT | kind | known;
    first |= u64::from(stops) << STOPS_SHIFT;
    for (set, flag) in [(limits.no_links, NO_LINKS), (limits.no_crossing, NO_CROSSING)] {
        first |= if set { flag } else { 0 };
    }
    [first, root, object, node, u64::from(row.walk.at.server)]
}

/// The row that a ticket stands for.
fn row_of(call: &Call, request: Request) -> Option<Row> {
    let Program { wants, ticket } = request.program?;
    let [first, root, object, node, server] = ticket;
    let place = Place {
        server: first as u32,
        from: match () {
            () if first & ROOT_SESSION != 0 => From::Session(libipc::abi::Badge(root)),
            () if first & ROOT_NODE != 0 => From::Node(root),
            () => From::Root(u32::try_from(root).ok()?),
        },
    };
    let node = match () {
        () if first & ROOT_NAMESPACE != 0 => RootNode::Namespace,
        () if first & ROOT_KNOWN != 0 => RootNode::Node(node),
        () => RootNode::Unknown,
    };
    let purpose = match (wants, &request.operation) {
        (Wants::Nothing, _) => Purpose::Nothing,
        (Wants::Stat(address), _) => Purpose::Stat(address),
        (Wants::StatX(address), _) => Purpose::StatX(address),
        (Wants::Descriptor(slot), Operation::Open { flags, .. }) => Purpose::Open { flags: *flags, slot },
        (Wants::Descriptor(_), _) => return None,
    };
    let walk = Walk {
        at: Place { server: u32::try_from(server).ok()?, from: request.from },
        path: request.path,
        follow: request.follow,
        aim: Aim::Do(request.operation),
        limits: Limits { no_links: first & NO_LINKS != 0, no_crossing: first & NO_CROSSING != 0 },
        trail: None,
        links: (first >> LINKS_SHIFT) as u32 & 0xff,
        stops: (first >> STOPS_SHIFT) as u32 & 0xffff,
    };
    let root = RootDirectory { place, object, node };
    let who = Who { caller: call.caller, groups: request.credentials.groups, cwd: place, root };
    Some(Row { call: Some(call.id), who, walk, expects: Expects::Found, purpose })
}
