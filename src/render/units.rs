//! Numbers for people: always with their unit, never with more digits than they are worth.

use jiff::Timestamp;

/// A share as `37.1 %`. Small ones keep a digit that says something.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    match value.abs() {
        v if v == 0.0 || v >= 0.095 => format!("{value:.1} %"),
        v if v >= 0.0095 => format!("{value:.2} %"),
        _ => "< 0.01 %".to_owned(),
    }
}

/// A share that is judged against a threshold: rounded towards the worse, so that `99.96 %` never reads as `100.0 %`.
pub fn coverage(share: f64) -> String {
    let tenths = share * 1000.0;
    // A share that is a whole tenth must not lose one to the representation of fractions.
    let tenths = if share < 1.0 {
        (tenths + 1e-9).floor()
    } else {
        tenths.round()
    };
    format!("{:.1} %", tenths / 10.0)
}

/// Nanoseconds as `8.26 s`, `412 ms`, `981 ns`.
pub fn duration_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// Nanoseconds as seconds without the unit, for columns that have it in their head.
pub fn seconds(ns: u64) -> String {
    format!("{:.2}", ns as f64 / 1e9)
}

pub fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", value / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.0} MiB", value / 1_048_576.0),
        _ => format!("{:.1} GiB", value / 1_073_741_824.0),
    }
}

/// `8,256`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2023-11-14T22:13:20Z`; `None` for 0, which stands for an unknown time.
pub fn timestamp(unix_ns: u64) -> Option<String> {
    if unix_ns == 0 {
        return None;
    }
    let time = Timestamp::from_second((unix_ns / 1_000_000_000) as i64).ok()?;
    Some(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_unit_and_do_not_flatter() {
        assert_eq!(percent(0.371_2), "37.1 %");
        assert_eq!(percent(0.000_5), "0.05 %");
        assert_eq!(percent(0.000_001), "< 0.01 %");
        assert_eq!(percent(0.0), "0.0 %");
        assert_eq!(coverage(0.999_6), "99.9 %");
        assert_eq!(coverage(0.995), "99.5 %");
        assert_eq!(coverage(1.0), "100.0 %");
        assert_eq!(count(8256), "8,256");
        assert_eq!(count(100), "100");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(duration_ns(412_000_000), "412 ms");
        assert_eq!(bytes(38 << 20), "38 MiB");
        let time = timestamp(1_700_000_000_000_000_000);
        assert_eq!(time.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(timestamp(0), None);
    }
}
