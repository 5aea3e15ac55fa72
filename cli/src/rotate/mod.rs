//! Rotation: what acts on the decisions of `atrest_core::rotation`.

pub(crate) mod rewrite;
