//! From a parameter, its gradient and its moments to their next values, in host memory or where the parameter is.

use burn::tensor::{Tensor, TensorData};

use crate::gradients::Gradient;
use crate::moments::Moments;

/// An update rule with the scalars of one step. All numbers of a parameter are flat.
pub(crate) trait Change {
    /// In place.
    fn on_host(&self, parameter: &mut [f32], gradient: &[f32], moments: &mut [Vec<f32>; 2]);

    /// The next parameter and moments.
    fn on_device(&self, parameter: Tensor<1>, gradient: Tensor<1>, moments: [Tensor<1>; 2])
    -> [Tensor<1>; 3];
}

/// Changes a parameter where its gradient is. Moments begin at 0.
pub(crate) fn step<const D: usize>(
    change: &impl Change,
    tensor: Tensor<D>,
    gradient: Gradient,
    moments: Option<Moments>,
) -> (Tensor<D>, Moments) {
    match gradient {
        Gradient::Host(gradient) => on_host(change, tensor, &gradient, moments),
        Gradient::Device(gradient) => on_device(change, tensor, gradient, moments),
    }
}

/// Takes the parameter's buffer over without a copy where nobody else holds it.
fn on_host<const D: usize>(
    change: &impl Change,
    tensor: Tensor<D>,
    gradient: &TensorData,
    moments: Option<Moments>,
) -> (Tensor<D>, Moments) {
    let device = tensor.device();
    let mut parameter = tensor.into_data();
    let mut moments = moments.map_or_else(|| Moments::zeros(parameter.num_elements()), Moments::into_host);
    let values = parameter.as_mut_slice::<f32>().expect("parameters are f32 on the CPU");
    change.on_host(values, gradient.as_slice().expect("gradients are f32 on the CPU"), &mut moments);
    (Tensor::from_data(parameter, &device), Moments::Host(moments))
}

fn on_device<const D: usize>(
    change: &impl Change,
    tensor: Tensor<D>,
    gradient: Tensor<1>,
    moments: Option<Moments>,
) -> (Tensor<D>, Moments) {
    let shape = tensor.shape();
    let moments = match moments {
        Some(moments) => moments.into_device(&tensor.device()),
        None => [gradient.zeros_like(), gradient.zeros_like()],
    };
    let [parameter, first, second] = change.on_device(tensor.flatten(0, D - 1), gradient, moments);
    (parameter.reshape(shape), Moments::Device(Box::new([first, second])))
}
