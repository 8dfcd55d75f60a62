//! The body: embeddings and layers.

use entromask_kernels::LayerNorm;

use super::embeddings::Embeddings;
use super::layer::Layer;
use super::projected::Projected;
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
    /// What the first layer computes of the tokens of `rows` alone, where that saves work.
    pub(super) fn project(&self, rows: &[Wanted<'_>]) -> Option<Projected> {
        Projected::new(self, rows.iter().flat_map(|row| self.embeddings.tokens(row)))
    }

    /// `hidden` becomes the last layer's states at the wanted positions, row after row.
    pub(super) fn forward(&self, rows: &[Wanted<'_>], projected: Option<&Projected>, buffers: &mut Buffers) {
        let tokens: Vec<_> = rows.iter().flat_map(|row| self.embeddings.tokens(row)).collect();
        let places = Places::of(rows);
        let everywhere = places.everywhere();
        self.embeddings.forward(&tokens, buffers);
        for (depth, &layer) in self.order.iter().enumerate() {
            let (layer, is_last) = (&self.layers[layer], depth + 1 == self.order.len());
            let places = if is_last { &places } else { &everywhere };
            match projected.filter(|_| depth == 0) {
                Some(projected) => projected.read(&tokens, places, buffers),
                None => layer.project(places, buffers),
            }
            layer.forward(places, buffers);
        }
        if self.order.is_empty() {
            buffers.pick(&places);
        }
        if let Some(norm) = &self.norm {
            norm.apply(&mut buffers.hidden);
        }
    }
}
