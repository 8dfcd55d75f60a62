//! Numbers as people read them.

/// `1234567` → `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// So many of something that has a regular plural: `1 file`, `1,234 files`.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A difference with its sign, which is a plus where nothing is left of it.
pub fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:+.digits$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() { text.replace('-', "+") } else { text }
}

/// A count in short: `4.4 M`.
pub fn short(n: f64) -> String {
    scaled(n, 1000.0, &THOUSANDS)
}

/// A round count on an axis, in short, with the decimals that it needs: `10 k`, `1.25 M`.
pub fn on_axis(n: f64) -> String {
    let (value, unit) = in_units(n, 1000.0, &THOUSANDS);
    // A step of an axis is a quarter of a unit or more, unless its values lie close together far from 0.
    let number = format!("{value:.3}");
    format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.')).trim_end().to_string()
}

/// Bytes in binary units: `12.3 MiB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Floating-point operations: `3.1 PFLOP`; a dash for none.
pub fn flops(n: f64) -> String {
    if n <= 0.0 {
        return "–".into();
    }
    scaled(n, 1000.0, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"])
}

/// Seconds as a duration: `0.4 s`, `13 min 32 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A share as a percentage with one decimal: `14.9 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

const THOUSANDS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

fn scaled(n: f64, base: f64, units: &[&str]) -> String {
    let (value, unit) = in_units(n, base, units);
    let is_whole = unit == units[0] || value >= 99.95;
    let number = if is_whole { format!("{value:.0}") } else { format!("{value:.1}") };
    format!("{number} {unit}").trim_end().to_string()
}

/// The largest of `units`, each `base` times the one before, of which there is one or more, and how many.
fn in_units<'a>(n: f64, base: f64, units: &[&'a str]) -> (f64, &'a str) {
    let mut value = n;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    (value, units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let differences =
            [signed(1.234, 2), signed(-0.5, 2), signed(-0.001, 2), signed(0.0, 2), signed(0.004, 1)];
        assert_eq!(differences, ["+1.23", "-0.50", "+0.00", "+0.00", "+0.0"]);
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([counted(1, "row"), counted(1000, "row")], ["1 row", "1,000 rows"]);
        assert_eq!([short(12.0), short(4_412_000.0), short(999_960.0)], ["12", "4.4 M", "1000 k"]);
        assert_eq!([0.0, 0.25, 750.0, 1000.0].map(on_axis), ["0", "0.25", "750", "1 k"]);
        assert_eq!([1250.0, 17_500.0, 1e6, 1e23].map(on_axis), ["1.25 k", "17.5 k", "1 M", "100000 E"]);
        assert_eq!([bytes(512), bytes(1536), bytes(300 << 20)], ["512 B", "1.5 KiB", "300 MiB"]);
        assert_eq!([flops(0.0), flops(3.1e15)], ["–", "3.1 PFLOP"]);
        assert_eq!([duration(0.42), duration(59.6), duration(812.4)], ["0.4 s", "1 min 0 s", "13 min 32 s"]);
        assert_eq!([duration(7500.0), percent(0.1494)], ["2 h 5 min", "14.9 %"]);
    }
}
