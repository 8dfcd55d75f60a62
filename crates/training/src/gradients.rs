//! The gradients of one backward pass by parameter path, and their global norm.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use entromask_kernels::is_cpu;
use rayon::prelude::*;

use crate::scalars;

/// Numbers that one task adds up or updates; fixed, so that the sum does not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 14;

/// The gradients of a module's parameters after a backward pass.
#[derive(Debug)]
pub struct Gradients {
    pub(crate) by_path: BTreeMap<String, Gradient>,
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
        Self::collect_in(module, backward, is_cpu)
    }

    /// L2 norm over all parameters together. Not finite if any gradient is not.
    pub fn norm(&self) -> f64 {
        let on_host: f64 = self.by_path.values().filter_map(Gradient::sum_on_host).sum();
        let on_device = scalars::read(self.by_path.values().filter_map(Gradient::sum_on_device));
        (on_host + on_device.iter().sum::<f64>()).sqrt()
    }

    /// Adds the gradients of another part of the same batch.
    pub fn add(&mut self, more: Self) {
        for (path, gradient) in more.by_path {
            match self.by_path.remove(&path) {
                None => self.by_path.insert(path, gradient),
                Some(sum) => self.by_path.insert(path, sum.plus(gradient)),
            };
        }
    }

    /// The same on `device`, where the gradients of another part of the batch are. Host memory is the same for all.
    #[must_use]
    pub fn to_device(self, device: &Device) -> Self {
        let moved = |(path, gradient)| match gradient {
            Gradient::Host(_) => (path, gradient),
            Gradient::Device(tensor) => (path, Gradient::Device(tensor.to_device(device))),
        };
        Self { by_path: self.by_path.into_iter().map(moved).collect() }
    }

    /// Each parameter's path and its gradient, flat, in host memory.
    pub fn to_host(&self) -> BTreeMap<&str, Vec<f32>> {
        self.by_path.iter().map(|(path, gradient)| (path.as_str(), gradient.to_host())).collect()
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
        Self { by_path: collector.found }
    }
}

impl Gradient {
    fn plus(self, more: Self) -> Self {
        match (self, more) {
            (Self::Host(sum), Self::Host(more)) => Self::Host(sum_of(sum, &more)),
            (Self::Device(sum), Self::Device(more)) => Self::Device(sum + more),
            _ => unreachable!("the parts of a batch are computed on one device"),
        }
    }

    fn to_host(&self) -> Vec<f32> {
        let data = match self {
            Self::Host(data) => data.clone(),
            Self::Device(tensor) => tensor.clone().into_data_as::<f32>(),
        };
        data.try_into_vec().expect("f32")
    }

    fn numbers(&self) -> u64 {
        match self {
            Self::Host(data) => data.num_elements() as u64,
            Self::Device(tensor) => tensor.dims()[0] as u64,
        }
    }

    /// Σ x² of a gradient in host memory.
    fn sum_on_host(&self) -> Option<f64> {
        match self {
            Self::Host(data) => Some(sum_of_squares(data.as_slice().expect("parameters are f32 on the CPU"))),
            Self::Device(_) => None,
        }
    }

    /// Σ x² of a gradient on a device, which computes it.
    fn sum_on_device(&self) -> Option<Tensor<1>> {
        match self {
            Self::Host(_) => None,
            Self::Device(tensor) => Some(tensor.clone().square().sum()),
        }
    }
}

fn sum_of(mut sum: TensorData, more: &TensorData) -> TensorData {
    let values = sum.as_mut_slice::<f32>().expect("gradients are f32 on the CPU");
    let more = more.as_slice::<f32>().expect("gradients are f32 on the CPU");
    let add = |(sum, more): (&mut [f32], &[f32])| sum.iter_mut().zip(more).for_each(|(a, b)| *a += b);
    values.par_chunks_mut(CHUNK).zip(more.par_chunks(CHUNK)).for_each(add);
    sum
}

/// Σ x² of numbers in host memory, the same on any number of threads.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
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
