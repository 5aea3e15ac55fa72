//! What is left of the old key in etcd, removed: history up to the proof, then what free pages of each
//! member's database still hold.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use atrest_core::at_rest::{Census, Part, Residue};
use atrest_core::encryption_config::EncryptionConfiguration;
use serde::{Deserialize, Serialize};

use crate::args::EtcdFlags;
use crate::etcd::{self, Member, describe};
use crate::status::Failure;

/// How long a member may take to catch up with the others.
const CATCHES_UP: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(250);

/// A member whose database was written anew, and its size in bytes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Defragmented {
    pub(crate) member: String,
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// Copies that one key wrote in one file of etcd.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Copies {
    pub(crate) file: String,
    pub(crate) provider: String,
    pub(crate) key: Option<String>,
    pub(crate) count: u64,
}

/// Compacts up to a revision, and defragments member by member, the leader last. A member answers nobody
/// meanwhile, so every one has to be well before the next is taken.
pub(super) async fn scrub(
    etcd: &mut etcd::Client,
    flags: &EtcdFlags,
    revision: i64,
    say: impl Fn(&str),
) -> Result<Vec<Defragmented>, Failure> {
    etcd.compact(revision).await.map_err(|status| {
        Failure::unread(format!("etcd does not compact: {}", describe(&status)))
    })?;
    say(&format!(
        "etcd's history up to revision {revision} is removed"
    ));
    let mut members = Vec::new();
    for listed in etcd.members().await? {
        members.push(Member::connect(&listed, flags).await?);
    }
    let mut done = Vec::new();
    for i in 0..members.len() {
        await_all(&mut members, &say).await?;
        let before = members[i].health().await?.file;
        members[i].defragment().await?;
        let after = members[i].health().await?.file;
        let member = members[i].name.clone();
        say(&format!(
            "{member}: database defragmented, {} of {}, from {before} to {after} bytes",
            i + 1,
            members.len()
        ));
        done.push(Defragmented {
            member,
            before,
            after,
        });
    }
    await_all(&mut members, &say).await?;
    Ok(done)
}

/// Until each has a leader, no alarm, and has applied what any had when it was asked first.
async fn await_all(members: &mut [Member], say: &impl Fn(&str)) -> Result<(), Failure> {
    let start = Instant::now();
    let mut least = 0;
    for member in members.iter_mut() {
        least = least.max(member.health().await?.applied);
    }
    for member in members {
        let mut is_told = false;
        loop {
            let health = member.health().await?;
            if health.is_well && health.applied >= least {
                break;
            }
            let why = match health.is_well {
                true => format!("it has applied entry {} of {least}", health.applied),
                false => "it has an alarm, or no leader".to_owned(),
            };
            if start.elapsed() > CATCHES_UP {
                return Err(Failure::stopped(format!(
                    "member {} of etcd is not well: {why}",
                    member.name
                ))
                .hint(
                    "every value is under the new key; mend the member, then atrest rotate resume, or \
                     leave the rest to etcdctl defrag: atrest rotate resume --no-scrub",
                ));
            }
            if !is_told {
                say(&format!("{}: waiting, {why}", member.name));
                is_told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// What the files of a member on this machine still hold, that runs or not, under other keys than those of
/// the census.
pub(super) fn residue(
    data_dir: &Path,
    configuration: &EncryptionConfiguration,
    census: &Census,
) -> Result<Vec<Copies>, Failure> {
    let groups = census.resources.iter().flat_map(|it| it.groups());
    let current: BTreeSet<_> = groups
        .map(|it| (it.provider.clone(), it.key.clone()))
        .collect();
    let mut left = Vec::new();
    for path in etcd::files_of_member(data_dir)? {
        let mut residue = Residue::new(Some(configuration), []);
        etcd::scan_file(&path, Part::Other, &mut residue)?;
        for copies in residue.copies() {
            let key = (copies.provider.clone(), copies.key.clone());
            if copies.residue() > 0 && !current.contains(&key) {
                left.push(Copies {
                    file: path.display().to_string(),
                    provider: key.0,
                    key: key.1,
                    count: copies.residue(),
                });
            }
        }
    }
    Ok(left)
}
