//! What processes that use a GPU leave to each other.

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Has compiled kernels kept beside the choices between them. CubeCL 0.11 keeps them only if it is told to, before it is first
/// used; the rest of a user's `cubecl.toml` holds.
pub(crate) fn keep_kernels() {
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.compilation.cache = true;
    // Later devices of a process find it set.
    CubeClRuntimeConfig::try_set(config);
}
