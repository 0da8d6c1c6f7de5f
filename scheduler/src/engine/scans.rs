//! Versions that are not active: they wait for the scan of their image, or it kept them out.

use super::Engine;
use super::batch::Batch;
use super::deployments::Deployed;
use crate::scan::ScanOrder;
use crate::store::{AccessWrite, AuditRow, ScanWrite};
use framewake_proto::function::FunctionSpec;
use framewake_proto::ids::{FunctionKey, Name};
use framewake_proto::scan::{ScanState, ScanView};
use framewake_proto::time::Timestamp;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Who says what became of a scan, in the audit.
const SCANNER: &str = "scanner";

/// A version that is not active.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) spec: FunctionSpec,
    pub(crate) added_at: Timestamp,
    /// What is deployed with it once it is active.
    pub(crate) deployed: Option<Deployed>,
    pub(crate) waits: bool,
}

/// A version that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    pub key: FunctionKey,
    /// Jobs may use it; else its image is to be scanned first.
    pub active: bool,
}

#[derive(Debug, Default)]
pub(super) struct Scans {
    candidates: BTreeMap<FunctionKey, Candidate>,
    /// `None` where nothing is scanned.
    scanner: Option<mpsc::UnboundedSender<ScanOrder>>,
}

impl Scans {
    pub(super) fn new(candidates: BTreeMap<FunctionKey, Candidate>) -> Scans {
        Scans { candidates, scanner: None }
    }

    fn newest(&self, name: &Name) -> Option<(u32, &Candidate)> {
        let first = FunctionKey { name: name.clone(), version: 0 };
        let last = FunctionKey { name: name.clone(), version: u32::MAX };
        self.candidates.range(first..=last).next_back().map(|(key, candidate)| (key.version, candidate))
    }

    /// The number of the next version, after this one that is active: that of a candidate that says the same.
    pub(super) fn next_version(&self, spec: &FunctionSpec, active: u32) -> u32 {
        match self.newest(&spec.name).filter(|(version, _)| *version > active) {
            Some((version, candidate)) if candidate.spec == *spec => version,
            Some((version, _)) => version + 1,
            None => active + 1,
        }
    }

    fn asks(&self, spec: &FunctionSpec) -> bool {
        self.scanner.is_some() && spec.image.is_some()
    }

    fn order(&self, key: &FunctionKey) {
        let image = self.candidates.get(key).and_then(|candidate| candidate.spec.image.clone());
        if let (Some(scanner), Some(image)) = (&self.scanner, image) {
            // Gone only when the whole scheduler stops.
            let _ = scanner.send(ScanOrder { key: key.clone(), image });
        }
    }
}

impl Engine {
    /// Images are scanned before their versions are active, by whoever takes these orders; first those that waited when the last
    /// scheduler ended.
    pub(crate) fn with_scanner(mut self, scanner: mpsc::UnboundedSender<ScanOrder>) -> Engine {
        self.scans.scanner = Some(scanner);
        for (key, _) in self.scans.candidates.iter().filter(|(_, candidate)| candidate.waits) {
            self.scans.order(key);
        }
        self
    }

    /// Keeps the version back if its image is to be scanned; true if it was.
    pub(super) fn keep_back(&mut self, key: &FunctionKey, spec: &FunctionSpec, batch: &mut Batch) -> bool {
        if !self.scans.asks(spec) {
            // It may have been kept out when there was a scanner.
            if self.scans.candidates.remove(key).is_some() {
                batch.scans.push(ScanWrite::Gone(key.clone()));
            }
            return false;
        }
        if self.scans.candidates.get(key).is_some_and(|candidate| candidate.waits) {
            return true;
        }
        let candidate = Candidate { spec: spec.clone(), added_at: batch.now, deployed: None, waits: true };
        let view = ScanView::waiting(batch.now);
        batch.scans.push(ScanWrite::Kept(key.clone(), Box::new(candidate.clone()), view));
        self.scans.candidates.insert(key.clone(), candidate);
        batch.scans_begun.push(key.clone());
        true
    }

    /// What is deployed once the version is active.
    pub(super) fn deploy_later(&mut self, key: &FunctionKey, deployed: Deployed, batch: &mut Batch) {
        let Some(candidate) = self.scans.candidates.get_mut(key) else { return };
        candidate.deployed = Some(deployed);
        let view = ScanView::waiting(batch.now);
        batch.scans.push(ScanWrite::Kept(key.clone(), Box::new(candidate.clone()), view));
    }

    /// Nothing of this name is deployed any more, also not what waits; true if something did.
    pub(super) fn deploy_no_more(&mut self, name: &Name, batch: &mut Batch) -> bool {
        let mut waited = false;
        for (key, candidate) in &mut self.scans.candidates {
            if key.name != *name || !candidate.waits || candidate.deployed.is_none() {
                continue;
            }
            (candidate.deployed, candidate.waits, waited) = (None, false, true);
            let reason = "it was removed before its image was scanned: deploy it again".to_owned();
            let view = ScanView { state: ScanState::Failed, reason, ..ScanView::waiting(batch.now) };
            batch.scans.push(ScanWrite::Kept(key.clone(), Box::new(candidate.clone()), view));
        }
        waited
    }

    /// What waits is not deployed any more once it is active: another version was deployed after it.
    pub(super) fn deploy_no_other(&mut self, name: &Name, batch: &mut Batch) {
        for (key, candidate) in &mut self.scans.candidates {
            if key.name == *name && candidate.waits && candidate.deployed.take().is_some() {
                let view = ScanView::waiting(batch.now);
                batch.scans.push(ScanWrite::Kept(key.clone(), Box::new(candidate.clone()), view));
            }
        }
    }

    /// What the scanner said: the version is active from now on, or kept out.
    pub(super) fn scanned(&mut self, key: FunctionKey, scan: ScanView, batch: &mut Batch) {
        let Some(candidate) = self.scans.candidates.get_mut(&key).filter(|candidate| candidate.waits) else {
            // It was removed meanwhile.
            return;
        };
        candidate.waits = false;
        let said = serde_json::json!({ "state": scan.state, "found": scan.found, "reason": scan.reason }).to_string();
        batch.access.push(AccessWrite::Changed(Box::new(AuditRow {
            at: batch.now,
            who: SCANNER.to_owned(),
            action: "function.scan",
            subject: format!("/v1/functions/{key}"),
            after: said,
            ..AuditRow::default()
        })));
        if !scan.state.is_active() {
            batch.scans.push(ScanWrite::Kept(key, Box::new(candidate.clone()), scan));
            return;
        }
        let candidate = self.scans.candidates.remove(&key).expect("it was just looked at");
        batch.scans.push(ScanWrite::Passed(key.clone(), candidate.added_at, scan));
        let Candidate { spec, deployed, .. } = candidate;
        // Somebody may have added a function of its name meanwhile.
        let deployed = deployed.filter(|_| !self.is_of_others(&key.name));
        self.activate(key.clone(), spec, batch);
        if let Some(deployed) = deployed {
            self.put_deployment(key, deployed, batch);
        }
    }

    /// Once it is durable that they wait.
    pub(super) fn begin_scans(&self, batch: &Batch) {
        for key in &batch.scans_begun {
            self.scans.order(key);
        }
    }
}
