//! What is done once a batch is durable: orders go out, callers are answered, workers are started.

use super::batch::{Batch, Reply};
use super::{Engine, ProviderCommand, QueueCommand, Refused};
use framewake_core::effect::{ClaimAnswer, Control, Effect};
use framewake_core::values::Place;
use framewake_proto::ids::JobId;
use framewake_proto::order::StepOrder;
use framewake_proto::schedule::ScheduleStored;
use framewake_proto::tasks::TaskSet;
use framewake_proto::wire;
use prost::Message as _;
use tracing::info;

/// A request on NATS that waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) subject: String,
    pub(crate) want_step: bool,
}

impl Engine {
    pub(super) fn perform(&mut self, batch: Batch) {
        for key in batch.new_functions() {
            self.ask_queue(QueueCommand::AddFunction(key.clone()));
        }
        if let Some(token) = batch.report_token {
            self.ask_queue(QueueCommand::AckReports(token));
        }
        self.show_deployments(&batch);
        self.begin_scans(&batch);
        self.wake_deliveries(batch.targets_changed, &batch.wakes);
        for ended in batch.ended {
            self.ask_queue(QueueCommand::WorkerEnded(ended));
        }
        for effect in batch.applied.effects {
            self.perform_effect(effect);
        }
        for reply in batch.replies {
            self.answer(reply);
        }
    }

    fn perform_effect(&mut self, effect: Effect) {
        match effect {
            Effect::PublishOrder { attempt, function, job, step } => {
                self.metrics.farm.order_published(&function.name);
                let trace = self.traces.as_ref().and_then(|traces| traces.order(job, step, attempt));
                let step = u32::try_from(step).expect("a job has at most STEPS_MAX steps");
                self.ask_queue(QueueCommand::PublishOrder { function, job, step, attempt, trace });
            }
            Effect::AnswerClaim { request, answer } => {
                let Some(waiting) = self.waiting.remove(&request.0) else { return };
                let body = match answer {
                    ClaimAnswer::Granted { job, step, tasks } => self.granted(job, step, &tasks, waiting.want_step),
                    ClaimAnswer::Refused { reason } => {
                        wire::ClaimAnswer { refused: reason.to_owned(), ..Default::default() }
                    }
                };
                self.ask_queue(QueueCommand::Answer { subject: waiting.subject, body: body.encode_to_vec() });
            }
            Effect::AnswerHeartbeat { request, control } => {
                let Some(waiting) = self.waiting.remove(&request.0) else { return };
                let body = control_message(&control).encode_to_vec();
                self.ask_queue(QueueCommand::Answer { subject: waiting.subject, body });
            }
            Effect::PushControl { worker, control } => {
                let body = wire::Control { worker: worker.to_string(), ..control_message(&control) }.encode_to_vec();
                self.ask_queue(QueueCommand::PushControl { worker, body });
            }
            Effect::StartWorker { worker, function, pool, gpus, linger } => {
                // Without its text a function has no workers: its rules say that it may have none.
                let Some(spec) = self.functions.get(&function).cloned() else { return };
                self.metrics.farm.worker_started(&function.name, &pool);
                info!(worker.id = %worker, function = %function, pool = %pool, "worker {worker} of {function} is started");
                let gpus = gpus.iter().filter_map(Place::gpu).map(str::to_owned).collect();
                let start = ProviderCommand::Start { worker, function, spec, pool, gpus, linger };
                let _ = self.outbox.provider.send(start);
            }
            Effect::StopWorker { worker } => {
                let _ = self.outbox.provider.send(ProviderCommand::Stop { worker });
            }
            Effect::ArchiveLog { job, attempt, worker } => {
                self.ask_queue(QueueCommand::ArchiveLog { job, attempt, worker });
            }
            Effect::PurgeOrders { job } => self.ask_queue(QueueCommand::PurgeOrders(job)),
            Effect::AnnounceJobOver { job, state } => {
                info!(job.id = %job, "job {job} is over: {}", crate::store::job_state_name(state));
            }
        }
    }

    fn granted(&self, job: JobId, step: usize, tasks: &TaskSet, want_step: bool) -> wire::ClaimAnswer {
        let order = match self.jobs.get(job) {
            Some(cached) if want_step => {
                let order = StepOrder::new(job, cached, step).within(&self.urls);
                serde_json::to_vec(&order).expect("an order can be written as JSON")
            }
            _ => Vec::new(),
        };
        let lease_ms = u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX);
        wire::ClaimAnswer { refused: String::new(), lease_ms, tasks: tasks.into(), step: order }
    }

    pub(super) fn ask_queue(&self, command: QueueCommand) {
        // Gone only when the whole scheduler stops.
        let _ = self.outbox.queue.send(command);
    }

    /// A caller that has hung up wants no answer.
    fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Submitted(to, answer) => drop(to.send(answer)),
            Reply::Function(to, answer) => drop(to.send(answer)),
            Reply::Changed(to, answer) => drop(to.send(answer)),
            Reply::ScheduleStored(to, answer) => {
                let view = |(change, name)| {
                    let schedule = self.schedule_view(&name).ok_or(Refused::NoSchedule(name))?;
                    Ok(ScheduleStored { change, schedule })
                };
                drop(to.send(answer.and_then(view)));
            }
            Reply::Schedules(after, limit, to) => drop(to.send(self.schedule_views(after.as_ref(), limit))),
            Reply::Schedule(name, to) => drop(to.send(self.schedule_view(&name))),
            Reply::TargetStored(to, answer) => drop(to.send(answer)),
            Reply::PricesAdded(to, answer) => drop(to.send(answer)),
            Reply::PaidBy(to, answer) => drop(to.send(answer)),
            Reply::Weighed(to) | Reply::Noted(to) => drop(to.send(())),
            Reply::Budgeted(to, answer) => drop(to.send(answer.map(|()| self.budget_views()))),
            Reply::Budgets(to) => drop(to.send(self.budget_views())),
            Reply::Workers(query, to) => drop(to.send(self.worker_views(&query))),
            Reply::WorkerStart(id, to) => drop(to.send(self.worker_start(&id))),
            Reply::Loads(to) => drop(to.send(self.loads())),
            Reply::Crowd(to) => drop(to.send(Box::new(self.crowd()))),
            Reply::Places(to) => drop(to.send(self.place_views())),
            Reply::Scaling(to) => drop(to.send(self.scaling_views())),
            Reply::ExplainScaling(key, to) => drop(to.send(self.explain_scaling(&key).map(Box::new))),
            Reply::Explain(id, listener, to) => drop(to.send(self.farm.explain(self.clock.now(), id, &listener))),
        }
    }
}

fn control_message(control: &Control) -> wire::Control {
    let (chunk, attempt) = control.attempt.map_or((0, 0), |attempt| (attempt.chunk.0, attempt.number));
    wire::Control {
        chunk,
        attempt,
        stop: control.stop.unwrap_or_default().to_owned(),
        keep_tasks: control.keep_tasks.unwrap_or(0),
        drain: control.drain,
        stay: control.stay,
        worker: String::new(),
    }
}
