//! YAML from outside, read within bounds: a file of a kilobyte must not unfold to a gigabyte.

use serde::de::DeserializeOwned;

/// Reads one document. Aliases may repeat what is there, but not multiply it.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // A job file has no use for aliases that unfold to more than the file itself may hold.
        budget: serde_saphyr::budget! {
            max_aliases: 1000,
            max_anchors: 1000,
            max_nodes: 100_000,
            max_total_scalar_bytes: 4 * 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    };
    serde_saphyr::from_str_with_options(text, options)
}
