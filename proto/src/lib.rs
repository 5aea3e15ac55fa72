//! Wire formats: KMS v2 and v1beta1, what kube-apiserver stores, and the etcd RPCs we use.
//!
//! The code under `src/generated` is made from `proto/*.proto` by `tests/generated.rs`, which also
//! fails when the two differ. No message shows bytes in its `Debug`.
#![forbid(unsafe_code)]

use std::fmt;

/// KMS v2 (`k8s.io/kms/apis/v2`).
pub mod v2 {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/v2.rs");
}

/// KMS v1 (`k8s.io/kms/apis/v1beta1`).
pub mod v1beta1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/v1beta1.rs");
}

/// What stands in etcd behind its prefix: `EncryptedObject` and `runtime.Unknown`.
pub mod stored {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/stored.rs");
}

/// Objects in plaintext: their metadata, Secrets and ConfigMaps.
pub mod objects {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/objects.rs");
}

/// Metadata of objects, and failures, as API servers answer in protobuf.
pub mod metadata {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/metadata.rs");
}

/// etcd's key-value pair.
pub mod mvccpb {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/mvccpb.rs");
}

/// etcd's RPCs.
pub mod etcdserverpb {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/etcdserverpb.rs");
}

/// etcd's write-ahead log.
pub mod wal {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated
    include!("generated/wal.rs");
}

mod redacted {
    include!("generated/redacted.rs");
}

/// Stands for bytes that are not shown.
struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

/// Stands for a map whose values are not shown.
struct Entries(usize);

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} entries>", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_of_bytes_and_nothing_more() {
        let request = v2::DecryptRequest {
            ciphertext: b"hunter2".to_vec(),
            uid: "u-1".into(),
            key_id: "k-1".into(),
            annotations: [("a.example".to_owned(), b"hunter2".to_vec())].into(),
        };
        let shown = format!("{request:?}");
        assert!(
            shown.contains("<7 bytes>") && shown.contains("<1 entries>") && shown.contains("k-1")
        );
        assert!(!shown.contains("hunter2") && !shown.contains("104"));
    }
}
