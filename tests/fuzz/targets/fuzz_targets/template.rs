#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| framewake_fuzz::template::check(data));
