//! What scoring needs of a device, on the one that `ENTROMASK_TEST_DEVICE` names (`wgpu`, `vulkan`, `cuda`; by default the
//! CPU), against the CPU.
//!
//! ```console
//! ENTROMASK_TEST_DEVICE=vulkan cargo test --release --features entromask-device/vulkan --test devices
//! ```

mod head;
mod layers;
mod products;

use burn::tensor::Device;

fn spec() -> String {
    std::env::var("ENTROMASK_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned())
}

fn device() -> Device {
    entromask_device::open(&spec(), "f32").expect("opens")
}
