//! Random sequences of edits.

use proptest::prelude::*;

use crate::random_edits::{Outcome, sequence};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_edits_touch_nothing_else(seed in any::<u64>()) {
        sequence(seed, |_| true);
    }
}

#[test]
fn edits_are_hardly_ever_refused() {
    let mut all = Outcome::default();
    for seed in 0..60 {
        let outcome = sequence(seed, |_| true);
        all.edits += outcome.edits;
        all.refused += outcome.refused;
    }
    assert!(all.refused * 100 < all.edits, "{all:?}");
}

/// What earlier runs stumbled over.
#[test]
fn seeds_that_failed_before() {
    for seed in [
        1_795_402_080_063_283_090,
        17_656_895_842_737_639_119,
        1_795_538_622_098_995_386,
        1_795_540_786_515_059_057,
    ] {
        sequence(seed, |_| true);
    }
}
