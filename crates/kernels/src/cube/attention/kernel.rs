//! The attention itself: FlashAttention-2 (Dao, 2023, <https://arxiv.org/abs/2307.08691>) in instructions of NVIDIA's tensor
//! cores that multiply 16 × 16 by 16 × 8 values, `mma.m16n8k16`. Of a result, unit l of the 32 of a plane has columns 2 (l % 4)
//! and the next one of rows l / 4 and l / 4 + 8; of the left factor likewise, and the same eight columns further; of the right
//! one, column l / 4 of rows 2 (l % 4) and the next one, and the same eight rows further (PTX ISA, *Matrix Fragments for
//! mma.m16n8k16*). So the weights of two results side by side are a left factor, and never leave the registers.

use burn_cubecl::cubecl;
use cubecl::cmma::MmaDefinition;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Queries of a plane.
pub(super) const ROWS: usize = 16;

/// Keys and values that are held in shared memory at once.
const KEYS: usize = 64;

/// Pairs behind each row there, so that the eight rows that are read together lie in different banks.
const GAP: usize = 4;

/// Below any score, yet finite: a row that is all hidden stays finite.
const LOWEST_SCORE: f32 = -1e30;

/// Of keys behind the last one, which weigh nothing even where all keys are hidden.
const NO_SCORE: f32 = -3e38;

/// Which keys are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hidden {
    None,
    /// The same for all queries of a row: padding.
    ByKey,
    /// Others for each query.
    ByQuery,
}

/// Where the head of this cube begins, in a tensor with these strides of batch and head.
#[cube]
fn head_at(of_batch: usize, of_head: usize, heads: usize) -> usize {
    CUBE_POS_X as usize / heads * of_batch + CUBE_POS_X as usize % heads * of_head
}

/// A cube takes `planes` times [`ROWS`] queries of a head, `P` is 2.
#[cube(launch)]
pub(super) fn attend<F: Float, P: Size, N: Size, B: Numeric>(
    query: &Tensor<Vector<F, P>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    hidden: &Tensor<B>,
    output: &mut Tensor<Vector<F, P>>,
    scale: f32,
    #[comptime] head_size: usize,
    #[comptime] planes: usize,
    #[comptime] hides: Hidden,
    #[define(F, B)] _types: [ElemType; 2],
) {
    let (n, length) = (query.shape(2), key.shape(2));
    let first = (CUBE_POS_Y as usize * planes + UNIT_POS_Y as usize) * ROWS + UNIT_POS_X as usize / 4;
    let queries = read_queries(query, first, head_size);
    let mut attended = Array::<Vector<f32, P>>::new(comptime!(head_size / 4));
    #[unroll]
    for i in 0..comptime!(head_size / 4) {
        attended[i] = Vector::<f32, P>::zeroed();
    }
    // Of both rows of a unit.
    let mut highest = Array::<f32>::new(2usize);
    let mut sums = Array::<f32>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        highest[half] = f32::new(LOWEST_SCORE);
        sums[half] = f32::new(0.0);
    }
    let mut keys = Shared::new_slice(comptime!(KEYS * (head_size / 2 + GAP)));
    let mut values = Shared::new_slice(comptime!(head_size * (KEYS / 2 + GAP)));
    // What stands in for the scores of keys that are not seen, and 0 for those that are.
    let mut unseen = Shared::new_slice(KEYS);
    let mut start = 0usize;
    while start < length {
        stage_unseen(hidden, start, length, &mut unseen, hides);
        stage_keys(key, start, &mut keys, head_size, planes);
        stage_values(value, start, &mut values, head_size, planes);
        sync_cube();
        let mut scores = multiply_keys(&queries, &keys, head_size);
        #[unroll]
        for half in 0..2usize {
            let row = min(first + comptime!(half * 8), n - 1);
            let mut top = f32::new(LOWEST_SCORE);
            #[unroll]
            for tile in 0..comptime!(KEYS / 8) {
                let at = comptime!(2 * tile + half);
                let score = scores[at] * Vector::new(scale);
                let score = mask(score, &unseen, comptime!(tile * 8));
                let score = if comptime!(hides == Hidden::ByQuery) {
                    mask_by_query(score, hidden, row, start + comptime!(tile * 8), length)
                } else {
                    score
                };
                scores[at] = score;
                top = max(top, max(score.extract(0usize), score.extract(1usize)));
            }
            top = max(top, plane_shuffle_xor(top, 1u32));
            top = max(max(top, plane_shuffle_xor(top, 2u32)), highest[half]);
            let shrink = highest[half] - top;
            let shrink = shrink.exp();
            let mut sum = sums[half] * shrink;
            #[unroll]
            for tile in 0..comptime!(KEYS / 8) {
                let below = scores[comptime!(2 * tile + half)] - Vector::new(top);
                let share = below.exp();
                sum += share.vector_sum();
                scores[comptime!(2 * tile + half)] = share;
            }
            #[unroll]
            for tile in 0..comptime!(head_size / 8) {
                attended[comptime!(2 * tile + half)] *= Vector::new(shrink);
            }
            highest[half] = top;
            sums[half] = sum;
        }
        add_values(&scores, &values, &mut attended, head_size);
        sync_cube();
        start += KEYS;
    }
    write(&attended, &sums, output, first, n, head_size);
}

/// The queries of a plane, as left factors. Those behind the last one are the last one.
#[cube]
fn read_queries<F: Float, P: Size>(
    query: &Tensor<Vector<F, P>>,
    first: usize,
    #[comptime] head_size: usize,
) -> Array<Vector<F, P>> {
    let mut queries = Array::<Vector<F, P>>::new(comptime!(head_size / 4));
    let at = head_at(query.stride(0), query.stride(1), query.shape(1)) + UNIT_POS_X as usize % 4 * 2;
    #[unroll]
    for i in 0..comptime!(head_size / 4) {
        let row = min(first + comptime!(i % 2 * 8), query.shape(2) - 1);
        let element = at + row * query.stride(2) + comptime!(i / 2 * 8);
        queries[i] = query[element / 2];
    }
    queries
}

/// Keys from `start` on, as pairs of neighbours within a key: `[KEYS, head_size / 2 + GAP]`.
#[cube]
fn stage_keys<F: Float, P: Size, N: Size>(
    key: &Tensor<Vector<F, N>>,
    start: usize,
    keys: &mut Shared<[Vector<F, P>]>,
    #[comptime] head_size: usize,
    #[comptime] planes: usize,
) {
    let size = N::value();
    let parts = comptime!(head_size / size);
    let first = head_at(key.stride(0), key.stride(1), key.shape(1));
    #[unroll]
    for i in 0..comptime!((KEYS * parts).div_ceil(32 * planes)) {
        let at = i * comptime!(32 * planes) + UNIT_POS as usize;
        let (row, part) = (at / parts, at % parts);
        if row < KEYS {
            let element = first + min(start + row, key.shape(2) - 1) * key.stride(2);
            let read = key[element / size + part];
            #[unroll]
            for j in 0..comptime!(size / 2) {
                let pair = paired(read.extract(comptime!(2 * j)), read.extract(comptime!(2 * j + 1)));
                keys[row * comptime!(head_size / 2 + GAP) + part * comptime!(size / 2) + j] = pair;
            }
        }
    }
}

/// Values from `start` on, as pairs of the same place within two that follow each other: `[head_size, KEYS / 2 + GAP]`.
#[cube]
fn stage_values<F: Float, P: Size, N: Size>(
    value: &Tensor<Vector<F, N>>,
    start: usize,
    values: &mut Shared<[Vector<F, P>]>,
    #[comptime] head_size: usize,
    #[comptime] planes: usize,
) {
    let size = N::value();
    let parts = comptime!(head_size / size);
    let (first, lane) = (head_at(value.stride(0), value.stride(1), value.shape(1)), UNIT_POS_X as usize);
    #[unroll]
    for i in 0..comptime!(parts.div_ceil(planes)) {
        let part = i * planes + UNIT_POS_Y as usize;
        if part < parts {
            let even = first + min(start + 2 * lane, value.shape(2) - 1) * value.stride(2);
            let odd = first + min(start + 2 * lane + 1, value.shape(2) - 1) * value.stride(2);
            let (even, odd) = (value[even / size + part], value[odd / size + part]);
            #[unroll]
            for j in 0..size {
                values[(part * size + j) * comptime!(KEYS / 2 + GAP) + lane] =
                    paired(even.extract(j), odd.extract(j));
            }
        }
    }
}

#[cube]
fn paired<F: Float, P: Size>(first: F, second: F) -> Vector<F, P> {
    let mut pair = Vector::<F, P>::empty();
    pair.insert(0usize, first);
    pair.insert(1usize, second);
    pair
}

/// Products of the queries and the staged keys, eight keys after the other: first row and second one of a unit in turn.
#[cube]
fn multiply_keys<F: Float, P: Size>(
    queries: &Array<Vector<F, P>>,
    keys: &Shared<[Vector<F, P>]>,
    #[comptime] head_size: usize,
) -> Array<Vector<f32, P>> {
    let product = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let (quad, within) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    let mut scores = Array::<Vector<f32, P>>::new(comptime!(KEYS / 4));
    #[unroll]
    for tile in 0..comptime!(KEYS / 8) {
        let mut result = Array::<Vector<f32, P>>::new(2usize);
        result[0] = Vector::<f32, P>::zeroed();
        result[1] = Vector::<f32, P>::zeroed();
        #[unroll]
        for step in 0..comptime!(head_size / 16) {
            let mut left = Array::<Vector<F, P>>::new(4usize);
            #[unroll]
            for i in 0..4usize {
                left[i] = queries[comptime!(4 * step + i)];
            }
            let mut right = Array::<Vector<F, P>>::new(2usize);
            let row = (comptime!(tile * 8) + quad) * comptime!(head_size / 2 + GAP);
            right[0] = keys[row + comptime!(step * 8) + within];
            right[1] = keys[row + comptime!(step * 8 + 4) + within];
            product.execute_inplace(&left, &right, &mut result);
        }
        scores[comptime!(2 * tile)] = result[0];
        scores[comptime!(2 * tile + 1)] = result[1];
    }
    scores
}

/// Of the keys from `start` on.
#[cube]
fn stage_unseen<B: Numeric>(
    hidden: &Tensor<B>,
    start: usize,
    length: usize,
    unseen: &mut Shared<[f32]>,
    #[comptime] hides: Hidden,
) {
    // A cube may have fewer units than there are keys.
    let mut key = UNIT_POS as usize;
    while key < KEYS {
        let column = start + key;
        let mut score = f32::new(0.0);
        if column >= length {
            score = f32::new(NO_SCORE);
        } else if comptime!(hides == Hidden::ByKey) {
            let row = head_at(hidden.stride(0), hidden.stride(1), hidden.shape(1));
            if u32::cast_from(hidden[row + column * hidden.stride(3)]) != 0 {
                score = f32::new(LOWEST_SCORE);
            }
        }
        unseen[key] = score;
        key += CUBE_DIM as usize;
    }
}

/// The scores of a unit among those of eight keys from `tile` on, without those that are not seen.
#[cube]
fn mask<P: Size>(score: Vector<f32, P>, unseen: &Shared<[f32]>, #[comptime] tile: usize) -> Vector<f32, P> {
    let mut score = score;
    #[unroll]
    for j in 0..2usize {
        let instead = unseen[tile + j + UNIT_POS_X as usize % 4 * 2];
        // A minimum would lose a score that is no number.
        score.insert(j, select(instead < 0.0, instead, score.extract(j)));
    }
    score
}

/// The same without those that are hidden from the query `row`.
#[cube]
fn mask_by_query<P: Size, B: Numeric>(
    score: Vector<f32, P>,
    hidden: &Tensor<B>,
    row: usize,
    start: usize,
    length: usize,
) -> Vector<f32, P> {
    let mut score = score;
    #[unroll]
    for j in 0..2usize {
        let column = start + j + UNIT_POS_X as usize % 4 * 2;
        // Branches, since all of a tile's loads at once would take registers that a second cube needs.
        if column < length {
            let of_head = head_at(hidden.stride(0), hidden.stride(1), hidden.shape(1));
            let place = of_head + row * hidden.stride(2) + column * hidden.stride(3);
            if u32::cast_from(hidden[place]) != 0 {
                score.insert(j, f32::new(LOWEST_SCORE));
            }
        }
    }
    score
}

/// Adds the staged values by their weights, which as they are make up left factors.
#[cube]
fn add_values<F: Float, P: Size>(
    weights: &Array<Vector<f32, P>>,
    values: &Shared<[Vector<F, P>]>,
    attended: &mut Array<Vector<f32, P>>,
    #[comptime] head_size: usize,
) {
    let product = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let (quad, within) = (UNIT_POS_X as usize / 4, UNIT_POS_X as usize % 4);
    #[unroll]
    for step in 0..comptime!(KEYS / 16) {
        let mut left = Array::<Vector<F, P>>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            left[i] = Vector::<F, P>::cast_from(weights[comptime!(4 * step + i)]);
        }
        #[unroll]
        for tile in 0..comptime!(head_size / 8) {
            let mut right = Array::<Vector<F, P>>::new(2usize);
            let row = (comptime!(tile * 8) + quad) * comptime!(KEYS / 2 + GAP);
            right[0] = values[row + comptime!(step * 8) + within];
            right[1] = values[row + comptime!(step * 8 + 4) + within];
            let mut result = Array::<Vector<f32, P>>::new(2usize);
            result[0] = attended[comptime!(2 * tile)];
            result[1] = attended[comptime!(2 * tile + 1)];
            product.execute_inplace(&left, &right, &mut result);
            attended[comptime!(2 * tile)] = result[0];
            attended[comptime!(2 * tile + 1)] = result[1];
        }
    }
}

/// What was attended to, over the sum of its weights.
#[cube]
fn write<F: Float, P: Size>(
    attended: &Array<Vector<f32, P>>,
    sums: &Array<f32>,
    output: &mut Tensor<Vector<F, P>>,
    first: usize,
    n: usize,
    #[comptime] head_size: usize,
) {
    let at = head_at(output.stride(0), output.stride(1), output.shape(1)) + UNIT_POS_X as usize % 4 * 2;
    #[unroll]
    for half in 0..2usize {
        let mut sum = sums[half];
        sum += plane_shuffle_xor(sum, 1u32);
        sum += plane_shuffle_xor(sum, 2u32);
        let share = f32::new(1.0) / sum;
        let row = first + comptime!(half * 8);
        if row < n {
            let at = (at + row * output.stride(2)) / 2;
            #[unroll]
            for tile in 0..comptime!(head_size / 8) {
                let result = attended[comptime!(2 * tile + half)] * Vector::new(share);
                output[at + comptime!(tile * 4)] = Vector::cast_from(result);
            }
        }
    }
}
