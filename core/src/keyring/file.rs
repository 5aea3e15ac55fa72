//! The keyring file, `atrest/keyring/v1`.
//!
//! ```json
//! {
//!   "schema": "atrest/keyring/v1",
//!   "id": "0a1b2c3d",
//!   "serial": 3,
//!   "seal": {"kind": "key-file", "kdf": "hkdf-sha256", "salt": "<16 bytes in base64>"},
//!   "sealed": "<box in base64>"
//! }
//! ```
//!
//! The box (AES-256-GCM: nonce, ciphertext, tag) holds the generations as a JSON array; an unsealed
//! file (`"seal": {"kind": "none"}`) has that array in clear under `generations`, and no `sealed`:
//!
//! ```json
//! [{"n": 1, "key_id": "atrest1-0a1b2c3d-1-...", "backend": "local", "stage": "active",
//!   "created": "2026-11-22T10:00:00Z", "retired": null, "proof": null, "kek": "<32 bytes in base64>"}]
//! ```
//!
//! Associated data of the box: `field(schema) || field(id) || field(serial as big-endian u64)`, then
//! a field each for the seal's kind, key derivation, parameters and salt, where `field(x)` is the
//! length of x as a big-endian `u32` and x. The header may have two more members, `taken` (a number
//! above which the next generation is minted) and `cluster` (etcd's id, from the first proof of
//! retirement); each that is there adds two fields, its name and its value. So no part of a sealed file can be changed or exchanged
//! for that of another one.

use std::fmt;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key_id::{KeyId, KeyringId};
use super::seal::{Form, Seal, SealKey};
use super::{Backend, Error, Generation, Kek, Keyring, MAX_GENERATIONS, Stage, aead};
use crate::secret::SecretBytes;

/// Twice what [`MAX_GENERATIONS`] take.
pub const MAX_FILE_SIZE: usize = 1 << 20;

const SCHEMA: &str = "atrest/keyring/v1";

/// A keyring file that was read, and whose seal is not opened yet. The header is not
/// authenticated before it is.
pub struct KeyringFile {
    header: Header,
    body: Body,
}

struct Header {
    id: KeyringId,
    serial: u64,
    taken: u32,
    cluster: Option<String>,
    seal: Seal,
}

enum Body {
    Sealed(Vec<u8>),
    Clear(Vec<GenerationForm>),
}

impl KeyringFile {
    /// Reads the outer form. Costs little, whatever the bytes are.
    pub fn parse(text: &SecretBytes) -> Result<Self, Error> {
        if text.len() > MAX_FILE_SIZE {
            return Err(Error::TooLarge);
        }
        let file: FileForm = from_json(text.expose())?;
        if file.schema != SCHEMA {
            return Err(Error::invalid("schema", "it is not atrest/keyring/v1"));
        }
        let header = Header {
            id: file
                .id
                .parse()
                .map_err(|_| Error::invalid("id", "it is not 8 lower-case hex digits"))?,
            serial: file.serial,
            taken: file.taken,
            cluster: file.cluster,
            seal: Seal(file.seal),
        };
        if header.serial == 0 {
            return Err(Error::invalid("serial", "it counts from 1"));
        }
        header.seal.check()?;
        let body = match (&header.seal.0, file.sealed, file.generations) {
            (Form::None {}, None, Some(generations)) => Body::Clear(generations),
            (Form::None {}, ..) => {
                return Err(Error::invalid(
                    "generations",
                    "an unsealed keyring has them in clear, and nothing sealed",
                ));
            }
            (_, Some(sealed), None) => Body::Sealed(
                BASE64
                    .decode(sealed.as_bytes())
                    .map_err(|_| Error::invalid("sealed", "it is not base64"))?,
            ),
            _ => {
                return Err(Error::invalid(
                    "sealed",
                    "a sealed keyring has its generations there, and none in clear",
                ));
            }
        };
        Ok(Self { header, body })
    }

    /// How it is sealed: what [`Seal::key`] makes the key for [`Self::open`] of.
    pub fn seal(&self) -> &Seal {
        &self.header.seal
    }

    /// Opens the seal and checks that what is inside fits together.
    pub fn open(self, key: &SealKey) -> Result<Keyring, Error> {
        let (id, serial) = (self.header.id, self.header.serial);
        let forms = match self.body {
            Body::Clear(forms) => forms,
            Body::Sealed(sealed) => {
                let key = key
                    .0
                    .as_ref()
                    .ok_or(Error::Sealed(self.header.seal.kind()))?;
                let text = aead::cipher(key.expose())
                    .and_then(|cipher| aead::open(&cipher, &associated_data(&self.header), &sealed))
                    .map_err(|_| Error::Unsealing)?;
                from_json(text.expose())?
            }
        };
        if forms.is_empty() {
            return Err(Error::invalid("generations", "there are none"));
        }
        if forms.len() > MAX_GENERATIONS {
            return Err(Error::invalid("generations", "there are more than 1000"));
        }
        let generations = forms
            .into_iter()
            .map(|form| form.check(id))
            .collect::<Result<Vec<_>, _>>()?;
        for pair in generations.windows(2) {
            if pair[0].n >= pair[1].n {
                let what = format!("generation {}", pair[1].n);
                return Err(Error::invalid(what, "it stands twice, or out of order"));
            }
        }
        let active = generations
            .iter()
            .filter(|generation| generation.stage == Stage::Active)
            .count();
        if active != 1 {
            return Err(Error::invalid(
                "generations",
                if active == 0 {
                    "none is active"
                } else {
                    "more than one is active"
                },
            ));
        }
        Ok(Keyring {
            id,
            serial,
            taken: self.header.taken,
            cluster: self.header.cluster,
            generations,
        })
    }
}

impl fmt::Debug for KeyringFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringFile")
            .field("id", &self.header.id)
            .field("serial", &self.header.serial)
            .field("seal", &self.header.seal.kind())
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// The file's text, sealed as `seal` says with the key that it made.
    pub fn to_file(&self, seal: &Seal, key: &SealKey) -> Result<SecretBytes, Error> {
        let header = Header {
            id: self.id,
            serial: self.serial,
            taken: self.taken,
            cluster: self.cluster.clone(),
            seal: seal.clone(),
        };
        let forms: Vec<_> = self.generations.iter().map(GenerationForm::of).collect();
        // In one allocation: what a growing Vec leaves behind would not be zeroized.
        let room = 512 * (self.generations.len() + 1);
        let (sealed, generations) = match (&seal.0, &key.0) {
            (Form::None {}, _) => (None, Some(forms)),
            (_, None) => return Err(Error::Sealed(seal.kind())),
            (_, Some(key)) => {
                let text = to_json(&forms, room, false)?;
                let sealed = aead::cipher(key.expose())
                    .and_then(|cipher| {
                        aead::seal(&cipher, &associated_data(&header), text.expose())
                    })
                    .map_err(|error| match error {
                        aead::Error::Random(error) => Error::Random(error),
                        aead::Error::Refused => Error::TooLarge,
                    })?;
                (Some(BASE64.encode(&sealed)), None)
            }
        };
        let file = FileForm {
            schema: SCHEMA.to_owned(),
            id: self.id.to_string(),
            serial: self.serial,
            taken: self.taken,
            cluster: self.cluster.clone(),
            seal: seal.0.clone(),
            sealed,
            generations,
        };
        to_json(&file, 2 * room + 512, true)
    }
}

fn associated_data(header: &Header) -> Vec<u8> {
    let mut fields = vec![
        SCHEMA.into(),
        header.id.to_string().into_bytes(),
        header.serial.to_be_bytes().to_vec(),
    ];
    fields.extend(header.seal.fields());
    if header.taken > 0 {
        fields.extend([b"taken".to_vec(), header.taken.to_be_bytes().to_vec()]);
    }
    if let Some(cluster) = &header.cluster {
        fields.extend([b"cluster".to_vec(), cluster.clone().into_bytes()]);
    }
    aead::associated_data(fields.iter().map(Vec::as_slice))
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    schema: String,
    id: String,
    serial: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    taken: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    seal: Form,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generations: Option<Vec<GenerationForm>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct GenerationForm {
    n: u32,
    key_id: String,
    backend: String,
    stage: Stage,
    created: String,
    retired: Option<String>,
    proof: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kek: Option<KekForm>,
}

impl GenerationForm {
    fn of(generation: &Generation) -> Self {
        let Backend::Local(kek) = &generation.backend;
        Self {
            n: generation.n,
            key_id: generation.key_id.to_string(),
            backend: generation.backend.name().to_owned(),
            stage: generation.stage,
            created: generation.created.to_string(),
            retired: generation.retired.map(|time| time.to_string()),
            proof: generation.proof.clone(),
            kek: kek.clone().map(KekForm),
        }
    }

    fn check(self, keyring: KeyringId) -> Result<Generation, Error> {
        let fail = |problem| Err(Error::invalid(format!("generation {}", self.n), problem));
        if self.backend != "local" {
            return fail("its key is in a backend that this version does not know");
        }
        let Ok(key_id) = self.key_id.parse::<KeyId>() else {
            return fail("its key_id has another form");
        };
        if key_id.keyring() != keyring {
            return fail("its key_id is of another keyring");
        }
        if key_id.generation() != self.n {
            return fail("its key_id is of another generation");
        }
        let Ok(created) = self.created.parse::<Timestamp>() else {
            return fail("`created` is not a time in RFC 3339");
        };
        let Ok(retired) = self.retired.as_deref().map(str::parse).transpose() else {
            return fail("`retired` is not a time in RFC 3339");
        };
        let kek = self.kek.map(|KekForm(kek)| kek);
        match (self.stage, &kek) {
            (Stage::Retired, Some(_)) => return fail("it is retired and still has its key"),
            (Stage::Retired, None) if retired.is_none() => {
                return fail("it is retired without a time");
            }
            (Stage::Retired, None) => {}
            (_, None) => return fail("it has no key"),
            (_, Some(_)) if retired.is_some() || self.proof.is_some() => {
                return fail("it is not retired, and has a time or a proof of retirement");
            }
            (_, Some(kek)) => {
                if key_id != KeyId::new(keyring, self.n, kek.commitment()) {
                    return fail("its key_id does not belong to its key");
                }
            }
        }
        Ok(Generation {
            n: self.n,
            key_id,
            backend: Backend::Local(kek),
            stage: self.stage,
            created,
            retired,
            proof: self.proof,
        })
    }
}

/// A key in base64, decoded from and encoded into memory that is zeroized.
struct KekForm(Kek);

impl Serialize for KekForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64.encode(self.0.expose())))
    }
}

impl<'de> Deserialize<'de> for KekForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;

        impl<'de> Visitor<'de> for Borrowed {
            type Value = KekForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes in base64")
            }

            // A string with escapes would come by `visit_str`, from a buffer that nobody zeroizes.
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<KekForm, E> {
                BASE64
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| Kek::new(SecretBytes::new(bytes)))
                    .map(KekForm)
                    .ok_or_else(|| E::custom("not 32 bytes in base64"))
            }
        }

        deserializer.deserialize_str(Borrowed)
    }
}

/// serde_json's errors quote what they found, keys included: only the place is kept.
fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => Error::NotAKeyring { line, column },
            _ => Error::NotJson { line, column },
        }
    })
}

fn to_json(value: &impl Serialize, room: usize, pretty: bool) -> Result<SecretBytes, Error> {
    let mut text = Vec::with_capacity(room);
    let written = if pretty {
        serde_json::to_writer_pretty(&mut text, value)
    } else {
        serde_json::to_writer(&mut text, value)
    };
    if pretty {
        text.push(b'\n');
    }
    let text = SecretBytes::new(text);
    match written {
        Ok(()) if text.len() <= MAX_FILE_SIZE => Ok(text),
        _ => Err(Error::TooLarge),
    }
}

#[cfg(test)]
mod tests;
