//! Every input that the fuzzer found worth keeping, and every one that once broke something, on each run.

use framewake_fuzz::{TARGETS, corpus, seeds};

#[test]
fn nothing_in_the_corpus_breaks_what_must_hold() {
    for target in TARGETS {
        for seed in seeds::of(target.name) {
            (target.check)(&seed);
        }
        for input in corpus::read(target.name).expect("the corpus is whole") {
            (target.check)(&input);
        }
    }
}
