//! Quantiles of Student's t distribution.

/// The quantile of `p` with `df` degrees of freedom, for p between 1/2 and 1: where the distribution function is `p`.
///
/// The distribution function is 1 − I(df / (df + t²); df/2, 1/2) / 2 with the regularised incomplete beta function I
/// (Abramowitz & Stegun 26.7.1 and 26.5.27); it rises, so bisection finds the place to the last bits.
pub(crate) fn quantile(p: f64, df: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while distribution(high, df) < p {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if distribution(middle, df) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The probability of values up to `t` ≥ 0.
fn distribution(t: f64, df: f64) -> f64 {
    1.0 - 0.5 * incomplete_beta(df / (df + t * t), 0.5 * df, 0.5)
}

/// The regularised incomplete beta function I(x; a, b), by the continued fraction of Numerical Recipes, section 6.4.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges fast below the mean, and I(x; a, b) = 1 − I(1 − x; b, a).
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// Lentz's algorithm, with a floor that keeps divisions finite.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let kept = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut above, mut below) = (1.0, 1.0 / kept(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = below;
    for step in (1..=500).map(f64::from) {
        let place = a + 2.0 * step;
        let even = step * (b - step) * x / ((place - 1.0) * place);
        let odd = -(a + step) * (a + b + step) * x / (place * (place + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            below = 1.0 / kept(1.0 + term * below);
            above = kept(1.0 + term / above);
            change = above * below;
            value *= change;
        }
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// ln Γ(x) for x > 0: Stirling's series where x is large, and Γ(x + 1) = x·Γ(x) to get there.
fn ln_gamma(x: f64) -> f64 {
    if x < 15.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let square = 1.0 / (x * x);
    let series = 1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series / x
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        quantiles: Vec<(f64, f64, f64)>,
    }

    #[test]
    fn quantiles_are_those_of_scipy() {
        let text = include_str!("../tests/fixtures/student_t.json");
        let reference: Reference = serde_json::from_str(text).expect("the fixture is JSON");
        assert!(reference.quantiles.len() > 100);
        for (p, df, expected) in reference.quantiles {
            let found = quantile(p, df);
            assert!((found / expected - 1.0).abs() < 1e-9, "p {p}, df {df}: {found}, expected {expected}");
        }
    }

    /// With one degree of freedom the distribution is Cauchy's, with quantile tan(π(p − 1/2)); for many, the normal one.
    #[test]
    fn the_ends_are_known() {
        assert!((quantile(0.975, 1.0) - (std::f64::consts::PI * 0.475).tan()).abs() < 1e-8);
        assert!((quantile(0.975, 1e7) - 1.959_964).abs() < 1e-5);
    }
}
