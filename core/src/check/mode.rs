//! Who can read and change a file: its mode, its owner, its access control list, and the directories that
//! it lies in.

use super::finding::Finding;
use super::rules;
use super::time::Time;

/// What is known of a file that was read.
#[derive(Clone, Debug, Default)]
pub struct FileState {
    /// Its path.
    pub object: String,
    /// The lowest twelve bits.
    pub mode: u32,
    /// The owner's id.
    pub owner: u32,
    /// When its content was changed last.
    pub changed: Time,
    /// Entries of its access control list for further users and groups, the mask taken off.
    pub acl: Vec<AclEntry>,
    /// Whether it holds a private key, a token or a password.
    pub is_secret: bool,
    /// The directories that it lies in, outermost first: path, mode, owner.
    pub parents: Vec<(String, u32, u32)>,
}

/// An entry for another user or group than the file's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AclEntry {
    /// Whether it is for a group.
    pub is_group: bool,
    /// Whose.
    pub id: u32,
    /// Read is 4, write is 2.
    pub permissions: u16,
}

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const STICKY: u32 = 0o1000;

impl FileState {
    /// `owner` is who the machine belongs to.
    pub(super) fn findings(&self, owner: u32) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (group, others) = (self.mode >> 3 & 0o7, self.mode & 0o7);
        let evidence = format!("mode {:04o}, owner {}", self.mode, self.owner);
        let private = if self.is_secret { "600" } else { "644" };
        let chmod = format!("chmod {private} {}", self.object);
        let finding = |rule, message: &str, consequence: &str| {
            Finding::new(rule, &self.object)
                .message(message)
                .evidence(&evidence)
                .consequence(consequence)
                .fix(&chmod)
        };
        if self.is_secret && others & READ != 0 {
            let consequence = "every user and pod with this path can pose as its owner";
            findings.push(
                finding(
                    rules::KEY_FOR_ALL,
                    "all users can read its key",
                    consequence,
                )
                .fix(format!("{chmod}, then replace the key: it may be known")),
            );
        } else if self.is_secret && group & READ != 0 {
            let consequence = "whoever is in the group can pose as its owner";
            findings.push(finding(
                rules::KEY_FOR_GROUP,
                "a group can read its key",
                consequence,
            ));
        }
        if (group | others) & WRITE != 0 {
            let consequence = "whoever changes it decides who is trusted";
            findings.push(finding(
                rules::WRITABLE,
                "others than its owner can change it",
                consequence,
            ));
        }
        if self.owner != owner {
            findings.push(
                finding(
                    rules::OWNER,
                    "it belongs to another user",
                    "its owner can change it",
                )
                .fix(format!("chown {owner} {}", self.object)),
            );
        }
        let open = |entry: &&AclEntry| {
            let bits = u32::from(entry.permissions);
            let is_read = self.is_secret && bits & READ != 0;
            is_read || bits & WRITE != 0
        };
        if let Some(entry) = self.acl.iter().find(open) {
            let kind = if entry.is_group { "group" } else { "user" };
            findings.push(
                finding(
                    rules::ACL,
                    "its access control list opens it",
                    "the mode does not show who can read or change it",
                )
                .evidence(format!("{kind} {}: {:o}", entry.id, entry.permissions))
                .fix(format!("setfacl -b {}", self.object)),
            );
        }
        findings
    }

    /// Directories that let others put another file in its place.
    pub(super) fn open_parents(&self, owner: u32) -> impl Iterator<Item = Finding> {
        let open = self.parents.iter().filter(move |(_, mode, whose)| {
            let is_open = mode & 0o022 != 0 && mode & STICKY == 0;
            is_open || *whose != owner
        });
        open.map(|(path, mode, whose)| {
            Finding::new(rules::PARENT_WRITABLE, path)
                .message("others can change this directory")
                .evidence(format!("mode {mode:04o}, owner {whose}"))
                .consequence("whoever can rename here can put another file into the place of one")
                .fix(format!(
                    "chmod go-w {path} and give it to the owner of the machine"
                ))
        })
    }
}

/// Reads the extended attribute `system.posix_acl_access` (Linux, `posix_acl_xattr.h`): the entries for
/// further users and groups. `None`: it is none.
pub fn acl(attribute: &[u8]) -> Option<Vec<AclEntry>> {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;

    let (version, entries) = attribute.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*version) == 2 && entries.len() % 8 == 0).then_some(())?;
    let entries: Vec<_> = entries
        .chunks_exact(8)
        .map(|entry| {
            let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            (short(0), short(2), id)
        })
        .collect();
    let mask = entries.iter().find(|entry| entry.0 == MASK);
    let mask = mask.map_or(0o7, |entry| entry.1);
    let named = entries
        .iter()
        .filter(|entry| matches!(entry.0, USER | GROUP));
    Some(
        named
            .map(|&(tag, permissions, id)| AclEntry {
                is_group: tag == GROUP,
                id,
                permissions: permissions & mask,
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(state: &FileState) -> Vec<&'static str> {
        let findings = state.findings(0).into_iter();
        findings
            .chain(state.open_parents(0))
            .map(|finding| finding.id)
            .collect()
    }

    /// Among them those that comparisons of decimal digits take for private.
    #[test]
    fn modes_are_bits() {
        for (mode, secret, public) in [
            (0o600, &[][..], &[][..]),
            (0o400, &[], &[]),
            (0o640, &["AR-X031"], &[]),
            (0o644, &["AR-X030"], &[]),
            (0o604, &["AR-X030"], &[]),
            (0o444, &["AR-X030"], &[]),
            (0o477, &["AR-X030", "AR-X032"], &["AR-X032"]),
            (0o577, &["AR-X030", "AR-X032"], &["AR-X032"]),
            (0o4600, &[], &[]),
            (0o620, &["AR-X032"], &["AR-X032"]),
            (0o602, &["AR-X032"], &["AR-X032"]),
        ] {
            for (is_secret, expected) in [(true, secret), (false, public)] {
                let state = FileState {
                    mode,
                    is_secret,
                    ..FileState::default()
                };
                assert_eq!(ids(&state), expected, "{mode:o} {is_secret}");
            }
        }
    }

    #[test]
    fn owners_and_directories_count() {
        let state = |owner, parents: &[(u32, u32)]| FileState {
            mode: 0o600,
            owner,
            parents: parents
                .iter()
                .map(|(mode, owner)| ("/d".to_owned(), *mode, *owner))
                .collect(),
            ..FileState::default()
        };
        assert!(ids(&state(0, &[(0o755, 0), (0o1777, 0)])).is_empty());
        assert_eq!(ids(&state(7, &[])), ["AR-X033"]);
        for parent in [(0o777, 0), (0o775, 0), (0o755, 7)] {
            assert_eq!(ids(&state(0, &[parent])), ["AR-X034"]);
        }
    }

    #[test]
    fn a_list_is_read_through_its_mask() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            let mut bytes = tag.to_le_bytes().to_vec();
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
            bytes
        };
        let list = |mask: u16| {
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for part in [
                entry(0x01, 6, u32::MAX),
                entry(0x02, 6, 1000),
                entry(0x04, 0, u32::MAX),
                entry(0x10, mask, u32::MAX),
                entry(0x20, 0, u32::MAX),
            ] {
                bytes.extend(part);
            }
            acl(&bytes).unwrap()
        };
        let state = |mask| FileState {
            mode: 0o600,
            is_secret: true,
            acl: list(mask),
            ..FileState::default()
        };
        assert_eq!(ids(&state(4)), ["AR-X035"]);
        assert!(ids(&state(0)).is_empty());
        assert_eq!(acl(&[2, 0, 0, 0, 1]), None);
        assert_eq!(acl(&[]), None);
    }
}
