//! Encryption at rest in Kubernetes: formats and decisions.
//!
//! Nothing here does IO, runs async or speaks HTTP: bytes and facts come in, values and decisions
//! go out. Secret bytes live in [`secret`]'s types, which zeroize on drop and print a mask.
#![forbid(unsafe_code)]

pub mod at_rest;
pub mod check;
pub mod encryption_config;
pub mod etcd;
pub mod keyring;
mod page;
pub mod rotation;
pub mod secret;
