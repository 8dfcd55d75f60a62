//! Dense layers: y = x·W + b.

use std::cell::RefCell;

use crate::linear::Linear;
use crate::matrix::Matrix;
use crate::mixed::Products;
use crate::product::{Left, Start};
use crate::weights::Weights;

/// A dense layer laid out for both passes.
#[derive(Clone, Debug)]
pub struct TrainedLinear {
    forward: Linear,
    transposed: Weights,
}

/// Gradient of a dense layer's parameters.
#[derive(Clone, Debug, Default)]
pub struct LinearGradient {
    /// `[inputs, outputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Vec<f32>,
    products: Products,
}

thread_local! {
    /// The gradient of an output. Not in [`LinearGradient`], of which each part of a batch has one a layer: there it was a
    /// sixth of what training a base model took.
    static PACKED: RefCell<Weights> = RefCell::default();
}

impl TrainedLinear {
    /// `weight` is `[inputs, outputs]`, row-major, and `bias` `[outputs]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn new(weight: &[f32], bias: &[f32], products: Products) -> Self {
        let transposed = Weights::from_columns(bias.len(), weight, products);
        Self { forward: Linear::new(weight, bias, products), transposed }
    }

    /// Values of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.transposed.outputs()
    }

    /// `output` becomes `input · weight + bias`: `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, input: &Matrix, output: &mut Matrix) {
        self.forward.forward(input, output);
    }

    /// `d_input` becomes `d_output · weightᵀ`: `[rows, outputs]` to `[rows, inputs]`.
    pub fn backward(&self, d_output: &Matrix, d_input: &mut Matrix) {
        d_input.reshape(d_output.rows(), self.inputs());
        self.transposed.multiply(Left::Rows(d_output.all()), Start::Zero, &mut d_input.view_mut(0, 0));
    }

    /// A gradient of 0.
    pub fn zero_gradient(&self) -> LinearGradient {
        let mut weight = Matrix::default();
        weight.reshape(self.inputs(), self.forward.outputs());
        let products = self.transposed.products();
        LinearGradient { weight, bias: vec![0.0; self.forward.outputs()], products }
    }
}

impl LinearGradient {
    /// Adds, for a part of a batch, `inputᵀ · d_output` and the sum of the rows of `d_output`: `input` is `[rows, inputs]`,
    /// `d_output` `[rows, outputs]`.
    pub fn add(&mut self, input: &Matrix, d_output: &Matrix) {
        let rows = || (0..d_output.rows()).map(|row| d_output.row(row));
        let mut packed = PACKED.take();
        packed.set_products(self.products);
        packed.pack_rows(d_output.width(), rows());
        packed.multiply(Left::Columns(input.all()), Start::Stored, &mut self.weight.view_mut(0, 0));
        PACKED.set(packed);
        rows().for_each(|row| add(&mut self.bias, row));
    }

    /// Adds the gradient of another part of the batch.
    pub fn add_part(&mut self, part: &Self) {
        self.weight.add(&part.weight);
        add(&mut self.bias, &part.bias);
    }

    /// Becomes 0.
    pub fn clear(&mut self) {
        self.weight.clear();
        self.bias.fill(0.0);
    }
}

pub(super) fn add(to: &mut [f32], more: &[f32]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::backward::tests::{PRODUCTS, assert_close, draw, draw_rounded, tracked};
    use crate::matrix::tests::matrix;

    #[test]
    fn equals_automatic_differentiation_also_in_parts() {
        for products in PRODUCTS {
            for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 17), (13, 40, 6), (300, 37, 50)] {
                equals_automatic_differentiation(rows, inputs, outputs, products);
            }
        }
    }

    fn equals_automatic_differentiation(rows: usize, inputs: usize, outputs: usize, products: Products) {
        let (x, w) = (draw_rounded(rows * inputs, "x"), draw_rounded(inputs * outputs, "w"));
        let (b, seed) = (draw(outputs, "b"), draw_rounded(rows * outputs, "seed"));
        let (tx, tw) = (tracked(&x, [rows, inputs]), tracked(&w, [inputs, outputs]));
        let tb = tracked(&b, [1, outputs]);
        let output: Tensor<2> = tx.clone().matmul(tw.clone()) + tb.clone();
        let found = (output.clone() * Tensor::from_inner(tracked(&seed, [rows, outputs]).inner())).sum();
        let backward = found.backward();

        let linear = TrainedLinear::new(&w, &b, products);
        let (mut y, mut d_x) = (Matrix::default(), Matrix::default());
        linear.forward(&matrix(&x, inputs), &mut y);
        assert_close(&y.to_vec(), output.inner());
        let mut gradient = linear.zero_gradient();
        let half = rows / 2;
        for part in [0..half, half..rows] {
            let of =
                |values: &[f32], width: usize| matrix(&values[part.start * width..part.end * width], width);
            gradient.add(&of(&x, inputs), &of(&seed, outputs));
        }
        linear.backward(&matrix(&seed, outputs), &mut d_x);
        assert_close(&d_x.to_vec(), tx.grad(&backward).expect("tracked"));
        assert_close(&gradient.weight.to_vec(), tw.grad(&backward).expect("tracked"));
        assert_close(&gradient.bias, tb.grad(&backward).expect("tracked"));
    }

    #[test]
    fn in_bf16_factors_are_rounded_and_the_bias_is_not() {
        // 1 + 2^-9 is no number of bf16: it rounds to 1.
        let fine = 1.0 + 1.0 / 512.0;
        let linear = TrainedLinear::new(&[fine], &[fine], Products::Bf16);
        let (mut y, mut d_x, mut gradient) = (Matrix::default(), Matrix::default(), linear.zero_gradient());
        linear.forward(&matrix(&[fine], 1), &mut y);
        linear.backward(&matrix(&[fine], 1), &mut d_x);
        gradient.add(&matrix(&[fine], 1), &matrix(&[fine], 1));
        let found = [y.row(0)[0], d_x.row(0)[0], gradient.weight.row(0)[0], gradient.bias[0]];
        assert_eq!(found.to_vec(), [1.0 + fine, 1.0, 1.0, fine]);
    }
}
