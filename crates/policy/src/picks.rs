//! What was chosen so far within one budget, and what may still be.

use rustc_hash::FxHashMap;

use crate::config::{Config, Spread};
use crate::ranking::Ranking;
use crate::units::Units;

/// So many units are offered for each that is taken, or fewer, in most rows that have a cap or a spread.
const LIKELY: usize = 2;

/// The choice from one budget's units. Policies offer units in the order in which they want them; a unit that does not
/// fit into the budget, or that cap or spread forbid, is turned down.
#[derive(Debug)]
pub struct Picks<'a> {
    units: &'a Units,
    budget: usize,
    spent: usize,
    taken: Vec<bool>,
    chosen: Vec<u32>,
    cap: Option<Cap>,
    spacing: Option<Spacing>,
}

impl<'a> Picks<'a> {
    /// Nothing chosen yet, of `budget` tokens.
    pub(crate) fn new(config: &Config, units: &'a Units, budget: usize) -> Self {
        let cap = config.cap.map(|share| Cap::new(share, budget));
        let spacing = config.spread.map(|spread| Spacing::new(spread, units));
        Self {
            units,
            budget,
            spent: 0,
            taken: vec![false; units.len()],
            chosen: Vec::with_capacity(budget),
            cap,
            spacing,
        }
    }

    /// Tokens that are still to be chosen.
    pub fn left(&self) -> usize {
        self.budget - self.spent
    }

    /// True if `unit` was taken.
    pub fn is_taken(&self, unit: u32) -> bool {
        self.taken[unit as usize]
    }

    /// The units that were not taken, ascending.
    pub fn open(&self) -> Vec<u32> {
        let open = self.taken.iter().enumerate().filter(|(_, taken)| !**taken);
        open.map(|(unit, _)| unit as u32).collect()
    }

    /// Takes a unit if it is open, fits and is allowed.
    pub fn take(&mut self, unit: u32) -> bool {
        let tokens = self.units.tokens(unit as usize);
        if self.taken[unit as usize] || tokens.len() > self.left() {
            return false;
        }
        let (places, ids) = (&self.units.places[tokens.clone()], &self.units.ids[tokens]);
        if !self.cap.as_ref().is_none_or(|cap| cap.allows(ids))
            || !self.spacing.as_mut().is_none_or(|spacing| spacing.add(places))
        {
            return false;
        }
        if let Some(cap) = &mut self.cap {
            cap.add(ids);
        }
        self.taken[unit as usize] = true;
        self.chosen.push(unit);
        self.spent += places.len();
        true
    }

    /// Takes units in the given order until `quota` tokens more are chosen, or no unit is left that would fit.
    ///
    /// Asks for no unit once the quota is reached, so that an order that is drawn as it goes draws no more than needed.
    pub fn fill(&mut self, order: impl IntoIterator<Item = u32>, quota: usize) {
        let (mut order, end) = (order.into_iter(), (self.spent + quota).min(self.budget));
        while self.spent < end {
            let Some(unit) = order.next() else { break };
            if self.spent + self.units.size(unit as usize) <= end {
                self.take(unit);
            }
        }
    }

    /// Spends what is left on the open units of the highest priority; of equal ones, the earlier unit.
    pub fn prefer(&mut self, mut priority: impl FnMut(u32) -> f64) {
        let left = self.left();
        let open = (0..).zip(&self.taken).filter(|(_, taken)| !**taken);
        let ranking = Ranking::new(open.map(|(unit, _)| (priority(unit), unit)), LIKELY * left);
        // Where nothing can be turned down, the order among the first ones does not matter.
        if !self.is_limited() && self.units.are_tokens() {
            self.fill(ranking.first(left), left);
        } else {
            self.fill(ranking, left);
        }
    }

    /// True if cap or spread may turn units down.
    pub(crate) fn is_limited(&self) -> bool {
        self.cap.is_some() || self.spacing.is_some()
    }

    /// Forgets cap and spread.
    pub(crate) fn relax(&mut self) {
        self.cap = None;
        self.spacing = None;
    }

    /// The places of the chosen tokens, ascending.
    pub(crate) fn places(&self) -> Vec<u32> {
        let tokens = self.chosen.iter().flat_map(|&unit| self.units.tokens(unit as usize));
        let mut places: Vec<u32> = tokens.map(|token| self.units.places[token]).collect();
        places.sort_unstable();
        places
    }
}

/// How often each token id was chosen, and how often it may be.
#[derive(Debug)]
struct Cap {
    limit: usize,
    counts: FxHashMap<u32, usize>,
}

impl Cap {
    fn new(share: f64, budget: usize) -> Self {
        Self { limit: ((share * budget as f64 + 1e-9) as usize).max(1), counts: FxHashMap::default() }
    }

    fn allows(&self, ids: &[u32]) -> bool {
        ids.iter().enumerate().all(|(index, id)| {
            let before = self.counts.get(id).copied().unwrap_or(0);
            before + ids[..=index].iter().filter(|other| *other == id).count() <= self.limit
        })
    }

    fn add(&mut self, ids: &[u32]) {
        for id in ids {
            *self.counts.entry(*id).or_default() += 1;
        }
    }
}

/// Which places were chosen, and how many may be in a window.
#[derive(Debug)]
struct Spacing {
    window: usize,
    limit: usize,
    masked: Vec<bool>,
}

impl Spacing {
    fn new(spread: Spread, units: &Units) -> Self {
        let places = units.places.last().map_or(0, |last| *last as usize + 1);
        Self { window: spread.window.min(units.gap()), limit: spread.limit(), masked: vec![false; places] }
    }

    /// Adds all places of a unit, or none.
    fn add(&mut self, places: &[u32]) -> bool {
        for (index, &place) in places.iter().enumerate() {
            if !self.allows(place as usize) {
                places[..index].iter().for_each(|&place| self.masked[place as usize] = false);
                return false;
            }
            self.masked[place as usize] = true;
        }
        true
    }

    /// True if every window that holds `place` has room for one more.
    fn allows(&self, place: usize) -> bool {
        let first = (place + 1).saturating_sub(self.window);
        let end = (place + self.window).min(self.masked.len());
        let count =
            |range: std::ops::Range<usize>| self.masked[range].iter().filter(|masked| **masked).count();
        let mut inside = count(first..(first + self.window).min(end));
        if inside >= self.limit {
            return false;
        }
        for entering in first + self.window..end {
            inside += usize::from(self.masked[entering]);
            inside -= usize::from(self.masked[entering - self.window]);
            if inside >= self.limit {
                return false;
            }
        }
        true
    }
}
