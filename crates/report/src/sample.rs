//! Which parts of a large table are looked at.

use entromask_artifact::Output;
use serde::Serialize;

use crate::number::{count, counted};

/// Rows that are enough for stable statistics and read within seconds.
pub const ROWS: u64 = 50_000;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LookedAt {
    /// Rows read.
    pub rows: u64,
    /// Rows there are.
    pub of_rows: u64,
    /// Parts read.
    pub parts: usize,
    /// Parts there are.
    pub of_parts: usize,
}

/// The indices of the parts to read: all of them if they have at most `budget` rows, else some at equal distances.
///
/// At least one part is chosen, however large: a part is read whole.
pub fn choose(parts: &[&Output], budget: Option<u64>) -> (Vec<usize>, LookedAt) {
    let rows = |index: usize| parts[index].rows.unwrap_or(0);
    let of_rows: u64 = (0..parts.len()).map(rows).sum();
    let wanted = match budget {
        Some(budget) if of_rows > budget => {
            let share = budget as f64 / of_rows as f64;
            ((parts.len() as f64 * share) as usize).clamp(1, parts.len())
        }
        _ => parts.len(),
    };
    let chosen: Vec<_> = (0..wanted).map(|i| i * parts.len() / wanted).collect();
    let looked = LookedAt {
        rows: chosen.iter().map(|&index| rows(index)).sum(),
        of_rows,
        parts: chosen.len(),
        of_parts: parts.len(),
    };
    (chosen, looked)
}

impl LookedAt {
    /// `50,000 of 200,000 rows, 1 of 4 parts (--all reads everything)`
    pub fn words(&self) -> String {
        format!(
            "{} of {}, {} of {}{}",
            count(self.rows),
            counted(self.of_rows, "row"),
            self.parts,
            counted(self.of_parts as u64, "part"),
            if self.is_partial() { " (--all reads everything)" } else { "" }
        )
    }

    /// Whether there is more than was read.
    pub fn is_partial(&self) -> bool {
        self.parts < self.of_parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(rows: &[u64]) -> Vec<Output> {
        let part = |&rows: &u64| Output {
            file: String::new(),
            rows: Some(rows),
            bytes: 1,
            blake3: String::new(),
            log: false,
        };
        rows.iter().map(part).collect()
    }

    fn chosen(rows: &[u64], budget: Option<u64>) -> (Vec<usize>, LookedAt) {
        let parts = parts(rows);
        choose(&parts.iter().collect::<Vec<_>>(), budget)
    }

    #[test]
    fn small_tables_are_read_whole_and_large_ones_evenly() {
        assert_eq!(chosen(&[10, 10, 5], Some(100)).0, [0, 1, 2]);
        let (indices, looked) = chosen(&[10; 10], Some(30));
        assert_eq!(indices, [0, 3, 6]);
        assert_eq!(looked, LookedAt { rows: 30, of_rows: 100, parts: 3, of_parts: 10 });
        assert!(looked.is_partial());
        assert_eq!(chosen(&[10; 10], None).0.len(), 10);
    }

    #[test]
    fn one_huge_part_is_read_and_no_parts_are_no_trouble() {
        assert_eq!(chosen(&[1000, 1000], Some(10)).0, [0]);
        assert_eq!(chosen(&[], Some(10)), (vec![], LookedAt::default()));
    }
}
