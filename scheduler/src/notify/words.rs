//! Notices in words, for mail and chats.

use framewake_proto::api::LateDeadline;
use framewake_proto::budget::Standing;
use framewake_proto::job::AtLimit;
use framewake_proto::notify::{BudgetNotice, ErrorNotice, JobNotice, Notice};
use std::fmt::Write as _;

/// One line that says it all.
pub(super) fn headline(notice: &Notice) -> String {
    match notice {
        Notice::Succeeded(JobNotice { name, .. }) => format!("job {name} is done"),
        Notice::Failed(JobNotice { name, tasks, .. }) => {
            format!("job {name} failed: {} of {} frames", tasks.failed, tasks.total)
        }
        Notice::FirstError(ErrorNotice { name, frame, message, .. }) => {
            format!("first error of job {name}, frame {frame}: {message}")
        }
        Notice::Late { schedule, due, deadline, .. } => {
            let missed = match deadline {
                LateDeadline::Start => "had not begun by its deadline",
                LateDeadline::Finish => "was not over by its deadline",
            };
            format!("the run of schedule {schedule} due {due} {missed}")
        }
        Notice::Missed { schedule, due, reason, .. } => {
            format!("schedule {schedule} made no job for {due}: {reason}")
        }
        Notice::Budget(notice) => budget(notice),
        Notice::Test { target } => format!("a test of target {target}: it works"),
    }
}

fn budget(BudgetNotice { project, name, period, month, job, standing, spent, limit, .. }: &BudgetNotice) -> String {
    let whose = match (job, month, period) {
        (Some(_), ..) => format!("job {name}"),
        (None, Some(month), _) => format!("project {project} for {month}"),
        (None, None, _) => format!("project {project} in all"),
    };
    let how = match standing {
        Standing::Fine | Standing::Warned => "goes to its end",
        Standing::UsedUp => "is used up",
    };
    format!("the budget of {whose} {how}: {spent} of {limit} is spent")
}

/// Everything, a line each.
pub(super) fn text(notice: &Notice) -> String {
    let mut text = headline(notice);
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _a_string_takes_all = write!(text, "\n{name}: {value}");
    };
    match notice {
        Notice::Succeeded(JobNotice { job, project, tasks, failure, .. })
        | Notice::Failed(JobNotice { job, project, tasks, failure, .. }) => {
            line("project", project);
            line("frames", &format!("{} done, {} failed, of {}", tasks.done, tasks.failed, tasks.total));
            if let Some(failure) = failure {
                line(failure.verdict.as_str(), &failure.message);
            }
            line("see", &format!("framewake job {job}"));
        }
        Notice::FirstError(ErrorNotice { job, project, step, attempt, verdict, again, .. }) => {
            line("project", project);
            line("step", step);
            line("verdict", verdict);
            line("tried again", &if *again { "yes" } else { "no" });
            line("see", &format!("framewake logs {job} --attempt {attempt}"));
        }
        Notice::Late { project, job, schedule, .. } => {
            line("project", project);
            if let Some(job) = job {
                line("see", &format!("framewake job {job}"));
            } else {
                line("see", &format!("framewake schedules show {schedule}"));
            }
        }
        Notice::Missed { project, schedule, .. } => {
            line("project", project);
            line("see", &format!("framewake schedules runs {schedule}"));
        }
        Notice::Budget(BudgetNotice { project, job, at_limit, standing, .. }) => {
            line("project", project);
            let held = *standing == Standing::UsedUp && *at_limit != AtLimit::Warn;
            line("work goes on", &if held { "no" } else { "yes" });
            match job {
                Some(job) => line("see", &format!("framewake explain {job}")),
                None => line("see", &"framewake budgets"),
            }
        }
        Notice::Test { .. } => {}
    }
    text
}

/// Text in which Slack sees no links, mentions or markup of others' making.
pub(super) fn slack(notice: &Notice) -> String {
    text(notice).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use framewake_proto::api::TaskCounts;
    use framewake_proto::ids::JobId;

    #[test]
    fn a_job_named_by_a_joker_mentions_nobody_in_slack() {
        let tasks = TaskCounts { total: 7, failed: 2, ..TaskCounts::default() };
        let (name, project) = ("<!channel> & <https://evil.example|click>".to_owned(), "film".parse().expect("a name"));
        let notice = Notice::Failed(JobNotice { job: JobId(0.into()), name, project, tasks, failure: None });
        let text = slack(&notice);
        let escaped =
            "job &lt;!channel&gt; &amp; &lt;https://evil.example|click&gt; failed: 2 of 7 frames\nproject: film";
        assert!(text.starts_with(escaped), "{text}");
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
    }
}
