//! StorageVersionMigrations (`storagemigration.k8s.io`): the cluster's own controller writes every
//! object of a resource again.

use http::{Request, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_server::{ApiServer, Error};
use super::resource::ApiResource;

const GROUP: &str = "/apis/storagemigration.k8s.io";

/// A migration of ours.
#[derive(Debug)]
pub(crate) struct Migration {
    /// Of the collection.
    path: String,
    pub(crate) name: String,
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
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            preferred_version: Version,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            group_version: String,
            version: String,
        }

        let group: Group = match self.json(GROUP).await {
            Ok(group) => group,
            Err(error) if error.code() == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Version {
            group_version,
            version,
        } = group.preferred_version;
        let path = format!("/apis/{group_version}/storageversionmigrations");
        let migration = json!({
            "apiVersion": group_version,
            "kind": "StorageVersionMigration",
            "metadata": {"generateName": "atrest-"},
            "spec": {"resource": spec(resource, &version)},
        });
        let request = Request::post(&path).header(header::CONTENT_TYPE, "application/json");
        let body = migration.to_string().into_bytes();
        let answer = self.send(request, "application/json", body).await?;
        let created: StorageVersionMigration = serde_json::from_slice(&answer)
            .map_err(|_| Error::Garbled("StorageVersionMigration"))?;
        Ok(Some(Migration {
            path,
            name: created.metadata.name,
        }))
    }

    /// How far it is.
    pub(crate) async fn migration(&self, migration: &Migration) -> Result<MigrationState, Error> {
        let Migration { path, name } = migration;
        let now: StorageVersionMigration = self.json(&format!("{path}/{name}")).await?;
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
        let Migration { path, name } = migration;
        let request = Request::delete(format!("{path}/{name}"));
        self.send(request, "application/json", Vec::new())
            .await
            .map(|_| ())
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
