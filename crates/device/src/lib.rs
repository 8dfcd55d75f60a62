//! Opens the compute device that the user names: `cpu`, `wgpu[:n]`, `vulkan[:n]` or `cuda[:n]`.
//!
//! This is the only crate that knows backends. Its Cargo features `wgpu`, `vulkan` and `cuda` decide what a
//! binary can open besides the CPU, which is always there (burn's `flex` backend); with `nvrtc` the kernels of `cuda` are compiled
//! by NVIDIA's compiler, and with `tuned` burn fuses and chooses kernels:
//!
//! ```text
//! cargo build --release -p entromask-score --features entromask-device/vulkan
//! ```
//!
//! A device that was not compiled in, or that does not answer, is a [`Fault`] of the device class (exit code 4),
//! never a panic.

#[cfg(feature = "gpu")]
mod kept;
mod probe;
mod spec;

use anyhow::Result;
use burn::tensor::{Device, FloatDType};
use entromask_fault::Fault;
use entromask_kernels::{Products, has_bf16_products};

use probe::Types;

pub use entromask_kernels::is_cpu;
pub use spec::{Backend, Spec, list};

/// Opens `spec` (`cpu`, `wgpu[:n]`, `vulkan[:n]`, `cuda[:n]`) with `dtype` (`f32` or `bf16`) as the type of new
/// float tensors, and multiplies two small matrices on it, so that a missing or broken driver shows here and not in
/// mid-run or, worse, in the results.
///
/// The type holds for the whole process: the second call for one device must name the same.
///
/// # Errors
///
/// A usage fault for names that mean nothing, a device fault for what was not compiled in or does not answer.
pub fn open(spec: &str, dtype: &str) -> Result<Device> {
    let spec: Spec = spec.parse()?;
    let dtype = float_dtype(dtype)?;
    if (dtype, spec.backend) == (FloatDType::BF16, Backend::Cpu) {
        return Err(Fault::usage("dtype bf16: on the cpu only scoring, distilling and training know it")
            .remedy("use --dtype f32, or a GPU")
            .into());
    }
    probe::first_use(spec.device()?, Types { new: dtype, products: dtype }, spec)
}

/// Opens `spec` to score on: as [`open()`], but that on the CPU bf16 is the type of the matrix products only, as in
/// [`open_to_train()`].
///
/// # Errors
///
/// As [`open()`], and a device fault for bf16 on a processor that does not multiply in it.
pub fn open_to_score(spec: &str, dtype: &str) -> Result<(Device, Products)> {
    match spec.parse::<Spec>()?.backend {
        Backend::Cpu => open_to_train(spec, dtype),
        _ => Ok((open(spec, dtype)?, Products::AsTensors)),
    }
}

/// Devices of one backend that train together. New tensors on them are f32.
#[derive(Clone, Debug)]
pub struct Devices {
    /// At least one, in the order in which they were named.
    pub all: Vec<Device>,
    /// Type of the matrix products.
    pub products: Products,
}

/// Opens the devices of `list`, one spec or several of one backend (`cuda:0,1,2`), for matrix products in `dtype` (`f32`
/// or `bf16`) of weights that are f32, and tries such a product on each.
///
/// # Errors
///
/// As [`open_to_score()`], and a usage fault for lists of several backends or with a device twice.
pub fn open_all(list: &str, dtype: &str) -> Result<Devices> {
    open_specs(spec::list(list)?, dtype)
}

/// Opens the one device `spec` as [`open_all()`] does, to train on.
///
/// # Errors
///
/// As [`open_to_score()`].
pub fn open_to_train(spec: &str, dtype: &str) -> Result<(Device, Products)> {
    let Devices { mut all, products } = open_specs(vec![spec.parse()?], dtype)?;
    Ok((all.swap_remove(0), products))
}

fn open_specs(specs: Vec<Spec>, dtype: &str) -> Result<Devices> {
    let (dtype, new) = (float_dtype(dtype)?, FloatDType::F32);
    let products = if dtype == new { Products::AsTensors } else { Products::Bf16 };
    let types = match specs[0].backend {
        // Its products in bf16 are not those of tensors.
        Backend::Cpu => {
            check_processor(products)?;
            Types { new, products: new }
        }
        _ => Types { new, products: dtype },
    };
    let all = specs.into_iter().map(|spec| probe::first_use(spec.device()?, types, spec));
    Ok(Devices { all: all.collect::<Result<_>>()?, products })
}

/// Others would be right, and slower than in f32.
fn check_processor(products: Products) -> Result<()> {
    if products == Products::AsTensors || has_bf16_products() {
        return Ok(());
    }
    Err(Fault::device("dtype bf16: this processor does not multiply in it (AVX512_BF16)")
        .remedy("use --dtype f32, which would be faster here, or a GPU")
        .into())
}

/// Checks the names of devices and that this binary has their backend, without opening any.
///
/// # Errors
///
/// As [`open_all()`], but for what only a device can tell.
pub fn check(list: &str) -> Result<()> {
    spec::list(list)?.into_iter().try_for_each(|spec| spec.device().map(drop))
}

/// Checks that they would compute in `dtype`, as far as that is known without opening any.
///
/// # Errors
///
/// As [`check()`], and a [`Fault`] of the device class for bf16 on a processor that does not multiply in it.
pub fn check_dtype(list: &str, dtype: &str) -> Result<()> {
    let is_bf16 = float_dtype(dtype)? == FloatDType::BF16;
    let on_cpu = spec::list(list)?.iter().any(|spec| spec.backend == Backend::Cpu);
    if is_bf16 && on_cpu { check_processor(Products::Bf16) } else { Ok(()) }
}

/// Backends of this binary, in the order in which the help lists them.
pub fn compiled() -> Vec<&'static str> {
    Backend::ALL.into_iter().filter(|backend| backend.is_compiled()).map(Backend::name).collect()
}

fn float_dtype(name: &str) -> Result<FloatDType> {
    match name {
        "f32" => Ok(FloatDType::F32),
        "bf16" => Ok(FloatDType::BF16),
        other => Err(Fault::usage(format!("dtype `{other}` is unknown")).remedy("use f32 or bf16").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tensor;
    use entromask_fault::Class;

    fn class(result: Result<Device>) -> Class {
        let error = result.expect_err("must not open");
        error.downcast_ref::<Fault>().expect("a fault").class()
    }

    #[test]
    fn cpu_opens_twice_and_computes() {
        open("cpu", "f32").expect("opens");
        let device = open("cpu", "f32").expect("opens again");
        let sum: f32 = Tensor::<1>::from_floats([1.0, 2.0], &device).sum().into_scalar();
        assert!((sum - 3.0).abs() < 1e-6);
        assert!(is_cpu(&device) && is_cpu(&device.autodiff()));
    }

    #[test]
    fn several_devices_open_or_none() {
        let devices = open_all("cpu,cpu,cpu", "f32").expect("opens");
        assert_eq!((devices.all.len(), devices.products), (3, Products::AsTensors));
        let of = |list, dtype| class(open_all(list, dtype).map(|devices| devices.all[0].clone()));
        assert_eq!(of("cpu,cuda:0", "f32"), Class::Usage);
        assert_eq!(of("cpu,cpu", "f16"), Class::Usage);
        if !Backend::Cuda.is_compiled() {
            assert_eq!(of("cuda:0,1", "bf16"), Class::Device);
        }
    }

    #[test]
    fn unknown_names_are_usage_faults() {
        for spec in ["", "gpu", "cpu:1", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu,cpu"] {
            assert_eq!(class(open(spec, "f32")), Class::Usage, "{spec:?}");
        }
        assert_eq!(class(open("cpu", "f16")), Class::Usage);
        assert_eq!(class(open("cpu", "bf16")), Class::Usage);
    }

    #[test]
    fn the_cpu_scores_and_trains_in_bf16_where_the_processor_multiplies_in_it() {
        for open in [open_to_score, open_to_train] {
            let opened = open("cpu", "bf16");
            if has_bf16_products() {
                let (device, products) = opened.expect("opens");
                assert_eq!((device.settings().float_dtype, products), (FloatDType::F32, Products::Bf16));
            } else {
                assert_eq!(class(opened.map(|(device, _)| device)), Class::Device);
            }
            assert_eq!(open("cpu", "f32").expect("opens").1, Products::AsTensors);
        }
        assert_eq!(check_dtype("cpu", "bf16").is_ok(), has_bf16_products());
        assert!(check_dtype("cpu", "f32").is_ok() && check_dtype("cuda", "bf16").is_ok());
        assert!(check_dtype("cpu", "f16").is_err());
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_is_a_device_fault() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_compiled()) {
            let error = open(backend.name(), "f32").expect_err("must not open");
            assert_eq!(error.downcast_ref::<Fault>().expect("a fault").class(), Class::Device);
            assert!(error.to_string().contains("--features"), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_always_compiled() {
        assert_eq!(compiled().first(), Some(&"cpu"));
    }
}
