//! What was measured of scenes, kept beyond their jobs.

use super::{Error, Store};
use crate::scene::SceneKey;
use framewake_core::estimate::{Figures, Spread};
use framewake_core::gpus::Vram;
use framewake_proto::objects::Digest;
use framewake_proto::time::Timestamp;
use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::{BTreeMap, HashMap};

/// Most scenes that are remembered, each at each size: some 10 MB.
pub(crate) const MEASURED_MAX: i64 = 20_000;
/// Tasks from which on what is known fades by half, so that new machines count.
const FADES_AT: f64 = 4096.0;
/// In the order of `Figures::spreads`.
const SPREADS: [&str; 6] = ["task", "run", "load", "extra", "start", "bytes"];

/// What a batch learned of one scene.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Learned {
    /// To be added to what is known.
    pub(crate) figures: Figures,
    /// All that is known, in the place of what was.
    pub(crate) vram: Option<Vram>,
}

/// What is known of a scene at one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub pixels: u64,
    pub figures: Figures,
    pub last_at: Timestamp,
}

pub(super) async fn write(
    c: &mut SqliteConnection,
    learned: &BTreeMap<SceneKey, &Learned>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut is_new = false;
    for (key, learned) in learned {
        let (look, pixels) = (Digest(key.look).to_string(), key.pixels.cast_signed());
        let found = sqlx::query(
            "SELECT figures, vram_floor, vram_peak, vram_enough FROM measured WHERE look = ? AND pixels = ?",
        )
        .bind(&look)
        .bind(pixels)
        .fetch_optional(&mut *c)
        .await?;
        let mut figures = found.as_ref().map_or_else(|| Ok(Figures::default()), |row| row.try_get(0).map(read))?;
        if figures.task.count > FADES_AT {
            figures.fade();
        }
        figures.merge(&learned.figures);
        let vram = match (learned.vram, &found) {
            (Some(vram), _) => vram,
            (None, Some(row)) => vram(row, 1)?,
            (None, None) => Vram::default(),
        };
        sqlx::query(
            "INSERT INTO measured VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET figures = excluded.figures,
             vram_floor = excluded.vram_floor, vram_peak = excluded.vram_peak, vram_enough = excluded.vram_enough,
             last_at = excluded.last_at",
        )
        .bind(&look)
        .bind(pixels)
        .bind(text(figures))
        .bind(vram.floor.cast_signed())
        .bind(vram.peak.cast_signed())
        .bind(vram.enough.map(u64::cast_signed))
        .bind(now.0)
        .execute(&mut *c)
        .await?;
        is_new |= found.is_none();
    }
    if is_new {
        sqlx::query(
            "DELETE FROM measured WHERE (look, pixels) IN
             (SELECT look, pixels FROM measured ORDER BY last_at LIMIT max(0, (SELECT count(*) FROM measured) - ?))",
        )
        .bind(MEASURED_MAX)
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}

fn text(mut figures: Figures) -> String {
    let longest = figures.task_max_s;
    let gpu = std::mem::take(&mut figures.gpu);
    let spreads = SPREADS.into_iter().zip(figures.spreads());
    let mut map: Map<String, Value> = spreads
        .filter(|(_, spread)| spread.count > 0.0)
        .map(|(name, spread)| (name.to_owned(), json!([spread.count, spread.sum, spread.squares])))
        .collect();
    map.insert("longest".to_owned(), json!(longest));
    if !gpu.is_empty() {
        map.insert("gpu".to_owned(), json!(gpu));
    }
    Value::Object(map).to_string()
}

/// What can't be read is not known: nobody's frames depend on it.
fn read(text: &str) -> Figures {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let mut figures = Figures::default();
    for (name, spread) in SPREADS.into_iter().zip(figures.spreads()) {
        let number = |at: usize| value[name][at].as_f64().filter(|number| number.is_finite()).unwrap_or(0.0);
        *spread = Spread { count: number(0), sum: number(1), squares: number(2) };
    }
    figures.task_max_s = value["longest"].as_f64().unwrap_or(0.0);
    value["gpu"].as_str().unwrap_or_default().clone_into(&mut figures.gpu);
    figures
}

fn vram(row: &SqliteRow, at: usize) -> Result<Vram, sqlx::Error> {
    let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    Ok(Vram {
        floor: bytes(row.try_get(at)?),
        peak: bytes(row.try_get(at + 1)?),
        enough: row.try_get::<Option<i64>, _>(at + 2)?.map(bytes),
    })
}

impl Store {
    /// GPU memory that scenes were seen to take.
    pub(crate) async fn load_vrams(&mut self) -> Result<HashMap<SceneKey, Vram>, Error> {
        let rows = sqlx::query(
            "SELECT vram_floor, vram_peak, vram_enough, look, pixels FROM measured
             WHERE vram_floor > 0 OR vram_peak > 0 OR vram_enough IS NOT NULL",
        )
        .fetch_all(&mut self.writer)
        .await
        .map_err(|error| Error::Read { error })?;
        let vrams = rows.iter().filter_map(|row| {
            let look: Digest = row.try_get::<&str, _>(3).ok()?.parse().ok()?;
            let pixels = row.try_get::<i64, _>(4).ok()?.cast_unsigned();
            Some((SceneKey { look: look.0, pixels }, vram(row, 0).ok()?))
        });
        Ok(vrams.collect())
    }
}

impl super::read::Reader {
    /// Of each size at which the scene was seen.
    pub async fn measured(&self, key: &SceneKey) -> Result<Vec<Measured>, super::read::Error> {
        let rows = sqlx::query("SELECT pixels, figures, last_at FROM measured WHERE look = ?")
            .bind(Digest(key.look).to_string())
            .fetch_all(&self.pool)
            .await?;
        let measured = rows.iter().map(|row| {
            Ok(Measured {
                pixels: row.try_get::<i64, _>(0)?.cast_unsigned(),
                figures: read(row.try_get(1)?),
                last_at: Timestamp(row.try_get(2)?),
            })
        });
        measured.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_they_are_written_and_nonsense_is_not_known() {
        let figures = Figures {
            task: Spread::of([0.25, 0.5]),
            load: Spread::of([3.0]),
            task_max_s: 0.5,
            gpu: "NVIDIA L4".to_owned(),
            ..Figures::default()
        };
        assert_eq!(read(&text(figures.clone())), figures);
        for nonsense in ["", "7", "{\"task\": \"x\"}", "{\"task\": [1e999]}"] {
            assert_eq!(read(nonsense), Figures::default(), "{nonsense}");
        }
    }
}
