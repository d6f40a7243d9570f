//! What every server answers through its shell, for those who look after the system.

/// The digest of the server's state, taken when the question is served: answer word 0. The answer is in the server's
/// journal, so a replay of the journal checks it.
pub const DIGEST: u32 = 0xf000;
/// What root told the server at its start: the answer's payload is its [`Boot`](crate::server::Boot) in postcard
/// form.
pub const BOOT: u32 = 0xf001;
