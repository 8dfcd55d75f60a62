//! Parameters that are not trained.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};

use super::*;

/// Frozen blocks get no gradient, and those above get the same as without freezing.
#[test]
fn nothing_goes_back_below_what_is_trained() {
    for config in families() {
        let model = MaskedLm::init(&config, 3, &Device::flex().autodiff());
        let (_, all) = by_lanes(&model, &config, &rows(), &mut Lanes::default());
        let all = by_path(&model, &all);
        let mut lanes = Lanes::default();
        for frozen in ["embeddings", "0", "1", "2"] {
            let model = model.clone().map(&mut Freeze { until: frozen, ..Freeze::default() });
            let states = by_lanes(&model, &config, &rows(), &mut lanes);
            let found = by_path(&model, &states.1);
            let is_frozen = |path: &str| is_frozen(path, frozen);
            assert!(all.keys().any(|path| is_frozen(path)));
            assert!(found.keys().eq(all.keys().filter(|path| !is_frozen(path))), "{frozen}");
            for (path, values) in &found {
                assert!(*values == all[path], "{frozen} {path}");
            }
        }
    }
}

/// Freezes what lies below a layer, and that layer.
#[derive(Default)]
struct Freeze {
    until: &'static str,
    path: Vec<String>,
}

impl ModuleMapper for Freeze {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let frozen = is_frozen(&self.path.join("/"), self.until);
        param.set_require_grad(!frozen)
    }
}

fn is_frozen(path: &str, until: &str) -> bool {
    let fields: Vec<&str> = path.split('/').collect();
    if fields.contains(&"embeddings") {
        return true;
    }
    let layer = fields.iter().skip_while(|field| **field != "layers").nth(1);
    until != "embeddings" && layer.is_some_and(|layer| *layer <= until)
}
