//! Dense layers.

use crate::matrix::Matrix;
use crate::panels::{Panels, padded};
use crate::product::{Start, product};

/// A dense layer laid out for the vector unit of this machine.
#[derive(Clone, Debug)]
pub struct Linear {
    panels: Panels,
    bias: Vec<f32>,
}

impl Linear {
    /// `weight` is `[inputs, outputs]`, row-major, and `bias` `[outputs]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        assert!(weight.len().is_multiple_of(bias.len()), "one bias an output");
        let mut panels = Panels::default();
        panels.pack_rows(bias.len(), weight.chunks_exact(bias.len()));
        Self { panels, bias: padded(bias, 0.0) }
    }

    /// `weight` is `[outputs, inputs]`, as that of a decoder, and `bias` `[outputs]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn from_columns(weight: &[f32], bias: &[f32]) -> Self {
        assert!(weight.len().is_multiple_of(bias.len()), "one bias an output");
        let inputs = weight.len() / bias.len();
        let mut panels = Panels::default();
        panels.pack_columns(inputs, weight.chunks_exact(inputs));
        Self { panels, bias: padded(bias, 0.0) }
    }

    /// Values of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.panels.depth()
    }

    /// Values that come out for a row.
    pub fn outputs(&self) -> usize {
        self.panels.columns()
    }

    /// `output` becomes `input · weight + bias`: `[rows, inputs]` to `[rows, outputs]`.
    ///
    /// # Panics
    ///
    /// If `input` has another width than `inputs`.
    pub fn forward(&self, input: &Matrix, output: &mut Matrix) {
        output.reshape(input.rows(), self.outputs());
        product(input.all(), self.panels.all(), Start::Bias(&self.bias), &mut output.view_mut(0, 0));
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
            Linear::new(&weight, &bias).forward(&matrix(&input, inputs), &mut output);
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
        let linear = Linear::new(&vec![1.0; 300 * 20], &[0.5; 20]);
        let mut none = Matrix::default();
        none.reshape(0, 300);
        linear.forward(&none, &mut output);
        assert_eq!((output.rows(), output.width()), (0, 20));
        let mut empty = Matrix::default();
        empty.reshape(7, 0);
        Linear::new(&[], &[0.5; 20]).forward(&empty, &mut output);
        assert_eq!(output.to_vec(), [0.5; 7 * 20]);
    }

    #[test]
    fn other_rows_change_no_bit() {
        let draw = |n, purpose| normals(n, 1.0, &mut keyed(2, purpose, 0, 0));
        let (input, weight) = (draw(20 * 300, "input"), draw(300 * 20, "weight"));
        let linear = Linear::new(&weight, &[0.5; 20]);
        let (mut all, mut alone) = (Matrix::default(), Matrix::default());
        linear.forward(&matrix(&input, 300), &mut all);
        for row in 0..20 {
            linear.forward(&matrix(&input[row * 300..(row + 1) * 300], 300), &mut alone);
            assert_eq!(alone.row(0), all.row(row));
        }
    }
}
