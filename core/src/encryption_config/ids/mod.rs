//! The rules: the id of each, how bad a breach is, and the page that explains it, which is its
//! comment. An id never changes its meaning.

use super::finding::{Kind, Origin, Severity};

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
    /// In Markdown. The first line says what it is, the rest why, and what to do.
    pub page: &'static str,
}

impl Rule {
    /// Every rule, in the order of the ids.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let tables = [decoding::ALL, validation::ALL, lints::ALL];
        tables.into_iter().flatten().copied()
    }

    /// What the rule is about, in one line.
    pub fn title(&self) -> &'static str {
        self.page.lines().next().unwrap_or_default().trim()
    }
}

macro_rules! table {
    ($($(#[doc = $line:literal])+ $name:ident: $id:literal $origin:ident $severity:ident $kind:ident;)+) => {
        use super::Rule;
        use crate::encryption_config::finding::{Kind, Origin, Severity};

        $($(#[doc = $line])+
        pub(in crate::encryption_config) const $name: &Rule = &Rule {
            id: $id,
            origin: Origin::$origin,
            severity: Severity::$severity,
            kind: Kind::$kind,
            page: concat!($($line, "\n"),+),
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
    fn every_rule_has_a_title_in_one_sentence() {
        for rule in Rule::all() {
            assert!(rule.title().ends_with('.'), "{}: {}", rule.id, rule.title());
        }
    }
}
