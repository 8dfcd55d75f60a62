//! The gradients of one backward pass by parameter path, and their global norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

/// Numbers that one task adds up; fixed, so that the sum does not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// The gradients of a module's parameters after a backward pass.
#[derive(Debug)]
pub struct Gradients {
    pub(crate) by_path: BTreeMap<String, Gradient>,
    norm: f64,
}

/// One parameter's gradient, flat: in host memory on the CPU, else where it was computed.
#[derive(Debug)]
pub(crate) enum Gradient {
    Host(TensorData),
    Device(Tensor<1>),
}

impl Gradients {
    /// Takes the gradients of `module`'s parameters out of the result of a backward pass.
    pub fn collect<M: Module>(module: &M, backward: burn::tensor::Gradients) -> Self {
        Self::collect_in(module, backward, |device| *device == Device::flex())
    }

    /// L2 norm over all parameters together. Not finite if any gradient is not.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// How many numbers have a gradient.
    pub fn numbers(&self) -> u64 {
        self.by_path.values().map(Gradient::numbers).sum()
    }

    pub(crate) fn collect_in<M: Module>(
        module: &M,
        backward: burn::tensor::Gradients,
        in_host_memory: fn(&Device) -> bool,
    ) -> Self {
        let mut collector = Collector { backward, in_host_memory, path: Vec::new(), found: BTreeMap::new() };
        module.visit(&mut collector);
        let norm = collector.found.values().map(Gradient::sum_of_squares).sum::<f64>().sqrt();
        Self { by_path: collector.found, norm }
    }
}

impl Gradient {
    fn numbers(&self) -> u64 {
        match self {
            Self::Host(data) => data.num_elements() as u64,
            Self::Device(tensor) => tensor.dims()[0] as u64,
        }
    }

    fn sum_of_squares(&self) -> f64 {
        match self {
            Self::Host(data) => sum_of_squares(data.as_slice().expect("parameters are f32 on the CPU")),
            Self::Device(tensor) => tensor.clone().square().sum().into_scalar::<f64>(),
        }
    }
}

fn sum_of_squares(values: &[f32]) -> f64 {
    let square = |chunk: &[f32]| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    values.par_chunks(CHUNK).map(square).collect::<Vec<_>>().iter().sum()
}

struct Collector {
    backward: burn::tensor::Gradients,
    in_host_memory: fn(&Device) -> bool,
    path: Vec<String>,
    found: BTreeMap<String, Gradient>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let Some(gradient) = param.val().grad_remove(&mut self.backward) else { return };
        let gradient = if (self.in_host_memory)(&gradient.device()) {
            Gradient::Host(gradient.into_data())
        } else {
            Gradient::Device(gradient.flatten(0, D - 1))
        };
        self.found.insert(self.path.join("."), gradient);
    }
}
