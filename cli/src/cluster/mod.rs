//! API servers: how they are reached and what they are asked.

mod api_server;
mod canary;
mod envelope;
mod identity;
mod kubeadm;
mod lease;
mod metadata;
mod metrics;
mod migration;
mod namespace;
mod release;
mod resource;
mod served;
mod webhooks;

pub(crate) use self::api_server::{ApiServer, Error};
pub(crate) use self::kubeadm::KubeadmConfig;
pub(crate) use self::lease::Lease;
pub(crate) use self::metadata::{Object, PAGE, Page};
pub(crate) use self::metrics::{Metrics, Process};
pub(crate) use self::migration::{Migration, MigrationState};
pub(crate) use self::release::{Minor, Version};
pub(crate) use self::resource::{ApiResource, find};
pub(crate) use self::served::{served, stored};
pub(crate) use self::webhooks::{Webhook, webhooks_on_update};
