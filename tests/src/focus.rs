//! The columns of FOCUS, the `FinOps` Open Cost and Usage Specification, version 1.2 (May 2025), as its own pages list them
//! (`specification/columns` of FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec at `v1.2`), and whether a file of charges keeps to
//! them.

use framewake_proto::time::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Mandatory,
    Recommended,
    Conditional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Decimal,
    Time,
    Currency,
    Json,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    name: &'static str,
    level: Level,
    may_be_null: bool,
    kind: Kind,
    /// Any, if none is named.
    values: &'static [&'static str],
}

const fn of(
    name: &'static str,
    level: Level,
    may_be_null: bool,
    kind: Kind,
    values: &'static [&'static str],
) -> Column {
    Column { name, level, may_be_null, kind, values }
}

/// Those that a charge for usage must have a value in, beside those that no charge may leave out.
const OF_USAGE: [&str; 9] = [
    "ChargeFrequency",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "SkuPriceId",
];

const COLUMNS: [Column; 57] = [
    of("AvailabilityZone", Level::Recommended, true, Kind::Text, &[]),
    of("BilledCost", Level::Mandatory, false, Kind::Decimal, &[]),
    of("BillingAccountId", Level::Mandatory, false, Kind::Text, &[]),
    of("BillingAccountName", Level::Mandatory, true, Kind::Text, &[]),
    of("BillingAccountType", Level::Conditional, false, Kind::Text, &[]),
    of("BillingCurrency", Level::Mandatory, false, Kind::Currency, &[]),
    of("BillingPeriodEnd", Level::Mandatory, false, Kind::Time, &[]),
    of("BillingPeriodStart", Level::Mandatory, false, Kind::Time, &[]),
    of("CapacityReservationId", Level::Conditional, true, Kind::Text, &[]),
    of("CapacityReservationStatus", Level::Conditional, true, Kind::Text, &["Used", "Unused"]),
    of("ChargeCategory", Level::Mandatory, false, Kind::Text, &["Usage", "Purchase", "Tax", "Credit", "Adjustment"]),
    of("ChargeClass", Level::Mandatory, true, Kind::Text, &["Correction"]),
    of("ChargeDescription", Level::Mandatory, true, Kind::Text, &[]),
    of("ChargeFrequency", Level::Recommended, false, Kind::Text, &["One-Time", "Recurring", "Usage-Based"]),
    of("ChargePeriodEnd", Level::Mandatory, false, Kind::Time, &[]),
    of("ChargePeriodStart", Level::Mandatory, false, Kind::Time, &[]),
    of("CommitmentDiscountCategory", Level::Conditional, true, Kind::Text, &["Spend", "Usage"]),
    of("CommitmentDiscountId", Level::Conditional, true, Kind::Text, &[]),
    of("CommitmentDiscountName", Level::Conditional, true, Kind::Text, &[]),
    of("CommitmentDiscountQuantity", Level::Conditional, true, Kind::Decimal, &[]),
    of("CommitmentDiscountStatus", Level::Conditional, true, Kind::Text, &["Used", "Unused"]),
    of("CommitmentDiscountType", Level::Conditional, true, Kind::Text, &[]),
    of("CommitmentDiscountUnit", Level::Conditional, true, Kind::Text, &[]),
    of("ConsumedQuantity", Level::Conditional, true, Kind::Decimal, &[]),
    of("ConsumedUnit", Level::Conditional, true, Kind::Text, &[]),
    of("ContractedCost", Level::Mandatory, false, Kind::Decimal, &[]),
    of("ContractedUnitPrice", Level::Conditional, true, Kind::Decimal, &[]),
    of("EffectiveCost", Level::Mandatory, false, Kind::Decimal, &[]),
    of("InvoiceId", Level::Recommended, true, Kind::Text, &[]),
    of("InvoiceIssuerName", Level::Mandatory, false, Kind::Text, &[]),
    of("ListCost", Level::Mandatory, false, Kind::Decimal, &[]),
    of("ListUnitPrice", Level::Conditional, true, Kind::Decimal, &[]),
    of("PricingCategory", Level::Conditional, true, Kind::Text, &["Standard", "Dynamic", "Committed", "Other"]),
    of("PricingCurrency", Level::Conditional, true, Kind::Text, &[]),
    of("PricingCurrencyContractedUnitPrice", Level::Conditional, true, Kind::Decimal, &[]),
    of("PricingCurrencyEffectiveCost", Level::Conditional, true, Kind::Decimal, &[]),
    of("PricingCurrencyListUnitPrice", Level::Conditional, true, Kind::Decimal, &[]),
    of("PricingQuantity", Level::Mandatory, true, Kind::Decimal, &[]),
    of("PricingUnit", Level::Mandatory, true, Kind::Text, &[]),
    of("ProviderName", Level::Mandatory, false, Kind::Text, &[]),
    of("PublisherName", Level::Mandatory, false, Kind::Text, &[]),
    of("RegionId", Level::Conditional, true, Kind::Text, &[]),
    of("RegionName", Level::Conditional, true, Kind::Text, &[]),
    of("ResourceId", Level::Conditional, true, Kind::Text, &[]),
    of("ResourceName", Level::Conditional, true, Kind::Text, &[]),
    of("ResourceType", Level::Conditional, true, Kind::Text, &[]),
    of(
        "ServiceCategory",
        Level::Mandatory,
        false,
        Kind::Text,
        &[
            "AI and Machine Learning",
            "Analytics",
            "Business Applications",
            "Compute",
            "Databases",
            "Developer Tools",
            "Multicloud",
            "Identity",
            "Integration",
            "Internet of Things",
            "Management and Governance",
            "Media",
            "Migration",
            "Mobile",
            "Networking",
            "Security",
            "Storage",
            "Web",
            "Other",
        ],
    ),
    of("ServiceName", Level::Mandatory, false, Kind::Text, &[]),
    of("ServiceSubcategory", Level::Recommended, false, Kind::Text, &[]),
    of("SkuId", Level::Conditional, true, Kind::Text, &[]),
    of("SkuMeter", Level::Conditional, true, Kind::Text, &[]),
    of("SkuPriceDetails", Level::Conditional, true, Kind::Json, &[]),
    of("SkuPriceId", Level::Conditional, true, Kind::Text, &[]),
    of("SubAccountId", Level::Conditional, true, Kind::Text, &[]),
    of("SubAccountName", Level::Conditional, true, Kind::Text, &[]),
    of("SubAccountType", Level::Conditional, true, Kind::Text, &[]),
    of("Tags", Level::Conditional, true, Kind::Json, &[]),
];

/// Everything that is wrong with a file of charges, in CSV with a line of names first.
pub fn faults(text: &str) -> Vec<String> {
    let mut lines = text.lines();
    let names = fields(lines.next().unwrap_or_default());
    let mut faults = Vec::new();
    for column in COLUMNS.iter().filter(|column| column.level == Level::Mandatory) {
        if !names.iter().any(|name| name == column.name) {
            faults.push(format!("the column {} is missing", column.name));
        }
    }
    for name in &names {
        if !name.starts_with("x_") && !COLUMNS.iter().any(|column| column.name == name) {
            faults.push(format!("{name} is no column of FOCUS, and those of one's own begin with x_"));
        }
    }
    for (line, text) in (2..).zip(lines) {
        let values = fields(text);
        if values.len() != names.len() {
            faults.push(format!("line {line} has {} fields, not {}", values.len(), names.len()));
            continue;
        }
        let row: BTreeMap<&str, &str> =
            names.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
        let mut wrong = Vec::new();
        for column in COLUMNS {
            wrong.extend(row.get(column.name).and_then(|value| column.fault(value)));
        }
        wrong.extend(of_row(&row));
        faults.extend(wrong.into_iter().map(|fault| format!("line {line}: {fault}")));
    }
    faults
}

impl Column {
    fn fault(&self, value: &str) -> Option<String> {
        let name = self.name;
        if value.is_empty() {
            return (!self.may_be_null).then(|| format!("{name} has no value"));
        }
        if !self.values.is_empty() && !self.values.contains(&value) {
            return Some(format!("{name} can't be `{value}`"));
        }
        let good = match self.kind {
            Kind::Text => true,
            Kind::Decimal => decimal(value).is_some(),
            Kind::Time => value.ends_with('Z') && serde_json::from_value::<Timestamp>(Value::from(value)).is_ok(),
            Kind::Currency => value.len() == 3 && value.bytes().all(|byte| byte.is_ascii_uppercase()),
            Kind::Json => serde_json::from_str::<Value>(value).is_ok_and(|value| value.is_object()),
        };
        (!good).then(|| format!("{name}: `{value}` is no {:?}", self.kind))
    }
}

/// Digits, a point, no separators, no sign of plus.
fn decimal(value: &str) -> Option<f64> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'E'));
    value.parse().ok().filter(|_| plain)
}

/// What its columns must be to each other.
fn of_row(row: &BTreeMap<&str, &str>) -> Vec<String> {
    let mut faults = Vec::new();
    let get = |name: &str| row.get(name).copied().unwrap_or_default();
    let number = |name: &str| decimal(get(name)).unwrap_or(f64::NAN);
    if get("ChargeCategory") == "Usage" {
        faults.extend(
            OF_USAGE.iter().filter(|name| get(name).is_empty()).map(|name| format!("{name}: usage must have it")),
        );
    }
    if get("ChargeCategory") == "Purchase" && get("ChargeFrequency") == "Usage-Based" {
        faults.push("a purchase is not based on usage".to_owned());
    }
    for (price, cost) in [("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")] {
        let product = number(price) * number("PricingQuantity");
        // Amounts of parts are rounded so that they add up: each by a millionth at most.
        let off = (product - number(cost)).abs();
        if off.is_nan() || off > 2e-6 {
            faults.push(format!("{price} × PricingQuantity is {product}, and {cost} {}", get(cost)));
        }
    }
    for (begin, end) in [("ChargePeriodStart", "ChargePeriodEnd"), ("BillingPeriodStart", "BillingPeriodEnd")] {
        if get(begin) >= get(end) {
            faults.push(format!("{end} is not after {begin}"));
        }
    }
    if get("ChargePeriodStart") < get("BillingPeriodStart") || get("ChargePeriodEnd") > get("BillingPeriodEnd") {
        faults.push("the charge is not of its billing period".to_owned());
    }
    faults
}

/// A line of CSV.
pub fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let (mut quoted, mut chars) = (false, line.chars().peekable());
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("one at least");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}
