//! Which device the kernels of the CPU serve.

use burn::tensor::Device;

/// Whether `device` is the CPU, with or without automatic differentiation.
pub fn is_cpu(device: &Device) -> bool {
    *device == cpu()
}

/// The CPU, where values are made that no kernel of a GPU has to see.
pub fn cpu() -> Device {
    Device::flex()
}
