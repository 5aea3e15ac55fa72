//! What is to be written again, in the order of storage keys; memory holds two pages.

use atrest_core::at_rest::{GroupResource, ObjectKey};
use tokio::sync::mpsc;

use super::{SetAside, TRIES, is_passing, pause};
use crate::cluster::{ApiResource, ApiServer, Error, Object, PAGE, Page};
use crate::commands::server_failure;
use crate::etcd;
use crate::report::progress::Progress;
use crate::status::Failure;

/// Keys of a page of etcd's: each is some hundred bytes.
const KEYS: u32 = 2_000;

/// Something that was found.
#[derive(Debug)]
pub(crate) enum Found {
    Object(Object),
    /// Its value is current.
    Current,
    /// Nobody can read its value.
    Unreadable(SetAside),
}

/// Where objects are found.
pub(crate) enum Source<'a> {
    /// A list of the API's.
    Api(&'a ApiServer),
    /// etcd's keys. They are found whatever their values are, and no API server is asked.
    Etcd {
        client: Box<etcd::Client>,
        resource: &'a GroupResource,
        prefix: &'a str,
        /// What was written later is left out: it is current.
        up_to: Option<i64>,
    },
}

impl Source<'_> {
    /// Sends page by page, from behind an object on where one is given.
    pub(crate) async fn send(
        self,
        resource: &ApiResource,
        behind: Option<&str>,
        progress: &Progress,
        pages: mpsc::Sender<Vec<Found>>,
    ) -> Result<(), Failure> {
        match self {
            Self::Api(server) => {
                let mut list = List::new(server, resource, behind, progress);
                while let Some(found) = list.next().await? {
                    if pages.send(found).await.is_err() {
                        break; // nobody wants it any more
                    }
                }
                Ok(())
            }
            Self::Etcd {
                mut client,
                resource,
                prefix,
                up_to,
            } => {
                let directory = resource.directory(prefix).into_bytes();
                progress.expect(client.count(&directory).await?);
                let behind = behind.map(|behind| format!("{behind}\0"));
                let mut from = [&directory, behind.unwrap_or_default().as_bytes()].concat();
                loop {
                    let keys = client.keys(&directory, &from, KEYS).await?;
                    let Some(last) = keys.last() else {
                        return Ok(());
                    };
                    from = [&last.key[..], b"\0"].concat();
                    let mut found = Vec::with_capacity(keys.len());
                    for key in keys {
                        let is_current = up_to.is_some_and(|up_to| key.mod_revision > up_to);
                        match object(&key, &directory) {
                            Some(_) if is_current => found.push(Found::Current),
                            Some(object) => found.push(Found::Object(object)),
                            None => {}
                        }
                    }
                    if pages.send(found).await.is_err() {
                        return Ok(()); // nobody wants it any more
                    }
                }
            }
        }
    }
}

fn object(key: &etcd::Key, directory: &[u8]) -> Option<Object> {
    let object = ObjectKey::parse(key.key.strip_prefix(directory)?)?;
    Some(Object {
        namespace: object.namespace,
        name: object.name,
        resource_version: key.mod_revision.to_string(),
        is_applied: false,
    })
}

/// A list of the API's, page by page.
pub(crate) struct List<'a> {
    server: &'a ApiServer,
    resource: &'a ApiResource,
    progress: &'a Progress,
    walk: Walk,
    expected: u64,
}

impl<'a> List<'a> {
    /// From behind an object on where one is given.
    pub(crate) fn new(
        server: &'a ApiServer,
        resource: &'a ApiResource,
        behind: Option<&str>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            server,
            resource,
            progress,
            walk: Walk::new(behind),
            expected: 0,
        }
    }

    /// What is found next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Found>>, Failure> {
        let Self { server, walk, .. } = self;
        if walk.is_over {
            return Ok(None);
        }
        match page(server, self.resource, walk).await {
            Ok(page) => {
                let total = page.objects.len() as u64 + page.remaining;
                self.progress.expect(total.saturating_sub(self.expected));
                self.expected = page.remaining;
                walk.passed(&page);
                Ok(Some(page.objects.into_iter().map(Found::Object).collect()))
            }
            Err(error) => {
                let key = error.unreadable();
                let key = key.and_then(|key| self.resource.object_key(key));
                match key.filter(|key| walk.can_stop_at(key)) {
                    Some(key) => {
                        let unreadable = walk.stopped(key).map(Found::Unreadable);
                        Ok(Some(unreadable.into_iter().collect()))
                    }
                    None => Err(server_failure(server, &error)),
                }
            }
        }
    }
}

/// A page, after as many tries as an object gets.
async fn page(server: &ApiServer, resource: &ApiResource, walk: &Walk) -> Result<Page, Error> {
    let mut tries = 0;
    loop {
        let behind = walk.behind.as_ref().map(ObjectKey::to_string);
        match server.list(resource, behind.as_deref(), walk.limit).await {
            Err(error) if tries < TRIES && is_passing(&error) => {
                tries += 1;
                tokio::time::sleep(pause(&error, tries)).await;
            }
            answer => return answer,
        }
    }
}

/// A walk through a list that goes on behind what nobody can read. One such value fails the whole
/// page that it is on; pages are halved until those before it are through and it stands alone.
#[derive(Debug)]
struct Walk {
    behind: Option<ObjectKey>,
    limit: u32,
    is_hunting: bool,
    is_over: bool,
}

impl Walk {
    fn new(behind: Option<&str>) -> Self {
        Self {
            behind: behind.and_then(|behind| ObjectKey::parse(behind.as_bytes())),
            limit: PAGE,
            is_hunting: false,
            is_over: false,
        }
    }

    fn passed(&mut self, page: &Page) {
        let last = page.objects.last();
        self.is_over = page.is_last || last.is_none();
        self.behind = last.map(|object| ObjectKey {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        });
        if self.is_hunting {
            self.halve();
        }
    }

    /// Whether a list from here can come upon the object.
    fn can_stop_at(&self, key: &ObjectKey) -> bool {
        self.behind.as_ref().is_none_or(|behind| behind < key)
    }

    /// A page failed on a value: it, once it stood alone on its page.
    fn stopped(&mut self, key: ObjectKey) -> Option<SetAside> {
        if self.limit > 1 {
            self.is_hunting = true;
            self.halve();
            return None;
        }
        let set_aside = SetAside {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            reason: "its stored value cannot be decrypted".into(),
        };
        *self = Self {
            behind: Some(key),
            ..Self::new(None)
        };
        Some(set_aside)
    }

    fn halve(&mut self) {
        self.limit = self.limit.div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: usize) -> ObjectKey {
        ObjectKey {
            namespace: Some("ns".into()),
            name: format!("{i:05}"),
        }
    }

    /// Walks through `total` objects, some of them unreadable: what was passed, what was set aside,
    /// and the number of lists.
    fn walk(total: usize, poison: &[usize]) -> (usize, Vec<String>, usize) {
        let (mut walk, mut passed, mut set_aside, mut lists) = (Walk::new(None), 0, Vec::new(), 0);
        while !walk.is_over {
            lists += 1;
            let start = (0..total).find(|i| walk.behind.as_ref().is_none_or(|it| *it < key(*i)));
            let start = start.unwrap_or(total);
            let end = (start + walk.limit as usize).min(total);
            match poison.iter().find(|i| (start..end).contains(*i)) {
                Some(i) => set_aside.extend(walk.stopped(key(*i)).map(|it| it.name)),
                None => {
                    passed += end - start;
                    let objects = (start..end).map(|i| Object {
                        namespace: key(i).namespace,
                        name: key(i).name,
                        resource_version: "1".into(),
                        is_applied: false,
                    });
                    walk.passed(&Page {
                        objects: objects.collect(),
                        remaining: 0,
                        is_last: end == total,
                    });
                }
            }
        }
        (passed, set_aside, lists)
    }

    #[test]
    fn all_that_can_be_read_is_passed_and_the_rest_is_named() {
        for poison in [
            &[][..],
            &[0],
            &[1999],
            &[499, 500],
            &[0, 1, 2, 3],
            &[700, 1500, 1501, 1998],
        ] {
            let (passed, set_aside, lists) = walk(2000, poison);
            assert_eq!(passed, 2000 - poison.len(), "{poison:?}");
            let names: Vec<_> = poison.iter().map(|i| key(*i).name).collect();
            assert_eq!(set_aside, names);
            assert!(lists <= 2000 / 500 + 12 * poison.len(), "{lists}");
        }
    }

    #[test]
    fn the_last_one_and_the_only_one_end_the_walk() {
        assert_eq!(walk(1, &[0]).0, 0);
        assert_eq!(walk(0, &[]).0, 0);
    }

    #[test]
    fn a_server_that_names_what_is_behind_does_not_hold_it_for_ever() {
        let mut walk = Walk::new(Some("ns/00005"));
        assert!(!walk.can_stop_at(&key(5)) && walk.can_stop_at(&key(6)));
        walk.limit = 1;
        walk.stopped(key(6));
        assert!(!walk.can_stop_at(&key(6)));
    }
}
