//! A kubeconfig: every cluster, user and context in it.

use super::certificate::Certificate;
use super::finding::Finding;
use super::role::ConfOwner;
use super::rules;

/// A kubeconfig that was read.
#[derive(Debug)]
pub struct Kubeconfig {
    /// Its path.
    pub object: String,
    /// Whose it is.
    pub owner: ConfOwner,
    /// Empty where none is named.
    pub current_context: String,
    /// All contexts.
    pub contexts: Vec<Context>,
    /// All clusters.
    pub clusters: Vec<Cluster>,
    /// All users. Their certificates are credentials of the node.
    pub users: Vec<User>,
}

/// A context.
#[derive(Debug)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// A name of a cluster.
    pub cluster: String,
    /// A name of a user.
    pub user: String,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// A URL.
    pub server: String,
    /// The name that the server has to have instead of that in the URL.
    pub tls_server_name: Option<String>,
    /// `insecure-skip-tls-verify`
    pub is_insecure: bool,
    /// What the server is verified with.
    pub trust: Trust,
}

/// What a server is verified with.
#[derive(Debug)]
pub enum Trust {
    /// These.
    Certificates(Vec<Certificate>),
    /// What the machine trusts: none is named.
    Machine,
    /// It could not be read, which was said.
    Unread,
}

/// A user.
#[derive(Debug)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What it is known by.
    pub credentials: Vec<UserCredential>,
}

/// What a user is known by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserCredential {
    /// A certificate.
    Certificate,
    /// A token, here or in a file.
    Token,
    /// A password.
    Password,
    /// What a program prints. It is not run.
    Program,
}

impl Cluster {
    /// The host that the certificate has to be for.
    pub fn host(&self) -> Option<&str> {
        if let Some(name) = self
            .tls_server_name
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            return Some(name);
        }
        let authority = self.server.strip_prefix("https://")?;
        let authority = authority.split(['/', '?']).next()?;
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then_some(host)
    }
}

impl Kubeconfig {
    /// The object of one of its users.
    pub fn user_object(&self, name: &str) -> String {
        format!("{}: user {name}", self.object)
    }

    /// Faults that need no other file to be seen.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for cluster in &self.clusters {
            let place = format!("{}: cluster {}", self.object, cluster.name);
            let is_plain = cluster.server.starts_with("http://");
            if is_plain {
                findings.push(
                    Finding::new(rules::PLAINTEXT, &place)
                        .message("its server is called in plaintext")
                        .evidence(format!("server: {}", cluster.server))
                        .consequence("credentials and Secrets cross the network unencrypted")
                        .fix("set server to the https:// address of the API server"),
                );
            }
            if cluster.is_insecure {
                findings.push(
                    Finding::new(rules::NO_VERIFICATION, &place)
                        .message("its server is not verified")
                        .evidence("insecure-skip-tls-verify: true")
                        .consequence("whoever answers in the server's place gets the credentials")
                        .fix("remove insecure-skip-tls-verify and set certificate-authority-data"),
                );
            } else if matches!(cluster.trust, Trust::Machine) && !is_plain {
                findings.push(
                    Finding::new(rules::NO_CA, &place)
                        .message("it names no CA")
                        .evidence("neither certificate-authority nor certificate-authority-data")
                        .consequence("the server is verified with what the machine trusts")
                        .fix("set certificate-authority-data to the cluster's CA"),
                );
            }
        }
        for user in &self.users {
            let held = user.credentials.iter().filter_map(|it| match it {
                UserCredential::Token => Some("a token"),
                UserCredential::Password => Some("a password"),
                UserCredential::Certificate | UserCredential::Program => None,
            });
            for held in held {
                findings.push(
                    Finding::new(rules::STATIC_CREDENTIAL, self.user_object(&user.name))
                        .message(format!("it holds {held}"))
                        .evidence(format!("{held} in the file, or in one that it names"))
                        .consequence("nobody sees when it ends, and it stands in a file")
                        .fix("use a certificate, or a program that asks for short tokens"),
                );
            }
        }
        findings.extend(self.dangling());
        findings
    }

    fn dangling(&self) -> Option<Finding> {
        let has_cluster = |name: &str| self.clusters.iter().any(|it| it.name == name);
        let has_user = |name: &str| self.users.iter().any(|it| it.name == name);
        let mut missing: Vec<_> = self
            .contexts
            .iter()
            .flat_map(|context| {
                let cluster = (!has_cluster(&context.cluster)).then(|| {
                    format!(
                        "context {} names cluster {:?}",
                        context.name, context.cluster
                    )
                });
                let user = (!has_user(&context.user))
                    .then(|| format!("context {} names user {:?}", context.name, context.user));
                [cluster, user]
            })
            .flatten()
            .collect();
        let current = &self.current_context;
        if !self.contexts.iter().any(|context| context.name == *current) {
            missing.push(format!("current-context is {current:?}"));
        }
        (!missing.is_empty()).then(|| {
            Finding::new(rules::DANGLING, &self.object)
                .message("it names what it does not have")
                .evidence(missing.join("; "))
                .consequence("what uses the context does not find its server or its user")
                .fix("name a context, cluster and user that are in the file")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_out_of_urls() {
        let host = |server: &str, name: Option<&str>| {
            let cluster = Cluster {
                name: String::new(),
                server: server.into(),
                tls_server_name: name.map(str::to_owned),
                is_insecure: false,
                trust: Trust::Machine,
            };
            cluster.host().map(str::to_owned)
        };
        for (server, expected) in [
            ("https://10.0.0.1:6443", Some("10.0.0.1")),
            ("https://a.example/path", Some("a.example")),
            ("https://[::1]:6443", Some("::1")),
            ("https://[::1]", Some("::1")),
            ("http://a", None),
            ("https://", None),
        ] {
            assert_eq!(host(server, None).as_deref(), expected, "{server}");
        }
        assert_eq!(host("https://10.0.0.1", Some("k")).as_deref(), Some("k"));
    }
}
