//! The ids of findings: how bad each is, what follows from it, and its page, which is its comment. An id
//! never changes its meaning.

use serde::Serialize;

use crate::encryption_config::Severity;
use crate::page::Comment;

/// What findings of one id have in common.
#[derive(Debug)]
pub struct Rule {
    /// `AR-X0NN`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing follows from it.
    pub effect: Effect,
    /// The ids of it in benchmarks of others.
    pub controls: &'static [&'static str],
    comment: Comment,
}

/// What kind of thing follows from a finding, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Something does not work, or stops at its next start.
    Broken,
    /// Something can be read, used or changed by those who should not.
    Exposed,
    /// Something works until a date.
    Ends,
    /// Nothing happens; it surprises.
    Unusual,
}

impl Effect {
    /// As a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Broken => "Broken, or will be at the next start",
            Self::Exposed => "Open to those who should not",
            Self::Ends => "Works until a date",
            Self::Unusual => "Unusual",
        }
    }
}

impl Rule {
    /// Every rule, in the order of the ids.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ALL.iter().copied()
    }

    /// The rule of this id, whatever its case.
    pub fn find(id: &str) -> Option<&'static Self> {
        Self::all().find(|rule| rule.id.eq_ignore_ascii_case(id))
    }

    /// What the rule is about, in one sentence.
    pub fn title(&self) -> &'static str {
        self.comment.title()
    }

    /// Why it is a rule, and what to do, in Markdown: what follows the title.
    pub fn page(&self) -> String {
        self.comment.page()
    }
}

macro_rules! table {
    ($($(#[doc = $line:literal])+ $name:ident: $id:literal $severity:ident $effect:ident $controls:tt;)+) => {
        $(pub(super) const $name: &Rule = &Rule {
            id: $id,
            severity: Severity::$severity,
            effect: Effect::$effect,
            controls: &$controls,
            comment: Comment(concat!($($line, "\n"),+)),
        };)+

        const ALL: &[&Rule] = &[$($name),+];
    };
}

table! {
    /// A certificate has expired.
    ///
    /// Whoever is shown it refuses it: a client ends with `certificate has expired`, a server answers
    /// 401. Connections that were made before go on until they break, which can hide it for weeks.
    ///
    /// Renew it, and restart what the finding names: most programs read their client certificates once.
    EXPIRED: "AR-X001" Error Broken [];

    /// A certificate expires within days, or is past nine tenths of its life.
    ///
    /// What renews it should have done so long ago: `kubeadm upgrade` renews what it manages, the kubelet
    /// renews its own between 70 and 90 percent of the life (client-go `certificate_manager.go`). Lives of
    /// less than 90 days are judged by their share alone. A CA counts from 28 days before its end.
    ///
    /// Renew it now.
    EXPIRES_NOW: "AR-X002" Error Ends [];

    /// A certificate expires within weeks, or is past four fifths of its life.
    ///
    /// There is time to renew it in a window: less than 28 days, or more than 80 percent of the life (of
    /// what the kubelet renews by itself: 90 percent).
    EXPIRES_SOON: "AR-X003" Warning Ends [];

    /// A certificate is not valid yet.
    ///
    /// It was issued for later, or the clock of the machine that issued it, or of this one, is wrong.
    /// Compare the clocks before you issue another one.
    NOT_YET: "AR-X004" Error Broken [];

    /// A CA expires within a year.
    ///
    /// kubeadm never renews a CA. A new one has to be trusted everywhere before it signs anything, and the
    /// old one until nothing is left that it signed: a work of weeks, with restarts of everything.
    CA_ENDS: "AR-X005" Warning Ends [];

    /// A certificate outlives the CA that its consumer verifies it with.
    ///
    /// The date in the certificate is then not the date on which it stops to work. What counts is the last
    /// second in which there is a path of valid certificates to one that the consumer trusts; bundles,
    /// cross-signed and superseded CAs are taken into account.
    OUTLIVES_CA: "AR-X006" Warning Ends [];

    /// A certificate does not verify with what its consumer trusts.
    ///
    /// There is no path of valid certificates from it to one of the CAs that the consumer reads: another
    /// CA issued it, the CA was renewed with a new key, or a CA on the way has expired. Programs that
    /// connected before go on until they reconnect.
    ///
    /// The consumer's CA is what its own flag, configuration or kubeconfig names, which need not be the
    /// file that lies beside the certificate.
    NOT_VERIFIED: "AR-X007" Error Broken [];

    /// A private key is not that of its certificate.
    ///
    /// One of the two files was replaced without the other. A server that runs keeps the old pair and logs
    /// `private key does not match public key`; at its next start it ends.
    NOT_A_PAIR: "AR-X008" Error Broken [];

    /// A file that is needed is not there.
    ///
    /// A program's flag, a kubeconfig or kubeadm's layout names it. What runs may have it in memory still;
    /// what starts does not start.
    MISSING: "AR-X009" Error Broken [];

    /// A certificate is for another name than its place asks for.
    ///
    /// Kubernetes takes the last CN of a client's certificate for the name of the user, to whom the rights
    /// are given. A kubelet is `system:node:` and the name of its node.
    COMMON_NAME: "AR-X010" Error Broken [];

    /// A certificate has other organizations than its place asks for.
    ///
    /// Kubernetes takes each O of a client's certificate for a group. Without its group a client is refused
    /// (403); with one more it may do more than it should.
    ORGANIZATION: "AR-X011" Error Broken [];

    /// A certificate is not for the use that its place asks for.
    ///
    /// Go refuses a server whose extended key usage lacks `serverAuth` and a client whose lacks
    /// `clientAuth`. etcd's server certificate needs both: it is a client of itself.
    USAGE: "AR-X012" Error Broken [];

    /// A server's certificate lacks a name by which it is called.
    ///
    /// The names come from what clients are told: the kubeconfigs on this node, the flags of the static
    /// pods, and the Service `kubernetes`. A client that calls another name ends with
    /// `certificate is valid for ..., not ...`. `kubeadm certs renew` copies the names of the old
    /// certificate: change the ClusterConfiguration, remove the pair, and have
    /// `kubeadm init phase certs apiserver` make it anew.
    NAMES: "AR-X013" Error Broken [];

    /// A certificate outside `super-admin.conf` is of the group `system:masters`.
    ///
    /// The group passes every authorizer, and a certificate cannot be revoked: until it expires only a new
    /// CA takes its power away. Since 1.29 kubeadm gives `kubeadm:cluster-admins` instead, whose power is an
    /// ordinary ClusterRoleBinding.
    MASTERS: "AR-X014" Warning Exposed ["CIS-1.12 5.1.7", "kubescape C-0246", "OWASP-2025 K02"];

    /// What is trusted as a CA is not allowed to sign.
    ///
    /// It says `CA:FALSE`, nothing at all, or its key usage lacks `keyCertSign`. Go verifies nothing with it.
    NO_AUTHORITY: "AR-X015" Error Broken [];

    /// A certificate of a client or a server may sign others.
    ///
    /// Whoever has its key can issue an identity of any name that the cluster believes.
    LEAF_SIGNS: "AR-X016" Error Exposed [];

    /// A certificate may be used for more than its place asks for.
    ///
    /// A client's certificate that is good for a server, too, lets whoever has it pose as one.
    MORE_USAGE: "AR-X017" Info Unusual [];

    /// A certificate's key usage does not allow handshakes.
    ///
    /// Without `digitalSignature` Go's TLS goes on, but OpenSSL's and others' refuse it.
    NO_HANDSHAKE: "AR-X018" Warning Broken [];

    /// A certificate has a critical extension that Go does not know.
    ///
    /// Every program of Kubernetes and etcd refuses it with `unhandled critical extension`.
    CRITICAL: "AR-X019" Error Broken [];

    /// A key is too short, or of a kind that is not used here.
    ///
    /// RSA keys have 2048 bits or more, keys on curves of NIST 256 or more; Ed25519 is strong, too. Go
    /// refuses RSA keys of less than 1024 bits altogether.
    WEAK_KEY: "AR-X020" Error Exposed [];

    /// A certificate is signed with SHA-1 or MD5.
    ///
    /// Go refuses it since 1.18 (`x509: cannot verify signature: insecure algorithm`), wherever it is not
    /// itself what is trusted.
    BROKEN_SIGNATURE: "AR-X021" Error Broken [];

    /// A certificate of a client or a server lives longer than three years.
    ///
    /// Kubernetes has no revocation: what is lost is good for whoever has it until it expires. Kubernetes'
    /// own checklist asks for three years at most.
    LONG_LIFE: "AR-X022" Warning Exposed [];

    /// Two certificates of different use have the same key.
    ///
    /// What is lost with one is lost with the other, and neither can be renewed with a new key alone.
    SHARED_KEY: "AR-X023" Warning Exposed [];

    /// Two CAs that should be apart have the same key.
    ///
    /// Kubernetes' clients could then talk to etcd, which knows no authorization, or pose as the front proxy,
    /// which may name any user. That the files differ proves nothing: keys are compared.
    SHARED_CA: "AR-X024" Error Exposed ["CIS-1.12 2.7", "kubescape C-0159", "STIG V-242429"];

    /// A bundle of trusted certificates holds one that has expired.
    ///
    /// It is what was left of an old CA. Nothing depends on it while another one in the bundle verifies what
    /// it has to; take it out.
    SUPERSEDED: "AR-X025" Info Unusual [];

    /// A private key can be read by all users.
    ///
    /// Whoever can run anything on this machine can pose as its owner. Set mode 0600, and think of the key as
    /// lost: make a new one.
    KEY_FOR_ALL: "AR-X030" Error Exposed ["CIS-1.12 1.1.21", "kubescape C-0112", "STIG V-242467"];

    /// A private key can be read by a group.
    ///
    /// kubeadm writes mode 0600. Set it, or see who is in the group.
    KEY_FOR_GROUP: "AR-X031" Warning Exposed ["CIS-1.12 1.1.21", "kubescape C-0112", "STIG V-242467"];

    /// A file can be changed by others than its owner.
    ///
    /// Whoever changes what is trusted is trusted. Certificates have mode 0644 at most, private keys and
    /// kubeconfigs 0600.
    WRITABLE: "AR-X032" Error Exposed ["CIS-1.12 1.1.20", "kubescape C-0111", "STIG V-242466"];

    /// A file belongs to somebody else than the machine.
    ///
    /// Its owner can change it. Under `/` that is root; under `--root DIR` whom DIR belongs to.
    OWNER: "AR-X033" Error Exposed ["CIS-1.12 1.1.19", "kubescape C-0110", "STIG V-242451"];

    /// A directory on the way to a file can be changed by others than its owner.
    ///
    /// Whoever can rename in it can put another file into the place, whatever that file's own mode is.
    PARENT_WRITABLE: "AR-X034" Error Exposed ["CIS-1.12 1.1.19"];

    /// An access control list opens a file to further users or groups.
    ///
    /// The mode does not show them: its middle digit is then only their upper bound. `getfacl` lists them,
    /// `setfacl -b` removes them.
    ACL: "AR-X035" Warning Exposed [];

    /// A kubeconfig does not verify its server.
    ///
    /// `insecure-skip-tls-verify: true` gives its credentials to whoever answers.
    NO_VERIFICATION: "AR-X040" Error Exposed [];

    /// A kubeconfig talks to its server in plaintext.
    ///
    /// The API server serves no plaintext since 1.24; what answers is something else.
    PLAINTEXT: "AR-X041" Error Exposed [];

    /// A kubeconfig holds a token or a password.
    ///
    /// It does not tell when it expires, and it stands in a file. Certificates of this user are not what the
    /// API server looks at first.
    STATIC_CREDENTIAL: "AR-X042" Info Unusual [];

    /// A kubeconfig names a cluster, user or context that it does not have.
    ///
    /// What uses the context does not start, or asks `localhost:8080`.
    DANGLING: "AR-X043" Warning Broken [];

    /// A kubeconfig names no CA.
    ///
    /// Its server is verified with what the machine trusts, which was not looked at.
    NO_CA: "AR-X044" Warning Unusual [];

    /// A server presents another certificate than its file has.
    ///
    /// The file was renewed, and the server was not restarted, or could not read it (half of the pair was
    /// written). It works until the certificate that it has in memory expires; `kubeadm certs
    /// check-expiration` shows the date of the file. kube-apiserver and etcd take up a whole new pair
    /// within a minute.
    NOT_SERVED: "AR-X050" Error Broken [];

    /// A server trusts other CAs than its file says.
    ///
    /// Seen in the handshake, where a server names the CAs whose clients it takes, and in the ConfigMap
    /// `extension-apiserver-authentication`, where kube-apiserver publishes what it has loaded.
    /// kube-apiserver takes up its files within a minute; etcd reads them at its start alone.
    TRUST_DRIFTS: "AR-X051" Error Broken [];

    /// kube-apiserver verifies tokens with other keys than its files have.
    ///
    /// It reads `--service-account-key-file` at its start alone. Tokens that are signed with a key that is
    /// only on disk are refused now, and those with a key that is only in memory after the next start.
    TOKEN_KEYS_DRIFT: "AR-X052" Error Broken [];

    /// The server that a certificate is for refuses it.
    ///
    /// By its files it should be taken. What connected before goes on, and `/readyz` says ok, until the
    /// connection breaks or the program restarts.
    REFUSED: "AR-X053" Error Broken [];

    /// A program runs since before a file was changed that it reads at its start alone.
    ///
    /// kube-controller-manager, kube-scheduler and others read the certificate in their kubeconfig once.
    /// After `kubeadm certs renew` they work with the old one until they are restarted, or it expires.
    NOT_READ_AGAIN: "AR-X054" Warning Ends [];

    /// etcd asks for no client's certificate.
    ///
    /// etcd has no authorization of its own in a cluster that kubeadm made: who can connect can read every
    /// Secret and write every role.
    NO_CLIENT_AUTH: "AR-X055" Error Exposed ["CIS-1.12 2.2", "kubescape C-0154", "STIG V-242423"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order() {
        assert!(ALL.is_sorted_by(|a, b| a.id < b.id));
    }

    #[test]
    fn every_rule_has_a_page() {
        for rule in Rule::all() {
            let (id, title, page) = (rule.id, rule.title(), rule.page());
            assert!(
                title.ends_with('.') && !title.contains(". "),
                "{id}: {title}"
            );
            let lines = page.lines().count();
            assert!((1..=25).contains(&lines), "{id} has {lines} lines");
            assert!(!page.starts_with([' ', '\n']), "{id}");
        }
    }
}
