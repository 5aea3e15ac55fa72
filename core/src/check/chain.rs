//! Paths from a certificate to what its consumer trusts, and how long there is one: as Go's
//! `crypto/x509` builds them, which every program of Kubernetes and etcd uses.

use super::certificate::{Certificate, SignatureAlgorithm, Usage};
use super::time::Time;

/// Longer paths are nobody's.
const LONGEST: usize = 10;

/// As many steps as Go takes at most.
const MOST_STEPS: usize = 100;

/// What is known of a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signature {
    /// It is the issuer's.
    Valid,
    /// It is not.
    Invalid,
    /// The algorithm is not known here.
    Unknown,
}

/// Who can say whether a certificate was signed by another one's key.
pub trait Signatures {
    /// Whether `issuer`'s key signed `certificate`.
    fn check(&self, certificate: &Certificate, issuer: &Certificate) -> Signature;
}

/// The paths of a certificate to one consumer's trust.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Paths {
    /// When each of them is valid, both ends included.
    spans: Vec<(Time, Time)>,
    /// Why other paths are none, the first of each reason.
    faults: Vec<Fault>,
    /// Whether something stood in a path that is not judged here.
    unknown: Option<&'static str>,
}

/// Why a path is none, the most telling last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// Nothing that is trusted has the issuer's name.
    NoIssuer,
    /// A CA's path length does not allow it.
    TooLong,
    /// A certificate of the path is not for this use.
    Usage,
    /// What has the issuer's name is no CA.
    NoAuthority,
    /// A critical extension that Go does not know.
    Critical,
    /// Signed with SHA-1 or MD5.
    Broken,
    /// What has the issuer's name did not sign it.
    Signature,
}

impl Fault {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoIssuer => "none of the trusted certificates has the name of its issuer",
            Self::TooLong => "the path length of a CA does not allow the path",
            Self::Usage => "a certificate of the path is not for this use",
            Self::NoAuthority => "what has the name of its issuer is not allowed to sign",
            Self::Critical => {
                "a certificate of the path has a critical extension that Go does not know"
            }
            Self::Broken => "a certificate of the path is signed with SHA-1 or MD5",
            Self::Signature => {
                "what has the name of its issuer did not sign it: it has another key"
            }
        }
    }
}

impl Paths {
    /// Every path from the first certificate, by way of the others that are sent with it, to one that
    /// is trusted.
    pub fn find(
        presented: &[Certificate],
        trusted: &[Certificate],
        usage: &Usage,
        signatures: &dyn Signatures,
    ) -> Self {
        let mut search = Search {
            others: presented.get(1..).unwrap_or_default(),
            trusted,
            usage,
            signatures,
            steps: 0,
            paths: Self::default(),
        };
        let Some(leaf) = presented.first() else {
            return search.paths;
        };
        match trusted.contains(leaf) {
            // Trusted by itself: it needs no CA.
            true => search.end(&[leaf]),
            false => search.go(&mut vec![leaf]),
        }
        search.paths
    }

    /// The last second of the time without a gap that a path is valid in from `at` on; `None` where
    /// none is valid at that time.
    pub fn valid_until(&self, at: Time) -> Option<Time> {
        let mut until = None;
        // Each round takes what begins before the end that is known.
        loop {
            let edge = until.map_or(at.unix(), |until: Time| until.unix() + 1);
            let touching = self
                .spans
                .iter()
                .filter(|(from, to)| from.unix() <= edge && to.unix() >= edge);
            match touching.map(|(_, to)| *to).max() {
                None => return until,
                further => until = further,
            }
        }
    }

    /// When a path is valid next, where none is at that time.
    pub fn valid_from(&self, at: Time) -> Option<Time> {
        let later = self.spans.iter().map(|(from, _)| *from);
        later.filter(|from| *from > at).min()
    }

    /// Whether there is a path at some time.
    pub fn is_some(&self) -> bool {
        !self.spans.is_empty()
    }

    /// The reason that says most, where there is no path at any time.
    pub fn fault(&self) -> Option<Fault> {
        self.faults.iter().copied().max()
    }

    /// What stood in the way that is not judged here.
    pub fn unknown(&self) -> Option<&'static str> {
        self.unknown
    }
}

struct Search<'a> {
    others: &'a [Certificate],
    trusted: &'a [Certificate],
    usage: &'a Usage,
    signatures: &'a dyn Signatures,
    steps: usize,
    paths: Paths,
}

impl<'a> Search<'a> {
    fn go(&mut self, path: &mut Vec<&'a Certificate>) {
        let Some(last) = path.last().copied() else {
            return;
        };
        let mut is_known = false;
        let anchors = self.trusted.iter().map(|it| (it, true));
        for (issuer, is_anchor) in anchors.chain(self.others.iter().map(|it| (it, false))) {
            if !issuer.subject.is(&last.issuer) || path.iter().any(|it| is_same(it, issuer)) {
                continue;
            }
            is_known = true;
            if self.steps >= MOST_STEPS || path.len() >= LONGEST {
                self.paths.unknown = Some("its paths are too many, or too long");
                return;
            }
            self.steps += 1;
            if let Err(fault) = self.may_follow(path, last, issuer) {
                self.paths.faults.push(fault);
                continue;
            }
            path.push(issuer);
            match is_anchor {
                true => self.end(path),
                false => self.go(path),
            }
            path.pop();
        }
        if !is_known {
            self.paths.faults.push(Fault::NoIssuer);
        }
    }

    fn may_follow(
        &mut self,
        path: &[&Certificate],
        last: &Certificate,
        issuer: &Certificate,
    ) -> Result<(), Fault> {
        if !issuer.may_sign() {
            return Err(Fault::NoAuthority);
        }
        if matches!(last.signature_algorithm, SignatureAlgorithm::Broken(_)) {
            return Err(Fault::Broken);
        }
        match self.signatures.check(last, issuer) {
            Signature::Valid => {}
            Signature::Invalid => return Err(Fault::Signature),
            Signature::Unknown => {
                self.paths.unknown = Some("it is signed in a way that is not known here");
                return Err(Fault::Signature);
            }
        }
        let between = path.len() - 1;
        let limit = issuer.authority.and_then(|authority| authority.path_length);
        match limit.is_none_or(|limit| between <= usize::from(limit)) {
            true => Ok(()),
            false => Err(Fault::TooLong),
        }
    }

    fn end(&mut self, path: &[&Certificate]) {
        if path.iter().any(|it| !it.unknown_critical.is_empty()) {
            self.paths.faults.push(Fault::Critical);
            return;
        }
        if path.iter().any(|it| !it.may_serve_for(self.usage)) {
            self.paths.faults.push(Fault::Usage);
            return;
        }
        if path[1..].iter().any(|it| it.has_name_constraints) {
            self.paths.unknown =
                Some("a CA limits the names that it signs for, which is not judged");
            return;
        }
        let from = path.iter().map(|it| it.not_before).max();
        let to = path.iter().map(|it| it.not_after).min();
        if let (Some(from), Some(to)) = (from, to)
            && from <= to
        {
            self.paths.spans.push((from, to));
        }
    }
}

/// What Go takes for the same in a path: name and key.
fn is_same(a: &Certificate, b: &Certificate) -> bool {
    a.subject.is(&b.subject) && a.key.fingerprint == b.key.fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(spans: &[(i64, i64)], at: i64) -> Option<i64> {
        let spans = spans
            .iter()
            .map(|(from, to)| (Time::from_unix(*from), Time::from_unix(*to)))
            .collect();
        let paths = Paths {
            spans,
            ..Paths::default()
        };
        paths.valid_until(Time::from_unix(at)).map(Time::unix)
    }

    #[test]
    fn paths_hand_over_where_they_touch() {
        for (spans, at, end) in [
            (&[][..], 5, None),
            (&[(0, 10)], 10, Some(10)),
            (&[(0, 10)], 11, None),
            (&[(0, 10), (11, 20)], 5, Some(20)),
            (&[(0, 10), (12, 20)], 5, Some(10)),
            (&[(12, 20), (0, 10), (8, 13)], 0, Some(20)),
            (&[(0, 30), (0, 10), (12, 20)], 15, Some(30)),
            (&[(7, 9)], 5, None),
        ] {
            assert_eq!(until(spans, at), end, "{spans:?} at {at}");
        }
    }
}
