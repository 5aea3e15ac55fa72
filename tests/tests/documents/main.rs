//! What the documents say is so: links, command lines, versions, names of tests, samples.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test

mod commands;
mod findings;
mod links;
mod markdown;
mod rotation;
mod samples;
mod specification;
mod versions;
