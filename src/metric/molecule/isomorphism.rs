//! Colour refinement of labelled graphs (1-dimensional Weisfeiler–Leman), a hash from it, and an exact test.

/// The neighbours of every node.
pub(super) struct Neighbours {
    /// Where those of a node begin in `nodes`, and the end.
    begin: Vec<usize>,
    nodes: Vec<usize>,
}

impl Neighbours {
    /// Of a graph with these edges, each of which occurs once.
    pub(super) fn new(nodes: usize, edges: &[[u32; 2]]) -> Self {
        let mut begin = vec![0; nodes + 1];
        for node in edges.iter().flatten() {
            begin[*node as usize + 1] += 1;
        }
        for node in 0..nodes {
            begin[node + 1] += begin[node];
        }
        let mut next = begin.clone();
        let mut neighbours = vec![0; 2 * edges.len()];
        for &[a, b] in edges {
            for (from, to) in [(a as usize, b as usize), (b as usize, a as usize)] {
                neighbours[next[from]] = to;
                next[from] += 1;
            }
        }
        Self { begin, nodes: neighbours }
    }

    fn of(&self, node: usize) -> &[usize] {
        &self.nodes[self.begin[node]..self.begin[node + 1]]
    }

    fn len(&self) -> usize {
        self.begin.len() - 1
    }
}

/// A bijection of 64 bits in which every bit depends on all (the finaliser of SplitMix64, Steele et al., OOPSLA 2014).
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Colours of the nodes after refinement: equal numbers for nodes that no number of steps to their neighbours tells
/// apart. The numbers do not depend on the numbering of the nodes and may be compared between graphs.
///
/// Starts from the labels and the degrees; ends when a round parts no class, after as many rounds as nodes at most.
pub(super) fn refine(labels: Vec<u64>, neighbours: &Neighbours) -> Vec<u64> {
    let degree = |node| neighbours.of(node).len() as u64;
    let mut colours: Vec<u64> =
        labels.iter().enumerate().map(|(node, label)| mix(mix(*label) ^ degree(node))).collect();
    let mut sorted = colours.clone();
    let mut classes = count(&mut sorted);
    loop {
        // A sum does not depend on the order of the neighbours.
        let around =
            |node| neighbours.of(node).iter().fold(0_u64, |sum, n| sum.wrapping_add(mix(colours[*n])));
        let next: Vec<u64> =
            (0..colours.len()).map(|node| mix(colours[node].rotate_left(1) ^ mix(around(node)))).collect();
        sorted.clone_from(&next);
        let next_classes = count(&mut sorted);
        if next_classes <= classes {
            // One round more than the classes need: the numbers then know of the edges in any case.
            return next;
        }
        (colours, classes) = (next, next_classes);
    }
}

/// Number of different values; sorts them.
fn count(values: &mut [u64]) -> usize {
    values.sort_unstable();
    values.chunk_by(|a, b| a == b).count()
}

/// One number for the colours in any order.
pub(super) fn hash(colours: &[u64]) -> u64 {
    let sum = colours.iter().fold(0_u64, |sum, colour| sum.wrapping_add(mix(*colour)));
    mix(sum ^ mix(colours.len() as u64))
}

/// Whether a bijection of the nodes keeps colours and edges. The graphs have as many nodes and as many edges.
///
/// Places one node after the other, each beside a placed neighbour where there is one, and takes back what cannot be
/// continued.
pub(super) fn is_isomorphic(
    ours: &Neighbours,
    our_colours: &[u64],
    theirs: &Neighbours,
    their_colours: &[u64],
) -> bool {
    let sorted = |colours: &[u64]| {
        let mut colours = colours.to_vec();
        colours.sort_unstable();
        colours
    };
    if sorted(our_colours) != sorted(their_colours) {
        return false;
    }
    let order = placing_order(ours, our_colours);
    let all: Vec<usize> = (0..theirs.len()).collect();
    // For every placed node of the order which candidate it has.
    let mut tried = vec![0];
    let mut image: Vec<Option<usize>> = vec![None; ours.len()];
    let mut is_used = vec![false; theirs.len()];
    while let Some(&place) = order.get(tried.len() - 1) {
        let candidates = match place.beside {
            Some(neighbour) => theirs.of(image[neighbour].expect("placed before")),
            None => &all,
        };
        let fits = |candidate: usize| {
            let edges = || ours.of(place.node).iter().filter_map(|neighbour| image[*neighbour]);
            !is_used[candidate]
                && our_colours[place.node] == their_colours[candidate]
                && edges().all(|neighbour| theirs.of(candidate).contains(&neighbour))
        };
        let depth = tried.len() - 1;
        let next = (tried[depth]..candidates.len()).find(|candidate| fits(candidates[*candidate]));
        if let Some(candidate) = next {
            tried[depth] = candidate + 1;
            image[place.node] = Some(candidates[candidate]);
            is_used[candidates[candidate]] = true;
            tried.push(0);
        } else {
            tried.pop();
            let Some(before) = tried.len().checked_sub(1) else { return false };
            if let Some(node) = image[order[before].node].take() {
                is_used[node] = false;
            }
        }
    }
    true
}

/// A node, and a neighbour of it that comes before it.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: usize,
    beside: Option<usize>,
}

/// Every node: from one of rarest colour on along the edges, then the next connected part.
fn placing_order(neighbours: &Neighbours, colours: &[u64]) -> Vec<Place> {
    let frequency = |node: &usize| colours.iter().filter(|colour| **colour == colours[*node]).count();
    let mut starts: Vec<usize> = (0..colours.len()).collect();
    starts.sort_by_cached_key(frequency);
    let mut is_listed = vec![false; colours.len()];
    let mut order = Vec::with_capacity(colours.len());
    for start in starts {
        if is_listed[start] {
            continue;
        }
        let mut next = order.len();
        is_listed[start] = true;
        order.push(Place { node: start, beside: None });
        while let Some(&Place { node, .. }) = order.get(next) {
            for &neighbour in neighbours.of(node) {
                if !is_listed[neighbour] {
                    is_listed[neighbour] = true;
                    order.push(Place { node: neighbour, beside: Some(node) });
                }
            }
            next += 1;
        }
    }
    order
}
