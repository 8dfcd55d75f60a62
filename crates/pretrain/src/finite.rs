//! Whether weights are still numbers.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// False if a weight of `module` is infinite or not a number.
pub(crate) fn is_finite<M: Module>(module: &M) -> bool {
    let mut visitor = Visitor { finite: true };
    module.visit(&mut visitor);
    visitor.finite
}

struct Visitor {
    finite: bool,
}

impl ModuleVisitor for Visitor {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Both spread through a sum; weights so large that it overflows have diverged too.
        self.finite &= self.finite && param.val().abs().sum().into_scalar::<f32>().is_finite();
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn what_is_no_number_is_found() {
        for (value, finite) in [(1.0, true), (f32::NAN, false), (f32::NEG_INFINITY, false)] {
            let mut layer = LinearConfig::new(2, 2).init(&Device::flex());
            assert!(is_finite(&layer));
            layer.bias = Some(Param::from_tensor(Tensor::from_floats([0.0, value], &Device::flex())));
            assert_eq!(is_finite(&layer), finite, "{value}");
        }
    }
}
