//! The program as an operator and kube-apiserver see it: its command line and its socket.

mod folder;
mod keyring;
mod plugin;
mod serve;
mod socket;
