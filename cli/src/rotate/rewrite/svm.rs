//! The `svm` engine: hands the work to the cluster's own StorageVersionMigration controller, and
//! believes the census.
//!
//! The controller begins when its cache has seen something newer than the migration, which on an
//! idle cluster takes minutes: a rewrite of ours is what it sees. It calls itself done where an
//! object was in its way, and it stops at the first that cannot be written.

use std::time::{Duration, Instant};

use atrest_core::at_rest::{Census, GroupResource, NotCurrent, ObjectKey};

use super::{Outcome, SetAside};
use crate::cluster::{ApiResource, ApiServer, Error, Migration, MigrationState, Object};
use crate::commands::server_failure;
use crate::etcd::{self, Question};
use crate::report::progress::Progress;
use crate::status::Failure;

/// Between two looks at the migration.
const LOOK: Duration = Duration::from_millis(500);

/// Objects that the controller is woken with, one after the other.
pub(crate) const TO_WAKE: usize = 64;

/// A count of what is done may take this part of the time.
const COUNTING: u32 = 20;

/// Between two writes that the controller's cache is to see.
const NUDGE: Duration = Duration::from_secs(5);

/// What is to be rewritten, and how to know that it is.
pub(crate) struct Task<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) resource: &'a ApiResource,
    pub(crate) name: &'a GroupResource,
    pub(crate) etcd: etcd::Client,
    /// Of this resource alone. What it lists is what the controller is woken with.
    pub(crate) question: Question<'a>,
    pub(crate) progress: &'a Progress,
}

/// Has the controller touch every object of the resource.
pub(crate) async fn rewrite(mut task: Task<'_>) -> Result<Outcome, Failure> {
    let server = task.server;
    let before = etcd::census(&mut task.etcd, &task.question, None).await?;
    if not_current(&before.census) == 0 {
        return Ok(outcome(&task, &before.census, &before.census));
    }
    let migration = match server.migrate(task.resource).await {
        Ok(Some(migration)) => migration,
        Ok(None) => {
            let what = format!("{} serves no storagemigration.k8s.io", server.url());
            return Err(Failure::unusable(what).hint(
                "since 1.37 it is there by default; before, it takes the feature gate \
                 StorageVersionMigrator and --runtime-config; --engine api needs neither",
            ));
        }
        Err(error) => return Err(server_failure(server, &error)),
    };
    let ended = watch(&mut task, &migration, &before.census, before.revision).await;
    // Once it is over it says nothing that the census does not say better.
    let forgotten = server.forget(&migration).await;
    ended?;
    forgotten.map_err(|error| server_failure(server, &error))?;
    let question = Question {
        max_listed: usize::MAX,
        ..task.question
    };
    let after = etcd::census(&mut task.etcd, &question, None).await?;
    Ok(outcome(&task, &before.census, &after.census))
}

/// Until the controller calls it over, well or not. What was written since `begun` counts as done.
async fn watch(
    task: &mut Task<'_>,
    migration: &Migration,
    before: &Census,
    begun: i64,
) -> Result<(), Failure> {
    let server = task.server;
    let total = not_current(before);
    task.progress.expect(total);
    let listed = before.not_current.iter();
    let objects: Vec<_> = listed.filter_map(|value| object(task, value)).collect();
    let mut objects = objects.into_iter();
    let (mut last_nudge, mut next_count, mut done) = (None::<Instant>, Instant::now(), 0);
    loop {
        match server.migration(migration).await {
            Ok(MigrationState::Open) => {}
            Ok(MigrationState::Succeeded | MigrationState::Failed) => return Ok(()),
            // An API server that restarts is no end of the migration.
            Err(Error::Unreachable(_)) => {}
            Err(error) => return Err(server_failure(server, &error)),
        }
        if last_nudge.is_none_or(|at| at.elapsed() > NUDGE) {
            last_nudge = Some(Instant::now());
            // One that is not rewritten is no event: the next one may be.
            for object in objects.by_ref() {
                let touched = server.touch(task.resource, &object).await;
                if touched.is_ok_and(|after| after.resource_version != object.resource_version) {
                    break;
                }
            }
        }
        if Instant::now() > next_count {
            let start = Instant::now();
            let now = written_since(task, begun).await?.min(total);
            (done..now).for_each(|_| task.progress.done());
            done = now.max(done);
            next_count = Instant::now() + start.elapsed() * COUNTING;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn written_since(task: &mut Task<'_>, begun: i64) -> Result<u64, Failure> {
    const KEYS: u32 = 2_000;

    let directory = task.name.directory(task.question.prefix).into_bytes();
    let (mut from, mut written) = (directory.clone(), 0);
    loop {
        let keys = task.etcd.keys(&directory, &from, KEYS).await?;
        written += keys.iter().filter(|key| key.mod_revision > begun).count() as u64;
        match keys.last() {
            Some(last) => from = [&last.key[..], b"\0"].concat(),
            None => return Ok(written),
        }
    }
}

fn not_current(census: &Census) -> u64 {
    census.total() - census.settled()
}

fn outcome(task: &Task<'_>, before: &Census, after: &Census) -> Outcome {
    let left = not_current(after);
    let mut set_aside: Vec<_> = after
        .not_current
        .iter()
        .filter_map(|value| object(task, value))
        .map(|object| SetAside {
            namespace: object.namespace,
            name: object.name,
            reason: "the controller left it behind".into(),
        })
        .collect();
    set_aside.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Outcome {
        rewritten: not_current(before).saturating_sub(left),
        current: before.settled(),
        gone: before.total().saturating_sub(after.total()),
        set_aside,
        was_cut_short: false,
    }
}

fn object(task: &Task<'_>, value: &NotCurrent) -> Option<Object> {
    let directory = task.name.directory(task.question.prefix);
    let key = ObjectKey::parse(value.key.strip_prefix(directory.as_bytes())?)?;
    Some(Object {
        namespace: key.namespace,
        name: key.name,
        resource_version: value.mod_revision.to_string(),
        is_applied: false,
    })
}
