//! Numbers that a device computes, read together: each read waits for all that the device was asked for before.

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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn numbers_come_in_the_order_in_which_they_were_given() {
        let scalars = [3.5f32, -1.0, 7.0].map(|value| Tensor::<1>::from_floats([value], &Device::flex()));
        assert_eq!(read(scalars), [3.5, -1.0, 7.0]);
        assert!(read([]).is_empty());
    }
}
