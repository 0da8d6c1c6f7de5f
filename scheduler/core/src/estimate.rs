//! How long work will take, as a range, from what was measured of the same scene before.
//!
//! Nine of ten runs should end within their range. Three things make one run differ from the next: its frames are not those that
//! were measured, its machines are faster or slower today, and so far little was seen. Each widens the range, and the last
//! two less with every run.

use crate::scale::Demand;

/// How often something was measured, the sum, and the sum of the squares. Whole numbers become parts of one when old
/// measurements fade.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    pub count: f64,
    pub sum: f64,
    pub squares: f64,
}

/// What was measured of a scene; times in seconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Rendering one task.
    pub task: Spread,
    /// The longest of them.
    pub task_max_s: f64,
    /// The mean of a task, one value for each run of a step.
    pub run: Spread,
    /// Opening the scene, by a worker that did not have it open.
    pub load: Spread,
    /// What an attempt takes for each of its tasks beside loading and rendering: verifying, storing, telling. One value for
    /// each attempt.
    pub extra: Spread,
    /// From asking for a worker to its first words.
    pub start: Spread,
    /// Bytes of one output.
    pub bytes: Spread,
    /// Model of the GPU that rendered last; empty for none.
    pub gpu: String,
}

/// From `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    pub low: f64,
    pub high: f64,
}

/// A step that is to be rendered, and what is known of its like.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub figures: &'a Figures,
    /// Of all scenes of the function.
    pub start: Spread,
    /// More pixels than was measured, as a factor; 1 for the same.
    pub scale: f64,
    pub tasks: u32,
    /// How long a worker stays without work, which is paid too.
    pub linger_s: f64,
}

/// A step with so many workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// From the moment that its workers may begin to the last frame.
    pub time_s: Range,
    /// Of all its workers together.
    pub paid_s: Range,
}

/// Two-sided quantiles of Student's t at 95 %, by degrees of freedom from 1 to 30.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// The same of the normal distribution, and what to add for few degrees of freedom (Cornish and Fisher's first term).
const Z: f64 = 1.96;
/// Before anything is known of how frames differ: by a third, believed as much as three frames would be.
const FRAMES_DIFFER: f64 = 0.33;
const FRAMES_DIFFER_WEIGHT: f64 = 3.0;
/// Before anything is known of how runs differ: by a tenth, believed as much as two runs would be.
const RUNS_DIFFER: f64 = 0.1;
const RUNS_DIFFER_WEIGHT: f64 = 2.0;
/// The same of loads, starts and what comes beside rendering, which differ more: by half.
const REST_DIFFERS: f64 = 0.5;
/// How much wider a range is whose figures come of another number of pixels: frames seldom take exactly in proportion.
const OTHER_PIXELS: f64 = 1.25;
/// Longest time from a submission or the end of a step to orders at workers, and from the last frame to its account.
const TELLING_S: f64 = 0.5;
/// Longest time from the end of a worker to it being seen.
const END_SEEN_S: f64 = 2.0;

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut spread = Spread::default();
        values.into_iter().for_each(|value| spread.add(value));
        spread
    }

    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    pub fn merge(&mut self, other: Spread) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Half of what is known fades: what comes next counts twice as much.
    pub fn fade(&mut self) {
        for part in [&mut self.count, &mut self.sum, &mut self.squares] {
            *part /= 2.0;
        }
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// The variance, with what is believed before anything is measured (a part of the mean, weighing so many measurements),
    /// and its degrees of freedom.
    fn variance(&self, prior: f64, weight: f64) -> (f64, f64) {
        let mean = self.mean().unwrap_or(0.0);
        let around_mean = (self.squares - self.count * mean * mean).max(0.0);
        let freedom = weight + (self.count - 1.0).max(0.0);
        ((weight * (prior * mean).powi(2) + around_mean) / freedom, freedom)
    }

    /// Where the mean of `of` more such values will be.
    fn mean_of(&self, of: f64, prior: f64, weight: f64) -> Range {
        let Some(mean) = self.mean() else { return Range::default() };
        let (variance, freedom) = self.variance(prior, weight);
        around(mean, t(freedom) * (variance * (1.0 / of.max(1.0) + 1.0 / self.count)).sqrt())
    }
}

/// Times are seldom a little below and sometimes far above, so the range is of a factor each way.
fn around(mean: f64, half: f64) -> Range {
    if mean <= 0.0 {
        return Range::default();
    }
    let factor = (half / mean).min(5.0).exp();
    Range { low: mean / factor, high: mean * factor }
}

fn t(freedom: f64) -> f64 {
    // Kept within the table.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = freedom.floor().clamp(1.0, 1e6) as usize;
    T.get(at - 1).copied().unwrap_or(Z + (Z.powi(3) + Z) / (4.0 * freedom))
}

impl Figures {
    pub fn merge(&mut self, other: &Figures) {
        for (own, other) in self.spreads().into_iter().zip(other.clone().spreads()) {
            own.merge(*other);
        }
        self.task_max_s = self.task_max_s.max(other.task_max_s);
        if !other.gpu.is_empty() {
            self.gpu.clone_from(&other.gpu);
        }
    }

    pub fn fade(&mut self) {
        self.spreads().into_iter().for_each(Spread::fade);
    }

    /// In an order that stays.
    pub fn spreads(&mut self) -> [&mut Spread; 6] {
        [&mut self.task, &mut self.run, &mut self.load, &mut self.extra, &mut self.start, &mut self.bytes]
    }

    /// Where the mean of `tasks` more tasks will be.
    pub fn task_range(&self, tasks: u32, scale: f64) -> Range {
        let Some(mean) = self.task.mean() else { return Range::default() };
        let (frames, freedom) = self.task.variance(FRAMES_DIFFER, FRAMES_DIFFER_WEIGHT);
        let (runs, _) = self.run.variance(RUNS_DIFFER, RUNS_DIFFER_WEIGHT);
        // Without a finished run, what is believed of runs is about the frames there were.
        let runs = if self.run.count > 0.0 { runs } else { (RUNS_DIFFER * mean).powi(2) };
        let sampled = frames * (1.0 / f64::from(tasks.max(1)) + 1.0 / self.task.count);
        let variance = sampled + runs * (1.0 + 1.0 / self.run.count.max(1.0));
        let range = around(mean, t(freedom) * variance.sqrt());
        let wider = if (scale - 1.0).abs() < f64::EPSILON { 1.0 } else { OTHER_PIXELS };
        Range { low: range.low * scale / wider, high: range.high * scale * wider }
    }

    /// Bytes of `tasks` outputs.
    pub fn bytes_range(&self, tasks: u32, scale: f64) -> Range {
        let each = self.bytes.mean_of(f64::from(tasks), FRAMES_DIFFER, FRAMES_DIFFER_WEIGHT);
        let tasks = f64::from(tasks) * scale;
        Range { low: each.low * tasks, high: each.high * tasks }
    }
}

impl Plan<'_> {
    /// With at most so many workers, all free to begin. Frames that fail and work of others are in no range.
    pub fn with(&self, workers_max: u32) -> Forecast {
        let tasks = f64::from(self.tasks);
        let task = self.figures.task_range(self.tasks, self.scale);
        let most = f64::from(workers_max.min(self.tasks).max(1));
        let fewest = f64::from(self.called(workers_max, task));
        let rest = |spread: &Spread, of: f64| spread.mean_of(of, REST_DIFFERS, RUNS_DIFFER_WEIGHT);
        let (load, start) = (rest(&self.figures.load, 1.0), rest(&self.start, 1.0));
        let extra = rest(&self.figures.extra, fewest);
        let work = Range { low: tasks * (task.low + extra.low), high: tasks * (task.high + extra.high) };
        // One may have just begun with the longest when the others are done, or stay away from the rest because loading takes longer.
        let longest = (self.figures.task_max_s * self.scale).max(task.high);
        let tail = if most > 1.0 { longest + load.high } else { 0.0 };
        let slowest = fewest.min(most);
        let time_s =
            Range { low: work.low / most, high: TELLING_S + start.high + load.high + work.high / slowest + tail };
        // Workers may be there, with the scene open, and others may have work for them afterwards: or none of it.
        let each = start.high + load.high + self.linger_s + END_SEEN_S + TELLING_S;
        Forecast { time_s, paid_s: Range { low: work.low, high: work.high + most * each } }
    }

    /// The fewest workers that the farm will call.
    fn called(&self, workers_max: u32, task: Range) -> u32 {
        let start_s = self.start.mean().map(|start_s| start_s + self.figures.load.mean().unwrap_or(0.0));
        let work_s = Some(f64::from(self.tasks) * task.low);
        let demand = Demand { tasks: u64::from(self.tasks), work_s, start_s, workers_max, ..Demand::default() };
        demand.decide().wanted.max(1)
    }
}

impl Range {
    /// One or the other.
    #[must_use]
    pub fn or(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// One after the other.
    #[must_use]
    pub fn and(self, other: Range) -> Range {
        Range { low: self.low + other.low, high: self.high + other.high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long frames of a scene take.
    #[derive(Debug, Clone, Copy)]
    enum Frames {
        Same,
        Even {
            least: f64,
            most: f64,
        },
        /// The exponential of a normal one.
        Skewed(f64),
        /// One of ten takes five times as long.
        Two,
    }

    impl Frames {
        fn draw(self, dice: &mut fastrand::Rng) -> f64 {
            match self {
                Frames::Same => 1.0,
                Frames::Even { least, most } => least + (most - least) * dice.f64(),
                Frames::Skewed(sigma) => (sigma * normal(dice)).exp(),
                Frames::Two => {
                    if dice.u32(0..10) == 0 {
                        5.0
                    } else {
                        1.0
                    }
                }
            }
        }
    }

    fn normal(dice: &mut fastrand::Rng) -> f64 {
        let (a, b) = (1.0 - dice.f64(), dice.f64());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// A run of `tasks` frames by `workers`, each taking the next when it is free: its time and what was paid.
    fn run(
        frames: Frames,
        tasks: u32,
        workers: u32,
        runs_differ: f64,
        figures: &mut Figures,
        dice: &mut fastrand::Rng,
    ) -> (f64, f64) {
        let today = (runs_differ * normal(dice)).exp();
        let (start_s, load_s) = (0.5 + dice.f64(), 2.0 + dice.f64());
        let workers = workers.min(tasks);
        let mut free = vec![start_s + load_s; workers as usize];
        let mut seen = Spread::default();
        for _ in 0..tasks {
            let took = frames.draw(dice) * today;
            seen.add(took);
            figures.task_max_s = figures.task_max_s.max(took);
            let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("one at least");
            *first += took + 0.02;
        }
        figures.task.merge(seen);
        figures.run.add(seen.mean().expect("a frame"));
        figures.load.add(load_s);
        figures.start.add(start_s);
        figures.extra.add(0.02);
        let over = free.iter().copied().fold(0.0, f64::max);
        (over, free.iter().map(|until| until + 1.0).sum())
    }

    /// Of so many runs, how many of a hundred end within their range, in time and in what is paid.
    fn within(frames: Frames, seen: u32, tasks: u32, workers: u32, runs_differ: f64) -> (u32, u32) {
        const RUNS: u32 = 400;
        let mut dice = fastrand::Rng::with_seed(7);
        let (mut in_time, mut in_money) = (0, 0);
        for _ in 0..RUNS {
            let mut figures = Figures::default();
            run(frames, seen, 1, runs_differ, &mut figures, &mut dice);
            let known = figures.clone();
            let plan = Plan { figures: &known, start: known.start, scale: 1.0, tasks, linger_s: 1.0 };
            let Forecast { time_s, paid_s } = plan.with(workers);
            let (time, paid) = run(frames, tasks, workers, runs_differ, &mut figures, &mut dice);
            in_time += u32::from((time_s.low..=time_s.high).contains(&time));
            in_money += u32::from((paid_s.low..=paid_s.high).contains(&paid));
        }
        (in_time * 100 / RUNS, in_money * 100 / RUNS)
    }

    #[test]
    fn nine_of_ten_runs_end_within_their_range() {
        let frames = [
            Frames::Same,
            Frames::Even { least: 0.5, most: 1.5 },
            Frames::Skewed(0.3),
            Frames::Skewed(0.6),
            Frames::Two,
        ];
        for frames in frames {
            for (seen, tasks, workers) in [(10, 40, 1), (10, 400, 16), (100, 100, 4), (1000, 50, 8), (100, 3, 2)] {
                for runs_differ in [0.0, 0.1] {
                    let (time, money) = within(frames, seen, tasks, workers, runs_differ);
                    let what = format!("{frames:?}, {seen} seen, {tasks} to do, {workers} workers, {runs_differ}");
                    assert!(time >= 90 && money >= 90, "{what}: {time} % in time, {money} % in money");
                }
            }
        }
    }

    #[test]
    fn a_few_frames_of_a_probe_are_enough_where_frames_are_alike() {
        for (frames, seen) in [(Frames::Same, 1), (Frames::Even { least: 0.7, most: 1.3 }, 3), (Frames::Skewed(0.3), 5)]
        {
            let (time, money) = within(frames, seen, 60, 4, 0.1);
            assert!(time >= 90 && money >= 90, "{frames:?} after {seen}: {time} % in time, {money} % in money");
        }
    }

    #[test]
    fn what_is_seen_makes_the_range_narrower_and_more_workers_make_it_shorter() {
        let mut dice = fastrand::Rng::with_seed(3);
        let mut figures = Figures::default();
        let mut widths = Vec::new();
        for _ in 0..20 {
            run(Frames::Skewed(0.3), 50, 1, 0.02, &mut figures, &mut dice);
            let task = figures.task_range(100, 1.0);
            widths.push(task.high / task.low);
        }
        assert!(widths[19] < 1.4 && widths[0] > 1.8, "{widths:?}");
        let plan = Plan { figures: &figures, start: figures.start, scale: 1.0, tasks: 100, linger_s: 1.0 };
        let (one, four) = (plan.with(1), plan.with(4));
        assert!(four.time_s.high < one.time_s.low, "{one:?} {four:?}");
        assert!(four.paid_s.high > one.paid_s.high, "each worker starts and lingers");
        let more = Plan { scale: 4.0, ..plan }.with(4);
        assert!(more.time_s.low > four.time_s.high, "four times the pixels: {more:?}");
    }

    #[test]
    fn without_the_scale_of_runs_a_slow_day_is_seen_to_end_outside() {
        let blind = Figures { task: Spread::of([1.0; 1000]), run: Spread::of([1.0; 1000]), ..Figures::default() };
        let slow = Figures { run: Spread::of((0..1000).map(|run| 0.5 + f64::from(run % 11) / 10.0)), ..blind.clone() };
        assert!(blind.task_range(1000, 1.0).high < 1.2 && slow.task_range(1000, 1.0).high > 1.5);
    }

    #[test]
    fn fading_keeps_the_mean_and_lets_new_figures_count_more() {
        let mut spread = Spread::of([1.0, 3.0]);
        spread.fade();
        assert_eq!((spread.mean(), spread.count), (Some(2.0), 1.0));
        spread.add(5.0);
        assert_eq!(spread.mean(), Some(3.5));
    }
}
