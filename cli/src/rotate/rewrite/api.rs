//! The `api` engine: an empty merge patch for each object.
//!
//! The API server writes an object again if, and only if, its stored value is stale; then its
//! resourceVersion moves (`k8s.io/apiserver` `pkg/storage/etcd3/store.go`, `GuaranteedUpdate`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::governor::Governor;
use super::work::{Found, Source};
use super::{Outcome, Pace, SetAside, Steward, TRIES, is_passing, pause};
use crate::cluster::{ApiResource, ApiServer, Error, Object};
use crate::report::progress::Progress;
use crate::status::Failure;

/// How long an object waits for servers that have enough to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two reports of how far it is.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at whether something may be sent again.
const CLOSED: Duration = Duration::from_millis(50);

/// What is to be rewritten, and by whom.
pub(crate) struct Task<'a> {
    /// At least one; they take turns.
    pub(crate) servers: &'a [ApiServer],
    pub(crate) resource: &'a ApiResource,
    pub(crate) source: Source<'a>,
    /// Where there is an etcd to be asked.
    pub(crate) steward: Option<Steward>,
    /// Where an earlier process was: everything up to this object is done.
    pub(crate) behind: Option<String>,
    /// When nothing more may be sent.
    pub(crate) until: Option<Instant>,
    pub(crate) pace: Pace,
    pub(crate) progress: &'a Progress,
}

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

/// Touches every object of the resource. `reached` is told, every second, up to which object all is
/// done.
pub(crate) async fn rewrite(
    task: Task<'_>,
    mut reached: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    let Task {
        servers,
        resource,
        source,
        steward,
        behind,
        until,
        pace,
        progress,
    } = task;
    // The next page is found while this one is worked on.
    let (send, pages) = mpsc::channel(1);
    let find = async {
        let taker = send.clone();
        tokio::select! {
            found = source.send(resource, behind.as_deref(), progress, send) => found,
            // However that ended, nobody waits for more.
            () = taker.closed() => Ok(()),
        }
    };
    let (governor, newest) = (RefCell::new(Governor::new(pace)), Cell::new(0));
    let touch = async {
        let mut pages = pages;
        let mut outcome = Outcome::default();
        let mut cursor = Cursor::default();
        let mut last_look = Instant::now();
        let mut waiting = Vec::new().into_iter();
        let mut in_flight = FuturesUnordered::new();
        let mut is_over = false;
        loop {
            let is_open = until.is_none_or(|until| Instant::now() < until);
            while is_open
                && in_flight.len() < governor.borrow().window()
                && let Some(found) = waiting.next()
            {
                match found {
                    Found::Current => {
                        outcome.current += 1;
                        progress.done();
                    }
                    Found::Unreadable(set_aside) => outcome.set_aside.push(set_aside),
                    Found::Object(object) => {
                        let turn = cursor.begin(&object);
                        let touch = Touch {
                            servers,
                            resource,
                            governor: &governor,
                            newest: &newest,
                            turn,
                        };
                        in_flight.push(async move { (turn, touch.run(object).await) });
                    }
                }
            }
            let needs_page = is_open && !is_over && waiting.len() == 0;
            tokio::select! {
                Some((turn, fate)) = in_flight.next() => {
                    fate.count(&mut outcome);
                    cursor.end(turn);
                    progress.done();
                }
                page = pages.recv(), if needs_page => match page {
                    Some(page) => waiting = page.into_iter(),
                    None => is_over = true,
                },
                // Nothing may be sent now: until there is room.
                () = tokio::time::sleep(CLOSED), if is_open && waiting.len() > 0 && in_flight.is_empty() => {}
                else => break,
            }
            if last_look.elapsed() > LOOK {
                last_look = Instant::now();
                if let Some(object) = cursor.reached() {
                    reached(object)?;
                }
            }
        }
        outcome.was_cut_short = !is_over || waiting.len() > 0;
        if let (true, Some(object)) = (outcome.was_cut_short, cursor.reached()) {
            reached(object)?;
        }
        Ok::<_, Failure>(outcome)
    };
    let watch = async {
        match steward {
            Some(steward) => steward.watch(&governor, &newest).await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        // What stopped the search is what is to be told.
        (found, outcome) = async { tokio::join!(find, touch) } => found.and(outcome),
        Err(failure) = watch => Err(failure),
    }
}

/// Up to where all is done, of objects that begin in order and end as they like.
#[derive(Debug, Default)]
struct Cursor {
    begun: usize,
    done: Option<String>,
    /// What was begun since, and whether it has ended.
    open: BTreeMap<usize, (String, bool)>,
}

impl Cursor {
    fn begin(&mut self, object: &Object) -> usize {
        self.begun += 1;
        self.open.insert(self.begun, (object.to_string(), false));
        self.begun
    }

    fn end(&mut self, turn: usize) {
        if let Some((_, ended)) = self.open.get_mut(&turn) {
            *ended = true;
        }
        while let Some(first) = self.open.first_entry()
            && first.get().1
        {
            self.done = Some(first.remove().0);
        }
    }

    fn reached(&self) -> Option<&str> {
        self.done.as_deref()
    }
}

/// One object's way.
struct Touch<'a> {
    servers: &'a [ApiServer],
    resource: &'a ApiResource,
    governor: &'a RefCell<Governor>,
    /// The revision of the newest write of ours.
    newest: &'a Cell<i64>,
    turn: usize,
}

impl Touch<'_> {
    async fn run(self, mut object: Object) -> Fate {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let error = match self.patch(&object, tries).await {
                Ok(after) if after.resource_version == object.resource_version => {
                    return Fate::Current;
                }
                Ok(after) => {
                    let revision = after.resource_version.parse().unwrap_or_default();
                    self.newest.set(self.newest.get().max(revision));
                    return Fate::Rewritten;
                }
                Err(error) => error,
            };
            let code = error.code();
            // Having enough to do is no fault of a server, and passes.
            if code != Some(429) || begun.elapsed() > PATIENCE {
                tries += 1;
            }
            if tries < TRIES && is_passing(&error) {
                self.wait(&error, tries).await;
                continue;
            }
            if tries >= TRIES || !matches!(code, Some(404 | 409)) {
                return set_aside(&object, &error.to_string());
            }
            // Somebody wrote, deleted or created it anew: look at what there is now.
            let server = self.server(tries);
            let namespace = object.namespace.as_deref();
            match server
                .metadata(self.resource, namespace, &object.name)
                .await
            {
                Ok(now) if code == Some(404) && now.resource_version == object.resource_version => {
                    // It can be read and not be written: before 1.37, an object of a deleted namespace.
                    return set_aside(&object, &error.to_string());
                }
                Ok(now) => object = now,
                Err(error) if error.code() == Some(404) => return Fate::Gone,
                Err(error) if is_passing(&error) => self.wait(&error, tries).await,
                Err(error) => return set_aside(&object, &error.to_string()),
            }
        }
    }

    async fn patch(&self, object: &Object, tries: u32) -> Result<Object, Error> {
        let at = self.governor.borrow_mut().send(Instant::now());
        tokio::time::sleep_until(at.into()).await;
        let sent = Instant::now();
        let answer = self.server(tries).touch(self.resource, object).await;
        let mut governor = self.governor.borrow_mut();
        match &answer {
            Err(error) if matches!(error.code(), Some(429 | 503)) => {
                governor.refused(Instant::now(), pause(error, tries + 1));
            }
            _ => governor.answered(sent.elapsed()),
        }
        answer
    }

    /// A try that failed is followed by one at the next server.
    fn server(&self, tries: u32) -> &ApiServer {
        &self.servers[(self.turn + tries as usize) % self.servers.len()]
    }

    async fn wait(&self, error: &Error, tries: u32) {
        tokio::time::sleep(pause(error, tries)).await;
    }
}

fn set_aside(object: &Object, reason: &str) -> Fate {
    Fate::SetAside(SetAside {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_behind_whatever_is_open() {
        let object = |name: &str| Object {
            namespace: Some("ns".into()),
            name: name.into(),
            resource_version: "1".into(),
            is_applied: false,
        };
        let mut cursor = Cursor::default();
        let turns = ["a", "b", "c"].map(|name| cursor.begin(&object(name)));
        cursor.end(turns[1]);
        assert_eq!(cursor.reached(), None);
        cursor.end(turns[0]);
        assert_eq!(cursor.reached(), Some("ns/b"));
        cursor.end(turns[2]);
        assert_eq!(cursor.reached(), Some("ns/c"));
        assert!(cursor.open.is_empty());
    }
}
