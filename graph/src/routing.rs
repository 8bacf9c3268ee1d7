//! How the rows of a step are routed to experts: the choice, its ties, and the weights of what was chosen.

use serde::{Deserialize, Serialize};

/// What the logits of a router become before experts are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// softmax over all experts of the row (arXiv:2401.04088, §2.1).
    Softmax,
    /// σ of each logit (arXiv:2412.19437, §2.1.2).
    Sigmoid,
}

/// How experts are chosen and weighed.
///
/// Experts are chosen by score + bias, and weighed by score. Larger ones come first by [`f32::total_cmp`]; of equals the one of the
/// lowest number. Where there are several groups, the experts stand in them by number; the best groups are chosen first, by the sum
/// of their best choices, and experts of other groups are out (arXiv:2412.19437, §2.1.2).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Routing {
    /// From logits to scores.
    pub score: Score,
    /// Groups that the experts stand in, of equal size.
    pub groups: u32,
    /// Groups that a row may choose from.
    pub groups_kept: u32,
    /// Of how many of its best experts the sum is a group's score.
    pub group_best: u32,
    /// Whether the weights of a row are divided by their sum.
    pub normalise: bool,
    /// What the weights are multiplied by.
    pub scale: f32,
}

/// Experts there may be: 1024 is twice the largest known.
pub const EXPERTS_MAX: usize = 1024;
/// Groups there may be.
pub const GROUPS_MAX: usize = 64;
/// Experts that a row may choose, or that a group may be scored by.
pub const CHOICES_MAX: usize = 64;
/// Added to a sum of weights before they are divided by it, as the published code does.
pub const WEIGHT_SUM_LEAST: f32 = 1e-20;

impl Routing {
    /// The best experts of all by softmax, with weights that add up to one.
    pub const SOFTMAX: Self =
        Self { score: Score::Softmax, groups: 1, groups_kept: 1, group_best: 1, normalise: true, scale: 1.0 };

    /// What does not fit a row of `experts` experts that chooses `choices`: the constant, what it is, and what it may be.
    pub fn fault(&self, experts: u32, choices: u32) -> Option<(&'static str, String, &'static str)> {
        let Self { groups, groups_kept, group_best, scale, .. } = *self;
        let size = experts.checked_div(groups).unwrap_or(0);
        let most = CHOICES_MAX as u32;
        let laws = [
            ("experts", experts.to_string(), "1 to 1024", (1..=EXPERTS_MAX as u32).contains(&experts)),
            (
                "groups",
                groups.to_string(),
                "a divisor of the number of experts, at most 64",
                (1..=GROUPS_MAX as u32).contains(&groups) && experts.is_multiple_of(groups),
            ),
            ("groups_kept", groups_kept.to_string(), "1 to the number of groups", (1..=groups).contains(&groups_kept)),
            (
                "group_best",
                group_best.to_string(),
                "1 to the experts of a group, at most 64",
                (1..=size.min(most)).contains(&group_best),
            ),
            (
                "choices",
                choices.to_string(),
                "1 to the experts of the groups that are kept, at most 64",
                (1..=size.saturating_mul(groups_kept).min(most)).contains(&choices),
            ),
            ("scale", scale.to_string(), "above 0", scale.is_finite() && scale > 0.0),
        ];
        laws.into_iter().find(|(.., holds)| !holds).map(|(field, value, allowed, _)| (field, value, allowed))
    }

    /// Fills `chosen` with the numbers of the best experts of a row, the best one first. `keys` are scores with their bias, one an
    /// expert, at least as many as are chosen. Allocates nothing.
    pub fn choose(&self, keys: &[f32], chosen: &mut [u32]) {
        if self.groups <= 1 {
            return best(keys, 0..keys.len(), chosen);
        }
        let groups = (self.groups as usize).min(GROUPS_MAX);
        let size = keys.len() / groups;
        let in_group = |group: usize| group * size..(group + 1) * size;
        let (mut scores, mut first, mut kept) = ([0.0; GROUPS_MAX], [0; CHOICES_MAX], [0; GROUPS_MAX]);
        for (group, score) in scores[..groups].iter_mut().enumerate() {
            let first = &mut first[..self.group_best as usize];
            best(keys, in_group(group), first);
            *score = first.iter().map(|&expert| keys[expert as usize]).sum();
        }
        let kept = &mut kept[..self.groups_kept as usize];
        best(&scores[..groups], 0..groups, kept);
        best(keys, kept.iter().flat_map(|&group| in_group(group as usize)), chosen);
    }
}

/// Whether entry `a` comes before entry `b`: it is larger, or equal and of a lower number.
fn comes_before(keys: &[f32], a: usize, b: usize) -> bool {
    match keys[a].total_cmp(&keys[b]) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => a < b,
        std::cmp::Ordering::Less => false,
    }
}

/// Fills `first` with the entries that come before all others, in that order.
fn best(keys: &[f32], entries: impl Iterator<Item = usize>, first: &mut [u32]) {
    let mut found = 0;
    for entry in entries {
        if found == first.len() && !comes_before(keys, entry, first[found - 1] as usize) {
            continue;
        }
        found = (found + 1).min(first.len());
        let mut at = found - 1;
        while at > 0 && comes_before(keys, entry, first[at - 1] as usize) {
            first[at] = first[at - 1];
            at -= 1;
        }
        first[at] = entry as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(routing: Routing, keys: &[f32], choices: usize) -> Vec<u32> {
        let mut chosen = vec![0; choices];
        routing.choose(keys, &mut chosen);
        chosen
    }

    #[test]
    fn the_lowest_number_wins_a_tie() {
        let all = Routing::SOFTMAX;
        assert_eq!(chosen(all, &[0.25; 4], 2), [0, 1]);
        assert_eq!(chosen(all, &[0.1, 0.5, 0.5, 0.5], 2), [1, 2]);
        assert_eq!(chosen(all, &[f32::NAN, 1.0, f32::NEG_INFINITY, 0.0], 3), [0, 1, 3]);
        assert_eq!(chosen(all, &[f32::NAN; 3], 2), [0, 1]);
    }

    #[test]
    fn groups_come_before_experts() {
        let two = Routing { groups: 3, groups_kept: 1, group_best: 2, ..Routing::SOFTMAX };
        // The best expert stands in a group that loses by its second.
        assert_eq!(chosen(two, &[9.0, 0.0, 5.0, 5.0, 4.0, 4.0], 2), [2, 3]);
        assert_eq!(chosen(Routing { group_best: 1, ..two }, &[9.0, 0.0, 5.0, 5.0, 4.0, 4.0], 2), [0, 1]);
        // Of equal groups the first is kept.
        assert_eq!(chosen(two, &[1.0, 2.0, 2.0, 1.0, 0.0, 3.0], 2), [1, 0]);
        assert_eq!(chosen(Routing { groups_kept: 2, ..two }, &[1.0, 2.0, 3.0, 3.0, 2.0, 1.0], 3), [2, 3, 1]);
    }
}
