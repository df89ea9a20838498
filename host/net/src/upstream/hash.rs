//! Hashes that all workers, and the next run, agree on.

use crate::upstream::health::WHOLE;

/// Returns the score of a server for a key. `name` is the hash of the server's
/// name. By the score's form, each server is the best for a share of keys as
/// large as its weight.
pub(super) fn score(key: &[u8], name: u64, weight: u32) -> f64 {
    let hash = mix(fnv(key) ^ name);
    // From 0 to 1, neither included.
    let share = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / share.ln()
}

/// Returns a number below [`WHOLE`], as if at random, for the turn of a choice.
pub(super) fn lot(turn: u64) -> u32 {
    // The rest is below `WHOLE`.
    u32::try_from(mix(turn) % u64::from(WHOLE)).unwrap_or(0)
}

/// Returns the hash of a server's name.
pub(super) fn of_name(name: &str) -> u64 {
    mix(fnv(name.as_bytes()))
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of splitmix64, after which all bits depend on all.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
