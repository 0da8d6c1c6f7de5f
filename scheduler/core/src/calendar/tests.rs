use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn calendar(cron: &str, name: &str) -> Calendar {
    Calendar::new(cron, zone(name).expect(name)).expect(cron)
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().expect(text).as_millisecond())
}

/// The due times after `after`, as the clocks show them: `29T03:00+02`.
fn due(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let calendar = calendar(cron, zone);
    let dues = std::iter::successors(calendar.next(at(after)), |due| calendar.next(*due)).take(count);
    dues.map(|due| {
        let local = instant(due).expect("in range").to_zoned(calendar.zone().clone());
        local.strftime("%dT%H:%M%:z").to_string()
    })
    .collect()
}

#[test]
fn a_time_that_spring_skips_is_due_when_the_clocks_have_jumped() {
    let paris = |cron| due(cron, "Europe/Paris", "2026-03-28T12:00:00Z", 3);
    assert_eq!(paris("30 2 * * *"), ["29T03:00+02:00", "30T02:30+02:00", "31T02:30+02:00"]);
    // 2:00, 2:30 and 3:00 are one instant then, and one run.
    assert_eq!(paris("0,30 2-3 * * *"), ["29T03:00+02:00", "29T03:30+02:00", "30T02:00+02:00"]);
    let new_york = due("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2);
    assert_eq!(new_york, ["08T03:00-04:00", "09T02:30-04:00"]);
    // Half an hour only.
    let lord_howe = due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2);
    assert_eq!(lord_howe, ["04T02:30+11:00", "05T02:15+11:00"]);
}

#[test]
fn a_time_that_comes_twice_in_autumn_is_due_the_first_time() {
    let paris = due("30 2 * * *", "Europe/Paris", "2026-10-24T12:00:00Z", 2);
    assert_eq!(paris, ["25T02:30+02:00", "26T02:30+01:00"]);
    let paris = due("*/30 1-3 * * *", "Europe/Paris", "2026-10-24T22:00:00Z", 6);
    let once = ["01:00+02:00", "01:30+02:00", "02:00+02:00", "02:30+02:00", "03:00+01:00", "03:30+01:00"];
    assert_eq!(paris, once.map(|time| format!("25T{time}")));
    let new_york = due("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2);
    assert_eq!(new_york, ["01T01:30-04:00", "02T01:30-05:00"]);
    let lord_howe = due("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2);
    assert_eq!(lord_howe, ["05T01:45+11:00", "06T01:45+10:30"]);
    // Asked in the second pass, it was due in the first.
    let second = due("30 2 * * *", "Europe/Paris", "2026-10-25T01:10:00Z", 1);
    assert_eq!(second, ["26T02:30+01:00"]);
}

#[test]
fn a_pattern_for_every_hour_goes_by_what_the_clocks_show() {
    let spring = due("30 * * * *", "Europe/Paris", "2026-03-29T00:00:00Z", 3);
    assert_eq!(spring, ["29T01:30+01:00", "29T03:30+02:00", "29T04:30+02:00"]);
    let autumn = due("30 * * * *", "Europe/Paris", "2026-10-24T23:00:00Z", 4);
    assert_eq!(autumn, ["25T01:30+02:00", "25T02:30+02:00", "25T02:30+01:00", "25T03:30+01:00"]);
    let lord_howe = due("*/30 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 4);
    assert_eq!(lord_howe, ["05T01:30+11:00", "05T01:30+10:30", "05T02:00+10:30", "05T02:30+10:30"]);
    let lord_howe = due("*/30 * * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", 3);
    assert_eq!(lord_howe, ["04T02:30+11:00", "04T03:00+11:00", "04T03:30+11:00"]);
}

#[test]
fn leap_days_weekdays_and_either_day_are_crons() {
    let utc = |cron, after| due(cron, "UTC", after, 3);
    let calendar = calendar("0 0 29 2 *", "UTC");
    assert_eq!(calendar.next(at("2026-01-01T00:00:00Z")), Some(at("2028-02-29T00:00:00Z")));
    // 2026-11-01 is a Sunday.
    let days = |cron| utc(cron, "2026-10-31T23:59:59Z").iter().map(|day| day[..2].to_owned()).collect::<Vec<_>>();
    assert_eq!(days("0 0 * * 0"), ["01", "08", "15"]);
    assert_eq!(days("0 0 * * 7"), ["01", "08", "15"]);
    assert_eq!(days("0 0 * * 1"), ["02", "09", "16"]);
    assert_eq!(days("0 0 * * 5-7"), ["01", "06", "07"]);
    assert_eq!(days("0 0 * * mon-Tuesday"), ["02", "03", "09"]);
    assert_eq!(days("0 0 5 * 1"), ["02", "05", "09"], "the fifth, and every Monday");
    assert_eq!(days("0 0 */5 * 1"), ["16", "21", "11"], "of the 1st, 6th, …, those that are Mondays");
    assert_eq!(utc("@weekly", "2026-11-01T00:00:00Z")[0], "08T00:00+00:00");
}

#[test]
fn five_and_six_fields_are_said_as_they_are_read() {
    for (cron, reading) in [
        ("30 2 * * *", "at 02:30 every day (five fields: minute hour day month weekday)"),
        ("30 2 * * * *", "at second 30 of minute 2 of every hour (six fields: second minute hour day month weekday)"),
        ("*/15 * * * *", "every 15 minutes (five fields: minute hour day month weekday)"),
        ("*/10 * * * * *", "every 10 seconds (six fields: second minute hour day month weekday)"),
        (
            "0 9-17 * jan mon-fri",
            "at minute 0 of hours 9-17 on Monday, Tuesday, Wednesday, Thursday, Friday in January (five fields: minute hour day month weekday)",
        ),
        ("0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday (five fields: minute hour day month weekday)"),
        ("@daily", "at 00:00 every day (five fields: minute hour day month weekday)"),
    ] {
        let said = calendar(cron, "Europe/Paris").reading();
        assert_eq!(said, format!("{reading}, on the clocks of Europe/Paris"));
    }
}

#[test]
fn what_can_not_be_read_is_said_in_its_own_words() {
    for (cron, says) in [
        ("", "empty"),
        ("61 * * * *", "minute `61`: `61` is not between 0 and 59 (read as five fields"),
        ("* * * *", "4 fields: cron has five"),
        ("0 0 0 1 1 * 2027", "say `start` and `end`"),
        ("0 0 30 2 *", "never due"),
        ("0 0 31 4,6,9,11 *", "never due"),
        ("@dayly", "did you mean `@daily`"),
        ("@reboot", "is not known"),
        ("*/0 * * * *", "a step is a whole number from 1"),
        ("5-1 * * * *", "runs backwards"),
        ("* * * foo *", "or a name as `jan`"),
        ("1, * * * *", "`` is not between"),
        ("+5 * * * *", "`+5` is not between"),
        ("0 0 2 * * 2027", "weekday `2027`"),
    ] {
        let error = Calendar::new(cron, TimeZone::UTC).expect_err(cron).to_string();
        assert!(error.contains(says), "{cron}: {error}");
    }
    assert!(Calendar::new(&"1,".repeat(200), TimeZone::UTC).is_err());
}

#[test]
fn an_unknown_zone_is_told_its_nearest() {
    for (wrong, near) in
        [("Europe/Pris", "`Europe/Paris`"), ("Paris", "`Europe/Paris`"), ("new york", "`America/New_York`")]
    {
        let error = zone(wrong).expect_err(wrong).to_string();
        assert!(error.contains(near), "{error}");
    }
    assert!(zone("").is_err() && zone("../../etc/passwd").is_err());
}

#[test]
fn looking_back_over_years_of_seconds_is_bounded() {
    let calendar = calendar("* * * * * *", "Europe/Paris");
    let (dues, older) = calendar.between(at("2020-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), 100);
    assert!(older);
    let expected: Vec<Timestamp> =
        (0..100).rev().map(|ago| Timestamp(at("2026-01-01T00:00:00Z").0 - ago * 1000)).collect();
    assert_eq!(dues, expected);
}

/// Minutes, hours, days, months and weekdays, and whether both kinds of days are given.
type Fields = [BTreeSet<i8>; 5];

fn text(fields: &Fields) -> String {
    let sizes = [60, 24, 31, 12, 7];
    let words = fields.iter().zip(sizes).map(|(values, all)| {
        let list: Vec<String> = values.iter().map(i8::to_string).collect();
        if values.len() == all { "*".to_owned() } else { list.join(",") }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn names(fields: &Fields, wall: DateTime) -> bool {
    let [minutes, hours, days, months, weekdays] = fields;
    let (day, weekday) = (days.contains(&wall.day()), weekdays.contains(&wall.weekday().to_sunday_zero_offset()));
    let both = days.len() < 31 && weekdays.len() < 7;
    let day = if both { day || weekday } else { day && weekday };
    minutes.contains(&wall.minute()) && hours.contains(&wall.hour()) && months.contains(&wall.month()) && day
}

/// Every minute of the span, by the rule itself.
fn scanned(fields: &Fields, zone: &TimeZone, first: i64, minutes: i64) -> Vec<Timestamp> {
    let wall = |minute: i64| {
        let instant = jiff::Timestamp::from_second(minute * 60).expect("in range");
        minute + i64::from(zone.to_offset(instant).seconds()) / 60
    };
    let at = |wall: i64| Offset::UTC.to_datetime(jiff::Timestamp::from_second(wall * 60).expect("in range"));
    let mut reached = wall(first);
    let mut found = Vec::new();
    for minute in first + 1..=first + minutes {
        let shown = wall(minute);
        let due = if fields[1].len() == 24 {
            names(fields, at(shown))
        } else {
            (reached + 1..=shown).any(|wall| names(fields, at(wall)))
        };
        reached = reached.max(shown);
        if due {
            found.push(Timestamp(minute * 60_000));
        }
    }
    found
}

fn same(fields: &Fields, name: &str, first: i64, minutes: i64) {
    let calendar = calendar(&text(fields), name);
    let until = Timestamp((first + minutes) * 60_000);
    let dues = std::iter::successors(calendar.next(Timestamp(first * 60_000)), |due| calendar.next(*due));
    let found: Vec<Timestamp> = dues.take_while(|due| *due <= until).collect();
    let expected = scanned(fields, calendar.zone(), first, minutes);
    let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(found.len(), expected.len(), "{} in {name}: first difference {differs:?}", text(fields));
    assert_eq!(differs, None, "{} in {name}", text(fields));
}

const ZONES: [&str; 5] = ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"];

fn set(first: i8, last: i8, most: usize) -> impl Strategy<Value = BTreeSet<i8>> {
    let all: BTreeSet<i8> = (first..=last).collect();
    prop_oneof![Just(all), proptest::collection::btree_set(first..=last, 1..=most)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A few days around each change of the clocks, by brute force.
    #[test]
    fn due_times_are_those_of_a_scan_of_every_minute(
        fields in (set(0, 59, 4), set(0, 23, 4), set(1, 31, 6), set(1, 12, 8), set(0, 6, 3)),
        zone in 0..ZONES.len(),
        change in prop_oneof![Just(29_577_600i64), Just(29_620_000), Just(29_680_000), Just(29_872_000), Just(29_912_000), Just(30_448_800)],
        days in 4i64..9,
    ) {
        let fields: Fields = [fields.0, fields.1, fields.2, fields.3, fields.4];
        prop_assume!(Calendar::new(&text(&fields), TimeZone::UTC).is_ok());
        same(&fields, ZONES[zone], change - days * 1440, 2 * days * 1440);
    }

    #[test]
    fn no_text_breaks_the_reading(cron in "[-0-9*/,?@a-zA-Z# ]{0,40}") {
        let _ = Calendar::new(&cron, TimeZone::UTC);
    }

    #[test]
    fn due_times_rise(cron in "(\\*|\\*/7|0|30|59) (\\*|[0-3]|\\*/5) (\\*|29|31|1-5) \\* (\\*|0|5-7)", from in 29_500_000i64..30_500_000) {
        for zone in ZONES {
            let calendar = calendar(&cron, zone);
            let mut last = Timestamp(from * 60_000);
            for _ in 0..50 {
                let next = calendar.next(last).expect("there is always another");
                prop_assert!(next > last);
                last = next;
            }
        }
    }
}

/// All of 2026, where all zones change their clocks twice.
#[test]
fn a_whole_year_is_that_of_a_scan_of_every_minute() {
    let set = |values: &[i8]| values.iter().copied().collect::<BTreeSet<i8>>();
    let all = |first: i8, last: i8| (first..=last).collect::<BTreeSet<i8>>();
    let first = 29_453_760; // 2026-01-01T00:00Z, in minutes.
    let night = [set(&[0, 30]), set(&[1, 2, 3]), all(1, 31), all(1, 12), all(0, 6)];
    let hourly = [set(&[15]), all(0, 23), all(1, 31), all(1, 12), all(0, 6)];
    for (fields, zone) in [(&night, ZONES[0]), (&hourly, ZONES[1]), (&night, ZONES[2])] {
        same(fields, zone, first, 365 * 1440);
    }
}
