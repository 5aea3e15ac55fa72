//! Against h2 itself.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::*;

/// The lengths of the codes of all bytes in HPACK's Huffman code, in bits (RFC 7541, appendix B).
const LENGTHS: [u32; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
];

/// The code is canonical: the lengths say it all.
fn code(byte: u8) -> (u32, u64) {
    let mut order: Vec<usize> = (0..256).collect();
    order.sort_by_key(|byte| LENGTHS[*byte]);
    let (mut next, mut bits) = (0_u64, 0);
    for symbol in order {
        let length = LENGTHS[symbol];
        next <<= length - bits;
        bits = length;
        if symbol == usize::from(byte) {
            break;
        }
        next += 1;
    }
    (bits, next)
}

fn huffman(text: &[u8]) -> Vec<u8> {
    let mut bits = String::new();
    for byte in text {
        let (length, code) = code(*byte);
        bits += &format!("{code:0length$b}", length = length as usize);
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let bytes = bits.as_bytes().chunks(8);
    bytes
        .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | (bit - b'0')))
        .collect()
}

/// As Go's encoder writes a string: by the code where that is shorter.
fn string(text: &[u8], encoded: bool) -> Vec<u8> {
    let short = huffman(text);
    let (flag, bytes) = match encoded && short.len() < text.len() {
        true => (0x80, short),
        false => (0, text.to_vec()),
    };
    let mut string = match bytes.len() {
        length @ ..127 => vec![flag | length as u8],
        // Two bytes more: enough for 16,510.
        length => {
            let rest = length - 127;
            vec![flag | 127, 0x80 | (rest % 128) as u8, (rest / 128) as u8]
        }
    };
    string.extend(bytes);
    string
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

/// A connection with two requests, as grpc-go sends them: the second one refers to the first one's
/// header fields by the dynamic table.
fn requests(authority: &[u8], encoded: bool, first: bool) -> Vec<u8> {
    let field = |index: u8, value: &[u8]| {
        let mut field = vec![0x40 | index];
        field.extend(string(value, encoded));
        field
    };
    let path = field(4, b"/v2.KeyManagementService/Status");
    let authority = field(1, authority);
    let order = match first {
        true => [authority, path],
        false => [path, authority],
    };
    // POST, http, the two, and two fields.
    let head = [
        &[0x83, 0x86][..],
        &order.concat(),
        &field(31, b"application/grpc"),
        &field(58, b"grpc-go/1.51.0"),
    ]
    .concat();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[]));
    // END_HEADERS and END_STREAM.
    sent.extend(frame(1, 5, 1, &head));
    sent.extend(frame(1, 5, 3, &[0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe]));
    sent
}

fn connection<S>(stream: S) -> Connection<S> {
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Connection::new(stream, room)
}

/// What h2 makes of what is sent in pieces: the authority of each request that it takes.
fn authorities(sent: &[u8], piece: usize) -> Vec<Option<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut server = h2::server::handshake(connection(server)).await.unwrap();
            while let Some(Ok((request, mut respond))) = server.accept().await {
                assert_eq!(request.headers()["user-agent"], "grpc-go/1.51.0");
                assert_eq!(request.uri().path(), "/v2.KeyManagementService/Status");
                taken.push(request.uri().authority().map(ToString::to_string));
                let response = h2::server::SendResponse::send_response(
                    &mut respond,
                    tonic::codegen::http::Response::new(()),
                    true,
                );
                response.unwrap();
            }
            taken
        });
        for piece in sent.chunks(piece) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers).await;
        serving.await.unwrap()
    })
}

/// What grpc-go sends for `unix:///run/atrest-kms/kms.sock`, and names that nobody should choose.
#[test]
fn l03_an_authority_may_be_a_path_or_a_percent_encoded_one() {
    for authority in [
        "localhost",
        "/run/atrest-kms/kms.sock",
        "%2Frun%2Fatrest-kms%2Fkms.sock",
        "@atrest-kms",
        "/run/a b/[1]/x@y/1:2:3/{~}/#?\\",
        "/run/\u{fc}ber/\u{1f511}",
    ] {
        for (encoded, first) in [(true, false), (true, true), (false, false)] {
            let sent = requests(authority.as_bytes(), encoded, first);
            let taken = authorities(&sent, sent.len());
            assert_eq!(taken.len(), 2, "{authority}");
            for taken in taken {
                assert_eq!(taken.unwrap().len(), authority.len(), "{authority}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_the_authority_is_both_sides_keep_the_same_table(
        authority in vec(any::<u8>(), 1..300),
        encoded: bool,
        first: bool,
        piece in 1_usize..200,
    ) {
        let sent = requests(&authority, encoded, first);
        let taken = authorities(&sent, piece);
        prop_assert_eq!(taken.len(), 2);
        for taken in taken {
            prop_assert_eq!(taken.map(|taken| taken.len()), Some(authority.len()));
        }
    }
}

#[tokio::test]
async fn what_is_cut_off_is_passed_on_at_the_end() {
    let sent = requests(b"/kms.sock", true, false);
    let cut = &sent[..sent.len() - 3];
    let mut passing = connection(cut);
    let mut passed = Vec::new();
    passing.read_to_end(&mut passed).await.unwrap();
    assert_eq!(passed.len(), cut.len());
    assert_eq!(passed[passed.len() - 12..], cut[cut.len() - 12..]);
}

#[tokio::test]
async fn a_buffer_without_room_is_not_the_end() {
    let sent = requests(b"/kms.sock", true, false);
    let (first, second) = sent.split_at(60);
    let mut passing = connection(first.chain(second));
    let mut passed = Vec::new();
    loop {
        let none = std::future::poll_fn(|context| {
            let mut none = ReadBuf::new(&mut []);
            Pin::new(&mut passing).poll_read(context, &mut none)
        });
        none.await.unwrap();
        let mut few = [0; 7];
        match passing.read(&mut few).await.unwrap() {
            0 => break,
            length => passed.extend_from_slice(&few[..length]),
        }
    }
    let mut whole = Vec::new();
    connection(&sent[..]).read_to_end(&mut whole).await.unwrap();
    assert_eq!(passed, whole);
    assert_ne!(passed, sent);
}
