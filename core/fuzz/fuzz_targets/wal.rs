//! Whatever the bytes of a log are: it is read or refused, and what it does to a keyspace fits together.
#![no_main]

use atrest_core::etcd::{Log, Replay, Standing};
use atrest_proto::mvccpb::KeyValue;
use atrest_proto::wal::Record;
use libfuzzer_sys::fuzz_target;
use prost::Message;

const REVISION: i64 = 100;

fuzz_target!(|input: &[u8]| {
    let [how, applied, bytes @ ..] = input else {
        return;
    };
    let mended = how & 1 == 1;
    let (is_only_member, is_cut, is_hostile) = (how & 2 == 2, how & 4 == 4, how & 8 == 8);
    let standing = standing(how >> 4);
    let mut crc = 0;
    let mut log = Log::new(u64::from(*applied));
    // One segment, or two.
    let (first, second) = bytes.split_at(if is_cut { bytes.len() / 16 * 8 } else { 0 });
    for (segment, is_last) in [(first, false), (second, true)] {
        let segment = match mended {
            true => mend(segment, &mut crc),
            false => segment.to_vec(),
        };
        // The room behind what is written to the last one.
        let segment = match is_last {
            true => [&segment[..], &[0; 16]].concat(),
            false => segment,
        };
        if let Err(error) = log.read_segment(&mut &*segment, segment.len() as u64, is_last) {
            assert!(!error.to_string().is_empty());
            return;
        }
    }
    let members = if is_only_member { vec![1] } else { vec![1, 2] };
    let Ok((committed, open)) = log.entries(members.into_iter().collect()) else {
        return;
    };
    let in_order = committed.iter().chain(open);
    assert!(in_order.is_sorted_by(|one, next| one.index < next.index));
    let replay = match Replay::new(committed, standing) {
        Ok(replay) => replay,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    if replay.is_empty() {
        return;
    }
    let mut live: Vec<_> = live().filter(|pair| replay.wants(pair)).collect();
    if is_hostile {
        // What a damaged database says ends nothing either.
        for pair in &mut live {
            pair.version = i64::MAX;
        }
        replay.apply(live, i64::MAX);
        return;
    }
    let replayed = replay.apply(live, REVISION);
    let requests = committed.len() as i64;
    assert!((REVISION..=REVISION + requests).contains(&replayed.revision));
    let pairs = replayed.keys.values().flatten().chain(&replayed.superseded);
    for pair in pairs {
        assert!((REVISION + 1..=replayed.revision).contains(&pair.mod_revision));
        assert!(pair.create_revision <= pair.mod_revision && pair.version > 0);
    }
});

/// What else is in the database: leases of those keys, alarms, users.
fn standing(how: u8) -> Standing {
    let mut standing = Standing::default();
    let mut take = |bucket: &[u8], key: &[u8], value: &[u8]| {
        standing
            .take(bucket, key, value)
            .expect("a row as etcd writes it");
    };
    for lease in [1_i64, 2] {
        take(b"lease", &lease.to_be_bytes(), b"");
    }
    for (bit, kind) in [(1, 1), (2, 2)] {
        if how & bit == bit {
            take(b"alarm", &[8, 1, 16, kind], b"");
        }
    }
    take(b"auth", b"authEnabled", &[(how & 4) >> 2]);
    standing
}

/// What is in the database: keys of the seeds, one of them under a lease.
fn live() -> impl Iterator<Item = KeyValue> {
    let keys = [
        "/registry/secrets/default/db",
        "/registry/leases/a",
        "a",
        "",
    ];
    (1..).zip(keys).map(|(number, key)| KeyValue {
        key: key.into(),
        create_revision: number,
        mod_revision: 10 * number,
        version: number,
        value: b"old".to_vec(),
        lease: number - 1,
    })
}

/// Gives each record its checksum, which no fuzzer guesses.
fn mend(segment: &[u8], crc: &mut u32) -> Vec<u8> {
    const CHECKSUM: i64 = 4;

    let mut mended = Vec::new();
    let mut rest = segment;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u64::from_le_bytes(*length);
        let bytes = (length & !(0xff << 56)) as usize;
        let Some((frame, after)) = after.split_at_checked(bytes) else {
            break;
        };
        let Ok(mut record) = Record::decode(frame) else {
            break;
        };
        if record.r#type != CHECKSUM {
            *crc = crc32c::crc32c_append(*crc, &record.data);
        }
        record.crc = *crc;
        let record = record.encode_to_vec();
        let padding = (8 - record.len() % 8) % 8;
        let flags = if padding > 0 {
            0x80 | padding as u64
        } else {
            0
        };
        mended.extend((record.len() as u64 | flags << 56).to_le_bytes());
        mended.extend(&record);
        mended.resize(mended.len() + padding, 0);
        let padded = if length >> 63 == 1 {
            length >> 56 & 7
        } else {
            0
        };
        rest = after.get(padded as usize..).unwrap_or_default();
    }
    // What is no record any more, as it is.
    mended.extend(rest);
    mended
}
