//! Layered drawing of a directed graph in character cells.
//!
//! The pipeline of Sugiyama, Tagawa and Toda (1981): back edges are set aside (depth-first search), ranks by longest
//! path, barycenter sweeps against crossings, then rows by pool-adjacent-violators around the median of the neighbours,
//! and tracks by the left-edge algorithm of Hashimoto and Stevens (1971). We differ in one thing: all edges of one
//! source share their bends and tracks, one net a source, which is what keeps twenty services readable.

use std::collections::BTreeMap;

const SWEEPS: usize = 24;

/// One bend of an edge between two neighbouring ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The channel, between ranks `channel` and `channel + 1`.
    pub channel: usize,
    /// The row it leaves from.
    pub from: usize,
    /// The row it arrives at.
    pub to: usize,
    /// The track of its vertical part; `None` when it is straight.
    pub track: Option<usize>,
}

/// A drawing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Rank and row of each node; `None` for nodes without an edge.
    pub places: Vec<Option<(usize, usize)>>,
    /// The way of each edge, in the order given; empty for edges set aside.
    pub paths: Vec<Vec<Hop>>,
    /// Number of tracks in each channel.
    pub tracks: Vec<usize>,
    /// Ranks in use.
    pub ranks: usize,
    /// Rows in use.
    pub height: usize,
    /// Crossings left.
    pub crossings: usize,
    /// Edges set aside because they close a cycle.
    pub back: Vec<usize>,
}

/// Something that occupies a row in a rank: a node, or the passing net of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Node(usize),
    Pass(usize),
}

/// Draws `nodes` nodes and `edges` (pairs of node numbers) in at most `height` rows; `None` when they do not fit.
///
/// The same graph gives the same drawing. Cost: about `SWEEPS × edges × log edges`.
pub fn layered(nodes: usize, edges: &[(usize, usize)], height: usize) -> Option<Layout> {
    let back = back_edges(nodes, edges);
    let kept: Vec<(usize, usize)> =
        edges.iter().enumerate().filter(|(index, _)| !back.contains(index)).map(|(_, edge)| *edge).collect();
    let ranks = ranks(nodes, &kept);
    let mut layers = items(&ranks, &kept);
    let segments = segments(&ranks, &kept, layers.len());
    let crossings = untangle(&mut layers, &segments);
    let rows = rows(&layers, &segments, height)?;
    let mut layout = Layout {
        places: vec![None; nodes],
        paths: vec![Vec::new(); edges.len()],
        ranks: layers.len(),
        height: rows.values().max().map_or(0, |row| row + 1),
        crossings,
        ..Layout::default()
    };
    for (rank, layer) in layers.iter().enumerate() {
        for item in layer {
            if let (Item::Node(node), Some(row)) = (item, rows.get(&(rank, *item)))
                && let Some(place) = layout.places.get_mut(*node)
            {
                *place = Some((rank, *row));
            }
        }
    }
    let mut tracks = Vec::new();
    for (channel, pairs) in segments.iter().enumerate() {
        let assigned = assign_tracks(channel, pairs, &rows);
        layout.tracks.push(assigned.values().flatten().max().map_or(0, |track| track + 1));
        tracks.push(assigned);
    }
    for (index, (source, target)) in edges.iter().enumerate() {
        if !back.contains(&index) {
            let path = path((*source, *target), &ranks, &rows, &tracks);
            if let (Some(slot), Some(path)) = (layout.paths.get_mut(index), path) {
                *slot = path;
            }
        }
    }
    layout.back = back;
    Some(layout)
}

/// Returns the numbers of the edges that lead back to a node still being visited, self-calls included.
fn back_edges(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut out: Vec<Vec<(usize, usize)>> = vec![Vec::new(); nodes];
    let mut called = vec![false; nodes];
    for (index, (source, target)) in edges.iter().enumerate() {
        if let Some(list) = out.get_mut(*source) {
            list.push((index, *target));
        }
        if let Some(mark) = called.get_mut(*target) {
            *mark = *mark || source != target;
        }
    }
    let mut back = Vec::new();
    // 0: not seen, 1: being visited, 2: done
    let mut mark = vec![0_u8; nodes];
    let roots = (0..nodes).filter(|node| !called.get(*node).copied().unwrap_or(true)).chain(0..nodes);
    for root in roots {
        let mut stack = vec![(root, 0)];
        while let Some((node, next)) = stack.pop() {
            if next == 0 {
                if mark.get(node).copied().unwrap_or(2) != 0 {
                    continue;
                }
                set(&mut mark, node, 1);
            }
            let Some((edge, target)) = out.get(node).and_then(|list| list.get(next)).copied() else {
                set(&mut mark, node, 2);
                continue;
            };
            stack.push((node, next + 1));
            match mark.get(target).copied() {
                Some(1) => back.push(edge),
                Some(0) => stack.push((target, 0)),
                _ => {}
            }
        }
    }
    back.sort_unstable();
    back
}

fn set(marks: &mut [u8], index: usize, value: u8) {
    if let Some(mark) = marks.get_mut(index) {
        *mark = value;
    }
}

/// Returns the rank of each node: the longest way from a node that nobody calls, then callers pulled towards what they
/// call. `None` for nodes without an edge.
fn ranks(nodes: usize, edges: &[(usize, usize)]) -> Vec<Option<usize>> {
    let mut ranks: Vec<Option<usize>> = vec![None; nodes];
    for (source, target) in edges {
        for node in [source, target] {
            if let Some(rank) = ranks.get_mut(*node) {
                *rank = Some(0);
            }
        }
    }
    let of = |ranks: &[Option<usize>], node: usize| ranks.get(node).copied().flatten().unwrap_or(0);
    // without cycles, `nodes` rounds settle the longest path
    for _ in 0..nodes {
        let mut settled = true;
        for (source, target) in edges {
            let least = of(&ranks, *source) + 1;
            if of(&ranks, *target) < least
                && let Some(rank) = ranks.get_mut(*target)
            {
                *rank = Some(least);
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    for node in 0..nodes {
        let called = edges.iter().any(|(_, target)| *target == node);
        let nearest = edges.iter().filter(|(source, _)| *source == node).map(|(_, t)| of(&ranks, *t)).min();
        if let (false, Some(nearest)) = (called, nearest)
            && let Some(rank) = ranks.get_mut(node)
        {
            *rank = Some(nearest.saturating_sub(1));
        }
    }
    ranks
}

fn rank_of(ranks: &[Option<usize>], node: usize) -> usize {
    ranks.get(node).copied().flatten().unwrap_or(0)
}

/// Returns what is in each rank: its nodes, then the nets that pass it.
fn items(ranks: &[Option<usize>], edges: &[(usize, usize)]) -> Vec<Vec<Item>> {
    let count = ranks.iter().flatten().max().map_or(0, |rank| rank + 1);
    let mut layers = vec![Vec::new(); count];
    for (node, rank) in ranks.iter().enumerate() {
        if let Some(layer) = rank.and_then(|rank| layers.get_mut(rank)) {
            layer.push(Item::Node(node));
        }
    }
    let mut reach: BTreeMap<usize, usize> = BTreeMap::new();
    for (source, target) in edges {
        let furthest = reach.entry(*source).or_default();
        *furthest = (*furthest).max(rank_of(ranks, *target));
    }
    for (source, furthest) in reach {
        for layer in layers.iter_mut().take(furthest).skip(rank_of(ranks, source) + 1) {
            layer.push(Item::Pass(source));
        }
    }
    layers
}

type Pair = (Item, Item);

/// Returns which item of each rank leads to which of the next.
fn segments(ranks: &[Option<usize>], edges: &[(usize, usize)], count: usize) -> Vec<Vec<Pair>> {
    let mut segments: Vec<Vec<Pair>> = vec![Vec::new(); count.saturating_sub(1)];
    for (source, target) in edges {
        let (from, to) = (rank_of(ranks, *source), rank_of(ranks, *target));
        for channel in from..to {
            let left = if channel == from { Item::Node(*source) } else { Item::Pass(*source) };
            let right = if channel + 1 == to { Item::Node(*target) } else { Item::Pass(*source) };
            if let Some(list) = segments.get_mut(channel)
                && !list.contains(&(left, right))
            {
                list.push((left, right));
            }
        }
    }
    segments
}

fn positions(layer: &[Item]) -> BTreeMap<Item, usize> {
    layer.iter().enumerate().map(|(index, item)| (*item, index)).collect()
}

/// Orders the items of every rank so that few nets cross; returns how many still do.
fn untangle(layers: &mut Vec<Vec<Item>>, segments: &[Vec<Pair>]) -> usize {
    let mut best = layers.clone();
    let mut fewest = crossings(layers, segments);
    for sweep in 0..SWEEPS {
        let rightward = sweep % 2 == 0;
        let order: Vec<usize> = if rightward {
            (1..layers.len()).collect()
        } else {
            (0..layers.len().saturating_sub(1)).rev().collect()
        };
        for rank in order {
            let (neighbour, channel) = if rightward { (rank - 1, rank - 1) } else { (rank + 1, rank) };
            let known = layers.get(neighbour).map(|layer| positions(layer)).unwrap_or_default();
            let pairs = segments.get(channel).map(Vec::as_slice).unwrap_or_default();
            let Some(layer) = layers.get_mut(rank) else { continue };
            let weights: BTreeMap<Item, f64> = layer
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    (*item, barycenter(*item, pairs, &known, rightward).unwrap_or(index as f64))
                })
                .collect();
            layer.sort_by(|a, b| {
                let weight = |item: &Item| weights.get(item).copied().unwrap_or_default();
                weight(a).total_cmp(&weight(b))
            });
        }
        let now = crossings(layers, segments);
        if now < fewest {
            fewest = now;
            best.clone_from(layers);
        }
        if fewest == 0 {
            break;
        }
    }
    *layers = best;
    fewest
}

fn barycenter(item: Item, pairs: &[Pair], known: &BTreeMap<Item, usize>, rightward: bool) -> Option<f64> {
    let linked = pairs.iter().filter_map(|(left, right)| match (rightward, *left == item, *right == item) {
        (true, _, true) => known.get(left),
        (false, true, _) => known.get(right),
        _ => None,
    });
    let (sum, count) = linked.fold((0.0, 0.0), |(sum, count), at| (sum + *at as f64, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

fn crossings(layers: &[Vec<Item>], segments: &[Vec<Pair>]) -> usize {
    let mut total = 0;
    for (channel, pairs) in segments.iter().enumerate() {
        let (Some(left), Some(right)) = (layers.get(channel), layers.get(channel + 1)) else { continue };
        let (left, right) = (positions(left), positions(right));
        let ends: Vec<(usize, usize)> =
            pairs.iter().filter_map(|(a, b)| Some((*left.get(a)?, *right.get(b)?))).collect();
        for (index, (a, b)) in ends.iter().enumerate() {
            total +=
                ends.iter().skip(index + 1).filter(|(c, d)| (a < c && b > d) || (a > c && b < d)).count();
        }
    }
    total
}

type Rows = BTreeMap<(usize, Item), usize>;

/// Gives every item a row: two apart where there is room, else one; near the median of what it is linked to.
fn rows(layers: &[Vec<Item>], segments: &[Vec<Pair>], height: usize) -> Option<Rows> {
    let most = layers.iter().map(Vec::len).max().unwrap_or(0);
    let spacing = if most * 2 <= height + 1 { 2 } else { 1 };
    let slots = height.div_ceil(spacing).min(most + most / 2 + 1).max(1);
    if most > slots {
        return None;
    }
    let mut rows: Rows = BTreeMap::new();
    for (rank, layer) in layers.iter().enumerate() {
        let first = (slots - layer.len()) / 2;
        for (index, item) in layer.iter().enumerate() {
            rows.insert((rank, *item), first + index);
        }
    }
    for pass in 0..6 {
        let order: Vec<usize> =
            if pass % 2 == 0 { (0..layers.len()).collect() } else { (0..layers.len()).rev().collect() };
        for rank in order {
            let Some(layer) = layers.get(rank) else { continue };
            let wanted: Vec<f64> = layer
                .iter()
                .map(|item| {
                    let own = rows.get(&(rank, *item)).copied().unwrap_or(0) as f64;
                    linked_row(rank, *item, segments, &rows).unwrap_or(own)
                })
                .collect();
            for (item, row) in layer.iter().zip(spread(&wanted, slots)) {
                rows.insert((rank, *item), row);
            }
        }
    }
    let least = rows.values().min().copied().unwrap_or(0);
    for row in rows.values_mut() {
        *row = (*row - least) * spacing;
    }
    Some(rows)
}

/// Returns the median row of all that `item` is linked to, on both sides.
fn linked_row(rank: usize, item: Item, segments: &[Vec<Pair>], rows: &Rows) -> Option<f64> {
    let before = rank.checked_sub(1).and_then(|channel| segments.get(channel)).map(Vec::as_slice);
    let after = segments.get(rank).map(Vec::as_slice);
    let lefts = before.unwrap_or_default().iter().filter(|(_, right)| *right == item);
    let rights = after.unwrap_or_default().iter().filter(|(left, _)| *left == item);
    let mut found: Vec<usize> = lefts
        .filter_map(|(left, _)| rows.get(&(rank.checked_sub(1)?, *left)))
        .chain(rights.filter_map(|(_, right)| rows.get(&(rank + 1, *right))))
        .copied()
        .collect();
    found.sort_unstable();
    let upper = *found.get(found.len() / 2)?;
    let lower = *found.get((found.len() - 1) / 2)?;
    Some((upper + lower) as f64 / 2.0)
}

/// Returns rows as near as possible to those wanted, in order and at least one apart, within `slots`: isotonic
/// regression by pool-adjacent-violators.
fn spread(wanted: &[f64], slots: usize) -> Vec<usize> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (index, row) in wanted.iter().enumerate() {
        let mut block = (row - index as f64, 1);
        while let Some((value, size)) = blocks.last().copied().filter(|(value, _)| *value > block.0) {
            blocks.pop();
            let total = value * size as f64 + block.0 * block.1 as f64;
            block = (total / (size + block.1) as f64, size + block.1);
        }
        blocks.push(block);
    }
    let shifts = blocks.iter().flat_map(|(value, size)| std::iter::repeat_n(*value, *size));
    let most = slots.saturating_sub(wanted.len());
    shifts.enumerate().map(|(index, shift)| (shift.round().max(0.0) as usize).min(most) + index).collect()
}

/// Gives every net of a channel that is not straight a track of its own or shared with nets it never meets. A net that
/// leaves a row comes before one that arrives there, so that their lines do not lie on each other, where that is
/// possible.
fn assign_tracks(channel: usize, pairs: &[Pair], rows: &Rows) -> BTreeMap<Item, Option<usize>> {
    let mut nets: BTreeMap<Item, (usize, Vec<usize>)> = BTreeMap::new();
    for (left, right) in pairs {
        let (Some(from), Some(to)) = (rows.get(&(channel, *left)), rows.get(&(channel + 1, *right))) else {
            continue;
        };
        nets.entry(*left).or_insert_with(|| (*from, Vec::new())).1.push(*to);
    }
    let span = |from: usize, to: &[usize]| {
        let low = to.iter().copied().min().unwrap_or(from).min(from);
        let high = to.iter().copied().max().unwrap_or(from).max(from);
        (low, high)
    };
    let mut assigned: BTreeMap<Item, Option<usize>> = BTreeMap::new();
    let mut taken: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut waiting: Vec<Item> = nets.keys().copied().collect();
    waiting.sort_by_key(|item| nets.get(item).map(|(from, to)| span(*from, to)));
    while !waiting.is_empty() {
        let before = |item: &Item| {
            let to = nets.get(item).map(|(_, to)| to.as_slice()).unwrap_or_default().to_vec();
            nets.iter().filter(move |(_, (from, _))| to.contains(from)).map(|(other, _)| *other)
        };
        let free = waiting.iter().position(|item| before(item).all(|o| o == *item || !waiting.contains(&o)));
        let item = waiting.remove(free.unwrap_or(0));
        let Some((from, to)) = nets.get(&item) else { continue };
        let (low, high) = span(*from, to);
        if low == high {
            assigned.insert(item, None);
            continue;
        }
        let after = before(&item).filter(|other| *other != item);
        let first =
            after.filter_map(|other| assigned.get(&other).copied().flatten()).max().map_or(0, |t| t + 1);
        let fits = |spans: &Vec<(usize, usize)>| spans.iter().all(|(a, b)| high < *a || *b < low);
        let track =
            (first..taken.len()).find(|t| taken.get(*t).is_some_and(fits)).unwrap_or(taken.len().max(first));
        taken.resize(taken.len().max(track + 1), Vec::new());
        if let Some(spans) = taken.get_mut(track) {
            spans.push((low, high));
        }
        assigned.insert(item, Some(track));
    }
    assigned
}

fn path(
    (source, target): (usize, usize),
    ranks: &[Option<usize>],
    rows: &Rows,
    tracks: &[BTreeMap<Item, Option<usize>>],
) -> Option<Vec<Hop>> {
    let (from, to) = (rank_of(ranks, source), rank_of(ranks, target));
    (from..to)
        .map(|channel| {
            let left = if channel == from { Item::Node(source) } else { Item::Pass(source) };
            let right = if channel + 1 == to { Item::Node(target) } else { Item::Pass(source) };
            let hop = Hop {
                channel,
                from: *rows.get(&(channel, left))?,
                to: *rows.get(&(channel + 1, right))?,
                track: tracks.get(channel)?.get(&left).copied().flatten(),
            };
            Some(hop)
        })
        .collect()
}
