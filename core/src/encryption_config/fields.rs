//! Names of fields: which are known, which may be shown, which one was meant.

/// Every field of the API, and what people write in their place.
const WORDS: &[&str] = &[
    "aescbc",
    "aesgcm",
    "algorithm",
    "annotations",
    "apiVersion",
    "cachesize",
    "comment",
    "data",
    "description",
    "enabled",
    "endpoint",
    "id",
    "identity",
    "items",
    "key",
    "keyName",
    "keys",
    "kind",
    "kms",
    "labels",
    "metadata",
    "name",
    "namespace",
    "provider",
    "providers",
    "resource",
    "resources",
    "secret",
    "secretbox",
    "secrets",
    "socket",
    "spec",
    "status",
    "timeout",
    "type",
    "url",
    "value",
    "version",
];

/// The name if it can be shown wherever it stands: a known word, whatever its case.
pub(super) fn shown_in_path(name: &str) -> Option<&str> {
    WORDS
        .iter()
        .any(|word| word.eq_ignore_ascii_case(name))
        .then_some(name)
}

/// The name if it can be shown. A line that lost its colon or its indentation can make a field's
/// name out of a key; `beside_secrets` says that this is such a place.
pub(super) fn shown(name: &str, beside_secrets: bool) -> Option<&str> {
    const LONGEST: usize = 20; // the shortest key has 24 characters in base64
    let is_word = name.len() <= LONGEST && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let most = 2.min(name.len() / 2);
    let near = || WORDS.iter().any(|word| distance(word, name) <= most);
    let is_short = name.len() <= SHORT_WORD && !beside_secrets;
    shown_in_path(name).or_else(|| (is_word && (is_short || near())).then_some(name))
}

/// Of a word with so many letters nobody makes a passphrase.
const SHORT_WORD: usize = 7;

/// Whether the text reads like the name of something public, a resource or a plugin, and not like a
/// key: words in one case or in camel case, with few digits.
pub(super) fn reads_as_name(text: &str) -> bool {
    let is_phrase = text.len() > 15 && text.split_whitespace().count() > 1;
    let longest = if text.is_ascii() { 253 } else { 30 }; // bytes
    let mut runs = text.split(|scalar: char| !scalar.is_alphanumeric());
    text.len() <= longest && !is_phrase && runs.all(is_word)
}

/// [`reads_as_name`] for names that stand beside secrets, with which they are easily swapped: nothing
/// that could be a passphrase.
pub(super) fn reads_as_key_name(text: &str) -> bool {
    const LONGEST: usize = 15;
    const FEW: usize = 6; // letters; a file that is cut off can end with a piece of a passphrase

    let is_minted = || {
        text.split_once('-').is_some_and(|(day, digest)| {
            day.len() == 8
                && digest.len() == 8
                && day.bytes().all(|byte| byte.is_ascii_digit())
                && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let words = || text.split(|scalar: char| !scalar.is_alphabetic());
    let is_usual = |word: &&str| {
        let mut usual = WORDS.iter().chain(NAME_WORDS);
        usual.any(|usual| usual.eq_ignore_ascii_case(word))
    };
    let unusual: usize = words().filter(|word| !is_usual(word)).map(str::len).sum();
    let usual: usize = words().filter(is_usual).map(str::len).sum();
    is_minted()
        || unusual <= FEW
            && text.len() <= LONGEST + usual
            && text.bytes().all(is_plain)
            && reads_as_name(text)
}

/// What longer words names of keys are made of.
const NAME_WORDS: &[&str] = &[
    "atrest",
    "backup",
    "cluster",
    "current",
    "development",
    "encryption",
    "kubernetes",
    "original",
    "previous",
    "primary",
    "production",
    "provider",
    "rotated",
    "secondary",
    "staging",
    "testing",
];

fn is_word(run: &str) -> bool {
    const LONGEST: usize = 40; // validatingadmissionpolicybindings has 33
    const LONGEST_ODD: usize = 15;

    let is_upper: Vec<bool> = run.chars().map(char::is_uppercase).collect();
    let capitals = is_upper.iter().filter(|it| **it).count();
    let cased = match capitals {
        0 => true,
        // SECRETS
        all if all == is_upper.len() => all <= LONGEST_ODD,
        // EncryptionConfiguration
        some => some * 3 <= is_upper.len() && !is_upper.windows(2).any(|pair| pair == [true; 2]),
    };
    let digits: Vec<bool> = run.bytes().map(|byte| byte.is_ascii_digit()).collect();
    let spelled = match digits.windows(2).filter(|pair| pair[0] != pair[1]).count() {
        0 if digits.first() == Some(&true) => run.len() <= 8,
        0 => run.len() <= LONGEST,
        // key1, k8s
        1 | 2 => run.len() <= LONGEST_ODD,
        // v1beta1
        3 => run.len() <= 9 && run.starts_with('v'),
        _ => false,
    };
    cased && spelled
}

/// The known field that was likely meant.
pub(super) fn meant<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|field| (distance(field, name), *field))
        .filter(|(distance, field)| *distance * 3 <= field.len())
        .min()
        .map(|(_, field)| field)
}

/// How many letters have to be put in, left out or changed, case aside.
pub(super) fn distance(a: &str, b: &str) -> usize {
    if b.len() > 2 * a.len() + 8 {
        return b.len();
    }
    let [a, b] = [a, b].map(str::to_ascii_lowercase);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_was_meant() {
        let known = ["apiVersion", "cachesize", "endpoint", "name", "timeout"];
        assert_eq!(meant("cacheSize", &known), Some("cachesize"));
        assert_eq!(meant("endpiont", &known), Some("endpoint"));
        assert_eq!(meant("pandas", &known), None);
        assert_eq!(meant(&"x".repeat(1 << 20), &known), None);
    }

    #[test]
    fn names_are_told_from_keys() {
        for name in [
            "",
            "secrets",
            "*.apps",
            "Secrets",
            "SECRETS",
            "configMaps",
            "validatingadmissionpolicybindings.admissionregistration.k8s.io",
            "apiserver.config.k8s.io/v1beta1",
            "ec2nodeclasses.karpenter.k8s.aws",
            "aws-encryption-provider",
        ] {
            assert!(reads_as_name(name), "{name}");
        }
        for name in [
            "key1",
            "key-2026-q1",
            "20261122-0f3a9c41",
            "production-encryption-key-2",
            "old_key",
            "Secret",
            "",
        ] {
            assert!(reads_as_key_name(name), "{name}");
        }
        for secret in [
            "bm8ga2V5LCBidXQgYXMgbG9uZyBhcyBvbmUgaXMuLi4=",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "c2VjcmV0MTIz",
            "hunter2hunter2",
            "0123456789",
            "6a6f6b65206f6e20796f7521",
            "correct horse battery",
            "Tr0ub4dor&3Tr0ub4dor",
            "жлшфцщъыэюябвгд-漢字",
        ] {
            assert!(!reads_as_name(secret), "{secret}");
        }
        for secret in [
            "correcthorse",
            "correct-horse-ba",
            "supersecret",
            "passphrase",
        ] {
            assert!(!reads_as_key_name(secret), "{secret}");
        }
    }

    #[test]
    fn what_may_be_a_key_is_not_shown() {
        assert_eq!(shown("pandas", false), Some("pandas"));
        assert_eq!(shown("pandas", true), None);
        assert_eq!(shown("Secret", true), Some("Secret"));
        assert_eq!(shown("secrte", true), Some("secrte"));
        for secret in [
            "c2VjcmV0",
            "hunter2",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "passphrase",
            "secret=x",
            "a b",
        ] {
            assert_eq!(shown(secret, false), None, "{secret}");
        }
    }
}
