//! Which calls of a library make a product of tensors that lie in memory with strides.

/// How a tensor lies in memory; strides count elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) strides: &'a [usize],
}

/// How matrices of one size lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Matrices {
    /// Elements from one row to the next, of a transposed matrix from one column to the next.
    pub(crate) stride: usize,
    pub(crate) is_transposed: bool,
    /// Elements from one matrix of a call to the next.
    pub(crate) apart: usize,
}

/// What is the same for all calls of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Rows of the left factor.
    pub(crate) m: usize,
    /// Columns of the right one.
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Products of one call.
    pub(crate) batch: usize,
    pub(crate) left: Matrices,
    pub(crate) right: Matrices,
    pub(crate) output: Matrices,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) geometry: Geometry,
    /// First elements of the left factor, the right one and the output in each call.
    pub(crate) starts: Vec<[usize; 3]>,
}

/// Leading dimensions that were made one: size, and strides of the left factor, the right one and the output.
type Dimension = (usize, [usize; 3]);

impl Plan {
    /// Tensors with the same leading dimensions. `None` if one of them is not made of matrices.
    pub(crate) fn new(left: Strided, right: Strided, output: Strided) -> Option<Self> {
        let mut leading = merged(leading(left, right, output));
        let longest = (0..leading.len()).max_by_key(|&i| leading[i].0);
        let (batch, [left_apart, right_apart, output_apart]) =
            longest.map_or((1, [0; 3]), |i| leading.swap_remove(i));
        let ([m, k], [_, n]) = (last(left.shape), last(right.shape));
        let geometry = Geometry {
            m,
            n,
            k,
            batch,
            left: Matrices::new(left, left_apart)?,
            right: Matrices::new(right, right_apart)?,
            output: Matrices::new(output, output_apart).filter(|output| !output.is_transposed)?,
        };
        Some(Self { geometry, starts: leading.into_iter().fold(vec![[0; 3]], steps) })
    }
}

/// Whether one step in memory leads along its rows or along its columns.
pub(crate) fn is_multipliable(tensor: Strided) -> bool {
    Matrices::new(tensor, 0).is_some()
}

impl Matrices {
    fn new(tensor: Strided, apart: usize) -> Option<Self> {
        let ([rows, columns], [row, column]) = (last(tensor.shape), last(tensor.strides));
        // The stride along a dimension of one element means nothing.
        let row = if rows == 1 { columns } else { row };
        let column = if columns == 1 { rows } else { column };
        if (column == 1 || columns == 1) && row >= columns {
            return Some(Self { stride: row, is_transposed: false, apart });
        }
        let is_by_columns = (row == 1 || rows == 1) && column >= rows;
        is_by_columns.then_some(Self { stride: column, is_transposed: true, apart })
    }
}

fn last(of: &[usize]) -> [usize; 2] {
    [of[of.len() - 2], of[of.len() - 1]]
}

/// From the first to the last.
fn leading(left: Strided, right: Strided, output: Strided) -> impl Iterator<Item = Dimension> {
    let count = output.shape.len() - 2;
    (0..count).map(move |i| (output.shape[i], [left.strides[i], right.strides[i], output.strides[i]]))
}

/// Two dimensions are one where all tensors step through both as through one.
fn merged(dimensions: impl Iterator<Item = Dimension>) -> Vec<Dimension> {
    let mut merged: Vec<Dimension> = Vec::new();
    for (size, strides) in dimensions.filter(|&(size, _)| size > 1) {
        match merged.last_mut() {
            Some((outer, steps)) if *steps == strides.map(|stride| stride * size) => {
                (*outer, *steps) = (*outer * size, strides);
            }
            _ => merged.push((size, strides)),
        }
    }
    merged
}

fn steps(starts: Vec<[usize; 3]>, (size, strides): Dimension) -> Vec<[usize; 3]> {
    let step = |start: [usize; 3], i: usize| std::array::from_fn(|of| start[of] + i * strides[of]);
    starts.into_iter().flat_map(|start| (0..size).map(move |i| step(start, i))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tensor somewhere in memory.
    #[derive(Clone, Debug)]
    struct Placed {
        shape: Vec<usize>,
        strides: Vec<usize>,
    }

    impl Placed {
        /// Dimensions follow each other in memory in `order`, the last one next to each other, with `gaps` elements between
        /// the elements of the others.
        fn new(shape: &[usize], order: &[usize], gaps: &[usize]) -> Self {
            let (mut strides, mut size) = (vec![0; shape.len()], 1);
            for &dimension in order.iter().rev() {
                strides[dimension] = size;
                size = size * shape[dimension] + gaps[dimension];
            }
            Self { shape: shape.to_vec(), strides }
        }

        fn strided(&self) -> Strided<'_> {
            Strided { shape: &self.shape, strides: &self.strides }
        }

        fn at(&self, index: &[usize]) -> usize {
            index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum()
        }

        fn elements(&self) -> usize {
            self.at(&self.shape) + 1
        }
    }

    fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
        shape.iter().fold(vec![Vec::new()], |all, &size| {
            all.iter().flat_map(|index| (0..size).map(|i| [index.as_slice(), &[i]].concat())).collect()
        })
    }

    /// An element that no other place has.
    fn value(place: usize) -> i64 {
        (place as i64).pow(2) % 1_009 - 500
    }

    /// What the library is asked for, by its own rules: matrices by columns, the factors in turn.
    fn called(plan: &Plan, elements: usize) -> Vec<Option<i64>> {
        let Geometry { m, n, k, batch, left, right, output } = plan.geometry;
        let by_columns = |of: Matrices, row: usize, column: usize| {
            if of.is_transposed { column + row * of.stride } else { row + column * of.stride }
        };
        let mut found = vec![None; elements];
        for (start, i) in plan.starts.iter().flat_map(|start| (0..batch).map(move |i| (start, i))) {
            let [from_left, from_right, to] =
                [(start[0], left), (start[1], right), (start[2], output)].map(|(s, of)| s + i * of.apart);
            for (row, column) in (0..n).flat_map(|row| (0..m).map(move |column| (row, column))) {
                let sum = (0..k).map(|inner| {
                    let right = value(from_right + by_columns(right, row, inner));
                    right * value(from_left + by_columns(left, inner, column))
                });
                let place = &mut found[to + row + column * output.stride];
                assert_eq!(*place, None, "written once");
                *place = Some(sum.sum());
            }
        }
        found
    }

    fn multiplied(left: &Placed, right: &Placed, output: &Placed) -> Vec<Option<i64>> {
        let mut found = vec![None; output.elements()];
        let k = last(&left.shape)[1];
        for index in indices(&output.shape) {
            let (batch, at) = index.split_at(index.len() - 2);
            let sum = (0..k).map(|inner| {
                let (row, column) = ([batch, &[at[0], inner]].concat(), [batch, &[inner, at[1]]].concat());
                value(left.at(&row)) * value(right.at(&column))
            });
            found[output.at(&index)] = Some(sum.sum());
        }
        found
    }

    /// Batch dimensions in any order, with the matrix dimensions between them.
    fn placed(
        leading: &[usize],
        matrix: [usize; 2],
        by_columns: bool,
    ) -> impl Strategy<Value = Placed> + use<> {
        let shape = [leading, &matrix].concat();
        let dimensions = shape.len();
        let (inner, other) =
            if by_columns { (dimensions - 2, dimensions - 1) } else { (dimensions - 1, dimensions - 2) };
        let outer: Vec<usize> = (0..dimensions).filter(|&d| d != inner).collect();
        let gaps = prop::collection::vec(prop_oneof![Just(0), 0_usize..3], dimensions);
        (Just(outer).prop_shuffle(), gaps, any::<bool>()).prop_map(move |(mut outer, gaps, adjacent)| {
            if adjacent {
                outer.retain(|&d| d != other);
                outer.push(other);
            }
            outer.push(inner);
            Placed::new(&shape, &outer, &gaps)
        })
    }

    fn products() -> impl Strategy<Value = [Placed; 3]> {
        let size = || prop_oneof![Just(1), 1_usize..5];
        let leading = prop::collection::vec(size(), 0..3);
        (leading, size(), size(), size(), any::<[bool; 2]>()).prop_flat_map(
            |(leading, m, n, k, by_columns)| {
                let output = [leading.as_slice(), &[m, n]].concat();
                let order: Vec<usize> = (0..output.len()).collect();
                let output = Just(Placed::new(&output, &order, &vec![0; output.len()]));
                let left = placed(&leading, [m, k], by_columns[0]);
                [left.boxed(), placed(&leading, [k, n], by_columns[1]).boxed(), output.boxed()]
            },
        )
    }

    proptest! {
        #[test]
        fn calls_multiply_whatever_lies_between([left, right, output] in products()) {
            let plan = Plan::new(left.strided(), right.strided(), output.strided()).expect("matrices");
            prop_assert_eq!(called(&plan, output.elements()), multiplied(&left, &right, &output));
        }
    }

    #[test]
    fn heads_of_joint_projections_are_a_call_a_head() {
        // [batch_size, heads, length, head_size] of tokens with all heads beside each other.
        let (shape, transposed, scores) = ([9, 4, 8, 16], [9, 4, 16, 8], [9, 4, 8, 8]);
        let query = Strided { shape: &shape, strides: &[8 * 64, 16, 64, 1] };
        let key = Strided { shape: &transposed, strides: &[8 * 64, 16, 1, 64] };
        let output = Strided { shape: &scores, strides: &[256, 64, 8, 1] };
        let plan = Plan::new(query, key, output).expect("matrices");
        assert_eq!((plan.geometry.batch, plan.geometry.left.apart), (9, 512));
        assert_eq!(plan.starts, [[0, 0, 0], [16, 16, 64], [32, 32, 128], [48, 48, 192]]);
        assert!(plan.geometry.right.is_transposed && !plan.geometry.left.is_transposed);
    }

    #[test]
    fn contiguous_batches_are_one_call() {
        let (left, right, output) = ([3, 5, 2, 4], [3, 5, 4, 6], [3, 5, 2, 6]);
        let strided = |shape, strides| Strided { shape, strides };
        let plan = Plan::new(
            strided(&left, &[40, 8, 4, 1]),
            strided(&right, &[120, 24, 6, 1]),
            strided(&output, &[60, 12, 6, 1]),
        )
        .expect("matrices");
        assert_eq!((plan.geometry.batch, plan.starts.len()), (15, 1));
    }

    #[test]
    fn what_lies_apart_both_ways_or_overlaps_is_copied_first() {
        let of = |strides| is_multipliable(Strided { shape: &[3, 4], strides });
        assert!(of(&[4, 1]) && of(&[1, 3]) && of(&[9, 1]));
        assert!(!of(&[8, 2]) && !of(&[0, 1]) && !of(&[1, 0]) && !of(&[2, 1]));
    }
}
