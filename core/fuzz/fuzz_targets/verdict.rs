//! The parser and the rules alone, for speed: any bytes get a verdict.
#![no_main]

use atrest_core::encryption_config::judge;
use atrest_fuzz::{abort_on_panics_of_ours, check_stage, servers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: abort_on_panics_of_ours(),
    |source: &[u8]| {
        let servers = servers();
        let server = &servers[source.len() % servers.len()];
        check_stage(source, &judge(source, server));
    }
);
