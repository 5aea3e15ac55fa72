//! End to end: our programs against a real kube-apiserver and etcd.
#![allow(clippy::unwrap_used)] // clippy takes only #[test] functions for tests
#![allow(clippy::disallowed_methods)] // the bans are about files of users, not those of a test

mod api_engine;
mod api_proof;
mod at_rest;
mod before_hashes;
mod blind;
mod canaries;
mod certificate;
mod check;
mod compromised;
mod control_plane;
mod etcd_engine;
mod etcd_releases;
mod generate;
mod history;
mod html_report;
mod keeping;
mod killed;
mod kinds;
mod kms_clients;
mod kms_memory;
mod kms_plugin;
mod kms_restarts;
mod kms_retire;
mod kms_systemd;
mod lints;
mod no_server;
mod operators;
mod outlived;
mod preflight;
mod rbac;
mod reencrypt;
mod refused;
mod rotate;
mod servers;
mod several_servers;
mod single_values;
mod soak;
mod svm_engine;
mod traps;
mod wildcards;
