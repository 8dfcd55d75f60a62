//! `high`: the highest scores.

/// Chooses the `budget` candidates of the highest score; of equal scores, the earlier candidate.
pub(super) fn select<T: Score>(scores: &[T], budget: usize) -> Vec<usize> {
    let mut items: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].order(scores[*a]).then(a.cmp(b));
    if budget < items.len() {
        items.select_nth_unstable_by(budget, order);
        items.truncate(budget);
    }
    items
}

/// A number with a total order.
pub(super) trait Score: Copy {
    fn order(self, other: Self) -> std::cmp::Ordering;
}

impl Score for f32 {
    fn order(self, other: Self) -> std::cmp::Ordering {
        self.total_cmp(&other)
    }
}

impl Score for f64 {
    fn order(self, other: Self) -> std::cmp::Ordering {
        self.total_cmp(&other)
    }
}
