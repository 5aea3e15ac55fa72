//! End to end: our programs against a real kube-apiserver and etcd.

mod control_plane;
mod killed;
mod kms_plugin;
mod refused;
mod rotate;
