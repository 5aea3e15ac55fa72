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
    let near = || WORDS.iter().any(|word| distance(word, name) <= 2);
    shown_in_path(name).or_else(|| (is_word && (!beside_secrets || near())).then_some(name))
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
    fn what_may_be_a_key_is_not_shown() {
        assert_eq!(shown("pandas", false), Some("pandas"));
        assert_eq!(shown("pandas", true), None);
        assert_eq!(shown("Secret", true), Some("Secret"));
        assert_eq!(shown("secrte", true), Some("secrte"));
        for secret in [
            "c2VjcmV0",
            "hunter2",
            "AAAAAAAAAAAAAAAAAAAAAAAA",
            "secret=x",
            "a b",
        ] {
            assert_eq!(shown(secret, false), None, "{secret}");
        }
    }
}
