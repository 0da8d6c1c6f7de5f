//! A job file becomes a job: every fault is named, all at once.

use super::{
    ATTEMPTS_MAX, CHUNK_TASKS_MAX, Chunking, FAULTS_MAX, Fault, INPUTS_MAX, Input, InputSpec, JOB_NAME_LEN_MAX, Job,
    JobSpec, Known, LABELS_MAX, PART_LEN_MAX, PATH_LEN_MAX, PRIORITY_MAX, ParameterValue, STEPS_MAX, Source, Step,
    StepSpec, TEXT_LEN_MAX,
};
use crate::frames::FrameSet;
use crate::function::{FunctionSpec, GPU_MEMORY, ParameterKind};
use crate::ids::{FunctionKey, FunctionRef, Name, nearest};
use crate::notify;
use crate::template::OutputTemplate;
use std::collections::{BTreeMap, BTreeSet};

/// Most pairs of runs that are compared to tell two steps' frames apart; past it they count as meeting.
const RUN_PAIRS_MAX: usize = 1_000_000;

impl JobSpec {
    /// Turns the request into a job, or names every fault in it.
    ///
    /// # Errors
    /// The faults, in the order of the file; never empty.
    pub fn check(&self, known: &impl Known) -> Result<Job, Vec<Fault>> {
        let mut faults = Vec::new();
        self.check_head(&mut faults);
        notify::check(&self.notify, &self.project, known, &mut faults);
        if self.steps.len() > STEPS_MAX {
            return Err(faults);
        }
        let names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        let mut steps = Vec::with_capacity(self.steps.len());
        for (at, step) in self.steps.iter().enumerate() {
            // Who has this many faults has enough to do; looking for more could take seconds.
            if faults.len() >= FAULTS_MAX {
                break;
            }
            steps.extend(step.check(&format!("/steps/{at}"), at, &names, known, &mut faults));
        }
        if !faults.is_empty() {
            faults.truncate(FAULTS_MAX);
            return Err(faults);
        }
        check_cycles(&steps, &mut faults);
        check_clashes(&steps, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Job {
            name: self.name.clone(),
            project: self.project.clone(),
            priority: self.priority,
            budget: self.budget,
            deadline: self.deadline,
            labels: self.labels.clone(),
            notify: self.notify.clone(),
            steps,
        })
    }

    fn check_head(&self, faults: &mut Vec<Fault>) {
        if self.name.trim().is_empty() || self.name.len() > JOB_NAME_LEN_MAX || self.name.chars().any(char::is_control)
        {
            faults
                .push(Fault::new("/name", format!("must be 1 to {JOB_NAME_LEN_MAX} bytes without control characters")));
        }
        if self.priority > PRIORITY_MAX {
            faults.push(Fault::new("/priority", format!("{} is not between 0 and {PRIORITY_MAX}", self.priority)));
        }
        if self.budget.is_some_and(|budget| budget.limit.micros <= 0) {
            faults.push(Fault::new("/budget/limit", "must be more than 0"));
        }
        if self.labels.len() > LABELS_MAX {
            faults.push(Fault::new("/labels", format!("more than the {LABELS_MAX} labels allowed")));
        }
        for (key, value) in self.labels.iter().take(LABELS_MAX) {
            if key.is_empty() || key.len() > 63 || value.len() > 200 {
                faults.push(Fault::new(
                    format!("/labels/{}", escape(key)),
                    "a label is 1 to 63 bytes and its value at most 200",
                ));
            }
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            faults.push(Fault::new("/steps", format!("{} steps: a job has 1 to {STEPS_MAX}", self.steps.len())));
        }
        let mut seen = BTreeSet::new();
        for (at, step) in self.steps.iter().take(STEPS_MAX).enumerate() {
            if !seen.insert(&step.name) {
                faults.push(Fault::new(
                    format!("/steps/{at}/name"),
                    format!("`{}` is already the name of another step", step.name),
                ));
            }
        }
    }
}

impl StepSpec {
    fn check(&self, at: &str, own: usize, names: &[&str], known: &impl Known, faults: &mut Vec<Fault>) -> Option<Step> {
        let before = faults.len();
        let mut fault = |field: &str, reason: String| faults.push(Fault::new(format!("{at}{field}"), reason));
        let frames = match self.frames.as_deref().map(str::parse::<FrameSet>) {
            None => Some(FrameSet::single()),
            Some(Ok(frames)) => Some(frames),
            Some(Err(error)) => {
                fault("/frames", error.to_string());
                None
            }
        };
        let mut output = None;
        if let Some(text) = &self.output {
            let tasks = if self.frames.is_none() { 1 } else { frames.as_ref().map_or(1, FrameSet::len) };
            match OutputTemplate::parse(text, tasks) {
                Ok(template) => output = Some(template),
                Err(error) => fault("/output", error.to_string()),
            }
        }
        match self.chunking {
            Chunking::Fixed { size } if size == 0 || size > CHUNK_TASKS_MAX => {
                fault("/chunking/size", format!("{size} is not between 1 and {CHUNK_TASKS_MAX}"));
            }
            Chunking::Auto { target } if target.0.is_zero() => {
                fault("/chunking/target", "must be longer than 0".to_owned());
            }
            Chunking::Fixed { .. } | Chunking::Auto { .. } => {}
        }
        if self.gpu_memory.is_some_and(|memory| !GPU_MEMORY.contains(&memory)) {
            fault("/gpu_memory", format!("must be {} to {}", GPU_MEMORY.start(), GPU_MEMORY.end()));
        }
        if self.retries.attempts == 0 || self.retries.attempts > ATTEMPTS_MAX {
            fault("/retries/attempts", format!("{} is not between 1 and {ATTEMPTS_MAX}", self.retries.attempts));
        }
        for (name, span) in
            [("frame", self.timeouts.frame), ("silent", self.timeouts.silent), ("chunk", self.timeouts.chunk)]
        {
            if span.0.is_zero() {
                fault(&format!("/timeouts/{name}"), "must be longer than 0".to_owned());
            }
        }
        let mut after = BTreeSet::new();
        let mut find_step = |name: &Name| match names.iter().position(|other| *other == name.as_str()) {
            Some(index) if index != own => {
                after.insert(index);
                Ok(index)
            }
            Some(_) => Err("a step can't wait for itself".to_owned()),
            None => {
                Err(format!("`{name}` is not a step of this job{}", did_you_mean(name.as_str(), names.iter().copied())))
            }
        };
        if self.after.len() > STEPS_MAX {
            fault("/after", format!("{} names, more than the {STEPS_MAX} steps a job may have", self.after.len()));
        }
        for (index, name) in self.after.iter().take(STEPS_MAX).enumerate() {
            if let Err(reason) = find_step(name) {
                fault(&format!("/after/{index}"), reason);
            }
        }
        let mut inputs = Vec::new();
        if self.inputs.len() > INPUTS_MAX {
            fault("/inputs", format!("{} inputs, more than the {INPUTS_MAX} allowed", self.inputs.len()));
        }
        let mut bad = 0;
        for (index, spec) in self.inputs.iter().take(INPUTS_MAX).enumerate() {
            match spec.check(known, &mut find_step) {
                Ok(input) => inputs.push(input),
                Err((field, reason)) => {
                    fault(&format!("/inputs/{index}{field}"), reason);
                    bad += 1;
                }
            }
            if bad >= FAULTS_MAX {
                break;
            }
        }
        let mut staged = BTreeSet::new();
        for (index, input) in inputs.iter().enumerate() {
            if !matches!(input.source, Source::Step(_)) && !staged.insert(input.staged_as.as_str()) {
                fault(
                    &format!("/inputs/{index}/as"),
                    format!("`{}` is already the place of another input", input.staged_as),
                );
            }
        }
        // A file can't be a folder too, neither for its neighbors nor for the outputs of a step.
        for (index, input) in inputs.iter().enumerate() {
            let folders = input.staged_as.match_indices('/').map(|(at, _)| &input.staged_as[..at]);
            let own = matches!(input.source, Source::Step(_)).then_some(input.staged_as.as_str());
            if let Some(file) = folders.chain(own).find(|folder| staged.contains(folder)) {
                fault(&format!("/inputs/{index}/as"), format!("`{file}` is the place of a file, not of a folder"));
            }
        }
        let resolved = self.function.parse::<FunctionRef>().map_err(|error| error.to_string()).and_then(|wanted| {
            let found = known
                .function(&wanted)
                .map(|(version, spec)| (FunctionKey { name: wanted.name.clone(), version }, spec));
            found.ok_or_else(|| self.unknown_function(wanted, known))
        });
        let (function, parameters) = match resolved {
            Ok((key, spec)) => {
                if self.output.is_none() && spec.makes_output() && !known.was_accepted() {
                    fault("/output", self.lost_output(spec));
                }
                (Some(key), self.check_parameters(spec, &inputs, &mut fault))
            }
            Err(reason) => {
                fault("/function", reason);
                (None, BTreeMap::new())
            }
        };
        if faults.len() > before {
            return None;
        }
        Some(Step {
            name: self.name.clone(),
            function: function?,
            frames: frames?,
            inputs,
            parameters,
            output,
            chunking: self.chunking,
            retries: self.retries,
            timeouts: self.timeouts,
            verify: self.verify,
            allow_cpu: self.allow_cpu,
            gpu_memory_bytes: self.gpu_memory.map_or(0, |size| size.0),
            after: after.into_iter().collect(),
        })
    }

    /// Why the function that is asked for is none of the farm's.
    fn unknown_function(&self, wanted: FunctionRef, known: &impl Known) -> String {
        let any = FunctionRef { name: wanted.name, version: None };
        if let Some((newest, _)) = known.function(&any) {
            let name = &any.name;
            let there =
                if newest == 1 { "has version 1 alone".to_owned() } else { format!("has versions 1 to {newest}") };
            return format!(
                "`{}` is not a function of this farm: `{name}` {there}, and `{name}` means the newest",
                self.function
            );
        }
        let names = known.function_names();
        let hint = did_you_mean(any.name.as_str(), names.iter().copied());
        let list =
            if names.is_empty() { "none are registered".to_owned() } else { format!("known: {}", names.join(", ")) };
        format!(
            "`{}` is not a function of this farm ({list}){hint}; add one with `framewake functions add FILE`",
            self.function
        )
    }

    /// Nothing would be kept of what is rendered.
    fn lost_output(&self, function: &FunctionSpec) -> String {
        let example = match (&self.frames, function.rules.as_str()) {
            (Some(_), _) => "frames/{frame:04}.png",
            (None, "ffmpeg") => "film.mp4",
            (None, _) => "picture.png",
        };
        format!(
            "is missing: function `{}` makes a file for each task, and without a name none would be kept; write for example \
             `output: {example}`",
            function.name
        )
    }

    /// The step's parameters with the function's defaults.
    fn check_parameters(
        &self,
        function: &FunctionSpec,
        inputs: &[Input],
        fault: &mut impl FnMut(&str, String),
    ) -> BTreeMap<String, ParameterValue> {
        let unknown = self.parameters.keys().filter(|name| !function.parameters.contains_key(*name));
        for name in unknown.take(FAULTS_MAX) {
            let known = function.parameters.keys().map(String::as_str);
            fault(
                &format!("/parameters/{}", escape(name)),
                format!("function `{}` has no parameter `{name}`{}", function.name, did_you_mean(name, known)),
            );
        }
        let mut complete = BTreeMap::new();
        for (name, spec) in &function.parameters {
            let pointer = format!("/parameters/{}", escape(name));
            let Some(value) = self.parameters.get(name).or(spec.default.as_ref()) else {
                fault(&pointer, format!("function `{}` needs this parameter: {}", function.name, spec.description));
                continue;
            };
            if let Err(reason) = spec.accepts(value).and_then(|()| check_text(value)) {
                fault(&pointer, reason);
                continue;
            }
            if let (ParameterKind::Input, ParameterValue::Text(wanted)) = (spec.kind, value)
                && !inputs.iter().any(|input| input.staged_as == *wanted)
            {
                let staged = inputs.iter().map(|input| input.staged_as.as_str());
                let hint = did_you_mean(wanted, staged);
                fault(&pointer, format!("`{wanted}` is not one of the step's inputs{hint}"));
                continue;
            }
            complete.insert(name.clone(), value.clone());
        }
        complete
    }
}

fn check_text(value: &ParameterValue) -> Result<(), String> {
    let texts: &[String] = match value {
        ParameterValue::Text(text) => std::slice::from_ref(text),
        ParameterValue::Words(words) => words,
        ParameterValue::Boolean(_) | ParameterValue::Integer(_) | ParameterValue::Number(_) => &[],
    };
    if texts.iter().any(|text| text.len() > TEXT_LEN_MAX || text.contains('\0')) {
        return Err(format!("text may have {TEXT_LEN_MAX} bytes and no NUL"));
    }
    Ok(())
}

impl InputSpec {
    fn check(
        &self,
        known: &impl Known,
        find_step: &mut impl FnMut(&Name) -> Result<usize, String>,
    ) -> Result<Input, (&'static str, String)> {
        let given = [self.path.is_some(), self.digest.is_some(), self.url.is_some(), self.step.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(("", "an input has exactly one of `path`, `digest`, `url` and `step`".to_owned()));
        }
        let mut staged_as = self.staged_as.clone();
        let source = if let Some(path) = &self.path {
            return Err((
                "/path",
                format!("`{path}` is a local file: `framewake submit` uploads it and sends its `digest`"),
            ));
        } else if let Some(digest) = self.digest {
            Source::Digest(digest)
        } else if let Some(url) = &self.url {
            known.url_allowed(url).map_err(|reason| ("/url", reason))?;
            if staged_as.is_none() {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                staged_as = path.rsplit('/').next().map(str::to_owned);
            }
            Source::Url(url.clone())
        } else {
            let name = self.step.as_ref().expect("exactly one is given");
            let source = Source::Step(find_step(name).map_err(|reason| ("/step", reason))?);
            // Outputs keep their own names, so the place of the whole is optional.
            let staged_as = staged_as.unwrap_or_default();
            if !staged_as.is_empty() {
                check_relative(&staged_as).map_err(|reason| ("/as", reason))?;
            }
            return Ok(Input { staged_as, source });
        };
        let staged_as =
            staged_as.ok_or_else(|| ("/as", "must say under which name the step finds the file".to_owned()))?;
        check_relative(&staged_as).map_err(|reason| ("/as", reason))?;
        Ok(Input { staged_as, source })
    }
}

/// Whether a path stays inside the folder it is joined to.
pub fn check_relative(path: &str) -> Result<(), String> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part == ".." || part.len() > PART_LEN_MAX;
    if path.len() > PATH_LEN_MAX || path.chars().any(|c| c.is_control() || c == '\\') || path.split('/').any(bad_part) {
        let shown: String = path.chars().take(64).collect();
        return Err(format!(
            "`{shown}` must be a relative path of at most {PATH_LEN_MAX} bytes, {PART_LEN_MAX} a part, without `.`, \
             `..`, `\\` or empty parts"
        ));
    }
    Ok(())
}

fn check_cycles(steps: &[Step], faults: &mut Vec<Fault>) {
    let mut done = vec![false; steps.len()];
    // Each round settles the steps whose predecessors are settled; what is left is on a cycle or behind one.
    while let Some(next) = (0..steps.len()).find(|at| !done[*at] && steps[*at].after.iter().all(|before| done[*before]))
    {
        done[next] = true;
    }
    let left: Vec<&str> =
        steps.iter().zip(&done).filter(|(_, done)| !**done).map(|(step, _)| step.name.as_str()).collect();
    if let Some(at) = done.iter().position(|done| !done) {
        faults.push(Fault::new(
            format!("/steps/{at}/after"),
            format!("these steps wait for each other in a circle: {}", left.join(", ")),
        ));
    }
}

fn check_clashes(steps: &[Step], faults: &mut Vec<Fault>) {
    let mut pairs_left = RUN_PAIRS_MAX;
    for (at, step) in steps.iter().enumerate() {
        let Some(output) = &step.output else { continue };
        for other in &steps[..at] {
            let meets = other.output.as_ref().is_some_and(|template| {
                template.may_meet(output)
                    && !(template == output
                        && output.has_frame()
                        && are_disjoint(&step.frames, &other.frames, &mut pairs_left))
            });
            if meets {
                faults.push(Fault::new(
                    format!("/steps/{at}/output"),
                    format!(
                        "step `{}` could write the same names as step `{}`: put them into different folders",
                        step.name, other.name
                    ),
                ));
            }
        }
    }
}

fn are_disjoint(a: &FrameSet, b: &FrameSet, pairs_left: &mut usize) -> bool {
    let ((a_low, a_high), (b_low, b_high)) = (a.span(), b.span());
    if a_high < b_low || b_high < a_low {
        return true;
    }
    let pairs = a.run_count() * b.run_count();
    let affordable = pairs <= *pairs_left;
    *pairs_left = pairs_left.saturating_sub(pairs);
    affordable && a.is_disjoint(b)
}

fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map_or(String::new(), |name| format!("; did you mean `{name}`?"))
}

/// A key as it stands in a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
