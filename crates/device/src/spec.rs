//! The device as the user writes it.

use std::str::FromStr;

use anyhow::Result;
use burn::tensor::Device;
use entromask_fault::Fault;

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The processor, through burn's `flex`; always there.
    Cpu,
    /// Any GPU, through WebGPU on whichever interface the machine offers.
    Wgpu,
    /// Any GPU, through Vulkan and SPIR-V.
    Vulkan,
    /// NVIDIA GPUs.
    Cuda,
}

impl Backend {
    /// All backends that the project knows.
    pub const ALL: [Backend; 4] = [Backend::Cpu, Backend::Wgpu, Backend::Vulkan, Backend::Cuda];

    /// Name on the command line and of the Cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Wgpu => "wgpu",
            Backend::Vulkan => "vulkan",
            Backend::Cuda => "cuda",
        }
    }

    /// Whether this binary contains the backend.
    pub fn is_compiled(self) -> bool {
        match self {
            Backend::Cpu => true,
            Backend::Wgpu => cfg!(feature = "wgpu"),
            Backend::Vulkan => cfg!(feature = "vulkan"),
            Backend::Cuda => cfg!(feature = "cuda"),
        }
    }
}

/// A backend and, for GPUs, which one: `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What computes.
    pub backend: Backend,
    /// Number of the GPU; `None` leaves the choice to the driver. Of `wgpu` and `vulkan` it counts discrete GPUs only: one in
    /// the processor, or software, is used without a number.
    pub index: Option<usize>,
}

impl Spec {
    /// The burn device, not yet used. Fails when the backend was not compiled in.
    pub(crate) fn device(self) -> Result<Device> {
        match self.backend {
            Backend::Cpu => Ok(entromask_kernels::cpu()),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => Ok(Device::wgpu(gpu(self.index))),
            #[cfg(feature = "vulkan")]
            Backend::Vulkan => Ok(Device::vulkan(gpu(self.index))),
            #[cfg(feature = "cuda")]
            Backend::Cuda => Ok(Device::cuda(self.index.unwrap_or(0))),
            #[allow(unreachable_patterns, reason = "reachable unless every backend is compiled in")]
            absent => Err(not_compiled(absent)),
        }
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}:{index}", self.backend.name()),
            None => f.write_str(self.backend.name()),
        }
    }
}

impl FromStr for Spec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.contains(',') {
            return Err(Fault::usage(format!("`{text}` names several devices, this stage computes on one"))
                .remedy("name one of them; training takes several")
                .into());
        }
        parse(text).ok_or_else(|| {
            Fault::usage(format!("device `{text}` is unknown"))
                .remedy("use cpu, wgpu[:n], vulkan[:n] or cuda[:n]")
                .into()
        })
    }
}

/// Devices that work together: one, or several of one backend (`cuda:0,1,2` or `cuda:0,cuda:1,cuda:2`), each GPU by its
/// number and once. The CPU may be named several times, which is for tests: they have no other devices.
///
/// ```
/// let specs = entromask_device::list("cuda:0,1")?;
/// assert_eq!(specs[1].to_string(), "cuda:1");
/// # anyhow::Ok(())
/// ```
///
/// # Errors
///
/// A usage fault for names that mean nothing, several backends, and a GPU twice or without its number.
pub fn list(text: &str) -> Result<Vec<Spec>> {
    let mut specs: Vec<Spec> = Vec::new();
    for name in text.split(',') {
        let spec = match (specs.last(), name.parse()) {
            (Some(Spec { backend, .. }), Ok(index)) if *backend != Backend::Cpu => {
                Spec { backend: *backend, index: Some(index) }
            }
            _ => name.parse()?,
        };
        check_beside(&specs, spec, text)?;
        specs.push(spec);
    }
    Ok(specs)
}

fn check_beside(others: &[Spec], spec: Spec, text: &str) -> Result<()> {
    let Some(first) = others.first() else { return Ok(()) };
    let numbered = first.index.is_some() && spec.index.is_some();
    let problem = if first.backend != spec.backend {
        "has several backends".to_owned()
    } else if spec.backend == Backend::Cpu {
        return Ok(());
    } else if !numbered {
        "has a GPU without its number".to_owned()
    } else if others.contains(&spec) {
        format!("has `{spec}` twice")
    } else {
        return Ok(());
    };
    let name = first.backend.name();
    Err(Fault::usage(format!("the list of devices `{text}` {problem}"))
        .remedy(format!("name different devices of one backend, as in {name}:0,1"))
        .into())
}

fn parse(text: &str) -> Option<Spec> {
    let (name, index) = match text.split_once(':') {
        Some((name, index)) => (name, Some(index.parse().ok()?)),
        None => (text, None),
    };
    let backend = Backend::ALL.into_iter().find(|backend| backend.name() == name)?;
    (backend != Backend::Cpu || index.is_none()).then_some(Spec { backend, index })
}

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
fn gpu(index: Option<usize>) -> burn::tensor::DeviceKind {
    use burn::tensor::DeviceKind;
    index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu)
}

fn not_compiled(backend: Backend) -> anyhow::Error {
    let name = backend.name();
    Fault::device(format!("device `{name}` is not compiled into this binary"))
        .remedy(format!(
            "`make build DEVICE={name}` makes one in target/{name}/release (`--features entromask-device/{name}`); or use --device cpu"
        ))
        .into()
}

#[cfg(test)]
mod tests {
    use entromask_fault::Class;

    use super::*;

    #[test]
    fn specs_read_back_as_written() {
        for text in ["cpu", "wgpu", "vulkan:1", "cuda:0", "cuda"] {
            assert_eq!(text.parse::<Spec>().expect("parses").to_string(), text);
        }
    }

    fn names(text: &str) -> Vec<String> {
        list(text).expect("parses").iter().map(Spec::to_string).collect()
    }

    #[test]
    fn lists_repeat_the_backend_or_not() {
        assert_eq!(names("cuda:0,1,5"), ["cuda:0", "cuda:1", "cuda:5"]);
        assert_eq!(names("vulkan:2,vulkan:0"), ["vulkan:2", "vulkan:0"]);
        assert_eq!(names("cuda"), ["cuda"]);
        assert_eq!(names("cpu,cpu"), ["cpu", "cpu"]);
    }

    #[test]
    fn lists_that_cannot_be_meant_are_usage_faults() {
        let cases = [
            ("cuda:0,0", "twice"),
            ("cuda:0,1,cuda:1", "twice"),
            ("cuda:0,vulkan:1", "several backends"),
            ("cpu,cuda:0", "several backends"),
            ("cuda,1", "without its number"),
            ("cuda:0,cuda", "without its number"),
            ("cpu,1", "`1` is unknown"),
            ("cuda:0,", "`` is unknown"),
            ("0,1", "`0` is unknown"),
        ];
        for (text, named) in cases {
            let error = list(text).expect_err(text);
            assert_eq!(error.downcast_ref::<Fault>().expect("a fault").class(), Class::Usage);
            assert!(error.to_string().contains(named), "{error}");
        }
        let error = "cuda:0,1".parse::<Spec>().expect_err("a list");
        assert_eq!(error.downcast_ref::<Fault>().expect("a fault").class(), Class::Usage);
    }
}
