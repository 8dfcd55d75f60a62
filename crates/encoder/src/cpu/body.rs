//! The body: embeddings and layers.

use entromask_kernels::LayerNorm;

use super::embeddings::Embeddings;
use super::layer::Layer;
use super::{Buffers, Places, Wanted};

#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) embeddings: Embeddings,
    pub(super) layers: Vec<Layer>,
    /// Which of `layers` is applied at each depth.
    pub(super) order: Vec<usize>,
    pub(super) norm: Option<LayerNorm>,
}

impl Body {
    /// `hidden` becomes the last layer's states at the wanted positions, row after row.
    pub(super) fn forward(&self, rows: &[Wanted<'_>], buffers: &mut Buffers) {
        let places = Places::of(rows);
        self.embeddings.forward(rows, buffers);
        match self.order.split_last() {
            Some((last, before)) => {
                let everywhere = places.everywhere();
                for &layer in before {
                    self.layers[layer].forward(&everywhere, buffers);
                }
                self.layers[*last].forward(&places, buffers);
            }
            None => buffers.pick(&places),
        }
        if let Some(norm) = &self.norm {
            norm.apply(&mut buffers.hidden);
        }
    }
}
