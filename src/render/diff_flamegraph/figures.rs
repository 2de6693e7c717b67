//! Costs and changes as text. Costs are not negative.

use crate::render::units;

/// Four digits that say something: `41.23`, `4,123`, `0.04120`.
pub(super) fn cost(value: f64) -> String {
    // What the value is once it is rounded decides how many digits are left: 99.999 is 100.0.
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    match rounded.abs() {
        0.0 => "0".into(),
        1000.0..1e15 => units::count(value.round() as u64),
        size @ 1e-4..1000.0 => {
            let decimals = (3 - size.log10().floor() as i32).max(1) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.3e}"),
    }
}

/// With its sign: `+1.800`, `−0.04120`.
pub(super) fn difference(before: f64, after: f64) -> String {
    let sign = if after < before { '−' } else { '+' };
    format!("{sign}{}", cost((after - before).abs()))
}

/// `+14.6 %`, `×12.3`, `new`, `vanished`.
pub(super) fn ratio(before: f64, after: f64) -> String {
    let change = (after / before - 1.0) * 100.0;
    match () {
        () if before <= 0.0 && after <= 0.0 => "±0 %".into(),
        () if before <= 0.0 => "new".into(),
        () if after <= 0.0 => "vanished".into(),
        () if change >= 1000.0 => format!("×{}", cost(after / before)),
        () if change.abs() < 0.05 => "±0 %".into(),
        () if change < 0.0 => format!("−{:.1} %", -change),
        () => format!("+{change:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits_and_signs() {
        for (value, expected) in [
            (0.0, "0"),
            (0.000_004_123, "4.123e-6"),
            (0.041_23, "0.04123"),
            (4.123_4, "4.123"),
            (99.999_9, "100.0"),
            (412.34, "412.3"),
            (999.99, "1,000"),
            (41_234.4, "41,234"),
            (1e20, "1.000e20"),
        ] {
            assert_eq!(cost(value), expected);
        }
        assert_eq!(difference(3.0, 1.0), "−2.000");
        assert_eq!(difference(1.0, 1.25), "+0.2500");
        for (before, after, expected) in [
            (1.0, 1.146, "+14.6 %"),
            (2.0, 1.0, "−50.0 %"),
            (1.0, 1.0001, "±0 %"),
            (0.0, 1.0, "new"),
            (1.0, 0.0, "vanished"),
            (1.0, 20.0, "×20.00"),
        ] {
            assert_eq!(ratio(before, after), expected);
        }
    }
}
