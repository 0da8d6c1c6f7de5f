//! What each kind of client may do on NATS: the subjects that it may publish on and hear. Everything else is refused by the server.

use crate::ids::{FunctionKey, FunctionRef, WorkerId};
use crate::subjects::Subjects;

/// Subjects, with wildcards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
}

/// Whom a join token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joiner {
    /// One worker, that the farm has named.
    Worker(FunctionKey, WorkerId),
    /// Workers of a function, or of one version of it.
    Function(FunctionRef),
    /// Workers of any function.
    Any,
}

impl Permissions {
    /// A worker: takes orders of its function, asks and reports as itself, hears answers and what is wanted of it.
    pub fn of_worker(subjects: &Subjects, function: &FunctionKey, worker: &WorkerId) -> Permissions {
        let (stream, consumer) = (subjects.orders_stream(), subjects.orders_consumer(function));
        Permissions {
            publish: vec![
                subjects.hello(function, worker),
                subjects.claim(function, worker),
                subjects.heartbeat(function, worker),
                subjects.renewal(function, worker),
                subjects.sign(function, worker),
                subjects.report(worker),
                subjects.logs_of_worker(worker),
                format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
                format!("$JS.ACK.{stream}.{consumer}.>"),
            ],
            subscribe: vec![subjects.control(worker), format!("{}.>", subjects.inbox(worker))],
        }
    }

    /// Who has a join token asks for a credential, and nothing else.
    pub fn of_joiner(subjects: &Subjects, joiner: &Joiner) -> Permissions {
        Permissions {
            publish: vec![subjects.joins_of(joiner)],
            subscribe: vec![format!("{}.>", subjects.joining_inbox())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As NATS compares a subject with one that may have wildcards.
    fn covers(pattern: &str, subject: &str) -> bool {
        let (mut patterns, mut parts) = (pattern.split('.'), subject.split('.'));
        loop {
            match (patterns.next(), parts.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(pattern), Some(part)) if pattern == "*" || pattern == part => {}
                _ => return false,
            }
        }
    }

    fn check(allowed: &[String], subject: &str, expected: bool) {
        let found = allowed.iter().any(|pattern| covers(pattern, subject));
        assert_eq!(found, expected, "{subject} under {allowed:?}");
    }

    fn subjects() -> Subjects {
        Subjects::new("farm".parse().expect("a good name"))
    }

    #[test]
    fn a_worker_speaks_as_itself_and_takes_orders_of_its_function() {
        let (worker, other): (WorkerId, WorkerId) = ("w1".parse().expect("good"), "w11".parse().expect("good"));
        let function: FunctionKey = "blender@2".parse().expect("good");
        let job = "01M7YBE5W3BJA9VTCNGZ3R5X34".parse().expect("good");
        let attempt = "7.1".parse().expect("good");
        let may = Permissions::of_worker(&subjects(), &function, &worker);
        for (who, expected) in [(&worker, true), (&other, false)] {
            for other in ["blender@1", "povray@2"] {
                check(&may.publish, &subjects().claim(&other.parse().expect("good"), who), false);
            }
            for subject in [
                subjects().hello(&function, who),
                subjects().claim(&function, who),
                subjects().heartbeat(&function, who),
                subjects().renewal(&function, who),
                subjects().sign(&function, who),
                subjects().report(who),
                subjects().log(who, job, attempt),
            ] {
                check(&may.publish, &subject, expected);
            }
            check(&may.subscribe, &subjects().control(who), expected);
            check(&may.subscribe, &format!("{}.abc.1", subjects().inbox(who)), expected);
        }
        for (consumer, expected) in [("blender-2", true), ("blender-1", false), ("povray-2", false)] {
            check(&may.publish, &format!("$JS.API.CONSUMER.MSG.NEXT.FARM_ORDERS.{consumer}"), expected);
            check(&may.publish, &format!("$JS.API.CONSUMER.INFO.FARM_ORDERS.{consumer}"), expected);
            check(&may.publish, &format!("$JS.ACK.FARM_ORDERS.{consumer}.1.2.3.4.5"), expected);
        }
        for subject in [
            "$JS.API.STREAM.LIST",
            "$JS.API.STREAM.PURGE.FARM_ORDERS",
            "$JS.API.STREAM.DELETE.FARM_REPORTS",
            "$JS.API.STREAM.MSG.GET.FARM_REPORTS",
            "$JS.API.CONSUMER.CREATE.FARM_ORDERS.mine",
            "$JS.API.CONSUMER.DELETE.FARM_ORDERS.blender-2",
            "farm.owner",
            "farm.control.w1",
            "farm.orders.blender.2.x",
            "farm.join.blender.2.w1",
        ] {
            check(&may.publish, subject, false);
        }
        for subject in [
            ">",
            "farm.>",
            "_INBOX.>",
            "farm.control.*",
            "farm.orders.>",
            "farm.joining.x.y",
            "farm.hello.blender.2.w1",
        ] {
            check(&may.subscribe, subject, false);
        }
    }

    #[test]
    fn a_join_token_joins_and_nothing_else() {
        let (w1, w2): (WorkerId, WorkerId) = ("w1".parse().expect("good"), "w2".parse().expect("good"));
        let (first, second, other) = ("f@1", "f@2", "g@1");
        let cases = [
            (Joiner::Worker(first.parse().expect("good"), w1.clone()), vec![(first, &w1)]),
            (Joiner::Function("f@1".parse().expect("good")), vec![(first, &w1), (first, &w2)]),
            (
                Joiner::Function("f".parse().expect("good")),
                vec![(first, &w1), (first, &w2), (second, &w1), (second, &w2)],
            ),
        ];
        for (joiner, allowed) in cases {
            let may = Permissions::of_joiner(&subjects(), &joiner);
            for function in [first, second, other] {
                for worker in [&w1, &w2] {
                    let subject = subjects().join(&function.parse().expect("good"), worker);
                    check(&may.publish, &subject, allowed.contains(&(function, worker)));
                }
            }
            for subject in [
                "farm.hello.f.1.w1",
                "farm.claim.f.1.w1",
                "farm.renewal.f.1.w1",
                "$JS.API.CONSUMER.MSG.NEXT.FARM_ORDERS.f-1",
            ] {
                check(&may.publish, subject, false);
            }
            check(&may.subscribe, "farm.inbox.w1.x.y", false);
            check(&may.subscribe, "farm.control.w1", false);
        }
        let any = Permissions::of_joiner(&subjects(), &Joiner::Any);
        check(&any.publish, &subjects().join(&other.parse().expect("good"), &w2), true);
        check(&any.publish, "farm.hello.g.1.w2", false);
    }

    #[test]
    fn a_subject_says_who_speaks() {
        let (worker, function): (WorkerId, FunctionKey) = ("w1".parse().expect("good"), "f@3".parse().expect("good"));
        for subject in [subjects().hello(&function, &worker), subjects().join(&function, &worker)] {
            assert_eq!(subjects().asker(&subject), Some((function.clone(), worker.clone())), "{subject}");
        }
        assert_eq!(subjects().reporter(&subjects().report(&worker)), Some(worker));
        for other in [
            "farm.hello.w1",
            "farm.hello.f.x.w1",
            "farm.hello.f.3.w1.w2",
            "other.hello.f.3.w1",
            "farm.hello.f.3.W 1",
            "",
        ] {
            assert_eq!(subjects().asker(other), None, "{other}");
        }
        for other in ["farm.reports.w1.x", "farm.control.w1", "reports.w1", "farm.reports."] {
            assert_eq!(subjects().reporter(other), None, "{other}");
        }
    }
}
