//! A bug on purpose: a host name that this server cannot bear. It shows what becomes of an event that kills its server
//! each time, and is there to be found with the tools that Naiad has. Only builds with the feature `seeded-bug` have
//! it.

/// sethostname(2) of `panic` panics, and of `spin` never ends. Whether the name is one that is `lost`.
pub(crate) fn trip_over(name: &[u8]) -> bool {
    match name {
        b"panic" => panic!("a host is called panic"),
        b"spin" => loop {
            core::hint::spin_loop();
        },
        name => name == b"lost",
    }
}
