//! Dense layers.

use crate::matrix::Matrix;
use crate::mixed::Products;
use crate::product::{Left, Start};
use crate::weights::Weights;

/// A dense layer laid out for the vector unit of this machine.
#[derive(Clone, Debug)]
pub struct Linear {
    weights: Weights,
    bias: Vec<f32>,
}

impl Linear {
    /// `weight` is `[inputs, outputs]`, row-major, and `bias` `[outputs]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn new(weight: &[f32], bias: &[f32], products: Products) -> Self {
        assert!(weight.len().is_multiple_of(bias.len()), "one bias an output");
        Self::of(Weights::from_rows(bias.len(), weight, products), bias)
    }

    /// `weight` is `[outputs, inputs]`, as that of a decoder, and `bias` `[outputs]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn from_columns(weight: &[f32], bias: &[f32], products: Products) -> Self {
        assert!(weight.len().is_multiple_of(bias.len()), "one bias an output");
        Self::of(Weights::from_columns(weight.len() / bias.len(), weight, products), bias)
    }

    fn of(weights: Weights, bias: &[f32]) -> Self {
        let bias = weights.padded(bias, 0.0);
        Self { weights, bias }
    }

    /// Values of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.weights.inputs()
    }

    /// Values that come out for a row.
    pub fn outputs(&self) -> usize {
        self.weights.outputs()
    }

    /// `output` becomes `input · weight + bias`: `[rows, inputs]` to `[rows, outputs]`.
    ///
    /// # Panics
    ///
    /// If `input` has another width than `inputs`.
    pub fn forward(&self, input: &Matrix, output: &mut Matrix) {
        output.reshape(input.rows(), self.outputs());
        self.weights.multiply(Left::Rows(input.all()), Start::Bias(&self.bias), &mut output.view_mut(0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::matrix;
    use entromask_random::{keyed, normals};

    #[test]
    fn equals_sums_in_f64_whatever_the_shape() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 17), (6, 300, 16), (13, 513, 40), (100, 256, 33)] {
            let draw = |n, purpose| normals(n, 1.0, &mut keyed(1, purpose, 0, 0));
            let (input, weight, bias) =
                (draw(rows * inputs, "input"), draw(inputs * outputs, "weight"), draw(outputs, "bias"));
            let mut output = Matrix::default();
            Linear::new(&weight, &bias, Products::AsTensors).forward(&matrix(&input, inputs), &mut output);
            assert_eq!((output.rows(), output.width()), (rows, outputs));
            for (index, found) in output.to_vec().into_iter().enumerate() {
                let (row, column) = (index / outputs, index % outputs);
                let product =
                    |k: usize| f64::from(input[row * inputs + k]) * f64::from(weight[k * outputs + column]);
                let expected = (0..inputs).map(product).sum::<f64>() + f64::from(bias[column]);
                assert!((f64::from(found) - expected).abs() < 1e-4, "{row} {column}: {found} {expected}");
            }
        }
    }

    #[test]
    fn no_rows_and_no_inputs_are_fine() {
        let mut output = Matrix::default();
        let linear = Linear::new(&vec![1.0; 300 * 20], &[0.5; 20], Products::AsTensors);
        let mut none = Matrix::default();
        none.reshape(0, 300);
        linear.forward(&none, &mut output);
        assert_eq!((output.rows(), output.width()), (0, 20));
        let mut empty = Matrix::default();
        empty.reshape(7, 0);
        Linear::new(&[], &[0.5; 20], Products::AsTensors).forward(&empty, &mut output);
        assert_eq!(output.to_vec(), [0.5; 7 * 20]);
    }

    #[test]
    fn other_rows_change_no_bit() {
        let draw = |n, purpose| normals(n, 1.0, &mut keyed(2, purpose, 0, 0));
        let (input, weight) = (draw(20 * 300, "input"), draw(300 * 20, "weight"));
        let linear = Linear::new(&weight, &[0.5; 20], Products::AsTensors);
        let (mut all, mut alone) = (Matrix::default(), Matrix::default());
        linear.forward(&matrix(&input, 300), &mut all);
        for row in 0..20 {
            linear.forward(&matrix(&input[row * 300..(row + 1) * 300], 300), &mut alone);
            assert_eq!(alone.row(0), all.row(row));
        }
    }
}
