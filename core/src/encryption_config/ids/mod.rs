//! The rules: the id of each, how bad a breach is, and the page that explains it, which is its
//! comment. An id never changes its meaning.

use super::fields::distance;
use super::finding::{Kind, Origin, Severity};
use crate::page::Comment;

/// What findings of one id have in common.
#[derive(Debug)]
pub struct Rule {
    /// `AR-D0NN` for decoding, `AR-C0NN` for validation and loading, `AR-L0NN` for lints.
    pub id: &'static str,
    /// Who finds fault.
    pub origin: Origin,
    /// How bad it is.
    pub severity: Severity,
    /// The class of the fault.
    pub kind: Kind,
    /// As the comment has it; [`Rule::page`] is the text.
    comment: Comment,
}

impl Rule {
    /// Every rule, in the order of the ids.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let tables = [decoding::ALL, validation::ALL, lints::ALL];
        tables.into_iter().flatten().copied()
    }

    /// The rule of this id, whatever its case.
    pub fn find(id: &str) -> Option<&'static Self> {
        Self::all().find(|rule| rule.id.eq_ignore_ascii_case(id))
    }

    /// The rule whose id is most like this text.
    pub fn nearest(id: &str) -> Option<&'static Self> {
        Self::all().min_by_key(|rule| distance(rule.id, id))
    }

    /// What the rule is about, in one sentence.
    pub fn title(&self) -> &'static str {
        self.comment.title()
    }

    /// Why it is a rule, and what to do, in Markdown: what follows the title. Examples are indented
    /// by four blanks.
    pub fn page(&self) -> String {
        self.comment.page()
    }
}

macro_rules! table {
    ($($(#[doc = $line:literal])+ $name:ident: $id:literal $origin:ident $severity:ident $kind:ident;)+) => {
        use super::Rule;
        use crate::encryption_config::finding::{Kind, Origin, Severity};
        use crate::page::Comment;

        // Without the comment, whose examples rustdoc would take for Rust.
        $(pub(in crate::encryption_config) const $name: &Rule = &Rule {
            id: $id,
            origin: Origin::$origin,
            severity: Severity::$severity,
            kind: Kind::$kind,
            comment: Comment(concat!($($line, "\n"),+)),
        };)+

        pub(super) const ALL: &[&Rule] = &[$($name),+];
    };
}

mod decoding;
mod lints;
mod validation;

pub(super) use self::decoding::*;
pub(super) use self::lints::*;
pub(super) use self::validation::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_in_order() {
        let ids: Vec<_> = Rule::all().map(|rule| rule.id).collect();
        for table in [decoding::ALL, validation::ALL, lints::ALL] {
            assert!(table.is_sorted_by(|a, b| a.id < b.id));
        }
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
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
            assert!((2..=25).contains(&lines), "{id} has {lines} lines");
            assert!(
                !page.starts_with([' ', '\n']),
                "{id} begins with its example"
            );
            assert!(
                page.lines().all(|line| line.len() <= 100),
                "{id} has long lines"
            );
        }
    }

    #[test]
    fn ids_are_found_in_any_case() {
        assert_eq!(Rule::find("ar-c018").map(|rule| rule.id), Some("AR-C018"));
        assert!(Rule::find("AR-C01").is_none());
        assert_eq!(Rule::nearest("C18").map(|rule| rule.id), Some("AR-C018"));
    }
}
