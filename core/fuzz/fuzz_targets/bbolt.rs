//! Whatever the bytes of a database are: walking it ends, and gives no more than the file holds.
#![no_main]

use std::ops::ControlFlow;

use atrest_core::etcd::{Database, KEY_BUCKET, Row};
use libfuzzer_sys::fuzz_target;

const PAGE: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some((how, file)) = input.split_first() else {
        return;
    };
    let mut file = file.to_vec();
    if how & 1 == 1 {
        mend(&mut file);
    }
    let Ok(mut database) = Database::open(&file[..]) else {
        return;
    };
    let free = database.free_pages();
    if let Ok(free) = &free {
        assert!(free.is_sorted());
        assert!(free.len() as u64 * database.page_size() <= file.len() as u64);
    }
    // What is walked for its items is not walked twice.
    let Ok(mut database) = Database::open(&file[..]) else {
        panic!("it was opened before");
    };
    for bucket in [KEY_BUCKET, b"meta"] {
        let mut room = file.len();
        let walked: Result<ControlFlow<()>, _> =
            database.walk_backwards(bucket, &mut |key, value| {
                room = room
                    .checked_sub(key.len() + value.len())
                    .expect("it gives more than it has");
                let row = Row::parse(key, value);
                if let Ok(row) = row {
                    assert!(row.pair.key.len() <= value.len());
                }
                ControlFlow::Continue(())
            });
        if let Err(error) = walked {
            assert!(!error.to_string().is_empty());
        }
    }
});

/// Gives each page its own number and the meta pages their checksums, which no fuzzer guesses.
fn mend(file: &mut [u8]) {
    for (number, page) in (0_u64..).zip(file.chunks_exact_mut(PAGE)) {
        page[..8].copy_from_slice(&number.to_le_bytes());
    }
    for page in file.chunks_exact_mut(PAGE).take(2) {
        let meta = &mut page[16..80];
        meta[..4].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
        meta[4..8].copy_from_slice(&2_u32.to_le_bytes());
        meta[8..12].copy_from_slice(&(PAGE as u32).to_le_bytes());
        let sum = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        meta[56..].copy_from_slice(&sum.to_le_bytes());
    }
}
