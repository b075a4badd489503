//! Which values share memory: slots assigned by lifetime when a graph is built.

/// The steps from which and up to which a value is needed, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Step that writes it.
    pub birth: usize,
    /// Last step that reads it.
    pub death: usize,
}

/// An assignment of values to slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Slot of each value; meaningless for values that need none.
    pub slot: Vec<usize>,
    /// Length of each slot.
    pub len: Vec<usize>,
}

impl Slots {
    /// Slot lengths that serve all of several assignments.
    pub(crate) fn merge(plans: &[&Self]) -> Vec<usize> {
        let count = plans.iter().map(|p| p.len.len()).max().unwrap_or(0);
        (0..count).map(|i| plans.iter().filter_map(|p| p.len.get(i)).copied().max().unwrap_or(0)).collect()
    }
}

/// Assigns slots so that no two values that live at the same step share one.
///
/// `values` are (lifetime, length), `None` for those that need no slot. In order of birth, a value takes the free slot
/// that fits best: the smallest that is long enough, else the longest, which grows.
pub(crate) fn assign(values: &[Option<(Lifetime, usize)>]) -> Slots {
    let mut order: Vec<_> = (0..values.len()).filter(|&v| values[v].is_some()).collect();
    order.sort_by_key(|&v| values[v].map(|(life, _)| life.birth));
    let mut plan = Slots { slot: vec![0; values.len()], len: Vec::new() };
    let mut busy_until: Vec<usize> = Vec::new();
    for v in order {
        let Some((life, len)) = values[v] else { continue };
        let free = (0..plan.len.len()).filter(|&s| busy_until[s] < life.birth);
        let best = free.min_by_key(|&s| match plan.len[s].checked_sub(len) {
            Some(spare) => (0, spare),
            None => (1, len - plan.len[s]),
        });
        let slot = best.unwrap_or_else(|| {
            plan.len.push(0);
            busy_until.push(0);
            plan.len.len() - 1
        });
        plan.len[slot] = plan.len[slot].max(len);
        busy_until[slot] = life.death;
        plan.slot[v] = slot;
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(birth: usize, death: usize, len: usize) -> Option<(Lifetime, usize)> {
        Some((Lifetime { birth, death }, len))
    }

    #[test]
    fn values_that_live_together_never_share_a_slot() {
        let values: Vec<_> = (0..50).map(|i| value(i, i + 1 + (7 * i) % 5, 10 + (13 * i) % 17)).collect();
        let plan = assign(&values);
        for (a, x) in values.iter().enumerate() {
            for (b, y) in values.iter().enumerate().take(a) {
                let ((x, _), (y, _)) = (x.unwrap(), y.unwrap());
                let together = x.birth <= y.death && y.birth <= x.death;
                assert!(!together || plan.slot[a] != plan.slot[b], "values {a} and {b}");
            }
            assert!(plan.len[plan.slot[a]] >= x.unwrap().1);
        }
    }

    #[test]
    fn a_chain_needs_two_slots() {
        let values: Vec<_> = (0..10).map(|i| value(i, i + 1, 8)).collect();
        assert_eq!(assign(&values).len, vec![8, 8]);
    }

    #[test]
    fn values_without_need_get_no_slot() {
        assert_eq!(assign(&[None, value(0, 1, 3), None]).len, vec![3]);
    }
}
