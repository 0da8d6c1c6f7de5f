//! The kinds of faults that the world knows, and sets of them.

use std::fmt;

/// Each can be switched off by its name, to find the smallest setting that still breaks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The scheduler is killed between any two steps, and starts again from what was durable.
    Crash,
    /// The wall clock is another one after a restart.
    ClockJump,
    /// A worker dies at once.
    Kill,
    /// Many workers are taken at once, some with notice.
    SpotWave,
    /// Frames that kill whoever renders them.
    Poison,
    /// A renderer that says nothing more; its worker's heart goes on.
    Hang,
    /// A worker stands still for longer than its lease, and goes on as if nothing had been.
    Freeze,
    /// Frames that take many times as long.
    Straggler,
    /// Frames that fail and would succeed the next time.
    Transient,
    /// Frames that can't succeed.
    SceneError,
    /// No license to be had.
    LicenseWait,
    /// The provider forgets a start.
    ProviderNever,
    /// The provider starts a worker minutes later.
    ProviderLate,
    /// The provider can't start a worker, and says so.
    ProviderFails,
    /// The provider starts two workers when asked for one.
    ProviderDoubles,
    /// The provider does not see that a worker ended.
    ExitUnnoticed,
    /// JetStream is emptied: orders and waiting reports are gone.
    Wipe,
    /// An order is lost on its way.
    LoseOrder,
    /// An order is delivered twice.
    RepeatOrder,
    /// Orders arrive in any order.
    ReorderOrders,
    /// A report is lost on its way.
    LoseReport,
    /// A report is delivered twice, the second time later.
    RepeatReport,
    /// A report arrives late, behind newer ones.
    DelayReport,
    /// Heartbeats, claims, their answers and pushes are lost.
    LoseRequest,
    /// The scheduler is cut off from NATS for a while.
    HoldUp,
    /// Workers say what is not so: of foreign attempts, tasks that do not exist, functions nobody knows.
    Lie,
    /// People cancel, pause, resume, retry and reorder jobs. Not a fault, and as unforeseen.
    People,
}

impl Fault {
    pub const ALL: [Fault; 27] = [
        Fault::Crash,
        Fault::ClockJump,
        Fault::Kill,
        Fault::SpotWave,
        Fault::Poison,
        Fault::Hang,
        Fault::Freeze,
        Fault::Straggler,
        Fault::Transient,
        Fault::SceneError,
        Fault::LicenseWait,
        Fault::ProviderNever,
        Fault::ProviderLate,
        Fault::ProviderFails,
        Fault::ProviderDoubles,
        Fault::ExitUnnoticed,
        Fault::Wipe,
        Fault::LoseOrder,
        Fault::RepeatOrder,
        Fault::ReorderOrders,
        Fault::LoseReport,
        Fault::RepeatReport,
        Fault::DelayReport,
        Fault::LoseRequest,
        Fault::HoldUp,
        Fault::Lie,
        Fault::People,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Crash => "crash",
            Fault::ClockJump => "clock-jump",
            Fault::Kill => "kill",
            Fault::SpotWave => "spot-wave",
            Fault::Poison => "poison",
            Fault::Hang => "hang",
            Fault::Freeze => "freeze",
            Fault::Straggler => "straggler",
            Fault::Transient => "transient",
            Fault::SceneError => "scene-error",
            Fault::LicenseWait => "license-wait",
            Fault::ProviderNever => "provider-never",
            Fault::ProviderLate => "provider-late",
            Fault::ProviderFails => "provider-fails",
            Fault::ProviderDoubles => "provider-doubles",
            Fault::ExitUnnoticed => "exit-unnoticed",
            Fault::Wipe => "wipe",
            Fault::LoseOrder => "lose-order",
            Fault::RepeatOrder => "repeat-order",
            Fault::ReorderOrders => "reorder-orders",
            Fault::LoseReport => "lose-report",
            Fault::RepeatReport => "repeat-report",
            Fault::DelayReport => "delay-report",
            Fault::LoseRequest => "lose-request",
            Fault::HoldUp => "hold-up",
            Fault::Lie => "lie",
            Fault::People => "people",
        }
    }

    pub fn named(name: &str) -> Option<Fault> {
        Fault::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// Faults that happen to the world as a whole, so many times a minute. The others have a chance each
    /// time that something could go wrong.
    pub(crate) fn is_timed(self) -> bool {
        matches!(
            self,
            Fault::Crash
                | Fault::Kill
                | Fault::SpotWave
                | Fault::Freeze
                | Fault::Wipe
                | Fault::HoldUp
                | Fault::Lie
                | Fault::People
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The faults that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    pub const NONE: FaultSet = FaultSet(0);
    pub const ALL: FaultSet = FaultSet((1 << Fault::ALL.len()) - 1);

    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u64) != 0
    }

    #[must_use]
    pub fn without(self, fault: Fault) -> FaultSet {
        FaultSet(self.0 & !(1 << fault as u64))
    }

    #[must_use]
    pub fn with(self, fault: Fault) -> FaultSet {
        FaultSet(self.0 | (1 << fault as u64))
    }

    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self.has(*fault))
    }
}
