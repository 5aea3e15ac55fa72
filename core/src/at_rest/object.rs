//! Objects as kube-apiserver stores them in plaintext: protobuf behind the magic `k8s\0`
//! (`k8s.io/apimachinery` `pkg/runtime/serializer/protobuf`), or JSON.

use atrest_proto::objects::{self, ConfigMap, ObjectMeta, Secret};
use atrest_proto::stored::Unknown;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use prost::Message;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Stands before the protobuf envelope.
const MAGIC: &[u8] = b"k8s\0";
/// RFC 8949's tag for CBOR that describes itself, which custom resources may be stored in.
const CBOR: &[u8] = b"\xd9\xd9\xf7";

/// What an object says about itself, without what it holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Object {
    /// `v1`, `example.com/v1`.
    pub api_version: String,
    /// `Secret`.
    pub kind: String,
    /// Empty for an object of the whole cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// The latest time in `managedFields`: when a field last changed. A rewrite that changes none
    /// leaves it alone.
    pub changed: Option<Timestamp>,
}

/// Why bytes are no object.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Garbage, or a form that kube-apiserver does not store.
    #[error("it is neither protobuf nor JSON of an object")]
    Foreign,
    /// Cut off or changed.
    #[error("its protobuf is damaged")]
    Protobuf,
    /// Cut off or changed.
    #[error("its JSON is damaged")]
    Json,
    /// Of custom resources, where the gate CBORServingAndStorage is on.
    #[error("it is CBOR, which is not read here")]
    Cbor,
    /// A manifest is made of Secrets, ConfigMaps and what is stored as JSON.
    #[error("there is no manifest of this kind here")]
    Kind,
}

/// Whether bytes that nothing authenticates are an object. For aescbc, where a wrong key gives
/// garbage once in 256 times.
pub(super) fn is_plausible(bytes: &[u8]) -> bool {
    match Object::parse(bytes) {
        Ok(object) => !object.kind.is_empty() && !object.api_version.is_empty(),
        Err(error) => error == ObjectError::Cbor,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct JsonObject {
    api_version: String,
    kind: String,
    metadata: JsonMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonMeta {
    namespace: String,
    name: String,
    uid: String,
    managed_fields: Vec<JsonManagedFields>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonManagedFields {
    time: String,
}

impl Object {
    /// Reads the object's own account of itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, ObjectError> {
        if let Some(unknown) = envelope(bytes)? {
            let object = objects::Object::decode(&*unknown.raw);
            let metadata = object.map_err(|_| ObjectError::Protobuf)?.metadata;
            let metadata = metadata.unwrap_or_default();
            let kind = unknown.type_meta.unwrap_or_default();
            let times = metadata.managed_fields.iter();
            let times = times.filter_map(|entry| timestamp(entry.time.as_ref()?));
            return Ok(Self {
                api_version: kind.api_version,
                kind: kind.kind,
                changed: times.max(),
                namespace: metadata.namespace,
                name: metadata.name,
                uid: metadata.uid,
            });
        }
        let object: JsonObject = json(bytes)?;
        let times = object.metadata.managed_fields.iter();
        Ok(Self {
            api_version: object.api_version,
            kind: object.kind,
            changed: times.filter_map(|entry| entry.time.parse().ok()).max(),
            namespace: object.metadata.namespace,
            name: object.metadata.name,
            uid: object.metadata.uid,
        })
    }
}

/// The object as a manifest: what it holds, in clear. Secrets and ConfigMaps whole; of JSON the
/// object as it is.
pub fn manifest(bytes: &[u8]) -> Result<Value, ObjectError> {
    let Some(unknown) = envelope(bytes)? else {
        let object: Value = json(bytes)?;
        let says = |field: &str| object[field].as_str().is_some_and(|it| !it.is_empty());
        return match says("apiVersion") && says("kind") {
            true => Ok(object),
            false => Err(ObjectError::Foreign),
        };
    };
    let kind = unknown.type_meta.unwrap_or_default();
    let raw = &*unknown.raw;
    let damaged = |_| ObjectError::Protobuf;
    let (metadata, fields) = match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("v1", "Secret") => {
            let secret = Secret::decode(raw).map_err(damaged)?;
            let data = secret
                .data
                .iter()
                .map(|(name, value)| (name, encoded(value)));
            let fields = [
                ("data", object(data)),
                (
                    "immutable",
                    secret.immutable.map_or(Value::Null, Value::Bool),
                ),
                ("type", json!(secret.r#type)),
            ];
            (secret.metadata, fields)
        }
        ("v1", "ConfigMap") => {
            let map = ConfigMap::decode(raw).map_err(damaged)?;
            let data = map.data.iter().map(|(name, value)| (name, json!(value)));
            let binary = map.binary_data.iter();
            let fields = [
                (
                    "binaryData",
                    object(binary.map(|(name, value)| (name, encoded(value)))),
                ),
                ("data", object(data)),
                ("immutable", map.immutable.map_or(Value::Null, Value::Bool)),
            ];
            (map.metadata, fields)
        }
        _ => return Err(ObjectError::Kind),
    };
    let mut manifest = json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata_value(&metadata.unwrap_or_default()),
    });
    if let Value::Object(manifest) = &mut manifest {
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        let mut fields = fields.into_iter().collect();
        retain_set(&mut fields);
        manifest.extend(fields);
    }
    Ok(manifest)
}

fn envelope(bytes: &[u8]) -> Result<Option<Unknown>, ObjectError> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Ok(None);
    };
    Unknown::decode(rest)
        .map(Some)
        .map_err(|_| ObjectError::Protobuf)
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ObjectError> {
    match bytes {
        [b'{', ..] => serde_json::from_slice(bytes).map_err(|_| ObjectError::Json),
        _ if bytes.starts_with(CBOR) => Err(ObjectError::Cbor),
        _ => Err(ObjectError::Foreign),
    }
}

/// Whole seconds; a time without any is none (`pkg/apis/meta/v1/time_proto.go`).
fn timestamp(time: &objects::Time) -> Option<Timestamp> {
    let seconds = Some(time.seconds).filter(|seconds| *seconds != 0);
    Timestamp::new(seconds?, 0).ok()
}

fn metadata_value(metadata: &ObjectMeta) -> Value {
    let time = |time: &Option<objects::Time>| {
        let time = time.as_ref().and_then(timestamp);
        time.map_or(Value::Null, |time| json!(time.to_string()))
    };
    let owners = metadata.owner_references.iter().map(|owner| {
        set(json!({
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": owner.controller,
            "blockOwnerDeletion": owner.block_owner_deletion,
        }))
    });
    let fields = metadata.managed_fields.iter().map(|entry| {
        let fields = entry.fields_v1.as_ref();
        let fields = fields.and_then(|fields| serde_json::from_slice(&fields.raw).ok());
        set(json!({
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": entry.api_version,
            "time": time(&entry.time),
            "fieldsType": entry.fields_type,
            "fieldsV1": fields.unwrap_or(Value::Null),
            "subresource": entry.subresource,
        }))
    });
    set(json!({
        "name": metadata.name,
        "generateName": metadata.generate_name,
        "namespace": metadata.namespace,
        "uid": metadata.uid,
        "generation": (metadata.generation != 0).then_some(metadata.generation),
        "creationTimestamp": time(&metadata.creation_timestamp),
        "deletionTimestamp": time(&metadata.deletion_timestamp),
        "deletionGracePeriodSeconds": metadata.deletion_grace_period_seconds,
        "labels": metadata.labels,
        "annotations": metadata.annotations,
        "ownerReferences": owners.collect::<Vec<_>>(),
        "finalizers": metadata.finalizers,
        "managedFields": fields.collect::<Vec<_>>(),
    }))
}

fn object<'a>(entries: impl Iterator<Item = (&'a String, Value)>) -> Value {
    Value::Object(entries.map(|(name, value)| (name.clone(), value)).collect())
}

fn encoded(bytes: &[u8]) -> Value {
    Value::String(BASE64_STANDARD.encode(bytes))
}

fn set(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        retain_set(map);
    }
    value
}

/// Leaves out what is not set, as Kubernetes' JSON does.
fn retain_set(map: &mut Map<String, Value>) {
    map.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use atrest_proto::stored::TypeMeta;

    use super::*;

    fn stored(kind: &str, raw: Vec<u8>) -> Vec<u8> {
        let unknown = Unknown {
            type_meta: Some(TypeMeta {
                api_version: "v1".into(),
                kind: kind.into(),
            }),
            raw,
            ..Unknown::default()
        };
        [MAGIC, &unknown.encode_to_vec()].concat()
    }

    fn secret() -> Secret {
        Secret {
            metadata: Some(ObjectMeta {
                name: "db".into(),
                namespace: "default".into(),
                uid: "u-1".into(),
                creation_timestamp: Some(objects::Time {
                    seconds: 1_700_000_000,
                    nanos: 0,
                }),
                managed_fields: [1_700_000_000, 1_700_000_100]
                    .map(|seconds| objects::ManagedFieldsEntry {
                        manager: "kubectl".into(),
                        time: Some(objects::Time { seconds, nanos: 0 }),
                        ..Default::default()
                    })
                    .into(),
                ..ObjectMeta::default()
            }),
            data: [("password".to_owned(), b"hunter2".to_vec())].into(),
            r#type: "Opaque".into(),
            ..Secret::default()
        }
    }

    #[test]
    fn protobuf_and_json_tell_the_same() {
        let protobuf = stored("Secret", secret().encode_to_vec());
        let from_protobuf = Object::parse(&protobuf).unwrap();
        assert_eq!(from_protobuf.changed.unwrap().as_second(), 1_700_000_100);
        assert_eq!(
            (
                &*from_protobuf.namespace,
                &*from_protobuf.name,
                &*from_protobuf.uid
            ),
            ("default", "db", "u-1")
        );
        let manifest = manifest(&protobuf).unwrap();
        assert_eq!(manifest["data"]["password"], "aHVudGVyMg==");
        assert_eq!(
            manifest["metadata"]["creationTimestamp"],
            "2023-11-14T22:13:20Z"
        );
        assert_eq!(manifest.get("immutable"), None);
        let json = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(Object::parse(&json).unwrap(), from_protobuf);
    }

    #[test]
    fn a_manifest_of_json_is_the_json() {
        let widget = br#"{"apiVersion":"example.com/v1","kind":"Widget","spec":{"a":1}}"#;
        assert_eq!(manifest(widget).unwrap()["spec"]["a"], 1);
        let pod = stored("Pod", Vec::new());
        assert_eq!(manifest(&pod), Err(ObjectError::Kind));
        assert_eq!(manifest(b"{}"), Err(ObjectError::Foreign));
    }

    #[test]
    fn garbage_is_not_plausible() {
        for garbage in [
            &b""[..],
            b"k8s",
            b"k8s\0",
            b"k8s\0\xff\xff",
            b"{",
            b"{}",
            b"{\"kind\": 1}",
            b"hunter2",
        ] {
            assert!(!is_plausible(garbage), "{garbage:?}");
        }
        assert!(is_plausible(&stored("Secret", secret().encode_to_vec())));
        assert!(is_plausible(br#"{"apiVersion":"v1","kind":"Secret"}"#));
        assert!(is_plausible(b"\xd9\xd9\xf7\xa0"));
    }
}
