//! `atrest validate`

use std::path::PathBuf;
use std::str::FromStr;

use atrest_core::encryption_config::{Origin, Rule, Server, Severity};
use clap::ValueEnum;

/// Give kube-apiserver's verdict on EncryptionConfiguration files, and say what is legal but wrong.
///
/// With --kubeconfig the cluster is asked, too: which resources it serves, and which of them seem to
/// hold secrets and are covered by no entry.
///
/// Exit status: 0 where every file is accepted, 1 where one is rejected or has a finding at or
/// above `--fail-on`, or where `--same` finds that files differ in more than form, 2 where one cannot
/// be read, 3 where the cluster cannot be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// EncryptionConfiguration files; `-` is stdin.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The release that judges [default: the newest known].
    #[arg(long, value_name = "1.NN")]
    pub(crate) kubernetes_version: Option<KubernetesVersion>,
    /// The API server's feature gates, as its own flag has them: `KMSv1=true,KMSv2=false`. Gates
    /// that have nothing to do with it are passed over [default: those of the release].
    #[arg(long, value_name = "GATE=BOOL,...", value_delimiter = ',')]
    pub(crate) feature_gates: Vec<FeatureGate>,
    /// Whether the API server has --encryption-provider-config-automatic-reload.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) automatic_reload: bool,
    /// The severity of findings that makes the exit status 1 in an accepted file.
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    pub(crate) fail_on: FailOn,
    /// Mend what needs no question: a kind of old, blanks in the base64 of keys, wildcards that hide
    /// other entries, a file that others can read. Shows what will change first, with secrets
    /// masked, and asks.
    #[arg(long)]
    pub(crate) fix: bool,
    /// Only show what --fix would change.
    #[arg(long, requires = "fix")]
    pub(crate) dry_run: bool,
    /// Do not ask before a file is mended.
    #[arg(long, short = 'y', requires = "fix")]
    pub(crate) yes: bool,
    /// Do not report this lint; can be given several times.
    #[arg(long, value_name = "ID")]
    pub(crate) allow: Vec<Lint>,
    /// The files are those of several API servers of one cluster: compare each with the first.
    #[arg(long)]
    pub(crate) same: bool,
}

/// The id of a lint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lint(pub(crate) &'static str);

impl FromStr for Lint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = Rule::all()
            .find(|rule| rule.id.eq_ignore_ascii_case(text))
            .ok_or("there is no such id")?;
        match rule.origin {
            Origin::Lint => Ok(Self(rule.id)),
            Origin::Server => Err("it is a rule of the server, which cannot be set aside"),
        }
    }
}

/// A severity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum FailOn {
    /// What the server refuses.
    Error,
    /// What is likely a mistake, too.
    Warning,
    /// Everything.
    Info,
}

impl From<FailOn> for Severity {
    fn from(fail_on: FailOn) -> Self {
        match fail_on {
            FailOn::Error => Self::Error,
            FailOn::Warning => Self::Warning,
            FailOn::Info => Self::Info,
        }
    }
}

/// A release of Kubernetes 1, by its minor version. What follows after it does not matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KubernetesVersion(pub(crate) u32);

impl FromStr for KubernetesVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let version = text.strip_prefix('v').unwrap_or(text);
        let minor = version
            .strip_prefix("1.")
            .and_then(|rest| rest.split(['.', '-', '+']).next()?.parse().ok())
            .ok_or("write it as 1.NN")?;
        if minor < Server::OLDEST {
            return Err(format!(
                "the oldest release whose rules are known is 1.{}",
                Server::OLDEST
            ));
        }
        Ok(Self(minor))
    }
}

/// One feature gate of the API server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FeatureGate {
    pub(crate) name: String,
    pub(crate) enabled: bool,
}

impl FromStr for FeatureGate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write it as GATE=true or GATE=false";

        let (name, value) = text.split_once('=').ok_or(FORM)?;
        // The values that Go takes for a boolean.
        let enabled = match value.trim() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(FORM),
        };
        Ok(Self {
            name: name.trim().to_owned(),
            enabled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_in_many_forms() {
        for text in ["1.34", "v1.34", "1.34.2", "v1.34.2+k3s1", "1.34-rc.0"] {
            assert_eq!(text.parse(), Ok(KubernetesVersion(34)), "{text}");
        }
        for text in ["", "34", "2.0", "1.", "1.x", "1.26", "latest"] {
            assert!(text.parse::<KubernetesVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_lints_can_be_allowed() {
        assert_eq!("ar-l003".parse(), Ok(Lint("AR-L003")));
        for text in ["", "AR-L000", "AR-C002", "L003"] {
            assert!(text.parse::<Lint>().is_err(), "{text}");
        }
    }

    #[test]
    fn gates_are_named_and_boolean() {
        let gate: FeatureGate = "KMSv1=true".parse().unwrap();
        assert_eq!((gate.name.as_str(), gate.enabled), ("KMSv1", true));
        for text in ["KMSv1", "KMSv1=", "KMSv1=yes"] {
            assert!(text.parse::<FeatureGate>().is_err(), "{text}");
        }
    }
}
