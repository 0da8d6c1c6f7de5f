//! Public price tables, read into rows: the catalog of `SkyPilot` with our columns beside, Karpenter's generated tables,
//! and `OpenCost`'s CSV. A row that can't be read is named by its line; nothing of such a file is taken.

use super::{Market, PriceRow, gpu_model};
use crate::money::{Currency, Money, MoneyError, parse_micros};
use crate::time::Day;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Display;

/// Largest file: the largest public catalog has 12 MB.
const FILE_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Most rows of one file.
const FILE_ROWS_MAX: usize = 200_000;
/// Most faults that are told of one file.
const FAULTS_MAX: usize = 20;

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// CSV with `InstanceType,AcceleratorName,AcceleratorCount,…,Price,SpotPrice,Region`, and where they are there
    /// `provider,currency,as_of,source`.
    SkyPilot,
    /// The maps of region and machine in Karpenter's `zz_generated.pricing*.go`.
    Karpenter,
    /// The regions, markets and machines in `initial-prices.json` of Karpenter's provider for Google.
    KarpenterGcp,
    /// CSV with `Region,AssetClass,InstanceType,MarketPriceHourly`.
    OpenCost,
}

/// What a table does not say of its rows.
#[derive(Debug, Clone)]
pub struct Defaults {
    pub provider: String,
    pub currency: Currency,
    pub as_of: Day,
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("it is larger than {FILE_SIZE_MAX} bytes")]
    TooLarge,
    #[error("it has more than {FILE_ROWS_MAX} prices")]
    TooMany,
    #[error("it has no column `{0}`")]
    NoColumn(&'static str),
    #[error("it is no JSON: {0}")]
    Json(String),
    #[error("there is no price in it")]
    Empty,
    #[error("{}", .0.join("; "))]
    Lines(Vec<String>),
}

/// The rows of a table. A price that is missing gives no row; one that can't be read, or is negative, is a fault.
pub fn read(format: Import, text: &str, defaults: &Defaults) -> Result<Vec<PriceRow>, ImportError> {
    if text.len() > FILE_SIZE_MAX {
        return Err(ImportError::TooLarge);
    }
    let mut found = Found::default();
    match format {
        Import::SkyPilot => sky_pilot(text, defaults, &mut found)?,
        Import::Karpenter => karpenter(text, defaults, &mut found),
        Import::KarpenterGcp => karpenter_gcp(text, defaults, &mut found)?,
        Import::OpenCost => open_cost(text, defaults, &mut found)?,
    }
    if !found.faults.is_empty() {
        return Err(ImportError::Lines(found.faults));
    }
    match found.rows.len() {
        0 => Err(ImportError::Empty),
        rows if rows > FILE_ROWS_MAX => Err(ImportError::TooMany),
        _ => Ok(found.rows),
    }
}

#[derive(Default)]
struct Found {
    rows: Vec<PriceRow>,
    faults: Vec<String>,
}

impl Found {
    fn add(&mut self, place: impl Display, row: Result<PriceRow, String>) {
        let row = row.and_then(|row| row.fault().map_or(Ok(row), Err));
        match row {
            Ok(row) if self.rows.len() <= FILE_ROWS_MAX && !self.rows.contains_last(&row) => self.rows.push(row),
            Err(fault) if self.faults.len() < FAULTS_MAX => self.faults.push(format!("{place}: {fault}")),
            Ok(_) | Err(_) => {} // Known, or enough is told.
        }
    }
}

trait ContainsLast {
    fn contains_last(&self, row: &PriceRow) -> bool;
}

/// Zones of one region follow each other with the same price.
impl ContainsLast for Vec<PriceRow> {
    fn contains_last(&self, row: &PriceRow) -> bool {
        self.iter().rev().take(8).any(|other| other == row)
    }
}

/// A table's head by column, and each line by its number.
struct Csv<'a> {
    columns: HashMap<String, usize>,
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
}

impl<'a> Csv<'a> {
    fn new(text: &'a str) -> Csv<'a> {
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let head = lines.next().map_or_else(Vec::new, |(_, line)| fields(line));
        let columns = head.into_iter().enumerate().map(|(at, name)| (name.trim().to_ascii_lowercase(), at)).collect();
        Csv { columns, lines }
    }

    fn needs(&self, column: &'static str) -> Result<(), ImportError> {
        if self.columns.contains_key(&column.to_ascii_lowercase()) {
            Ok(())
        } else {
            Err(ImportError::NoColumn(column))
        }
    }
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("never empty");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    fields
}

/// One line, by column; empty where it has none.
struct Line<'a> {
    columns: &'a HashMap<String, usize>,
    fields: Vec<String>,
}

impl Line<'_> {
    fn get(&self, column: &str) -> &str {
        self.columns.get(column).and_then(|at| self.fields.get(*at)).map_or("", |field| field.trim())
    }

    fn or<'a>(&'a self, column: &str, default: &'a str) -> &'a str {
        let value = self.get(column);
        if value.is_empty() { default } else { value }
    }
}

fn sky_pilot(text: &str, defaults: &Defaults, found: &mut Found) -> Result<(), ImportError> {
    let Csv { columns, lines } = {
        let csv = Csv::new(text);
        csv.needs("InstanceType")?;
        csv.needs("Price")?;
        csv
    };
    for (at, text) in lines.filter(|(_, text)| !text.trim().is_empty() && !text.starts_with('#')) {
        let line = Line { columns: &columns, fields: fields(text) };
        for (column, market) in [("price", Market::OnDemand), ("spotprice", Market::Spot)] {
            let price = line.get(column);
            if !price.is_empty() && !price.eq_ignore_ascii_case("nan") {
                found.add(format_args!("line {}", at + 1), sky_pilot_row(&line, price, market, defaults));
            }
        }
    }
    Ok(())
}

fn sky_pilot_row(line: &Line<'_>, price: &str, market: Market, defaults: &Defaults) -> Result<PriceRow, String> {
    let count = line.get("acceleratorcount");
    // It is written as a number with a point: `1.0`, and `0.125` for a part of a GPU.
    let gpu_count = if count.is_empty() {
        0
    } else {
        let parts = parse_micros(count).map_err(|error| error.to_string())?;
        u32::try_from(parts.div_euclid(1_000_000).max(1)).map_err(|_| format!("{count} GPUs"))?
    };
    let currency: Currency = match line.get("currency") {
        "" => defaults.currency,
        text => text.parse().map_err(|error: MoneyError| error.to_string())?,
    };
    let as_of = match line.get("as_of") {
        "" => defaults.as_of,
        text => text.parse()?,
    };
    Ok(PriceRow {
        id: None,
        provider: line.or("provider", &defaults.provider).to_owned(),
        instance_type: line.get("instancetype").to_owned(),
        gpu: gpu_model(line.get("acceleratorname")).to_owned(),
        gpu_count,
        market,
        region: line.get("region").to_owned(),
        an_hour: Money { micros: micros(price)?, currency },
        as_of,
        source: line.or("source", &defaults.source).to_owned(),
    })
}

/// Public tables have more digits than a millionth; the rest is rounded up.
fn micros(text: &str) -> Result<i64, String> {
    let told = |error: MoneyError| error.to_string();
    match text.split_once('.') {
        Some((units, part)) if part.len() > 6 && part.bytes().all(|byte| byte.is_ascii_digit()) => {
            let rest = part.bytes().skip(6).any(|byte| byte != b'0');
            Ok(parse_micros(&format!("{units}.{}", &part[..6])).map_err(told)? + i64::from(rest))
        }
        _ => parse_micros(text).map_err(told),
    }
}

fn karpenter(text: &str, defaults: &Defaults, found: &mut Found) {
    let mut region = String::new();
    for (at, line) in text.lines().enumerate() {
        // `"us-east-1": {`, then lines of `"g6.xlarge":0.8048, "g6.2xlarge":0.9776,`.
        for entry in line.split(',') {
            let Some((name, value)) = entry.split_once("\":") else { continue };
            let name = name.rsplit('"').next().unwrap_or_default();
            let value = value.trim().trim_end_matches('}').trim();
            if value.starts_with('{') {
                name.clone_into(&mut region);
                // The first price may follow on the same line.
                continue;
            }
            if value.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') {
                let row = micros(value).map(|micros| PriceRow {
                    id: None,
                    provider: defaults.provider.clone(),
                    instance_type: name.to_owned(),
                    gpu: String::new(),
                    gpu_count: 0,
                    market: Market::OnDemand,
                    region: region.clone(),
                    an_hour: Money { micros, currency: defaults.currency },
                    as_of: defaults.as_of,
                    source: defaults.source.clone(),
                });
                found.add(format_args!("line {}", at + 1), row);
            }
        }
    }
}

/// `{"prices": {REGION: {"on_demand": {MACHINE: PRICE}, "spot": {MACHINE: PRICE}}}}`
fn karpenter_gcp(text: &str, defaults: &Defaults, found: &mut Found) -> Result<(), ImportError> {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let file: Map<String, Value> = serde_json::from_str(text).map_err(|error| ImportError::Json(error.to_string()))?;
    for (region, markets) in file.get("prices").map(entries).unwrap_or_default() {
        for (name, market) in [("on_demand", Market::OnDemand), ("spot", Market::Spot)] {
            for (machine, price) in markets.get(name).map(entries).unwrap_or_default() {
                let row = micros(&price.to_string()).map(|micros| PriceRow {
                    id: None,
                    provider: defaults.provider.clone(),
                    instance_type: machine.clone(),
                    gpu: String::new(),
                    gpu_count: 0,
                    market,
                    region: region.clone(),
                    an_hour: Money { micros, currency: defaults.currency },
                    as_of: defaults.as_of,
                    source: defaults.source.clone(),
                });
                found.add(format_args!("{region}, {name}, {machine}"), row);
            }
        }
    }
    Ok(())
}

fn open_cost(text: &str, defaults: &Defaults, found: &mut Found) -> Result<(), ImportError> {
    let Csv { columns, lines } = {
        let csv = Csv::new(text);
        csv.needs("AssetClass")?;
        csv.needs("MarketPriceHourly")?;
        csv
    };
    for (at, text) in lines.filter(|(_, text)| !text.trim().is_empty() && !text.starts_with('#')) {
        let line = Line { columns: &columns, fields: fields(text) };
        let gpu = match line.get("assetclass") {
            "gpu" => gpu_model(line.or("instancetype", line.get("instanceid"))).to_owned(),
            "node" => String::new(),
            _ => continue, // Disks are not paid by the hour of a worker.
        };
        let row = micros(line.get("marketpricehourly")).map(|micros| PriceRow {
            id: None,
            provider: defaults.provider.clone(),
            instance_type: line.or("instanceid", line.get("instancetype")).to_owned(),
            gpu_count: u32::from(!gpu.is_empty()),
            gpu,
            market: Market::OnDemand,
            region: line.get("region").to_owned(),
            an_hour: Money { micros, currency: defaults.currency },
            as_of: defaults.as_of,
            source: defaults.source.clone(),
        });
        found.add(format_args!("line {}", at + 1), row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            provider: "aws".to_owned(),
            currency: "USD".parse().expect("good"),
            as_of: "2026-07-20".parse().expect("good"),
            source: "a test".to_owned(),
        }
    }

    fn told(format: Import, text: &str) -> Vec<String> {
        let rows = read(format, text, &defaults()).expect("good");
        let told = rows.into_iter().map(|row| {
            let PriceRow { provider, instance_type, gpu, gpu_count, market, region, an_hour, as_of, .. } = row;
            format!("{provider} {instance_type} {gpu_count}x{gpu} {market} {region} {an_hour} {as_of}")
        });
        told.collect()
    }

    #[test]
    fn a_catalog_gives_a_row_for_each_market_that_has_a_price() {
        let text = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,currency,as_of,provider\n\
                    g2-standard-4,L4,1.0,4,16,\"{'Gpus': [{'Name': 'L4'}]}\",0.7068,0.3973,us-central1,a,,2026-08-03,gcp\n\
                    g2-standard-4,L4,1.0,4,16,\"{'Gpus': [{'Name': 'L4'}]}\",0.7068,0.3973,us-central1,b,,2026-08-03,gcp\n\
                    p5.48xlarge,H100,8.0,192,2048,,55.04,,us-east-1,,EUR,,\n";
        let expected = [
            "gcp g2-standard-4 1xL4 on-demand us-central1 0.7068 USD 2026-08-03",
            "gcp g2-standard-4 1xL4 spot us-central1 0.3973 USD 2026-08-03",
            "aws p5.48xlarge 8xH100 on-demand us-east-1 55.04 EUR 2026-07-20",
        ];
        assert_eq!(told(Import::SkyPilot, text), expected);
    }

    #[test]
    fn generated_tables_give_a_row_for_each_machine_of_each_region() {
        let text = "var Prices = map[string]map[string]float64{\n\t// us-east-1\n\t\"us-east-1\": {\n\t\t// g6 family\n\
                    \t\t\"g6.xlarge\": 0.804800, \"g6.2xlarge\": 0.977600,\n\t},\n\t\"eastus\": {\n\t\t\"Standard_NC4as_T4_v3\":0.526,\n\t},\n}\n";
        let expected = [
            "aws g6.xlarge 0x on-demand us-east-1 0.8048 USD 2026-07-20",
            "aws g6.2xlarge 0x on-demand us-east-1 0.9776 USD 2026-07-20",
            "aws Standard_NC4as_T4_v3 0x on-demand eastus 0.526 USD 2026-07-20",
        ];
        assert_eq!(told(Import::Karpenter, text), expected);
        let text = "EndTimestamp,InstanceID,Region,AssetClass,InstanceIDField,InstanceType,MarketPriceHourly,Version\n\
                    2026-01-01,n1,eu,node,spec.providerID,big,0.1337,1\n2026-01-01,,eu,gpu,,Tesla T4,0.75,1\n2026-01-01,d,eu,pv,,disk,0.01,1\n";
        let expected =
            ["aws n1 0x on-demand eu 0.1337 USD 2026-07-20", "aws Tesla T4 1xT4 on-demand eu 0.75 USD 2026-07-20"];
        assert_eq!(told(Import::OpenCost, text), expected);
    }

    #[test]
    fn the_tables_of_google_have_both_markets() {
        let text = r#"{"prices":{"us-central1":{"on_demand":{"g2-standard-4":0.70683228,"e2-micro":0.0092144325},
                       "spot":{"g2-standard-4":0.3973}},"asia-east1":{"on_demand":{}}},"updated":"x"}"#;
        let expected = [
            "aws e2-micro 0x on-demand us-central1 0.009215 USD 2026-07-20",
            "aws g2-standard-4 0x on-demand us-central1 0.706833 USD 2026-07-20",
            "aws g2-standard-4 0x spot us-central1 0.3973 USD 2026-07-20",
        ];
        assert_eq!(told(Import::KarpenterGcp, text), expected);
        let refused = |text: &str| read(Import::KarpenterGcp, text, &defaults()).expect_err("bad").to_string();
        let negative = r#"{"prices":{"eu":{"spot":{"a2":-1,"a3":"dear"}}}}"#;
        let said = refused(negative);
        assert!(said.contains("eu, spot, a2: ") && said.contains("eu, spot, a3: "), "{said}");
        assert!(refused("prices").starts_with("it is no JSON"));
        assert_eq!(refused("{}"), "there is no price in it");
    }

    #[test]
    fn the_samples_can_be_read_and_name_their_sources() {
        for name in ["aws", "azure", "gcp"] {
            let path = format!("{}/../samples/prices/{name}.csv", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("a sample");
            let rows = read(Import::SkyPilot, &text, &defaults()).expect("a good table");
            assert!(rows.len() > 3 && rows.iter().all(|row| row.provider == name && !row.gpu.is_empty()), "{name}");
            assert!(rows.iter().all(|row| row.source != "a test" && row.gpu_count > 0), "{name}");
        }
    }

    #[test]
    fn bad_prices_are_named_by_their_lines_and_nothing_is_taken() {
        let head = "InstanceType,Price,currency,as_of\n";
        let fails = |text: &str| read(Import::SkyPilot, &format!("{head}{text}"), &defaults()).map(|rows| rows.len());
        let error = fails("a,1,,\nb,-0.5,,\nc,free,,\nd,1,dollars,\ne,1,,yesterday\n").expect_err("bad").to_string();
        for word in ["line 3: `-0.5` is negative", "line 4: `free`", "line 5: `dollars`", "line 6: `yesterday`"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert_eq!(fails("a,,,\n"), Err(ImportError::Empty));
        assert_eq!(fails("a,1000000001,,\n").map_err(|error| error.to_string().contains("more than")), Err(true));
        assert_eq!(read(Import::SkyPilot, "Machine,Cost\n", &defaults()), Err(ImportError::NoColumn("InstanceType")));
        assert_eq!(read(Import::Karpenter, "package pricing", &defaults()), Err(ImportError::Empty));
        assert_eq!(fails("a,0.0000001,,\n"), Ok(1), "finer than a millionth is rounded up");
    }
}
