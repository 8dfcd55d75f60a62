//! What scoring needs of a device, on the one that `ENTROMASK_TEST_DEVICE` names (`wgpu`, `vulkan`, `cuda`; by default the
//! CPU), against the CPU; `families` in the type that `ENTROMASK_TEST_DTYPE` names (`f32` by default, or `bf16`).
//!
//! ```console
//! ENTROMASK_TEST_DEVICE=vulkan cargo test --release --features entromask-device/vulkan --test devices
//! ```

mod attention;
mod families;
mod head;
mod layers;
mod products;

use burn::tensor::Device;

fn spec() -> String {
    std::env::var("ENTROMASK_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

fn dtype() -> String {
    std::env::var("ENTROMASK_TEST_DTYPE").unwrap_or_else(|_| "f32".to_owned())
}

fn device() -> Device {
    open("f32")
}

fn open(dtype: &str) -> Device {
    entromask_device::open(&spec(), dtype).expect("opens")
}
