//! What was found, what was seen, and what could not be read.

use serde::Serialize;

use super::certificate::{Certificate, San, Usage};
use super::role::Role;
use super::rules::{Effect, Rule};
use super::time::Time;
use crate::encryption_config::Severity;

/// Something that is wrong. No field ever holds a secret.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Of the [`Rule`].
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing follows from it.
    #[serde(skip)]
    pub effect: Effect,
    /// A path, or a path and a user of the kubeconfig there.
    pub object: String,
    /// One sentence, lower case.
    pub message: String,
    /// What was seen.
    pub evidence: String,
    /// What follows from it.
    pub consequence: String,
    /// What to do.
    pub fix: String,
    /// What has to be restarted after that.
    pub restart: Vec<&'static str>,
    /// The ids of it in benchmarks of others.
    pub controls: &'static [&'static str],
}

impl Finding {
    pub(super) fn new(rule: &'static Rule, object: impl Into<String>) -> Self {
        Self {
            id: rule.id,
            severity: rule.severity,
            effect: rule.effect,
            object: object.into(),
            message: String::new(),
            evidence: String::new(),
            consequence: String::new(),
            fix: String::new(),
            restart: Vec::new(),
            controls: rule.controls,
        }
    }

    pub(super) fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    pub(super) fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = evidence.into();
        self
    }

    pub(super) fn consequence(mut self, consequence: impl Into<String>) -> Self {
        self.consequence = consequence.into();
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    pub(super) fn restart(mut self, restart: &[&'static str]) -> Self {
        self.restart = restart.to_vec();
        self
    }
}

/// Something that could not be judged.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Unread {
    /// What.
    pub input: String,
    /// Why.
    pub reason: String,
}

/// A certificate that was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// As in a finding.
    pub object: String,
    /// What it is for.
    pub role: String,
    /// As RFC 4514 writes it.
    pub subject: String,
    /// As RFC 4514 writes it.
    pub issuer: String,
    /// In hex.
    pub serial: String,
    /// The first second.
    pub not_before: Time,
    /// The last second.
    pub not_after: Time,
    /// The last second in which all that verify it have a path to what they trust; null where one has
    /// none, or nobody is known to verify it.
    pub valid_until: Option<Time>,
    /// Who verifies it.
    pub verified_by: Vec<String>,
    /// Algorithm and size.
    pub key: String,
    /// How it was signed.
    pub signature: String,
    /// By which names servers are called.
    pub names: Vec<San>,
    /// What it may be used for; null where it says nothing.
    pub usages: Option<Vec<Usage>>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// SHA-256 of the certificate, as audit logs have it.
    pub sha256: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_sha256: String,
}

impl Entry {
    pub(super) fn new(object: &str, role: Role, certificate: &Certificate) -> Self {
        Self {
            object: object.to_owned(),
            role: role.to_string(),
            subject: certificate.subject.text.clone(),
            issuer: certificate.issuer.text.clone(),
            serial: certificate.serial.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            valid_until: None,
            verified_by: Vec::new(),
            key: certificate.key.kind.to_string(),
            signature: certificate.signature_algorithm.to_string(),
            names: certificate.names.clone(),
            usages: certificate.usages.clone(),
            is_ca: certificate.may_sign(),
            sha256: certificate.fingerprint.to_string(),
            spki_sha256: certificate.key.fingerprint.to_string(),
        }
    }
}

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// The most urgent first.
    pub findings: Vec<Finding>,
    /// What could not be judged.
    pub unread: Vec<Unread>,
    /// What was seen.
    pub inventory: Vec<Entry>,
}

/// What a report means.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was read, and nothing is wrong.
    Pass,
    /// Something is wrong.
    Fail,
    /// Something could not be read.
    Unknown,
}

impl Report {
    /// What it means where findings of this severity fail.
    pub fn verdict(&self, fail_on: Severity) -> Verdict {
        if self.findings.iter().any(|it| it.severity >= fail_on) {
            Verdict::Fail
        } else if self.unread.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Unknown
        }
    }
}
