//! Dense layers: y = x·W + b.

use std::cell::RefCell;

use crate::linear::Linear;
use crate::matrix::Matrix;
use crate::mixed::Products;
use crate::panels::Panels;
use crate::product::{Start, Transposed, product};

/// A dense layer laid out for both passes.
#[derive(Clone, Debug)]
pub struct TrainedLinear {
    forward: Linear,
    transposed: Panels,
}

/// Gradient of a dense layer's parameters.
#[derive(Clone, Debug, Default)]
pub struct LinearGradient {
    /// `[inputs, outputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

thread_local! {
    /// The gradient of an output. Not in [`LinearGradient`], of which each part of a batch has one a layer: there it was a
    /// sixth of what training a base model took.
    static PACKED: RefCell<Panels> = RefCell::default();
}

impl TrainedLinear {
    /// `weight` is `[inputs, outputs]`, row-major, and `bias` `[outputs]`.
    ///
    /// # Panics
    ///
    /// If the lengths do not agree.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        let mut transposed = Panels::default();
        transposed.pack_columns(bias.len(), weight.chunks_exact(bias.len()));
        Self { forward: Linear::new(weight, bias, Products::AsTensors), transposed }
    }

    /// Values of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.transposed.columns()
    }

    /// `output` becomes `input · weight + bias`: `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, input: &Matrix, output: &mut Matrix) {
        self.forward.forward(input, output);
    }

    /// `d_input` becomes `d_output · weightᵀ`: `[rows, outputs]` to `[rows, inputs]`.
    pub fn backward(&self, d_output: &Matrix, d_input: &mut Matrix) {
        d_input.reshape(d_output.rows(), self.inputs());
        product(d_output.all(), self.transposed.all(), Start::Zero, &mut d_input.view_mut(0, 0));
    }

    /// A gradient of 0.
    pub fn zero_gradient(&self) -> LinearGradient {
        let mut weight = Matrix::default();
        weight.reshape(self.inputs(), self.forward.outputs());
        LinearGradient { weight, bias: vec![0.0; self.forward.outputs()] }
    }
}

impl LinearGradient {
    /// Adds, for a part of a batch, `inputᵀ · d_output` and the sum of the rows of `d_output`.
    pub fn add(&mut self, input: &Matrix, d_output: &Matrix) {
        let rows = || (0..d_output.rows()).map(|row| d_output.row(row));
        let mut packed = PACKED.take();
        packed.pack_rows(d_output.width(), rows());
        let output = &mut self.weight.view_mut(0, 0);
        product(Transposed(input.all()), packed.all(), Start::Stored, output);
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
    use crate::backward::tests::{assert_close, draw, tracked};
    use crate::matrix::tests::matrix;

    #[test]
    fn equals_automatic_differentiation_also_in_parts() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 17), (13, 40, 6), (300, 37, 50)] {
            let (x, w, b) = (draw(rows * inputs, "x"), draw(inputs * outputs, "w"), draw(outputs, "b"));
            let seed = draw(rows * outputs, "seed");
            let (tx, tw) = (tracked(&x, [rows, inputs]), tracked(&w, [inputs, outputs]));
            let tb = tracked(&b, [1, outputs]);
            let output: Tensor<2> = tx.clone().matmul(tw.clone()) + tb.clone();
            let found = (output.clone() * Tensor::from_inner(tracked(&seed, [rows, outputs]).inner())).sum();
            let backward = found.backward();

            let linear = TrainedLinear::new(&w, &b);
            let (mut y, mut d_x) = (Matrix::default(), Matrix::default());
            linear.forward(&matrix(&x, inputs), &mut y);
            assert_close(&y.to_vec(), output.inner());
            let mut gradient = linear.zero_gradient();
            let half = rows / 2;
            for part in [0..half, half..rows] {
                let of = |values: &[f32], width: usize| {
                    matrix(&values[part.start * width..part.end * width], width)
                };
                gradient.add(&of(&x, inputs), &of(&seed, outputs));
            }
            linear.backward(&matrix(&seed, outputs), &mut d_x);
            assert_close(&d_x.to_vec(), tx.grad(&backward).expect("tracked"));
            assert_close(&gradient.weight.to_vec(), tw.grad(&backward).expect("tracked"));
            assert_close(&gradient.bias, tb.grad(&backward).expect("tracked"));
        }
    }
}
