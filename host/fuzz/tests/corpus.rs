//! Checks the inputs of the corpus, which must keep the invariants of the parser.
//! `.ci/long fuzz` looks for new inputs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

type Check = fn(&[u8]);

#[test]
fn each_input_of_the_corpus_keeps_the_invariants_of_the_parser() {
    let checks: [(&str, Check); 3] = [
        ("head", netwasm_fuzz::head),
        ("chunked", netwasm_fuzz::chunked),
        ("against_hyper", netwasm_fuzz::against_hyper),
    ];
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, check) in checks {
        let entries = fs::read_dir(corpus.join(name)).expect("a corpus");
        let mut tried = 0;
        for entry in entries {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("an input");
            let kept = catch_unwind(AssertUnwindSafe(|| check(&input)));
            assert!(kept.is_ok(), "{} breaks an invariant", path.display());
            tried += 1;
        }
        assert!(tried > 10, "{name} has {tried} inputs");
    }
}
