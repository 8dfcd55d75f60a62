//! The first use of a device. Backends report a missing driver by panicking, so the first operation runs where a
//! panic can be caught and turned into a fault.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Mutex;

use anyhow::Result;
use burn::tensor::{Device, FloatDType, Tensor};
use entromask_fault::Fault;

use crate::Spec;

/// Fixes the dtype of `device` and computes one sum on it.
pub(crate) fn first_use(mut device: Device, dtype: FloatDType, spec: Spec) -> Result<Device> {
    let used = quietly(|| {
        configure(&mut device, dtype)?;
        let sum: f32 = Tensor::<1>::ones([2], &device).sum().into_scalar();
        if (sum - 2.0).abs() < 1e-3 { Ok(device) } else { Err(format!("1 + 1 gave {sum}")) }
    });
    used.map_err(|reason| unavailable(spec, &reason))
}

/// The panic hook belongs to the whole process: one probe at a time may replace it.
static HOOK: Mutex<()> = Mutex::new(());

fn quietly<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let _one_at_a_time = HOOK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(run));
    set_hook(hook);
    outcome.unwrap_or_else(|panic| Err(panic_text(panic.as_ref())))
}

/// Sets the type of new float tensors; a device that already has this type is left as it is.
fn configure(device: &mut Device, dtype: FloatDType) -> Result<(), String> {
    match device.configure(dtype) {
        Err(_) if device.settings().float_dtype == dtype => Ok(()),
        other => other.map_err(|error| error.to_string()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown reason").to_owned()
}

fn unavailable(spec: Spec, reason: &str) -> anyhow::Error {
    let first_line = reason.lines().next().unwrap_or_default();
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
    }
}
