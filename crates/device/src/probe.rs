//! The first use of a device. Backends report a missing driver by panicking, so the first operation runs where a
//! panic can be caught and turned into a fault.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use entromask_fault::Fault;
use entromask_kernels::Products;

use crate::Spec;

/// Floating-point types of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types {
    /// Of new tensors.
    pub new: FloatDType,
    /// Of matrix products.
    pub products: FloatDType,
}

/// Fixes the dtype of `device` and computes a matrix product and an exponential on it, which must be right: there are software drivers
/// that run burn's kernels and return nonsense, and nonsense must not become an artifact.
pub(crate) fn first_use(mut device: Device, types: Types, spec: Spec) -> Result<Device> {
    #[cfg(feature = "gpu")]
    if spec.backend != crate::Backend::Cpu {
        crate::kept::keep_kernels();
    }
    let used = quietly(|| {
        if types.products == FloatDType::BF16 && !device.supports_dtype(DType::BF16) {
            return Err(NO_BF16.to_owned());
        }
        configure(&mut device, types.new)?;
        check_product(&product(&device, types.products)?)?;
        check_exponential(&device)?;
        Ok(device)
    });
    let used = used.map_err(|reason| unavailable(spec, &reason))?;
    #[cfg(feature = "cuda")]
    look_for_cublas(&used, spec);
    Ok(used)
}

#[cfg(feature = "cuda")]
fn look_for_cublas(device: &Device, spec: Spec) {
    if spec.backend == crate::Backend::Cuda && !entromask_kernels::cublas_multiplies_on(device) {
        tracing::warn!(
            "device `{spec}`: cuBLASLt was not found, so burn multiplies, which begins later and is slower; let LD_LIBRARY_PATH \
             name the folder of libcublasLt.so, in the CUDA toolkit or in PyTorch's nvidia/cu13/lib"
        );
    }
}

const NO_BF16: &str = "it does not compute in bf16";

/// The panic hook belongs to the whole process: one probe at a time may replace it.
static HOOK: Mutex<()> = Mutex::new(());

/// Where a thread of the backend panics first, ours panics because it is gone: the first text is why.
fn quietly<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let _one_at_a_time = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let (hook, first) = (take_hook(), Arc::new(Mutex::new(None)));
    let noted = first.clone();
    set_hook(Box::new(move |info| {
        let mut first = noted.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| panic_text(info.payload()));
    }));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    set_hook(hook);
    let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    outcome.unwrap_or_else(|panic| Err(first.unwrap_or_else(|| panic_text(panic.as_ref()))))
}

/// Sets the type of new float tensors; a device that already has this type is left as it is.
fn configure(device: &mut Device, dtype: FloatDType) -> Result<(), String> {
    match device.configure(dtype) {
        Err(_) if device.settings().float_dtype == dtype => Ok(()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// Rows, inner dimension and columns of the product: enough for the kernels that models use.
const SIZES: [usize; 3] = [8, 128, 256];

/// Small integers, so that the product is exact in every type: at most 256.
fn left(row: usize, k: usize) -> f32 {
    (row + k) as f32 % 5.0 - 2.0
}

fn right(k: usize, column: usize) -> f32 {
    (2 * k + column) as f32 % 5.0 - 2.0
}

fn product(device: &Device, dtype: FloatDType) -> Result<Vec<f32>, String> {
    let [rows, inner, columns] = SIZES;
    let matrix = |shape: [usize; 2], value: fn(usize, usize) -> f32| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| value(i / shape[1], i % shape[1])).collect();
        Tensor::<2>::from_data(TensorData::new(values, shape), device).cast(dtype)
    };
    let product = Products::AsTensors.matmul(matrix([rows, inner], left), matrix([inner, columns], right));
    product.try_into_vec_as().map_err(|error| error.to_string())
}

fn check_product(found: &[f32]) -> Result<(), String> {
    let [rows, inner, columns] = SIZES;
    let expected = |i: usize| (0..inner).map(|k| left(i / columns, k) * right(k, i % columns)).sum::<f32>();
    // Written so that NaN is wrong too.
    let is_right = |i: usize| found.get(i).is_some_and(|value| (value - expected(i)).abs() <= 1e-3);
    match (0..rows * columns).find(|&i| !is_right(i)) {
        Some(i) => Err(format!(
            "its matrix products are wrong: {:?} where {} is right",
            found.get(i).copied().unwrap_or(f32::NAN),
            expected(i)
        )),
        None => Ok(()),
    }
}

/// Kernels for CUDA through LLVM take functions like this one from a library of the toolkit, which may not be there.
fn check_exponential(device: &Device) -> Result<(), String> {
    let found = Tensor::<1>::zeros([4], device).exp().try_into_vec_as::<f32>();
    let found = found.map_err(|error| error.to_string())?;
    if found == [1.0; 4] {
        Ok(())
    } else {
        Err(format!("its exponentials are wrong: {found:?} where 1 is right"))
    }
}

fn panic_text(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown reason").to_owned()
}

fn unavailable(spec: Spec, reason: &str) -> anyhow::Error {
    let first_line = reason.lines().next().unwrap_or_default();
    if reason == NO_BF16 {
        return Fault::device(format!("device `{spec}`: {reason}")).remedy("use --dtype f32").into();
    }
    Fault::device(format!("device `{spec}` does not answer ({first_line})"))
        .remedy("check the driver and that the GPU is visible here, or use --device cpu")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_backend_becomes_its_text() {
        assert_eq!(
            quietly(|| -> Result<(), String> { panic!("no driver {}", 1) }),
            Err("no driver 1".to_owned())
        );
        assert_eq!(quietly(|| -> Result<(), String> { panic!("no driver") }), Err("no driver".to_owned()));
        assert_eq!(quietly(|| Ok(1)), Ok(1));
        let beside = || -> Result<(), String> {
            let gone = std::thread::spawn(|| panic!("no GPU")).join();
            panic!("receiver gone: {}", gone.is_err())
        };
        assert_eq!(quietly(beside), Err("no GPU".to_owned()));
    }

    #[test]
    fn a_device_that_multiplies_wrongly_is_found_out() {
        let mut found = product(&Device::flex(), FloatDType::F32).expect("computes");
        assert_eq!(check_product(&found), Ok(()));
        let rounded = product(&Device::flex(), FloatDType::BF16).expect("computes");
        assert_eq!(check_product(&rounded), Ok(()), "integers are exact");
        assert_eq!(check_exponential(&Device::flex()), Ok(()));
        assert!(found.iter().any(|&value| value > 50.0) && found.iter().any(|&value| value < -50.0));
        assert!(check_product(&found[1..]).is_err(), "too few");
        found[700] += 1.0;
        assert!(check_product(&found).expect_err("wrong").contains("wrong"));
        found[700] = f32::NAN;
        assert!(check_product(&found).is_err());
    }
}
