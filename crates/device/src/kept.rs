//! What processes that use a GPU leave to each other.

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Has compiled kernels kept beside the choices between them. `CubeCL` 0.11 keeps them only if it is told to, before it is first
/// used; the rest of a user's `cubecl.toml` holds.
pub(crate) fn keep_kernels() {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    // Later devices of a process find it set.
    CubeClRuntimeConfig::try_set(config);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a device, since it has to be told before `CubeCL` is first used.
    #[test]
    fn kernels_are_kept_on_the_device() {
        let Ok(device) = std::env::var("ENTROMASK_TEST_DEVICE") else { return };
        crate::open(&device, "f32").expect("the device of the tests");
        let keeps = CubeClRuntimeConfig::get().compilation.cache;
        assert_eq!(keeps, !device.starts_with("cpu"));
    }
}
