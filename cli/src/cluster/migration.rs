//! StorageVersionMigrations (`storagemigration.k8s.io`): the cluster's own controller writes every
//! object of a resource again.

use atrest_core::at_rest::GroupResource;
use http::{Request, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_server::{ApiServer, Error};
use super::resource::{ApiResource, find};

const RESOURCE: &str = "storageversionmigrations.storagemigration.k8s.io";

/// A migration of ours.
#[derive(Debug)]
pub(crate) struct Migration {
    /// Where migrations are served.
    api: ApiResource,
    name: String,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MigrationState {
    /// The controller has not begun, or is at work.
    Open,
    Succeeded,
    Failed,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StorageVersionMigration {
    metadata: Metadata,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

impl ApiServer {
    /// Asks for a migration of a resource; `None` where the cluster has no such API.
    pub(crate) async fn migrate(&self, resource: &ApiResource) -> Result<Option<Migration>, Error> {
        let migrations = GroupResource::parse(RESOURCE);
        let Some(api) = find(self, &migrations).await? else {
            return Ok(None);
        };
        let migration = json!({
            "apiVersion": format!("{}/{}", api.group(), api.version()),
            "kind": "StorageVersionMigration",
            "metadata": {"generateName": "atrest-"},
            "spec": {"resource": spec(resource, api.version())},
        });
        let request =
            Request::post(api.list_path()).header(header::CONTENT_TYPE, "application/json");
        let body = migration.to_string().into_bytes();
        let answer = self.send(request, "application/json", body).await?;
        let created: StorageVersionMigration = serde_json::from_slice(&answer)
            .map_err(|_| Error::Garbled("StorageVersionMigration"))?;
        Ok(Some(Migration {
            api,
            name: created.metadata.name,
        }))
    }

    /// How far it is.
    pub(crate) async fn migration(&self, migration: &Migration) -> Result<MigrationState, Error> {
        let path = migration.api.path(None, &migration.name);
        let now: StorageVersionMigration = self.json(&path).await?;
        let conditions = now.status.conditions;
        let has = |what: &str| {
            conditions
                .iter()
                .any(|it| it.r#type == what && it.status == "True")
        };
        Ok(match (has("Failed"), has("Succeeded")) {
            (true, _) => MigrationState::Failed,
            (_, true) => MigrationState::Succeeded,
            _ => MigrationState::Open,
        })
    }

    /// Takes it away again.
    pub(crate) async fn forget(&self, migration: &Migration) -> Result<(), Error> {
        self.delete(&migration.api, None, &migration.name).await
    }
}

/// The first form of the API named a version, too.
fn spec(resource: &ApiResource, version: &str) -> Value {
    let mut spec = json!({"group": resource.group(), "resource": resource.plural()});
    if version == "v1alpha1" {
        spec["version"] = resource.version().into();
    }
    spec
}
