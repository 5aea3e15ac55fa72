//! The `api` engine: pages of metadata, an empty merge patch for each object.
//!
//! The API server writes an object again if, and only if, its stored value is stale; then its
//! resourceVersion moves (`k8s.io/apiserver` `pkg/storage/etcd3/store.go`, `GuaranteedUpdate`).

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Outcome, Pace, SetAside};
use crate::cluster::{ApiResource, ApiServer, Error, Object};
use crate::report::progress::Progress;

/// Times that one object is tried before it is set aside.
pub(crate) const TRIES: u32 = 6;

/// The first pause after an error of the server; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

enum Fate {
    Current,
    Gone,
    Rewritten,
    SetAside(SetAside),
}

impl Fate {
    fn count(self, outcome: &mut Outcome) {
        match self {
            Self::Rewritten => outcome.rewritten += 1,
            Self::Current => outcome.current += 1,
            Self::Gone => outcome.gone += 1,
            Self::SetAside(set_aside) => outcome.set_aside.push(set_aside),
        }
    }
}

/// Touches every object of the resource.
pub(crate) async fn rewrite(
    server: &ApiServer,
    resource: &ApiResource,
    pace: Pace,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let interval = pace.rate.map(|rate| Duration::from_secs(1) / rate);
    let start = Instant::now();
    objects(server, resource, progress)
        .enumerate()
        .map(|(i, object)| async move {
            let object = object?;
            if let Some(interval) = interval {
                let due = start + interval * u32::try_from(i).unwrap_or(u32::MAX);
                tokio::time::sleep_until(due.into()).await;
            }
            let fate = touch(server, resource, object).await;
            progress.done();
            Ok(fate)
        })
        .buffer_unordered(pace.in_flight.into())
        .try_fold(Outcome::default(), |mut outcome, fate| async move {
            fate.count(&mut outcome);
            Ok(outcome)
        })
        .await
}

/// Every object, page by page; memory holds a page.
fn objects<'a>(
    server: &'a ApiServer,
    resource: &'a ApiResource,
    progress: &'a Progress,
) -> impl futures::Stream<Item = Result<Object, Error>> + 'a {
    enum Next {
        First,
        Token(String),
        End,
    }
    let pages = stream::try_unfold((Next::First, 0), move |(next, expected)| async move {
        let token = match &next {
            Next::First => None,
            Next::Token(token) => Some(token.as_str()),
            Next::End => return Ok(None),
        };
        let page = list(server, resource, token).await?;
        let seen = page.objects.len() as u64;
        progress.expect((seen + page.remaining).saturating_sub(expected));
        let next = page.next.map_or(Next::End, Next::Token);
        let items = stream::iter(page.objects.into_iter().map(Ok));
        Ok::<_, Error>(Some((items, (next, page.remaining))))
    });
    pages.try_flatten()
}

/// A page, after as many tries as an object gets. Where the list's snapshot was compacted away,
/// the server gives a token that goes on at the same name in a newer one: as every write since
/// uses the current key, nothing stale is missed.
pub(crate) async fn list(
    server: &ApiServer,
    resource: &ApiResource,
    token: Option<&str>,
) -> Result<crate::cluster::Page, Error> {
    let mut token = token.map(str::to_owned);
    let mut tries = 0;
    loop {
        let error = match server.list(resource, token.as_deref()).await {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        tries += 1;
        match &error {
            Error::Answer {
                code: 410,
                next: Some(next),
                ..
            } if tries < TRIES => token = Some(next.clone()),
            _ if tries < TRIES && is_passing(&error) => pause(&error, tries).await,
            _ => return Err(error),
        }
    }
}

async fn touch(server: &ApiServer, resource: &ApiResource, mut object: Object) -> Fate {
    let mut tries = 0;
    loop {
        let error = match server.touch(resource, &object).await {
            Ok(after) if after.resource_version == object.resource_version => return Fate::Current,
            Ok(_) => return Fate::Rewritten,
            Err(error) => error,
        };
        tries += 1;
        let code = error.code();
        if tries < TRIES && is_passing(&error) {
            pause(&error, tries).await;
        } else if tries == TRIES || !matches!(code, Some(404 | 409)) {
            return set_aside(&object, &error.to_string());
        }
        if !matches!(code, Some(404 | 409)) {
            continue;
        }
        // Somebody wrote, deleted or created it anew: look at what there is now.
        match server
            .metadata(resource, object.namespace.as_deref(), &object.name)
            .await
        {
            Ok(_) if code == Some(404) => {
                // It can be read and not be written: before 1.37, an object of a deleted namespace.
                return set_aside(&object, &error.to_string());
            }
            Ok(now) => object = now,
            Err(error) if error.code() == Some(404) => return Fate::Gone,
            Err(error) if is_passing(&error) => pause(&error, tries).await,
            Err(error) => return set_aside(&object, &error.to_string()),
        }
    }
}

fn set_aside(object: &Object, reason: &str) -> Fate {
    Fate::SetAside(SetAside {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        reason: reason.into(),
    })
}

/// Whether the same request may do better in a while.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable(_) => true,
        // A value that cannot be decrypted is a 500 that stays; so is what a webhook does.
        Error::Answer {
            code: 500,
            detail: Some(_),
            ..
        } => false,
        Error::Answer { code, .. } => matches!(code, 429 | 500 | 502 | 503 | 504),
        Error::Garbled(_) => false,
    }
}

pub(crate) async fn pause(error: &Error, tries: u32) {
    let asked = match error {
        Error::Answer { retry_after, .. } => *retry_after,
        _ => None,
    };
    tokio::time::sleep(asked.unwrap_or(PAUSE * 2_u32.pow(tries - 1))).await;
}
