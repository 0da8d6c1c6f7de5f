//! Which jobs are traced and where their spans go: under the names that OpenTelemetry gave such settings.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use framewake_proto::trace::{TraceId, TraceParent};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt as _, TraceFlags, TraceState};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`{0}` is not the address of a collector of traces: it begins with http:// or https://, as http://127.0.0.1:4318"
    )]
    Endpoint(String),
    #[error("traces can't be sent with these settings")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the HTTP client for traces can't be made")]
    Client(#[from] reqwest::Error),
}

#[derive(Debug, Clone, Args)]
pub struct TraceSettings {
    /// Collector of OpenTelemetry traces (OTLP over HTTP), as `http://127.0.0.1:4318`; headers for it are read from
    /// `OTEL_EXPORTER_OTLP_HEADERS`. Without it there are no traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
    /// What the scheduler is called in traces
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "framewake")]
    pub otel_service_name: String,
    /// Which jobs are traced; `parentbased_…`: those whose `traceparent` says so, and of the others …
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_enum, default_value = "parentbased_always_on")]
    pub traces_sampler: SamplerName,
    /// Which part of the jobs `…traceidratio` traces, 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1", value_parser = ratio)]
    pub traces_sampler_arg: f64,
}

/// As OpenTelemetry names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerName {
    Always,
    Never,
    Ratio,
    ParentOrAlways,
    ParentOrNever,
    ParentOrRatio,
}

impl ValueEnum for SamplerName {
    fn value_variants<'a>() -> &'a [SamplerName] {
        use SamplerName::{Always, Never, ParentOrAlways, ParentOrNever, ParentOrRatio, Ratio};
        &[Always, Never, Ratio, ParentOrAlways, ParentOrNever, ParentOrRatio]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            SamplerName::Always => "always_on",
            SamplerName::Never => "always_off",
            SamplerName::Ratio => "traceidratio",
            SamplerName::ParentOrAlways => "parentbased_always_on",
            SamplerName::ParentOrNever => "parentbased_always_off",
            SamplerName::ParentOrRatio => "parentbased_traceidratio",
        }))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(format!("{ratio} is not from 0 to 1")) }
}

impl TraceSettings {
    /// Where spans go, if anywhere.
    pub(super) fn address(&self) -> Result<Option<String>, Error> {
        let Some(endpoint) = self.otlp_endpoint.as_deref().map(str::trim).filter(|endpoint| !endpoint.is_empty())
        else {
            return Ok(None);
        };
        let url = reqwest::Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        // Not repeated whole: it may hold a password.
        let url = url.ok_or_else(|| Error::Endpoint(endpoint.chars().take(8).chain(['…']).collect()))?;
        Ok(Some(format!("{}/v1/traces", url.as_str().trim_end_matches('/'))))
    }

    pub(super) fn sampler(&self) -> Sampler {
        let ratio = Sampler::TraceIdRatioBased(self.traces_sampler_arg);
        let or_parent = |root| Sampler::ParentBased(Box::new(root));
        match self.traces_sampler {
            SamplerName::Always => Sampler::AlwaysOn,
            SamplerName::Never => Sampler::AlwaysOff,
            SamplerName::Ratio => ratio,
            SamplerName::ParentOrAlways => or_parent(Sampler::AlwaysOn),
            SamplerName::ParentOrNever => or_parent(Sampler::AlwaysOff),
            SamplerName::ParentOrRatio => or_parent(ratio),
        }
    }
}

pub(super) fn is_sampled(sampler: &Sampler, trace: TraceId, parent: Option<TraceParent>) -> bool {
    let trace = opentelemetry::trace::TraceId::from_bytes(trace.0.to_be_bytes());
    let context = parent.map(|parent| {
        let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let span = opentelemetry::trace::SpanId::from_bytes(parent.span.0.to_be_bytes());
        Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
    });
    let decided = sampler.should_sample(context.as_ref(), trace, "job", &SpanKind::Server, &[], &[]);
    decided.decision == SamplingDecision::RecordAndSample
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        traces: TraceSettings,
    }

    fn settings(arguments: &[&str]) -> Result<TraceSettings, clap::Error> {
        Settings::try_parse_from(["test"].iter().chain(arguments)).map(|settings| settings.traces)
    }

    #[test]
    fn the_decision_of_who_asked_counts_where_the_sampler_says_so() {
        let parent = |sampled| {
            let span = framewake_proto::trace::SpanId(2);
            Some(TraceParent { trace: TraceId(1 << 100), span, sampled })
        };
        // Without a parent, under one that is kept, under one that is not.
        for (name, expected) in [
            ("always_on", [true, true, true]),
            ("always_off", [false, false, false]),
            ("parentbased_always_on", [true, true, false]),
            ("parentbased_always_off", [false, true, false]),
            ("parentbased_traceidratio", [false, true, false]),
        ] {
            let settings = settings(&["--traces-sampler", name, "--traces-sampler-arg", "0"]).expect("good settings");
            let decided = [None, parent(true), parent(false)]
                .map(|parent| is_sampled(&settings.sampler(), TraceId(1 << 100), parent));
            assert_eq!(decided, expected, "{name}");
        }
        let half = settings(&["--traces-sampler", "traceidratio", "--traces-sampler-arg", "0.5"]).expect("good");
        let traced = (0..1000).filter(|_| is_sampled(&half.sampler(), super::super::ids::new_trace(), None)).count();
        assert!((300..700).contains(&traced), "{traced} of 1000");
    }

    #[test]
    fn bad_settings_are_refused_and_passwords_not_repeated() {
        assert!(settings(&["--traces-sampler", "sometimes"]).is_err());
        assert!(
            settings(&["--traces-sampler-arg", "1.5"]).is_err() && settings(&["--traces-sampler-arg", "x"]).is_err()
        );
        let address = |endpoint: &str| settings(&["--otlp-endpoint", endpoint]).expect("any text").address();
        assert_eq!(
            address("http://collector:4318/").expect("good").as_deref(),
            Some("http://collector:4318/v1/traces")
        );
        assert_eq!(address("https://c/otlp").expect("good").as_deref(), Some("https://c/otlp/v1/traces"));
        assert_eq!(address("  ").expect("none"), None);
        let refused = address("grpc://user:secret@collector").expect_err("not HTTP").to_string();
        assert!(refused.contains("`grpc://u…`") && !refused.contains("secret"), "{refused}");
    }
}
