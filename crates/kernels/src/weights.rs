//! Weights of a product in the type that it is computed in.

use pulp::Simd;

use crate::bf16::{self, Pairs};
use crate::matrix::ViewMut;
use crate::mixed::Products;
use crate::panels::{self, Panels, padded, panel_width};
use crate::product::{Left, Start, multiply, product};

/// `[inputs, outputs]`, laid out for the vector unit of this machine.
#[derive(Clone, Debug)]
pub(crate) enum Weights {
    F32(Panels),
    Bf16(Pairs),
}

/// Some consecutive panels of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Block<'a> {
    F32(panels::Block<'a>),
    Bf16(bf16::Block<'a>),
}

impl Default for Weights {
    fn default() -> Self {
        Self::none(Products::AsTensors)
    }
}

impl Weights {
    /// Memory for weights.
    pub(crate) fn none(products: Products) -> Self {
        match products {
            Products::AsTensors => Self::F32(Panels::default()),
            Products::Bf16 => Self::Bf16(Pairs::default()),
        }
    }

    /// Forgets weights that are laid out for other products.
    pub(crate) fn set_products(&mut self, products: Products) {
        if self.products() != products {
            *self = Self::none(products);
        }
    }

    /// From rows of `outputs` values each: a dense layer.
    pub(crate) fn from_rows(outputs: usize, rows: &[f32], products: Products) -> Self {
        let mut weights = Self::none(products);
        weights.pack_rows(outputs, rows.chunks_exact(outputs));
        weights
    }

    /// From rows of `inputs` values each: a decoder.
    pub(crate) fn from_columns(inputs: usize, columns: &[f32], products: Products) -> Self {
        let mut weights = Self::none(products);
        weights.pack_matrix(inputs, columns);
        weights
    }

    /// Becomes the rows given, `outputs` values each.
    pub(crate) fn pack_rows<'a>(&mut self, outputs: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) {
        match self {
            Self::F32(panels) => panels.pack_rows(outputs, rows),
            Self::Bf16(pairs) => pairs.pack_rows(outputs, rows),
        }
    }

    /// Becomes the columns given as rows of `inputs` values each, one after the other, on all threads.
    pub(crate) fn pack_matrix(&mut self, inputs: usize, columns: &[f32]) {
        match self {
            Self::F32(panels) => panels.pack_matrix(inputs, columns),
            Self::Bf16(pairs) => pairs.pack_matrix(inputs, columns),
        }
    }

    /// The type of the products that they are laid out for.
    pub(crate) fn products(&self) -> Products {
        match self {
            Self::F32(_) => Products::AsTensors,
            Self::Bf16(_) => Products::Bf16,
        }
    }

    pub(crate) fn inputs(&self) -> usize {
        match self {
            Self::F32(panels) => panels.depth(),
            Self::Bf16(pairs) => pairs.depth(),
        }
    }

    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::F32(panels) => panels.columns(),
            Self::Bf16(pairs) => pairs.columns(),
        }
    }

    /// Columns of a panel.
    pub(crate) fn panel_width(&self) -> usize {
        match self {
            Self::F32(_) => panel_width(),
            Self::Bf16(_) => bf16::WIDTH,
        }
    }

    /// Start of the sums of each output, filled up with `filler` to whole panels.
    pub(crate) fn padded(&self, bias: &[f32], filler: f32) -> Vec<f32> {
        padded(bias, filler, self.panel_width())
    }

    /// Writes `input` · weights + `start`, `[rows, outputs]`, to `output`.
    pub(crate) fn multiply(&self, input: Left<'_>, start: Start<'_>, output: &mut ViewMut<'_>) {
        match self {
            Self::F32(panels) => product(input, panels.all(), start, output),
            Self::Bf16(pairs) => pairs.all().multiply(input, start, output),
        }
    }

    /// Blocks of `panels` panels; the last one has fewer.
    pub(crate) fn blocks(&self, panels: usize) -> impl Iterator<Item = Block<'_>> {
        let all = self.outputs().div_ceil(self.panel_width());
        (0..all).step_by(panels).map(move |first| match self {
            Self::F32(weights) => Block::F32(weights.block(first, panels)),
            Self::Bf16(weights) => Block::Bf16(weights.block(first, panels)),
        })
    }
}

impl Block<'_> {
    /// [`Weights::multiply`] where the vector unit has been chosen.
    #[inline(always)]
    pub(crate) fn multiply<S: Simd>(
        self,
        simd: S,
        input: Left<'_>,
        start: Start<'_>,
        output: &mut ViewMut<'_>,
    ) {
        match self {
            Self::F32(block) => multiply(simd, input, block, start, output),
            Self::Bf16(block) => block.multiply(input, start, output),
        }
    }
}
