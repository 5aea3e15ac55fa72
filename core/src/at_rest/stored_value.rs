//! The prefix of a stored value says which provider and key wrote it
//! (`k8s.io/apiserver` `pkg/storage/value/transformer.go`,
//! `pkg/server/options/encryptionconfig/config.go`).

use atrest_proto::stored::EncryptedObject;
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::transformers::WrappedKey;
use crate::encryption_config::KmsVersion;
use crate::secret::Fingerprint;

/// Reserved for ciphertext; anything else is plaintext.
pub(super) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// A value of etcd, read as far as it goes without a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoredValue<'a> {
    /// Written by identity, or before there was encryption.
    Plaintext,
    /// Written by a local provider or by KMS v1.
    Named {
        /// Which of them.
        form: Form,
        /// The key's or the plugin's name, a colon, and the body. Names may hold colons: only the
        /// configuration can tell where this one ends.
        name_and_body: &'a [u8],
    },
    /// Written by KMS v2.
    Kms2 {
        /// The provider's name.
        name: String,
        /// The key-encryption key that wrapped the object's seed.
        key_id: String,
        /// Tells wrapped seeds apart.
        seed: Fingerprint,
    },
    /// Starts like ciphertext, and is none that kube-apiserver ever wrote.
    Malformed,
}

/// Providers whose prefix is followed by a free name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Form {
    /// `k8s:enc:aescbc:v1:`
    AesCbc,
    /// `k8s:enc:aesgcm:v1:`
    AesGcm,
    /// `k8s:enc:kms:v1:`
    Kms1,
    /// `k8s:enc:secretbox:v1:`
    Secretbox,
}

impl Form {
    /// `aescbc`, `aesgcm`, `secretbox`, and `kms:v1` without the name that follows.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Kms1 => "kms:v1",
            Self::Secretbox => "secretbox",
        }
    }
}

impl<'a> StoredValue<'a> {
    /// Whether a value starts like ciphertext.
    pub fn is_encrypted(value: &[u8]) -> bool {
        value.starts_with(ENCRYPTED)
    }

    /// Reads a value's prefix and, of KMS v2, the envelope. Never fails: what cannot be read is
    /// [`StoredValue::Malformed`].
    pub fn parse(value: &'a [u8]) -> Self {
        let Some(rest) = value.strip_prefix(ENCRYPTED) else {
            return Self::Plaintext;
        };
        for (prefix, form) in [
            (&b"aescbc:v1:"[..], Form::AesCbc),
            (b"aesgcm:v1:", Form::AesGcm),
            (b"kms:v1:", Form::Kms1),
            (b"secretbox:v1:", Form::Secretbox),
        ] {
            if let Some(name_and_body) = rest.strip_prefix(prefix) {
                return Self::Named {
                    form,
                    name_and_body,
                };
            }
        }
        rest.strip_prefix(b"kms:v2:")
            .and_then(kms2)
            .unwrap_or(Self::Malformed)
    }
}

/// A KMS v2 provider's name holds no colon (validation rule 21).
fn kms2(rest: &[u8]) -> Option<StoredValue<'static>> {
    let colon = rest.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&rest[..colon]).ok()?;
    let object = encrypted_object(&rest[colon + 1..])?;
    let complete = !object.encrypted_data.is_empty()
        && !object.encrypted_dek_source.is_empty()
        && (1..=1024).contains(&object.key_id.len());
    complete.then(|| {
        let wrapped = WrappedKey {
            version: KmsVersion::V2,
            provider: name.into(),
            key_id: object.key_id,
            ciphertext: object.encrypted_dek_source,
            annotations: object.annotations.into_iter().collect(),
        };
        StoredValue::Kms2 {
            seed: wrapped.fingerprint(),
            name: wrapped.provider,
            key_id: wrapped.key_id,
        }
    })
}

/// The message behind the name. Go passes over a field that has another type than it should, which
/// prost refuses.
pub(super) fn encrypted_object(message: &[u8]) -> Option<EncryptedObject> {
    let mut object = EncryptedObject::default();
    each_field(message, |tag, field| {
        match (tag, field) {
            (1, Field::Bytes(bytes)) => object.encrypted_data = bytes.to_vec(),
            (2, Field::Bytes(bytes)) => object.key_id = text(bytes)?,
            (3, Field::Bytes(bytes)) => object.encrypted_dek_source = bytes.to_vec(),
            (4, Field::Bytes(entry)) => {
                let (mut name, mut value) = (String::new(), Vec::new());
                each_field(entry, |tag, field| {
                    match (tag, field) {
                        (1, Field::Bytes(bytes)) => name = text(bytes)?,
                        (2, Field::Bytes(bytes)) => value = bytes.to_vec(),
                        _ => {}
                    }
                    Some(())
                })?;
                object.annotations.insert(name, value);
            }
            // Of a larger number its low bits, as everywhere in protobuf.
            (5, Field::Number(number)) => object.encrypted_dek_source_type = number as i32,
            _ => {}
        }
        Some(())
    })?;
    Some(object)
}

enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
    Other,
}

/// `None` where the message, or the visitor, ends it.
fn each_field<'m>(
    mut rest: &'m [u8],
    mut visit: impl FnMut(u32, Field<'m>) -> Option<()>,
) -> Option<()> {
    while !rest.is_empty() {
        let (tag, field) = next_field(&mut rest).ok()?;
        visit(tag, field?)?;
    }
    Some(())
}

/// Without a field where its bytes are cut off.
fn next_field<'m>(rest: &mut &'m [u8]) -> Result<(u32, Option<Field<'m>>), DecodeError> {
    let (tag, wire_type) = decode_key(rest)?;
    let field = match wire_type {
        WireType::Varint => Some(Field::Number(decode_varint(rest)?)),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest)?).unwrap_or(usize::MAX);
            rest.split_off(..length).map(Field::Bytes)
        }
        _ => {
            skip_field(wire_type, tag, rest, DecodeContext::default())?;
            Some(Field::Other)
        }
    };
    Ok((tag, field))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// Up to the first colon: the name as long as no configuration says otherwise.
pub(super) fn shortest_name(name_and_body: &[u8]) -> Option<String> {
    let colon = name_and_body.iter().position(|byte| *byte == b':')?;
    Some(String::from_utf8_lossy(&name_and_body[..colon]).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    proptest! {
        #[test]
        fn what_prost_decodes_is_decoded_alike(
            data in proptest::collection::vec(any::<u8>(), 0..20),
            key_id in ".{0,5}",
            annotations in proptest::collection::hash_map(".{0,3}", any::<[u8; 2]>(), 0..3),
            source_type in any::<i32>(),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let object = EncryptedObject {
                encrypted_dek_source: data.clone(),
                encrypted_data: data,
                key_id,
                annotations: annotations.into_iter().map(|(name, it)| (name, it.into())).collect(),
                encrypted_dek_source_type: source_type,
            };
            let mut message = object.encode_to_vec();
            prop_assert_eq!(encrypted_object(&message), Some(object));
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] ^= 1_u8 << bit;
            }
            if let Ok(decoded) = EncryptedObject::decode(&*message) {
                prop_assert_eq!(encrypted_object(&message), Some(decoded));
            }
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(StoredValue::parse(b"k8s\0..."), StoredValue::Plaintext);
        assert_eq!(StoredValue::parse(b"k8s:enc"), StoredValue::Plaintext);
        assert_eq!(StoredValue::parse(b""), StoredValue::Plaintext);
        assert_eq!(
            StoredValue::parse(b"k8s:enc:secretbox:v1:key1:xyz"),
            StoredValue::Named {
                form: Form::Secretbox,
                name_and_body: b"key1:xyz"
            }
        );
        for malformed in [
            &b"k8s:enc:"[..],
            b"k8s:enc:rot13:v1:k:",
            b"k8s:enc:kms:v2:",
            b"k8s:enc:kms:v2:name",
            b"k8s:enc:kms:v2:name:\xff\xff",
            b"k8s:enc:kms:v2:name:",
        ] {
            assert_eq!(StoredValue::parse(malformed), StoredValue::Malformed);
        }
    }

    #[test]
    fn kms_v2_names_its_key() {
        let object = EncryptedObject {
            encrypted_data: vec![1],
            key_id: "key-1".into(),
            encrypted_dek_source: vec![2],
            ..EncryptedObject::default()
        };
        let mut value = b"k8s:enc:kms:v2:plugin:".to_vec();
        value.extend(object.encode_to_vec());
        let StoredValue::Kms2 { name, key_id, .. } = StoredValue::parse(&value) else {
            panic!("it is a value of KMS v2");
        };
        assert_eq!((&*name, &*key_id), ("plugin", "key-1"));
    }
}
