#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| framewake_fuzz::names::check(data));
