//! What NVIDIA's driver means by an Xid, its number for something that went wrong on a GPU: whether what ran there is to
//! blame, or the GPU.
//!
//! After NVIDIA's catalog, <https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html>: what it answers with
//! the restart of the application is the application's; what it answers with a reset, a drain or a call for service is the
//! GPU's. The list of the application's is the one that NVIDIA's device plugin for Kubernetes passes over.

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// What was rendered, or the renderer: the GPU goes on.
    Application,
    /// The GPU, its board or its link: nothing more is done there until somebody has looked at it.
    Hardware,
    /// Not to be known from the number alone: what the task makes of it decides.
    Unclear,
}

/// Sorted by number.
const KNOWN: [(u32, Blame, &str); 20] = [
    (13, Blame::Application, "an exception of the graphics engine"),
    (31, Blame::Application, "a fault of a GPU memory page"),
    (43, Blame::Application, "it stopped processing for this process"),
    (45, Blame::Application, "a channel was cleaned up after an earlier fault"),
    (46, Blame::Hardware, "it stopped processing"),
    (48, Blame::Hardware, "an uncorrectable memory error"),
    (61, Blame::Hardware, "a breakpoint of its micro-controller"),
    (62, Blame::Hardware, "its micro-controller halted"),
    (63, Blame::Hardware, "a memory row or page is to be retired"),
    (64, Blame::Hardware, "a memory row or page could not be retired"),
    (68, Blame::Application, "an exception of the video decoder"),
    (74, Blame::Hardware, "an error of its NVLink"),
    (79, Blame::Hardware, "it has fallen off the bus"),
    (94, Blame::Hardware, "an uncorrectable memory error that was contained"),
    (95, Blame::Hardware, "an uncorrectable memory error that was not contained"),
    (109, Blame::Application, "a timeout of a context switch"),
    (119, Blame::Hardware, "its system processor does not answer"),
    (120, Blame::Hardware, "an error of its system processor"),
    (140, Blame::Hardware, "an unrecovered memory error"),
    (143, Blame::Hardware, "it could not be initialized"),
];

pub fn blame(xid: u32) -> Blame {
    KNOWN.iter().find(|(known, _, _)| *known == xid).map_or(Blame::Unclear, |(_, blame, _)| *blame)
}

/// `Xid 79 (it has fallen off the bus)`
pub fn describe(xid: u32) -> String {
    match KNOWN.iter().find(|(known, _, _)| *known == xid) {
        Some((_, _, words)) => format!("Xid {xid} ({words})"),
        None => format!("Xid {xid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_device_plugin_passes_over_is_the_applications_and_what_needs_a_reset_is_not() {
        for xid in [13, 31, 43, 45, 68, 109] {
            assert_eq!(blame(xid), Blame::Application, "{xid}");
        }
        for xid in [46, 48, 61, 62, 63, 64, 74, 79, 94, 95, 119, 120, 140, 143] {
            assert_eq!(blame(xid), Blame::Hardware, "{xid}");
        }
        for xid in [0, 1, 42, 9999, u32::MAX] {
            assert_eq!(blame(xid), Blame::Unclear, "{xid}");
        }
    }

    #[test]
    fn each_number_is_known_once() {
        assert!(KNOWN.is_sorted_by(|left, right| left.0 < right.0));
        assert_eq!(describe(79), "Xid 79 (it has fallen off the bus)");
        assert_eq!(describe(7), "Xid 7");
    }
}
