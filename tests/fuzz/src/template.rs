//! Output templates: whatever is accepted names files inside the job's folder, each task another.

use framewake_proto::frames::FRAME_MAX;
use framewake_proto::job::check_relative;
use framewake_proto::template::{OutputTemplate, PADDING_MAX, TEMPLATE_LEN_MAX, TemplateError};
use std::collections::HashMap;

const FRAMES: [i64; 11] = [0, 1, 2, 9, 10, 100, 12345, -1, -12345, FRAME_MAX, -FRAME_MAX];

/// A byte for the number of tasks, then one template a line.
pub fn check(data: &[u8]) {
    let Some((tasks, text)) = super::choice_and_text(data) else { return };
    let mut good: Vec<OutputTemplate> = Vec::new();
    for line in text.split('\n').take(8) {
        match OutputTemplate::parse(line, u32::from(tasks) + 1) {
            Ok(template) => {
                check_names(line, &template, tasks);
                good.push(template);
            }
            Err(error) => check_error(&error),
        }
    }
    for (at, one) in good.iter().enumerate() {
        for other in &good[..at] {
            let met = FRAMES.iter().any(|frame| FRAMES.iter().any(|of| one.name(*frame) == other.name(*of)));
            assert!(!met || (one.may_meet(other) && other.may_meet(one)), "{one} and {other} give one name");
        }
    }
}

fn check_names(line: &str, template: &OutputTemplate, tasks: u8) {
    let printed = template.to_string();
    let again = OutputTemplate::parse(&printed, u32::from(tasks) + 1);
    assert_eq!(again.as_ref(), Ok(template), "{line:?} prints as {printed:?}");
    assert!(template.has_frame() || tasks == 0, "{line:?}");
    let mut seen = HashMap::new();
    for frame in FRAMES {
        let name = template.name(frame);
        check_name(&name, line);
        if template.has_frame() {
            let other = seen.insert(name, frame);
            assert_eq!(other, None, "{line:?} gives two frames one name");
        }
    }
}

/// A name that stays in its folder, on any file system and in any store.
pub fn check_name(name: &str, line: &str) {
    check_relative(name).unwrap_or_else(|reason| panic!("{line:?} gives {name:?}: {reason}"));
    assert!(name.len() <= TEMPLATE_LEN_MAX + PADDING_MAX, "{line:?}");
    for part in name.split('/') {
        // 255 is what file systems take; the rest is for the marks that stores and writers add.
        assert!(part.len() <= 220, "{line:?} gives a part of {} bytes", part.len());
    }
    assert!(name.rsplit_once('.').is_some_and(|(_, extension)| !extension.contains('/')), "{line:?}");
}

fn check_error(error: &TemplateError) {
    assert!(error.to_string().len() < 300, "an error quotes a bounded part");
}
