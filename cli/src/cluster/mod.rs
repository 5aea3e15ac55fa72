//! API servers: how they are reached and what they are asked.

mod api_server;
mod canary;
mod metadata;
mod resource;
mod served;

pub(crate) use self::api_server::{ApiServer, Error};
pub(crate) use self::metadata::{Object, Page};
pub(crate) use self::resource::{ApiResource, find};
pub(crate) use self::served::served;
