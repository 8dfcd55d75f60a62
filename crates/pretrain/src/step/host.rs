//! Bodies that are computed on the CPU without tensors.

use std::cell::{RefCell, RefMut};

use burn::tensor::{Gradients, Tensor, TensorData};
use entromask_encoder::{Dropout, EncoderConfig, Lanes, MaskedLm, States as Values, TrainedBody};

use super::wanted::{States, Wanted};
use crate::data::Example;

/// The body of a model in host memory, and memory to compute in.
pub(crate) struct HostBody {
    body: TrainedBody,
    width: usize,
    lanes: RefCell<Lanes>,
}

/// The way back through a body, from the gradients of the hidden states that it gave.
pub(super) struct Back<'a> {
    body: &'a TrainedBody,
    lanes: RefMut<'a, Lanes>,
    states: States,
}

impl HostBody {
    /// Whether `model` is where bodies like this one compute.
    pub(crate) fn serves(model: &MaskedLm) -> bool {
        let (_, bias) = model.decoder();
        entromask_device::is_cpu(&bias.device())
    }

    /// Lays out `model`, whose tensors must be on the CPU, in the memory of an earlier one.
    pub(crate) fn new(model: &MaskedLm, config: &EncoderConfig, lanes: Lanes) -> Self {
        Self {
            body: TrainedBody::new(&model.encoder, config),
            width: config.hidden_size,
            lanes: RefCell::new(lanes),
        }
    }

    /// The memory.
    pub(crate) fn into_lanes(self) -> Lanes {
        self.lanes.into_inner()
    }

    /// Hidden states at the wanted positions of `batch`, of the last layer and of `depths`.
    pub(super) fn states(&self, wanted: &Wanted, batch: &[Example], depths: &[usize]) -> States {
        let values = self.body.forward(&wanted.rows(batch), depths, None, &mut self.lanes.borrow_mut());
        self.tensors(values)
    }

    /// The same for automatic differentiation to begin at, and the way back from there; some of it is dropped.
    pub(super) fn tracked(
        &self,
        wanted: &Wanted,
        batch: &[Example],
        depths: &[usize],
        dropout: Dropout,
    ) -> (States, Back<'_>) {
        let mut lanes = self.lanes.borrow_mut();
        let values = self.body.forward(&wanted.rows(batch), depths, Some(dropout), &mut lanes);
        let track = |tensor: Tensor<2>| Tensor::from_inner(tensor).require_grad();
        let States { last, layers } = self.tensors(values);
        let states = States { last: track(last), layers: layers.into_iter().map(track).collect() };
        (states.clone(), Back { body: &self.body, lanes, states })
    }

    fn tensors(&self, values: Values) -> States {
        let tensor = |values: Vec<f32>| {
            let shape = [values.len() / self.width, self.width];
            Tensor::from_data(TensorData::new(values, shape), &entromask_kernels::cpu())
        };
        States { last: tensor(values.last), layers: values.depths.into_iter().map(tensor).collect() }
    }
}

impl Back<'_> {
    /// Adds the gradients of the body of `model` to those of its head.
    pub(super) fn add_gradients(mut self, model: &MaskedLm, gradients: &mut Gradients) {
        let mut gradient = |states: &Tensor<2>| match states.grad_remove(gradients) {
            Some(gradient) => gradient.try_into_vec_as().expect("f32 on the CPU"),
            None => vec![0.0; states.shape().num_elements()],
        };
        let last = gradient(&self.states.last);
        let depths = self.states.layers.iter().map(gradient).collect();
        self.body.backward(&Values { last, depths }, &mut self.lanes).register(&model.encoder, gradients);
    }
}
