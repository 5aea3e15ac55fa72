//! Engines that have every stored value written again.

pub(crate) mod api;
