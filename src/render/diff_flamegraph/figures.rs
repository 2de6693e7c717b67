//! Costs and changes as text.

/// Four digits that say something: `41.23`, `4,123`, `0.0412`.
pub(super) fn cost(value: f64) -> String {
    if value.abs() >= 999.95 {
        return match value.abs() < 1e15 {
            true => grouped(value),
            false => format!("{value:.3e}"),
        };
    }
    let whole_digits = value.abs().max(1e-9).log10().floor() as i32 + 1;
    let decimals = (4 - whole_digits).clamp(1, 6) as usize;
    match value == 0.0 {
        true => "0".into(),
        false => format!("{value:.decimals$}"),
    }
}

fn grouped(value: f64) -> String {
    let number = crate::render::units::count(value.abs().round() as u64);
    match value < 0.0 {
        true => format!("-{number}"),
        false => number,
    }
}

/// With its sign: `+1.800`, `−0.0412`.
pub(super) fn difference(before: f64, after: f64) -> String {
    let sign = if after < before { '−' } else { '+' };
    format!("{sign}{}", cost((after - before).abs()))
}

/// `+14.6 %`, `×12.3`, `new`, `vanished`.
pub(super) fn ratio(before: f64, after: f64) -> String {
    let change = (after / before - 1.0) * 100.0;
    match () {
        () if before <= 0.0 && after <= 0.0 => "0 %".into(),
        () if before <= 0.0 => "new".into(),
        () if after <= 0.0 => "vanished".into(),
        () if change >= 1000.0 => format!("×{}", cost(after / before)),
        () if change < 0.0 => format!("−{:.1} %", -change),
        () => format!("+{change:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits_and_signs() {
        let costs = [0.0, 0.000_041_23, 0.041_23, 4.123_4, 412.34, 41_234.4, 1e20];
        let expected = [
            "0", "0.000041", "0.04123", "4.123", "412.3", "41,234", "1.000e20",
        ];
        assert_eq!(costs.map(cost), expected);
        assert_eq!(difference(3.0, 1.0), "−2.000");
        assert_eq!(difference(1.0, 1.25), "+0.2500");
        let ratios = [
            (1.0, 1.146),
            (2.0, 1.0),
            (0.0, 1.0),
            (1.0, 0.0),
            (1.0, 20.0),
        ];
        let ratios = ratios.map(|(before, after)| ratio(before, after));
        assert_eq!(ratios, ["+14.6 %", "−50.0 %", "new", "vanished", "×20.00"]);
    }
}
