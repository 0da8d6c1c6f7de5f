//! A function: a renderer packaged to run from zero.

use crate::driver::DriverVersion;
use crate::duration::Span;
use crate::ids::{Name, nearest};
use crate::job::{FAULTS_MAX, Fault, ParameterValue, escape};
use crate::money::Money;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most parameters of a function.
pub const PARAMETERS_MAX: usize = 64;
/// Most words of a renderer's command.
pub const COMMAND_WORDS_MAX: usize = 128;
/// Most workers one function may have.
pub const WORKERS_MAX: u32 = 10_000;
/// Most rules in one rule file.
pub const RULES_MAX: usize = 256;
/// Longest sentence of a rule, in bytes.
pub const RULE_TEXT_MAX: usize = 512;
/// Largest compiled expression of a rule: keeps what one line of output can cost in the milliseconds.
pub const EXPRESSION_SIZE_MAX: usize = 256 * 1024;
/// Longest word of a command, in bytes.
pub const WORD_LEN_MAX: usize = 4096;
/// Most variables of a renderer's environment.
pub const VARIABLES_MAX: usize = 256;
/// Most GPUs of one worker: as many as its heartbeats can tell of.
pub const GPUS_MAX: u32 = 16;
/// Most names of models that will do, and the longest of them, in bytes.
pub const GPU_MODELS_MAX: usize = 32;
pub const GPU_MODEL_LEN_MAX: usize = 100;
/// Longest name of an image, in bytes.
pub const IMAGE_LEN_MAX: usize = 512;
/// Least and most processors of one worker, in thousandths.
pub const CPU_MILLIS: std::ops::RangeInclusive<u32> = 10..=1_024_000;
/// Least and most memory of one worker.
pub const MEMORY: std::ops::RangeInclusive<Size> = Size(64 << 20)..=Size(16 << 40);
/// Least and most memory of one GPU: past it somebody mixed up the units.
pub const GPU_MEMORY: std::ops::RangeInclusive<Size> = Size(64 << 20)..=Size(1 << 40);
/// Most windows in which a function keeps workers.
pub const KEEP_MAX: usize = 16;
/// Shortest and longest of them: what lasts for more than a week is no window.
pub const KEEP_LENGTH_MIN: Span = Span(std::time::Duration::from_mins(1));
pub const KEEP_LENGTH_MAX: Span = Span(std::time::Duration::from_hours(7 * 24));
/// Longest linger: past it a forgotten worker costs real money.
pub const LINGER_MAX_S: u64 = 3600;

/// A function as written in its file and sent to `/v1/functions`. Once stored, a version never
/// changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    pub name: Name,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// The image that its workers are made of, where they are: `registry.example/blender:5.0`, best with its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    pub driver: Driver,
    /// Built-in rules for this renderer's words: `blender`, `mitsuba`, `povray`, `ffmpeg`, `tachyon` or `generic`.
    #[serde(default = "default_rules")]
    pub rules: String,
    /// Rules of your own, tried before the built-in ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_rules: Vec<Rule>,
    /// What a job may set, and what it gets when it doesn't.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterSpec>,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub scaling: Scaling,
    /// Environment of the renderer. It gets nothing else but PATH, LANG and its scratch folders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// How the renderer is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Driver {
    /// A renderer that stays loaded and renders frame after frame through a bridge.
    Session {
        /// The bridge to load: `blender`.
        bridge: Bridge,
        /// Words of the command; `{bridge}` is the bridge's file, `{socket}` the address it connects to.
        command: Vec<String>,
    },
    /// One process for each frame or each chunk.
    Command {
        #[serde(default)]
        per: Per,
        /// Words of the command, with `{placeholders}`; no shell reads them.
        command: Vec<String>,
        /// Where the renderer puts the output, in its scratch folder, when that isn't `{output}`:
        /// `out_{frame:03}.png`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        writes: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Bridge {
    Blender,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    #[default]
    Frame,
    Chunk,
}

/// A parameter of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ParameterSpec {
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    /// Without a default the job must set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ParameterValue>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// The only values allowed, for text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    Text,
    Integer,
    Number,
    Boolean,
    /// The `as` name of one of the step's inputs; the renderer gets the staged file's path.
    Input,
    /// A list of words, put into a command where `{name}` stands alone as a word.
    Words,
}

/// One sentence the renderer may say, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Regular expression on one line of output. A group `permille`, `percent` or `fraction` is
    /// progress, or `done` and `total` together.
    pub line: String,
    /// What the line means; without it the rule is about progress only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<crate::verdict::Verdict>,
    /// What happened, in a sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Rule {
    /// The expression, ready to be used. The engine takes a time that grows with the line, whatever the expression.
    pub fn expression(&self) -> Result<regex::Regex, regex::Error> {
        regex::RegexBuilder::new(&self.line).size_limit(EXPRESSION_SIZE_MAX).build()
    }

    fn fault(&self) -> Option<(&'static str, String)> {
        let long =
            [("means", &self.means), ("hint", &self.hint)].into_iter().find(|(_, said)| said.len() > RULE_TEXT_MAX);
        if let Some((field, _)) = long {
            return Some((field, format!("is longer than the {RULE_TEXT_MAX} bytes allowed")));
        }
        let error = self.expression().err()?;
        Some(("line", format!("is not a regular expression that can be used: {}", first_words(&error.to_string()))))
    }
}

/// What one worker needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// GPUs. More than 0: an output not made on a GPU is not accepted, unless the job allows CPU.
    pub gpus: u32,
    /// Least memory of each of these GPUs: `12GiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<Size>,
    /// Parts of the names of GPUs that will do: `[L4, L40S]`; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpu_models: Vec<String>,
    /// Oldest driver of the GPUs that will do: `550.54`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_min: Option<DriverVersion>,
    /// Shares that one worker takes of its pool's `max`, as of this machine's `--slots`.
    pub slots: u32,
    /// Processors of one worker made of an image, in thousandths: `2000`. Absent: as many as there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Memory of one worker made of an image: `8GiB`. One that takes more is ended. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// What its image is made for, `amd64` or `arm64`: pools of other machines are passed over. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Architecture>,
}

/// What a machine's processors understand, as images name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// This machine's; `None`: one that images are not made for here.
    pub fn here() -> Option<Architecture> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Architecture::Amd64),
            "aarch64" => Some(Architecture::Arm64),
            _ => None,
        }
    }
}

impl Default for Resources {
    fn default() -> Resources {
        Resources {
            gpus: 0,
            gpu_memory: None,
            gpu_models: Vec::new(),
            driver_min: None,
            slots: 1,
            cpu_millis: None,
            memory: None,
            architecture: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// Most workers at once.
    pub max: u32,
    /// A worker leaves after this long without work. Absent: as long as its own start takes, 10 s to a minute, or what
    /// `waiting` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linger: Option<Span>,
    /// What an hour of waiting for this function is worth: `50 USD`. More workers start, and they wait for work for longer.
    /// Absent: a hundred times what a worker costs, and nothing for waiting without work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Money>,
    /// Workers that are there at certain times, whatever is to be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<Keep>,
    /// Names of the pools that it may use; empty: all that fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Name>,
    /// Its workers are started by others, as by KEDA or by hand: the farm starts none, and no pool has to have room.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// Workers that are there at certain times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Keep {
    pub workers: u32,
    /// When they are to be there, as cron writes it: `0 8 * * 1-5`.
    pub from: String,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Span,
    /// Whose clocks: `Europe/Paris`.
    #[serde(default = "utc")]
    pub zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl Default for Scaling {
    fn default() -> Scaling {
        Scaling { max: 4, linger: None, waiting: None, keep: Vec::new(), pools: Vec::new(), external: false }
    }
}

fn default_rules() -> String {
    "generic".to_owned()
}

/// The built-in rule files.
pub const BUILT_IN_RULES: [&str; 6] = ["blender", "ffmpeg", "generic", "mitsuba", "povray", "tachyon"];

impl FunctionSpec {
    /// Everything that is wrong with this function, each with the field it is about.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let words = match &self.driver {
            Driver::Session { command, .. } | Driver::Command { command, .. } => command,
        };
        if words.is_empty() || words[0].is_empty() {
            faults.push(Fault::new("/driver/command", "the command is empty: its first word is the program"));
        }
        if words.len() > COMMAND_WORDS_MAX {
            faults.push(Fault::new(
                "/driver/command",
                format!("{} words, more than the {COMMAND_WORDS_MAX} allowed", words.len()),
            ));
        }
        for (at, word) in words.iter().take(COMMAND_WORDS_MAX).enumerate() {
            if word.len() > WORD_LEN_MAX || word.contains('\0') {
                let reason = format!("a word may have {WORD_LEN_MAX} bytes and no NUL");
                faults.push(Fault::new(format!("/driver/command/{at}"), reason));
                continue;
            }
            for name in placeholders(word) {
                if let Err(reason) = self.placeholder(name) {
                    faults.push(Fault::new(format!("/driver/command/{at}"), reason));
                }
            }
        }
        if let Driver::Command { writes: Some(writes), .. } = &self.driver
            && let Err(error) = crate::template::OutputTemplate::parse(writes, 1)
        {
            faults.push(Fault::new("/driver/writes", error.to_string()));
        }
        if !BUILT_IN_RULES.contains(&self.rules.as_str()) {
            let hint =
                nearest(&self.rules, BUILT_IN_RULES).map_or(String::new(), |name| format!("; did you mean `{name}`?"));
            faults.push(Fault::new(
                "/rules",
                format!("`{}` is not a built-in rule file ({}){hint}", self.rules, BUILT_IN_RULES.join(", ")),
            ));
        }
        if self.extra_rules.len() > RULES_MAX {
            faults.push(Fault::new("/extra_rules", format!("more than the {RULES_MAX} rules allowed")));
        }
        for (at, rule) in self.extra_rules.iter().take(RULES_MAX).enumerate() {
            if let Some((field, reason)) = rule.fault() {
                faults.push(Fault::new(format!("/extra_rules/{at}/{field}"), reason));
            }
        }
        if self.environment.len() > VARIABLES_MAX {
            faults.push(Fault::new("/environment", format!("more than the {VARIABLES_MAX} variables allowed")));
        }
        for (name, value) in self.environment.iter().take(VARIABLES_MAX) {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let pointer = format!("/environment/{}", escape(name));
                faults.push(Fault::new(pointer, "a variable has a name without `=`, and no NUL"));
            }
        }
        if self.parameters.len() > PARAMETERS_MAX {
            faults.push(Fault::new("/parameters", format!("more than the {PARAMETERS_MAX} parameters allowed")));
        }
        for (name, parameter) in self.parameters.iter().take(PARAMETERS_MAX) {
            let pointer = format!("/parameters/{}", escape(name));
            if BUILT_IN_PLACEHOLDERS.contains(&name.as_str()) {
                faults.push(Fault::new(&pointer, format!("`{name}` is a built-in placeholder: choose another name")));
            }
            if let Some(default) = &parameter.default
                && parameter.kind != ParameterKind::Input
                && let Err(reason) = parameter.accepts(default)
            {
                faults.push(Fault::new(format!("{pointer}/default"), reason));
            }
        }
        if self.scaling.max == 0 || self.scaling.max > WORKERS_MAX {
            faults.push(Fault::new("/scaling/max", format!("must be 1 to {WORKERS_MAX}")));
        }
        if self.scaling.linger.is_some_and(|linger| linger.0.as_secs() > LINGER_MAX_S) {
            faults.push(Fault::new("/scaling/linger", format!("must be at most {LINGER_MAX_S}s")));
        }
        if self.scaling.keep.len() > KEEP_MAX {
            faults.push(Fault::new("/scaling/keep", format!("more than the {KEEP_MAX} windows allowed")));
        }
        for (at, keep) in self.scaling.keep.iter().take(KEEP_MAX).enumerate() {
            let pointer = format!("/scaling/keep/{at}");
            if keep.workers == 0 || keep.workers > self.scaling.max {
                let reason = format!("must be 1 to the {} of `max`", self.scaling.max);
                faults.push(Fault::new(format!("{pointer}/workers"), reason));
            }
            if keep.length < KEEP_LENGTH_MIN || keep.length > KEEP_LENGTH_MAX {
                let reason = format!("must be {KEEP_LENGTH_MIN} to {KEEP_LENGTH_MAX}");
                faults.push(Fault::new(format!("{pointer}/for"), reason));
            }
        }
        let Resources { gpus, gpu_memory, gpu_models, driver_min, .. } = &self.resources;
        if *gpus > GPUS_MAX {
            faults.push(Fault::new("/resources/gpus", format!("must be at most {GPUS_MAX}")));
        }
        for (field, set) in [
            ("gpu_memory", gpu_memory.is_some()),
            ("gpu_models", !gpu_models.is_empty()),
            ("driver_min", driver_min.is_some()),
        ] {
            if set && *gpus == 0 {
                faults.push(Fault::new(format!("/resources/{field}"), "has no meaning without `gpus`"));
            }
        }
        if gpu_memory.is_some_and(|memory| !GPU_MEMORY.contains(&memory)) {
            let reason = format!("must be {} to {}", GPU_MEMORY.start(), GPU_MEMORY.end());
            faults.push(Fault::new("/resources/gpu_memory", reason));
        }
        if gpu_models.len() > GPU_MODELS_MAX {
            faults.push(Fault::new("/resources/gpu_models", format!("more than the {GPU_MODELS_MAX} allowed")));
        }
        for (at, model) in gpu_models.iter().take(GPU_MODELS_MAX).enumerate() {
            if model.trim().is_empty() || model.len() > GPU_MODEL_LEN_MAX {
                let reason = format!("must have 1 to {GPU_MODEL_LEN_MAX} bytes");
                faults.push(Fault::new(format!("/resources/gpu_models/{at}"), reason));
            }
        }
        if let Some(image) = &self.image
            // One that began with `-` would be an option to every program that is told it.
            && (!image.starts_with(|c: char| c.is_ascii_alphanumeric())
                || image.len() > IMAGE_LEN_MAX
                || !image.chars().all(|c| c.is_ascii_graphic()))
        {
            let reason = format!(
                "must be the name of an image, of 1 to {IMAGE_LEN_MAX} bytes without spaces, beginning with a letter or digit"
            );
            faults.push(Fault::new("/image", reason));
        }
        if self.resources.cpu_millis.is_some_and(|millis| !CPU_MILLIS.contains(&millis)) {
            let reason = format!("must be {} to {} thousandths of a processor", CPU_MILLIS.start(), CPU_MILLIS.end());
            faults.push(Fault::new("/resources/cpu_millis", reason));
        }
        if self.resources.memory.is_some_and(|memory| !MEMORY.contains(&memory)) {
            let reason = format!("must be {} to {}", MEMORY.start(), MEMORY.end());
            faults.push(Fault::new("/resources/memory", reason));
        }
        if self.scaling.pools.len() > crate::pool::POOLS_MAX {
            let reason = format!("more than the {} pools that there may be", crate::pool::POOLS_MAX);
            faults.push(Fault::new("/scaling/pools", reason));
        }
        for (field, set) in [("keep", !self.scaling.keep.is_empty()), ("pools", !self.scaling.pools.is_empty())] {
            if set && self.scaling.external {
                let reason =
                    format!("`{field}` is about workers that the farm starts itself: leave out one of the two");
                faults.push(Fault::new("/scaling/external", reason));
            }
        }
        if self.resources.slots == 0 {
            faults.push(Fault::new("/resources/slots", "must be 1 or more"));
        }
        faults.truncate(FAULTS_MAX);
        faults
    }

    /// Whether its own words tell the renderer where the output goes: then a step that names none would lose what is made.
    /// A session renders nothing else; a command that only the job fills may do anything.
    #[must_use]
    pub fn makes_output(&self) -> bool {
        match &self.driver {
            Driver::Session { .. } => true,
            Driver::Command { command, writes, .. } => {
                let names = |word: &String| placeholders(word).any(|name| name == "output" || name == "outputs");
                writes.is_some() || command.iter().any(names)
            }
        }
    }

    fn placeholder(&self, name: &str) -> Result<(), String> {
        let built_in: &[&str] = match self.driver {
            Driver::Session { .. } => &["bridge", "socket"],
            Driver::Command { .. } => &BUILT_IN_PLACEHOLDERS,
        };
        let session = matches!(self.driver, Driver::Session { .. });
        let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
        if built_in.contains(&bare) || (!session && self.parameters.contains_key(bare)) {
            return Ok(());
        }
        let known = built_in.iter().copied().chain(self.parameters.keys().map(String::as_str).filter(|_| !session));
        let hint = nearest(bare, known).map_or(String::new(), |known| format!("; did you mean `{{{known}}}`?"));
        Err(format!("`{{{name}}}` is neither a parameter of this function nor one of {}{hint}", built_in.join(", ")))
    }
}

/// The last line of a regular expression's error says what is wrong; the others draw it.
fn first_words(error: &str) -> String {
    let last = error.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").chars().take(200).collect()
}

/// Placeholders every command may use: see `docs/functions.md`.
pub const BUILT_IN_PLACEHOLDERS: [&str; 9] =
    ["frame", "frames", "first", "last", "count", "output", "outputs", "scratch", "inputs"];

/// The names between braces in a word of a command. `{{` and `}}` stand for plain braces.
pub fn placeholders(word: &str) -> impl Iterator<Item = &str> {
    pieces(word).filter_map(|piece| match piece {
        Piece::Placeholder(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// A part of a word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Cuts a word of a command into text and placeholders. An unclosed brace is text.
pub fn pieces(word: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        for doubled in ["{{", "}}"] {
            if let Some(after) = rest.strip_prefix(doubled) {
                rest = after;
                return Some(Piece::Text(&doubled[..1]));
            }
        }
        if let Some(inside) = rest.strip_prefix('{')
            && let Some((name, after)) = inside.split_once('}')
        {
            rest = after;
            return Some(Piece::Placeholder(name));
        }
        let head = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[head..].find(['{', '}']).map_or(rest.len(), |at| head + at);
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Text(text))
    })
}

impl ParameterSpec {
    /// Whether a job may set this value, else why not.
    pub fn accepts(&self, value: &ParameterValue) -> Result<(), String> {
        use ParameterKind as Kind;
        use ParameterValue as Value;
        match (self.kind, value) {
            (Kind::Integer | Kind::Number, Value::Integer(number)) => self.in_range(*number as f64),
            (Kind::Number, Value::Number(number)) => self.in_range(*number),
            (Kind::Text, Value::Text(text)) if !self.choices.is_empty() && !self.choices.contains(text) => {
                let hint = nearest(text, self.choices.iter().map(String::as_str));
                let hint = hint.map_or(String::new(), |choice| format!("; did you mean `{choice}`?"));
                Err(format!("`{text}` is not one of {}{hint}", self.choices.join(", ")))
            }
            (Kind::Boolean, Value::Boolean(_))
            | (Kind::Text | Kind::Input, Value::Text(_))
            | (Kind::Words, Value::Words(_)) => Ok(()),
            // Half a number is a number too: which one is what helps.
            (Kind::Integer, Value::Number(number)) => Err(format!("must be a whole number, not {number}")),
            (kind, value) => Err(format!("must be {}, not {}", kind.describe(), value.describe())),
        }
    }

    fn in_range(&self, number: f64) -> Result<(), String> {
        match (self.minimum, self.maximum) {
            (Some(minimum), _) if number < minimum => Err(format!("{number} is less than the {minimum} allowed")),
            (_, Some(maximum)) if number > maximum => Err(format!("{number} is more than the {maximum} allowed")),
            _ if !number.is_finite() => Err("must be a finite number".to_owned()),
            _ => Ok(()),
        }
    }
}

impl ParameterKind {
    fn describe(self) -> &'static str {
        match self {
            ParameterKind::Text => "text",
            ParameterKind::Integer => "a whole number",
            ParameterKind::Number => "a number",
            ParameterKind::Boolean => "true or false",
            ParameterKind::Input => "the name of an input",
            ParameterKind::Words => "a list of words",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_workers_that_the_farm_starts_does_not_go_with_those_of_others() {
        let check = |scaling: serde_json::Value, expected: &[&str]| {
            let function: FunctionSpec = serde_json::from_value(serde_json::json!({
                "name": "paint", "driver": { "kind": "command", "command": ["paint"] }, "scaling": scaling,
            }))
            .expect("a function");
            let faults = function.faults();
            assert!(faults.iter().all(|fault| fault.field == "/scaling/external"), "{faults:?}");
            let said: Vec<&str> = faults.iter().filter_map(|fault| fault.reason.split('`').nth(1)).collect();
            assert_eq!(said, expected);
            let written = serde_json::to_value(&function.scaling).expect("JSON");
            assert_eq!(written.get("external").is_some(), function.scaling.external, "{written}");
        };
        let keep = || serde_json::json!([{ "workers": 1, "from": "0 8 * * *", "for": "1h" }]);
        check(serde_json::json!({ "external": true, "max": 9, "linger": "5s", "waiting": "50 USD" }), &[]);
        check(serde_json::json!({ "keep": keep(), "pools": ["spot"] }), &[]);
        check(serde_json::json!({ "external": true, "keep": keep() }), &["keep"]);
        check(serde_json::json!({ "external": true, "keep": keep(), "pools": ["spot"] }), &["keep", "pools"]);
    }

    #[test]
    fn a_function_makes_outputs_when_its_own_words_name_their_place() {
        let check = |driver: serde_json::Value, expected: bool| {
            let function: FunctionSpec =
                serde_json::from_value(serde_json::json!({ "name": "paint", "driver": driver })).expect("a function");
            assert_eq!(function.makes_output(), expected, "{:?}", function.driver);
        };
        let command = |words: &[&str]| serde_json::json!({ "kind": "command", "command": words });
        check(command(&["{program}", "{words}"]), false);
        check(command(&["paint", "+O{output}"]), true);
        check(command(&["paint", "--into", "{outputs}"]), true);
        check(command(&["paint", "{{output}}"]), false);
        let writes = serde_json::json!({ "kind": "command", "command": ["paint"], "writes": "out_{frame}.png" });
        check(writes, true);
        check(serde_json::json!({ "kind": "session", "bridge": "blender", "command": ["blender"] }), true);
    }

    #[test]
    fn a_wrong_number_is_said() {
        let integer: ParameterSpec = serde_json::from_value(serde_json::json!({ "type": "integer" })).expect("one");
        let said = integer.accepts(&ParameterValue::Number(0.5)).expect_err("not whole");
        assert_eq!(said, "must be a whole number, not 0.5");
        let said = integer.accepts(&ParameterValue::Text("x".to_owned())).expect_err("no number");
        assert_eq!(said, "must be a whole number, not text");
    }

    #[test]
    fn words_are_cut_at_their_placeholders() {
        let cut = |word| pieces(word).collect::<Vec<_>>();
        assert_eq!(cut("+O{output}"), [Piece::Text("+O"), Piece::Placeholder("output")]);
        assert_eq!(cut("{a}{b:04}é"), [Piece::Placeholder("a"), Piece::Placeholder("b:04"), Piece::Text("é")]);
        assert_eq!(cut("{{x}}"), [Piece::Text("{"), Piece::Text("x"), Piece::Text("}")]);
        assert_eq!(cut("a{b"), [Piece::Text("a"), Piece::Text("{b")]);
        assert_eq!(cut("{"), [Piece::Text("{")]);
        assert_eq!(cut("é}"), [Piece::Text("é"), Piece::Text("}")]);
    }
}
