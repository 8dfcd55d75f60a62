//! Dropout whose draws are known.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use entromask_random::{keyed, normals};

use super::*;

#[test]
fn gradients_with_dropout_are_those_of_finite_differences() {
    for config in families() {
        assert_slope(&config.with_dropout(0.3), &rows());
    }
}

/// The loss with dropout whose draws are always the same, as a function of the parameters, has the gradient that is
/// computed: along a random direction, by central differences.
pub(super) fn assert_slope(config: &EncoderConfig, rows: &Rows) {
    let device = Device::flex().autodiff();
    let model = MaskedLm::init(config, 3, &device);
    let mut direction = Shift { step: 1.0, ..Shift::default() };
    let _ = model.clone().map(&mut direction);
    let (_, gradients) = dropped(&model, config, rows, &mut Lanes::default());
    let gradients = by_path(&model, &gradients);
    let slope: f64 = gradients.iter().map(|(path, values)| dot(values, &direction.drawn[path])).sum();
    let loss_at = |step: f32| {
        let moved = model.clone().map(&mut Shift { step, ..Shift::default() });
        dropped(&moved, config, rows, &mut Lanes::default()).0
    };
    let step = 1e-4;
    let found = (loss_at(step) - loss_at(-step)) / (2.0 * f64::from(step));
    let name = config.model_type;
    assert!((found - slope).abs() < 0.003 * slope.abs().max(10.0), "{name:?}: {found} {slope}");
}

#[test]
fn what_a_row_drops_depends_on_its_number_only() {
    for config in families().into_iter().map(|config| config.with_dropout(0.3)) {
        let model = MaskedLm::init(&config, 3, &Device::flex());
        let body = TrainedBody::new(&model.encoder, &config);
        let rows = rows();
        let states = |first_row: usize, count: usize, seed: Option<u64>| {
            let dropout = seed.map(|seed| Dropout { seed, first_row });
            let rows = &rows.wanted()[first_row..first_row + count];
            body.forward(rows, &[], dropout, &mut Lanes::default()).last
        };
        let all = states(0, 19, Some(1));
        assert_eq!([states(0, 3, Some(1)), states(3, 16, Some(1))].concat(), all);
        assert_ne!(states(0, 19, Some(2)), all);
        assert_ne!(states(0, 19, None), all);
    }
}

/// The loss of states with dropout, in f64, and its gradients.
fn dropped(model: &MaskedLm, config: &EncoderConfig, rows: &Rows, lanes: &mut Lanes) -> (f64, Gradients) {
    let body = TrainedBody::new(&model.encoder, config);
    let dropout = Some(Dropout { seed: 7, first_row: 0 });
    let last = body.forward(&rows.wanted(), &[], dropout, lanes).last;
    let n = last.len() / config.hidden_size;
    let d = flat(weights(n, config.hidden_size, 0));
    let mut gradients = Tensor::<1>::zeros([1], &Device::flex().autodiff()).require_grad().sum().backward();
    let d_states = States { last: d.clone(), depths: Vec::new() };
    body.backward(&d_states, lanes).register(&model.encoder, &mut gradients);
    (dot(&last, &d), gradients)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Moves each parameter along a random direction.
#[derive(Default)]
struct Shift {
    step: f32,
    path: Vec<String>,
    drawn: BTreeMap<String, Vec<f32>>,
}

impl ModuleMapper for Shift {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let direction = normals(shape.num_elements(), 1.0, &mut keyed(2, &self.path.join("/"), 0, 0));
        self.drawn.insert(self.path.join("/"), direction.clone());
        let step = self.step;
        param.map(|tensor| {
            let direction = Tensor::from_data(TensorData::new(direction, shape), &tensor.device());
            Tensor::from_inner((tensor + direction * step).inner()).require_grad()
        })
    }
}
