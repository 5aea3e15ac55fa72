use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn what_is_filled_in_has_as_many_characters() {
    for bytes in 1..=80_usize {
        for characters in bytes..=bytes * 8 / 5 {
            let mut filled = vec![0; bytes];
            fill(&mut filled, characters);
            assert_eq!(count(&filled), Some(characters), "{bytes} bytes");
        }
    }
}

#[test]
fn what_is_no_huffman_code_is_not_counted() {
    // A second byte of padding, padding of zeros, and a character that is cut off.
    for bytes in [&[0xff, 0xff][..], &[0x18], &[0xff, 0xe0]] {
        assert_eq!(count(bytes), None, "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic_and_where_they_are_cut_is_no_matter(
        kinds in vec((0_u8..12, any::<u8>(), vec(any::<u8>(), 0..60)), 0..6),
        cuts in vec(1_usize..40, 1..8),
        tail in vec(any::<u8>(), 0..30),
    ) {
        let mut sent = vec![0; PREFACE];
        for (kind, flags, payload) in &kinds {
            let length = payload.len() as u8;
            sent.extend([0, 0, length, *kind, *flags, 0, 0, 0, 1]);
            sent.extend(payload);
        }
        sent.extend(tail);

        let mut whole = sent.clone();
        let released = Frames::new().pass(&mut whole);
        let mut frames = Frames::new();
        let (mut passed, mut held) = (Vec::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = later;
            held.extend_from_slice(now);
            let ready = frames.pass(&mut held);
            passed.extend(held.drain(..ready));
        }
        prop_assert_eq!(&passed, &whole[..released]);
        prop_assert_eq!(&held, &whole[released..]);
        prop_assert_eq!(passed.len() + held.len(), sent.len());
    }

    #[test]
    fn foreign_header_blocks_never_panic(bytes in vec(any::<u8>(), 0..400), flags: u8) {
        let mut bytes = bytes;
        let _ = headers(flags, &mut bytes);
    }
}
