//! KMS v2: Status, Encrypt, Decrypt.

use std::fmt;

use atrest_core::keyring::{EncryptError, Keyring, Sign, Stage};
use atrest_core::secret::SecretBytes;
use atrest_proto::v2::key_management_service_server::KeyManagementService;
use atrest_proto::v2::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};
use jiff::Timestamp;
use tonic::{Request, Response, Status};
use tracing::{debug, error, warn};

use super::ROLLED_BACK;
use super::snapshot::Current;
use crate::args::StatusVersion;
use crate::process::{CALL, without_traces};

/// A request has at most 1 KiB of ciphertext, 1 KiB of key_id and 32 KiB of annotations.
pub(super) const MESSAGE_LIMIT: usize = 64 << 10;

const HEALTHY: &str = "ok";

/// Answers from the current keyring. Its messages go to kube-apiserver's log and to whoever reads
/// the Secret: they name keys, which is public, and nothing else.
#[derive(Debug)]
pub(super) struct Service {
    current: Current,
    version: StatusVersion,
}

impl Service {
    pub(super) fn new(current: Current, version: StatusVersion) -> Self {
        Self { current, version }
    }
}

#[tonic::async_trait]
impl KeyManagementService for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let snapshot = self.current.snapshot();
        // An empty key_id is what makes kube-apiserver stop writing, within 3 minutes.
        let (healthz, key_id) = match &snapshot.behind {
            None => (
                HEALTHY.to_owned(),
                snapshot.keyring.active().key_id().to_string(),
            ),
            Some(sign) => (rolled_back(&snapshot.keyring, sign), String::new()),
        };
        debug!(key_id, "Status");
        Ok(Response::new(StatusResponse {
            version: self.version.as_str().to_owned(),
            healthz,
            key_id,
        }))
    }

    async fn encrypt(
        &self,
        request: Request<EncryptRequest>,
    ) -> Result<Response<EncryptResponse>, Status> {
        let EncryptRequest { plaintext, uid } = request.into_inner();
        let plaintext = SecretBytes::new(plaintext);
        let uid = Foreign(&uid);
        let snapshot = self.current.snapshot();
        if let Some(sign) = &snapshot.behind {
            warn!(%uid, "Encrypt refused: the keyring is older than what was in use");
            let reason = rolled_back(&snapshot.keyring, sign);
            return Err(Status::failed_precondition(reason));
        }
        let active = snapshot.keyring.active();
        let encrypted = without_traces::<CALL, _>(|| active.encrypt(plaintext.expose()));
        let ciphertext = encrypted.map_err(|error| {
            warn!(%uid, key_id = %active.key_id(), %error, "Encrypt failed");
            match error {
                EncryptError::TooLong(_) => Status::invalid_argument(error.to_string()),
                _ => Status::internal(error.to_string()),
            }
        })?;
        debug!(%uid, key_id = %active.key_id(), "Encrypt");
        Ok(Response::new(EncryptResponse {
            ciphertext,
            key_id: active.key_id().to_string(),
            annotations: Default::default(),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<DecryptRequest>,
    ) -> Result<Response<DecryptResponse>, Status> {
        let DecryptRequest {
            ciphertext,
            uid,
            key_id,
            annotations,
        } = request.into_inner();
        let (uid, named) = (Foreign(&uid), Foreign(&key_id));
        let snapshot = self.current.snapshot();
        let keyring = &snapshot.keyring;
        let Some(generation) = keyring.find(&key_id) else {
            if let Some(sign) = keyring.sign_of(&key_id, Timestamp::now())
                && snapshot.behind.is_none()
            {
                error!(reason = %sign, "{ROLLED_BACK}");
                self.current.stop(sign);
            }
            warn!(%uid, key_id = %named, "Decrypt refused: the keyring has no such key");
            return Err(Status::not_found(format!(
                "keyring {} has no key {named}: put the keyring that has it back, it is read at once",
                keyring.id()
            )));
        };
        if generation.stage() == Stage::Retired {
            warn!(%uid, key_id = %named, "Decrypt refused: the key is retired");
            return Err(Status::not_found(format!(
                "key {named} is retired: it is gone from this keyring"
            )));
        }
        let annotations = annotations
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        let decrypted = without_traces::<CALL, _>(|| generation.decrypt(annotations, &ciphertext));
        let plaintext = decrypted.map_err(|error| {
            warn!(%uid, key_id = %named, %error, "Decrypt refused");
            Status::invalid_argument(error.to_string())
        })?;
        debug!(%uid, key_id = %named, "Decrypt");
        Ok(Response::new(DecryptResponse {
            // The message wants a plain Vec; the allocator zeroizes it when it is freed.
            plaintext: plaintext.expose().to_vec(),
        }))
    }
}

fn rolled_back(keyring: &Keyring, sign: &Sign) -> String {
    format!(
        "keyring {} ends with generation {}, and {sign}: it is an older file; import the newer one, \
         or `atrest-kms keyring confirm` this one",
        keyring.id(),
        keyring.highest()
    )
}

/// A string of the caller, to be shown: cut, and without anything that could be taken for a line of
/// the log.
struct Foreign<'a>(&'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 128;
        let shown: String = self
            .0
            .chars()
            .take(MOST)
            .map(|c| if c.is_ascii_graphic() { c } else { '?' })
            .collect();
        f.write_str(&shown)?;
        if self.0.chars().count() > MOST {
            f.write_str("...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_strings_stay_on_their_line() {
        assert_eq!(
            Foreign("atrest1-0a1b2c3d-1-x").to_string(),
            "atrest1-0a1b2c3d-1-x"
        );
        assert_eq!(Foreign("a b\nc\u{1b}[31m").to_string(), "a?b?c?[31m");
        assert_eq!(Foreign(&"x".repeat(2000)).to_string().len(), 131);
    }
}
