//! The log server as a program.
#![cfg_attr(target_os = "none", no_std, no_main)]

libipc::server_main!(logfile::Logfile);
