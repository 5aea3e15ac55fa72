//! Whatever the bytes of a database are: walking it ends, and gives no more than the file holds; so
//! does the search of what no page leads to.
#![no_main]

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use atrest_core::at_rest::{Part, Residue};
use atrest_core::encryption_config::{EncryptionConfiguration, Server, judge};
use atrest_core::etcd::{Database, KEY_BUCKET, Newest, Row};
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
    let directory = b"/registry/secrets/".to_vec();
    let mut residue = Residue::new(Some(&CONFIGURATION), [directory]);
    if let Ok(free) = database.free_bytes() {
        assert!(free.is_sorted_by(|one, next| one.end < next.start));
        for bytes in free {
            let bytes = bytes.start as usize..bytes.end as usize;
            assert!(bytes.start < bytes.end && bytes.end <= file.len());
            residue.scan(Part::Freed, &file, bytes);
        }
    }
    let freed = found(&residue);
    residue.scan(Part::Other, &file, 0..file.len());
    // What is in a part is in the whole, and nothing is there twice.
    assert!(freed <= found(&residue) - freed && found(&residue) - freed <= file.len() as u64);

    for bucket in [KEY_BUCKET, b"meta"] {
        let mut room = file.len();
        let (mut newest, mut seen) = (Newest::since(2), HashSet::new());
        let walked: Result<ControlFlow<()>, _> =
            database.walk_backwards(bucket, &mut |key, value| {
                room = room
                    .checked_sub(key.len() + value.len())
                    .expect("it gives more than it has");
                let row = Row::parse(key, value);
                if let Ok(row) = row {
                    residue.add(Part::Live, &row.pair.key, &row.pair.value);
                    assert!(row.pair.key.len() <= value.len());
                    // Whatever a file says: no key is passed over.
                    let is_newest = newest.is_newest(&row);
                    let is_first = seen.insert(row.pair.key);
                    assert!(is_newest || !is_first);
                }
                ControlFlow::Continue(())
            });
        if let Err(error) = walked {
            assert!(!error.to_string().is_empty());
        }
    }
});

/// One of the kit's.
static CONFIGURATION: LazyLock<EncryptionConfiguration> = LazyLock::new(|| {
    let server = Server {
        kmsv1: true,
        ..Server::default()
    };
    let file = include_bytes!("../../../tests/corpus/at-rest/every.yaml");
    let configuration = judge(file, &server).configuration;
    configuration.expect("the kit's configurations are accepted")
});

fn found(residue: &Residue) -> u64 {
    residue.copies().map(|copies| copies.residue()).sum()
}

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
