//! Numbers that a device computes: sums whose bits do not follow its threads, and reads of several numbers together, for
//! each read waits for all that the device was asked for before.

use burn::tensor::{Tensor, Transaction};

/// The numbers in `scalars`, `[1]` each, which are on one device.
pub fn read(scalars: impl IntoIterator<Item = Tensor<1>>) -> Vec<f64> {
    let mut scalars = scalars.into_iter().peekable();
    if scalars.peek().is_none() {
        return Vec::new();
    }
    let read = scalars.fold(Transaction::default(), Transaction::register).execute();
    read.iter().map(|data| data.iter::<f64>().next().expect("one number")).collect()
}

/// The sum of `matrix`, row by row. From 4 Mi numbers on burn's own sum takes several threads on the CPU, and its order
/// follows from what each of them happens to have taken over.
pub(crate) fn sum(matrix: Tensor<2>) -> Tensor<1> {
    matrix.sum_dim(1).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Asserts that `compute` makes the same bits of a matrix of 4 Mi numbers on any number of threads.
    pub(crate) fn assert_bits_follow_no_threads(compute: fn(Tensor<2>) -> Vec<f32>) {
        let shape = [64, 1 << 16];
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let value = |i| (i as f32 * 1.1).sin() + (i as f32 * 1.3 * 1.1).cos();
                let values = (0..1 << 22).map(value).collect();
                let found = compute(Tensor::from_data(TensorData::new(values, shape), &Device::flex()));
                found.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            })
        };
        let alone = run(1);
        assert!([2, 5].into_iter().all(|threads| run(threads) == alone));
    }

    #[test]
    fn numbers_come_in_the_order_in_which_they_were_given() {
        let scalars = [3.5f32, -1.0, 7.0].map(|value| Tensor::<1>::from_floats([value], &Device::flex()));
        assert_eq!(read(scalars), [3.5, -1.0, 7.0]);
        assert!(read([]).is_empty());
    }
}
