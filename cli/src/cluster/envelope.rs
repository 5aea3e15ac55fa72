//! Answers in protobuf: four bytes of magic, and `runtime.Unknown` around the message.

use atrest_proto::stored::Unknown;
use prost::Message;

const MAGIC: &[u8] = b"k8s\0";

/// The message of an answer; `None` where it is no such thing.
pub(super) fn message<M: Message + Default>(body: &[u8]) -> Option<M> {
    let unknown = Unknown::decode(body.strip_prefix(MAGIC)?).ok()?;
    M::decode(&*unknown.raw).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn enveloped(raw: Vec<u8>) -> Vec<u8> {
        let unknown = Unknown {
            raw,
            ..Unknown::default()
        };
        [MAGIC, &unknown.encode_to_vec()].concat()
    }

    #[test]
    fn what_is_no_envelope_has_no_message() {
        let whole = enveloped(b"\x12\x00".to_vec());
        assert!(message::<Unknown>(&whole).is_some());
        for body in [&b""[..], b"k8s", b"{}", &whole[..whole.len() - 1]] {
            assert!(message::<Unknown>(body).is_none());
        }
    }
}
