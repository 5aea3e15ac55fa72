//! The keyring: key-encryption keys (KEKs) in numbered generations, the names they go by, what
//! they encrypt, and the file that keeps them.
//!
//! A generation is *readable* first, so that every control-plane node can decrypt with it before
//! one of them encrypts with it; then it is the one *active* generation; in the end it is
//! *retired*, a tombstone without a key, so that its name is never given again.
//!
//! ```text
//! mint -> readable -> active -> readable -> retired
//! ```

mod aead;
mod file;
mod kek;
mod key_id;
mod lineage;
mod proof;
mod rollback;
mod seal;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::file::{KeyringFile, MAX_FILE_SIZE};
pub use self::kek::{DecryptError, EncryptError, Kek, MAX_CIPHERTEXT, MAX_PLAINTEXT};
pub use self::key_id::{KeyId, KeyringId, UnknownForm};
pub use self::proof::{MAX_AGE, Proof, ProofError, Scope, statement};
pub use self::rollback::{MARK_SCHEMA, NotEvidence, Sign, SignKind};
pub use self::seal::{Seal, SealKey, SealKind};

use crate::secret::SecretBytes;

/// More than three centuries of the 90 days that upstream advises for a KEK.
pub const MAX_GENERATIONS: usize = 1_000;

/// Why a keyring cannot be used, or not be changed as asked. No text shows what a file holds
/// beyond names that are public.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than any keyring: another file was named.
    #[error("it has more than {} KiB, which no keyring has", MAX_FILE_SIZE >> 10)]
    TooLarge,
    /// Cut off, or not JSON at all. The parser's own words are dropped: they quote the text.
    #[error("it is not JSON, or it is cut off, at line {line}, column {column}")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON of another kind, or of a later version.
    #[error("it is JSON, but not an atrest/keyring/v1, at line {line}, column {column}")]
    NotAKeyring {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Something in it contradicts something else: edited by hand, or damaged.
    #[error("{what}: {problem}")]
    Invalid {
        /// `seal`, `generation 3`, ...
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The secret that unseals it was not given.
    #[error("it is sealed ({0}), and nothing was given to open it with")]
    Sealed(SealKind),
    /// The secret given is of another kind than the file asks for. An unsealed file in the place
    /// of a sealed one is refused in the same way.
    #[error("its seal is \"{found}\", not \"{given}\"")]
    OtherSeal {
        /// The kind that the file names.
        found: SealKind,
        /// The kind that the operator named.
        given: SealKind,
    },
    /// The secret is too short to be one.
    #[error("the {kind} has fewer than {minimum} bytes")]
    WeakSecret {
        /// What it was given as.
        kind: SealKind,
        /// How many it needs.
        minimum: usize,
    },
    /// The wrong secret, or a file that was changed.
    #[error("its seal does not open: the secret is another one, or the file was changed")]
    Unsealing,
    /// There is no such generation to activate.
    #[error("there is no generation {0}")]
    NoGeneration(u32),
    /// A tombstone has no key.
    #[error("generation {0} is retired: its key is gone")]
    Retired(u32),
    /// It wrote before, or others were preferred to it: kube-apiserver would take what it wrote since
    /// for current.
    #[error("generation {0} is older than the active one: no key_id is used again")]
    Former(u32),
    /// The active generation is what every API server writes with.
    #[error("generation {0} is active: it encrypts")]
    Active(u32),
    /// The other file belongs to another cluster, or `init` was run twice for one.
    #[error("it is keyring {found}, and here is keyring {here}")]
    OtherKeyring {
        /// The one that was to come in.
        found: KeyringId,
        /// The one that is here.
        here: KeyringId,
    },
    /// The same number was given on two nodes to two keys: what one wrote the other cannot read.
    #[error("generation {0} is another key there than here: it was minted twice")]
    Fork(u32),
    /// It was changed on two nodes, each without the other's change.
    #[error("it lacks generation {0}, which is here: it is older, or was changed on another node")]
    Lacks(u32),
    /// It was changed before what is here.
    #[error("it is older: its serial is {found}, here it is {here}")]
    Older {
        /// Of the file that was to come in.
        found: u64,
        /// Of the one that is here.
        here: u64,
    },
    /// Both were changed from the same former one.
    #[error("both have serial {0} and differ: each was changed on a node of its own")]
    Diverged(u64),
    /// A key that was taken out would come back.
    #[error("generation {0} is retired here and not there: it is older")]
    Resurrected(u32),
    /// [`MAX_GENERATIONS`], or the last number there is.
    #[error("the keyring is full: it keeps at most {MAX_GENERATIONS} generations")]
    Full,
    /// The operating system's generator failed.
    #[error("the operating system gives no random bytes: {0}")]
    Random(rand::rngs::SysError),
}

impl Error {
    fn invalid(what: impl fmt::Display, problem: &'static str) -> Self {
        Self::Invalid {
            what: what.to_string(),
            problem,
        }
    }
}

/// Where a generation stands in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Decrypts.
    Readable,
    /// Encrypts and decrypts; there is exactly one.
    Active,
    /// Neither: the key is gone, the name stays taken.
    Retired,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Readable => "readable",
            Self::Active => "active",
            Self::Retired => "retired",
        })
    }
}

/// Where a generation's key is. Others (PKCS#11, Transit) will name a key outside.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Backend {
    /// In the keyring file; none once it is retired.
    Local(Option<Kek>),
}

impl Backend {
    /// Its name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
        }
    }
}

/// One key-encryption key and its life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Generation {
    n: u32,
    key_id: KeyId,
    backend: Backend,
    stage: Stage,
    created: Timestamp,
    retired: Option<Timestamp>,
    proof: Option<String>,
}

impl Generation {
    fn mint(keyring: KeyringId, n: u32, stage: Stage, now: Timestamp) -> Result<Self, Error> {
        let kek = Kek::generate().map_err(Error::Random)?;
        Ok(Self {
            n,
            key_id: KeyId::new(keyring, n, kek.commitment()),
            backend: Backend::Local(Some(kek)),
            stage,
            created: whole_seconds(now),
            retired: None,
            proof: None,
        })
    }

    /// Its number: from 1, never given twice.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Its public name, which kube-apiserver stores beside what it encrypted.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// Where its key is.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When it was minted.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// When it was retired.
    pub fn retired(&self) -> Option<Timestamp> {
        self.retired
    }

    /// What proved that nothing needs it, once it is retired.
    pub fn proof(&self) -> Option<&str> {
        self.proof.as_deref()
    }

    /// Encrypts at most [`MAX_PLAINTEXT`] bytes. Nothing is stored as an annotation.
    pub fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let Backend::Local(Some(kek)) = &self.backend else {
            return Err(EncryptError::NoKey);
        };
        kek.encrypt(&self.key_id, [], plaintext)
    }

    /// Decrypts what [`Self::encrypt`] made, given the annotations stored beside it.
    pub fn decrypt<'a>(
        &self,
        annotations: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, DecryptError> {
        let Backend::Local(Some(kek)) = &self.backend else {
            return Err(DecryptError);
        };
        kek.decrypt(&self.key_id, annotations, ciphertext)
    }
}

/// Generations of keys, of which one encrypts.
///
/// Invariants, which [`KeyringFile::open`] checks: at least one generation and at most
/// [`MAX_GENERATIONS`]; their numbers rise; one is active; each key_id is that of its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keyring {
    id: KeyringId,
    serial: u64,
    /// The highest number that `confirm` learned to be taken, by a key that is not here.
    taken: u32,
    /// etcd's cluster id, from the first proof that was accepted.
    cluster: Option<String>,
    generations: Vec<Generation>,
}

impl Keyring {
    /// A new keyring with one generation, which is active.
    pub fn mint(now: Timestamp) -> Result<Self, Error> {
        let id = KeyringId::generate().map_err(Error::Random)?;
        Ok(Self {
            id,
            serial: 1,
            taken: 0,
            cluster: None,
            generations: vec![Generation::mint(id, 1, Stage::Active, now)?],
        })
    }

    /// Its name, part of each key_id.
    pub fn id(&self) -> KeyringId {
        self.id
    }

    /// Rises by one with every change.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// All of them, oldest first.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// The one that encrypts.
    pub fn active(&self) -> &Generation {
        self.generations
            .iter()
            .find(|generation| generation.stage == Stage::Active)
            // An invariant of the type; a keyring without one is refused when it is read.
            .unwrap_or(&self.generations[0])
    }

    /// The generation of this name, whatever its stage.
    pub fn find(&self, key_id: &str) -> Option<&Generation> {
        self.generations
            .iter()
            .find(|generation| generation.key_id.as_str() == key_id)
    }

    /// The latest generation.
    pub fn newest(&self) -> &Generation {
        // An invariant of the type: there is at least one.
        &self.generations[self.generations.len() - 1]
    }

    /// The highest number that is known to be taken.
    pub fn highest(&self) -> u32 {
        self.newest().n.max(self.taken)
    }

    /// etcd's id of the cluster whose keys these are, once a proof told it.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Mints the next generation, readable, and returns it.
    pub fn add(&mut self, now: Timestamp) -> Result<&Generation, Error> {
        if self.generations.len() >= MAX_GENERATIONS {
            return Err(Error::Full);
        }
        let n = self.highest().checked_add(1).ok_or(Error::Full)?;
        let serial = self.serial.checked_add(1).ok_or(Error::Full)?;
        self.generations
            .push(Generation::mint(self.id, n, Stage::Readable, now)?);
        self.serial = serial;
        Ok(self.newest())
    }

    /// Makes generation `n` the active one and the former active one readable. False if it was
    /// active already; then nothing changed. It only goes forward.
    pub fn activate(&mut self, n: u32) -> Result<bool, Error> {
        let next = self
            .generations
            .iter()
            .position(|generation| generation.n == n)
            .ok_or(Error::NoGeneration(n))?;
        match self.generations[next].stage {
            Stage::Active => return Ok(false),
            Stage::Retired => return Err(Error::Retired(n)),
            Stage::Readable if n < self.active().n => return Err(Error::Former(n)),
            Stage::Readable => {}
        }
        self.serial = self.serial.checked_add(1).ok_or(Error::Full)?;
        for generation in &mut self.generations {
            if generation.stage == Stage::Active {
                generation.stage = Stage::Readable;
            }
        }
        self.generations[next].stage = Stage::Active;
        Ok(true)
    }

    /// Goes on from an older file although generations up to `highest` were minted: their numbers
    /// are never given again.
    pub fn confirm(&mut self, highest: u32) -> Result<(), Error> {
        self.serial = self.serial.checked_add(1).ok_or(Error::Full)?;
        self.taken = self.taken.max(highest);
        Ok(())
    }

    /// Whether generation `n` is there, has its key, and does not write.
    pub fn may_retire(&self, n: u32) -> Result<&Generation, Error> {
        let generation = self
            .generations
            .iter()
            .find(|generation| generation.n == n)
            .ok_or(Error::NoGeneration(n))?;
        match generation.stage {
            Stage::Active => Err(Error::Active(n)),
            Stage::Retired => Err(Error::Retired(n)),
            Stage::Readable => Ok(generation),
        }
    }

    /// Makes generation `n` a tombstone: its key is gone, its name stays taken. `scope` is what
    /// [`Proof::check`] made of the proof.
    pub fn retire(&mut self, n: u32, scope: &Scope, now: Timestamp) -> Result<(), Error> {
        self.may_retire(n)?;
        self.serial = self.serial.checked_add(1).ok_or(Error::Full)?;
        self.cluster = Some(scope.cluster.clone());
        for generation in &mut self.generations {
            if generation.n == n {
                generation.stage = Stage::Retired;
                generation.backend = Backend::Local(None);
                generation.retired = Some(whole_seconds(now));
                generation.proof = Some(scope.to_string());
            }
        }
        Ok(())
    }
}

/// The file keeps no fractions of a second.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::mint(Timestamp::UNIX_EPOCH).unwrap()
    }

    fn stages(keyring: &Keyring) -> Vec<(u32, Stage)> {
        let stage = |generation: &Generation| (generation.n, generation.stage);
        keyring.generations().iter().map(stage).collect()
    }

    #[test]
    fn generations_are_added_readable_and_activated_one_at_a_time() {
        let mut keyring = keyring();
        assert_eq!(stages(&keyring), [(1, Stage::Active)]);
        assert_eq!(keyring.add(Timestamp::UNIX_EPOCH).unwrap().n(), 2);
        assert_eq!(stages(&keyring), [(1, Stage::Active), (2, Stage::Readable)]);
        assert!(keyring.activate(2).unwrap());
        assert_eq!(stages(&keyring), [(1, Stage::Readable), (2, Stage::Active)]);
        assert_eq!((keyring.active().n(), keyring.serial()), (2, 3));
    }

    #[test]
    fn r12_what_wrote_before_is_never_activated_again() {
        let mut keyring = keyring();
        for _ in 0..2 {
            keyring.add(Timestamp::UNIX_EPOCH).unwrap();
        }
        keyring.activate(3).unwrap();
        let before = keyring.clone();
        for n in [1, 2] {
            assert!(matches!(keyring.activate(n), Err(Error::Former(it)) if it == n));
        }
        assert_eq!(keyring, before);
    }

    #[test]
    fn activating_the_active_one_changes_nothing() {
        let mut keyring = keyring();
        let before = keyring.clone();
        assert!(!keyring.activate(1).unwrap());
        assert_eq!(keyring, before);
    }

    #[test]
    fn what_is_not_there_or_retired_is_not_activated() {
        let mut keyring = keyring();
        keyring.add(Timestamp::UNIX_EPOCH).unwrap();
        keyring.generations[1].stage = Stage::Retired;
        let before = keyring.clone();
        assert!(matches!(keyring.activate(7), Err(Error::NoGeneration(7))));
        assert!(matches!(keyring.activate(2), Err(Error::Retired(2))));
        assert_eq!(keyring, before);
    }

    #[test]
    fn a_full_keyring_takes_no_more() {
        let mut keyring = keyring();
        while keyring.generations.len() < MAX_GENERATIONS {
            let mut next = keyring.newest().clone();
            next.n += 1;
            next.stage = Stage::Readable;
            keyring.generations.push(next);
        }
        assert!(matches!(
            keyring.add(Timestamp::UNIX_EPOCH),
            Err(Error::Full)
        ));
        keyring.generations.truncate(2);
        keyring.generations[1].n = u32::MAX;
        assert!(matches!(
            keyring.add(Timestamp::UNIX_EPOCH),
            Err(Error::Full)
        ));
        assert_eq!(keyring.serial(), 1);
    }

    #[test]
    fn keys_and_names_are_never_the_same_twice() {
        let mut keyring = keyring();
        keyring.add(Timestamp::UNIX_EPOCH).unwrap();
        let other = self::keyring();
        let ids = [
            &keyring.generations[0],
            &keyring.generations[1],
            &other.generations[0],
        ]
        .map(|generation| generation.key_id().to_string());
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    }

    #[test]
    fn debug_shows_no_key() {
        let keyring = keyring();
        let Backend::Local(Some(kek)) = keyring.active().backend() else {
            panic!("a minted generation has its key");
        };
        let shown = format!("{keyring:?}");
        assert!(shown.contains("<32 secret bytes>"), "{shown}");
        assert!(!shown.contains(&format!("{:?}", kek.expose())));
    }
}
