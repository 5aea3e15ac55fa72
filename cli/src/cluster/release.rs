//! Which Kubernetes an API server is, as far as it changes what the server says of itself.

use serde::Deserialize;

use super::{ApiServer, Error};

/// The first release whose servers say which EncryptionConfiguration they have loaded.
const SAYS_WHAT_IT_LOADED: u32 = 34;

/// What a server says of its release.
#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    minor: String,
    /// With all that a distribution puts to it, such as `v1.37.2+k3s1`.
    #[serde(rename = "gitVersion")]
    pub(crate) git: String,
}

impl Version {
    pub(crate) async fn of(server: &ApiServer) -> Result<Self, Error> {
        server.json("/version").await
    }

    /// `None` where it is no number.
    pub(crate) fn minor(&self) -> Option<Minor> {
        Minor::parse(&self.minor)
    }
}

/// The second number of a release.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Minor(pub(crate) u32);

impl Minor {
    /// Distributions put a plus sign behind it.
    fn parse(minor: &str) -> Option<Self> {
        let digits = minor.trim_end_matches(|c: char| !c.is_ascii_digit());
        digits.parse().ok().map(Self)
    }

    /// Whether one that runs with a file says with which.
    pub(crate) fn says_what_it_loaded(self) -> bool {
        self.0 >= SAYS_WHAT_IT_LOADED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(Minor::parse("37"), Some(Minor(37)));
        assert_eq!(Minor::parse("28+"), Some(Minor(28)));
        assert_eq!(Minor::parse(""), None);
        assert_eq!(Minor::parse("beta"), None);
    }
}
