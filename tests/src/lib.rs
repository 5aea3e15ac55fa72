//! The real control plane for tests: programs built from upstream's Go modules, as plain processes
//! on loopback or as kubeadm nodes in network namespaces of their own; and upstream's code as the judge
//! of configurations.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr)] // a harness talks on stderr
#![allow(clippy::disallowed_methods)] // the bans are about files of users, not those of a test

pub mod atrest;
pub mod binaries;
pub mod etcd;
pub mod issuer;
pub mod judge;
pub mod keeper;
pub mod kubeadm;
pub mod memory_image;
pub mod nodes;
pub mod packages;
pub mod planted;
pub mod plugin;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod schema;
pub mod secrets;
pub mod ssh;
pub mod stored_values;
pub mod transformer;
